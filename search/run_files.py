"""The files of a run's folder, and what a folder without a result holds."""

from pathlib import Path

from latency.errors import UsageError

RESULT, FRONT, TRAINED = "result.json", "pareto.json", "retrain.json"
_CHECKPOINT = "checkpoint"

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


def is_front(folder: Path) -> bool:
    """Whether a front is all that the folder holds."""
    return (folder / FRONT).is_file() and not (folder / RESULT).exists()


def unfinished(folder: Path) -> UsageError:
    """The error for a folder that lacks a search's result: what it holds, and what to do."""
    if (folder / TRAINED).is_file():
        return UsageError(
            f"{folder} holds a network trained by --retrain, not a search, and there is no report "
            f"of that: its accuracy is in {folder / TRAINED}; name the folder of the search that "
            "found it"
        )
    if (folder / FRONT).is_file():
        return UsageError(
            f"{folder} holds a front ({FRONT}), not a search; two fronts, or two searches, can be "
            "compared"
        )
    said = f"{folder} holds no finished search ({RESULT} is absent)"
    if (folder / _CHECKPOINT).is_dir():
        return UsageError(f"{said}; go on with it: lat-search ... --out {folder} --resume")
    return UsageError(f"{said}, and none that was begun; begin one: lat-search ... --out {folder}")
