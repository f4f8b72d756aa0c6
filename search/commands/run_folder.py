"""The folder of a run: one run at a time, and no run lost by another."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency.errors import UsageError
from latency.locked_file import open_locked

RUN_FILES = (
    "checkpoint",
    "result.json",
    "report.html",
    "network.json",
    "model.onnx",
    "model.tflite",
    "model.npz",
    "pareto.json",
    "pareto",
    "retrain.json",
    "tensorboard",
)
"""What a run leaves in its folder."""


@contextmanager
def run_folder(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Claim the folder for one run at a time; `UsageError` where it holds another run."""
    try:
        lock = open_locked(folder / ".lock")
    except BlockingIOError:
        raise UsageError(f"{folder}: another search is running in it; give another --out") from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None
    with os.fdopen(lock):
        held = [name for name in RUN_FILES if (folder / name).exists()]
        if held and not (resume or overwrite):
            raise UsageError(
                f"{folder} holds another run ({held[0]}); go on with it by --resume, replace it "
                "by --overwrite, or give another --out"
            )
        if overwrite and not resume:
            for name in held:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
