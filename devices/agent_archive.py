"""The agent as one file: a zip application of `devices.agent`, and what it imports of `latency`."""

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
_STARTED = f"{_AGENT}.__main__"
_REPLACED = {"latency": '"""The part of `latency` that the agent needs."""\n'}
"""Packages that import more than the agent needs, and what the archive has in their place."""
_ROOTS = ("devices", "latency")
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)


@cache
def agent_archive() -> bytes:
    """The archive that a device's Python runs: `python AGENT.pyz`. The same sources give the same
    bytes, so that a device gets each version of the agent once.

    Its only names are `__main__`, `devices` and `latency`, which are of no package that a runtime
    imports.
    """
    sources = dict(sorted(_sources().items()))
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for path, source in sources.items():
            archive.writestr(ZipInfo(path, _FIRST_DATE), source)
    return file.getvalue()


def _sources() -> dict[str, str]:
    """Paths in the archive, and what is in them: the agent's modules, all of ours that they import,
    and the packages that these are in."""
    folder = files(_AGENT)
    modules = [
        f"{_AGENT}.{entry.name.removesuffix('.py')}"
        for entry in folder.iterdir()
        if entry.name.endswith(".py")
    ]
    found: dict[str, str] = {}
    left = [_AGENT, *modules]
    while left:
        module = left.pop()
        place = _place(module)
        if place is None or place in found:
            continue
        found[place] = _REPLACED.get(module) or _file(place).read_text(encoding="utf-8")
        left += [module.rpartition(".")[0], *_imported(found[place])]
    return {"__main__.py": _file(_place(_STARTED) or "").read_text(encoding="utf-8"), **found}


def _place(module: str) -> str | None:
    """The path of a module in the archive, None where it is none of ours."""
    root, *names = module.split(".")
    if root not in _ROOTS:
        return None
    path = "/".join([root, *names])
    choices = [f"{path}/__init__.py", *([f"{path}.py"] if names else [])]
    return next((choice for choice in choices if _file(choice).is_file()), None)


def _file(path: str) -> Traversable:
    """A source file of ours by its path in the archive."""
    package, _, rest = path.partition("/")
    return files(package).joinpath(rest)


def _imported(source: str) -> Iterator[str]:
    """What a module imports when it runs: modules, and names that may be modules."""
    left: list[ast.AST] = [ast.parse(source)]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left += node.orelse
        else:
            left += ast.iter_child_nodes(node)
