"""The agent as one file: a zip application of `devices.agent` and what it imports of `latency`."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from zipfile import ZipFile, ZipInfo

SUFFIX = ".pyz"
"""Of the archive's file."""

_AGENT = "devices.agent"
_MAIN = f"from {_AGENT}.main import main\n\nmain()\n"
_REPLACED = {"latency": '"""The part of `latency` that the agent needs."""\n'}
"""Packages that import more than the agent needs, and their source in the archive."""
_ROOTS = ("devices", "latency")


@cache
def agent_archive() -> bytes:
    """The archive, run as `python AGENT.pyz`. Equal sources give equal bytes, so a device receives
    each version of the agent once.

    Its top-level names are `__main__`, `devices` and `latency`, which hide no package that a
    runtime imports.
    """
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for path, source in sorted(_sources().items()):
            archive.writestr(ZipInfo(path), source)  # a ZipInfo's date is fixed
    return file.getvalue()


def _sources() -> dict[str, str]:
    """Path in the archive to source: the agent's modules, what they import of ours, and the
    packages around them."""
    names = [entry.name for entry in files(_AGENT).iterdir() if entry.name.endswith(".py")]
    pending = [f"{_AGENT}.{name.removesuffix('.py')}" for name in names]
    found = {"__main__.py": _MAIN}
    while pending:
        module = pending.pop()
        path = _path(module)
        if path is not None and path not in found:
            found[path] = _REPLACED.get(module) or _file(path).read_text(encoding="utf-8")
            pending += [module.rpartition(".")[0], *_imported(found[path])]
    return found


def _path(module: str) -> str | None:
    """The path of a module in the archive, None if it is not one of ours."""
    path = module.replace(".", "/")
    if path.partition("/")[0] not in _ROOTS:
        return None
    choices = (f"{path}/__init__.py", f"{path}.py")
    return next((choice for choice in choices if _file(choice).is_file()), None)


def _file(path: str) -> Traversable:
    """A source file by its path in the archive."""
    package, _, rest = path.partition("/")
    return files(package).joinpath(rest)


def _imported(source: str) -> Iterator[str]:
    """What a module imports when it runs: modules, and names that may be modules."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)
