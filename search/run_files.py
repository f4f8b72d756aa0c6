"""The files of a run's folder, and the error for a folder without a result."""

from pathlib import Path

from latency.errors import UsageError

RESULT, FRONT, TRAINED = "result.json", "pareto.json", "retrain.json"
RUN_FILES = (
    *("checkpoint", RESULT, "report.html", "network.json", "model.onnx", "model.tflite"),
    *(FRONT, "pareto", TRAINED, "tensorboard"),
)
"""Files and folders that a run writes."""


def is_front(folder: Path) -> bool:
    """Whether the folder contains a Pareto front and no search result."""
    return (folder / FRONT).is_file() and not (folder / RESULT).exists()


def unfinished(folder: Path) -> UsageError:
    """The error for a folder without a search result."""
    if (folder / TRAINED).is_file():
        return UsageError(f"{folder}: a retrained network has no report; see {folder / TRAINED}")
    if (folder / FRONT).is_file():
        return UsageError(f"{folder}: only searches are compared, not Pareto fronts")
    how = " --resume" if (folder / "checkpoint").is_dir() else ""
    return UsageError(
        f"{folder} has no finished search ({RESULT} is missing): lat-search ... --out {folder}{how}"
    )
