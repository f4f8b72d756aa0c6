"""The files of a run's folder, and the error for a folder without a result."""

from pathlib import Path

from latency.errors import UsageError

RESULT, FRONT, TRAINED = "result.json", "pareto.json", "retrain.json"

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
"""Files and folders that a run writes."""


def is_front(folder: Path) -> bool:
    """Whether the folder holds a Pareto front only, without a search's result."""
    return (folder / FRONT).is_file() and not (folder / RESULT).exists()


def unfinished(folder: Path) -> UsageError:
    """The error for a folder without a search's result."""
    if (folder / TRAINED).is_file():
        return UsageError(
            f"{folder} holds a retrained network, which has no report: its accuracy is in "
            f"{folder / TRAINED}; name the folder of the search that found it"
        )
    if (folder / FRONT).is_file():
        return UsageError(
            f"{folder} holds a Pareto front ({FRONT}), not a search; only searches are compared"
        )
    message = f"{folder} holds no finished search ({RESULT} is missing)"
    if (folder / "checkpoint").is_dir():
        return UsageError(f"{message}; resume it: lat-search ... --out {folder} --resume")
    return UsageError(f"{message}; start one: lat-search ... --out {folder}")
