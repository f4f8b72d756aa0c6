"""The agent as one file: a zip application of `devices.agent` and what it imports of `latency`."""

from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

SUFFIX = ".pyz"
_MAIN = "from devices.agent.main import main\n\nmain()\n"
_PATTERNS = {
    "devices": ("__init__.py", "agent/*.py"),
    "latency": ("errors.py", "torch_layers.py", "operators/*.py"),
}


@cache
def agent_archive() -> bytes:
    """The archive, run as `python AGENT.pyz`. Equal sources give equal bytes, so a device receives
    each version of the agent once.

    Its top-level names are `__main__`, `devices` and `latency`, which hide no package that a
    runtime imports. `latency` itself is empty there: it imports more than the agent needs.
    """
    sources = {"__main__.py": _MAIN, "latency/__init__.py": ""}
    for package, patterns in _PATTERNS.items():
        folder = Path(str(files(package)))
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            sources[f"{package}/{path.relative_to(folder).as_posix()}"] = path.read_text("utf-8")
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, source in sorted(sources.items()):
            archive.writestr(ZipInfo(name), source)  # a ZipInfo's date is fixed
    return file.getvalue()
