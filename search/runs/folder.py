"""The folder of a run: one run at a time, and no run lost by another.

A run that replaces another one works in a hidden folder inside until it has ended well. What is
where then, and what the next run to enter makes of it (`_recover`):

    folder           .next-run   .old-run    .done-run
    old run          new run                             resumes the new one, or starts it anew
    part of the old  new run     the rest                moves the rest back, then as above
                                 old run     new run     moves the new one into place
    new run
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency.errors import UsageError
from latency.locked_file import open_locked
from search.console import notice
from search.run_files import RUN_FILES

_NEXT, _OLD, _DONE = ".next-run", ".old-run", ".done-run"


def require_free(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> None:
    """Raises `UsageError` where the folder holds a run that is neither to be resumed nor to be
    overwritten, and where `reads`, which the new run uses, is part of the one to be overwritten."""
    held = _held(folder) or _held(folder / _NEXT)
    if held and not (resume or overwrite):
        raise UsageError(
            f"{folder} holds another run ({held[0]}): resume it, overwrite it, or write to another "
            "folder"
        )
    if held and overwrite and not resume and reads is not None:
        read, root = Path(reads).resolve(), folder.resolve()
        if read == root or any(read.is_relative_to(root / name) for name in RUN_FILES):
            raise UsageError(
                f"{reads} is read from the run in {folder}, which would be overwritten; write to "
                "another folder"
            )


def require_usable(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> None:
    """Raises `UsageError` where a run could not claim the folder now, as `run_folder` does, which
    a command asks before it measures for minutes. Makes no folder."""
    if (folder / ".lock").exists():
        os.close(_claimed(folder))
    else:
        first = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not first.is_dir() or not os.access(first, os.W_OK | os.X_OK):
            raise UsageError(f"{folder}: cannot be written to: {first} is no folder that can be")
    require_free(folder, resume, overwrite, reads)


@contextmanager
def run_folder(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> Iterator[Path]:
    """Claim the folder for one run at a time; yields where the run is to keep its files, which
    take the place of another run's once it has ended well. `UsageError` where the folder is taken
    (`require_free`)."""
    lock = _claimed(folder)
    try:
        _recover(folder)
        require_free(folder, resume, overwrite, reads)
        if not _is_beside(folder, resume, overwrite):
            yield folder
            return
        try:
            yield folder / _NEXT
        except BaseException:
            if not (folder / _NEXT / "checkpoint").exists():
                _remove(folder / _NEXT)
            raise
        _replace(folder)
    finally:
        os.close(lock)


def _claimed(folder: Path) -> int:
    """The lock of the folder; `UsageError` where another run has it, or it cannot be written."""
    try:
        return open_locked(folder / ".lock")
    except BlockingIOError:
        raise UsageError(
            f"{folder}: another search is running in it; write to another folder"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None


def _is_beside(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether the run works beside the one that is there; makes the place for it."""
    replacing = folder / _NEXT
    if resume and (replacing / "checkpoint").exists():
        notice(
            f"{folder}: resuming the run that is to replace the one there; delete {replacing} to "
            "resume that one"
        )
        return True
    _remove(replacing)
    if overwrite and not resume and _held(folder):
        replacing.mkdir()
        return True
    return False


def _replace(folder: Path) -> None:
    """Have the run beside take the place of the one that is there."""
    (folder / _OLD).mkdir()
    _move(folder, folder / _OLD)
    (folder / _NEXT).rename(folder / _DONE)
    _recover(folder)


def _recover(folder: Path) -> None:
    """Resume a replacement that was interrupted: to its end where the old run was set aside
    whole, else back to the old run."""
    if os.path.lexists(folder / _DONE):
        _move(folder / _DONE, folder)
        _remove(folder / _OLD)
        _remove(folder / _DONE)
    elif os.path.lexists(folder / _OLD):
        _move(folder / _OLD, folder)
        _remove(folder / _OLD)


def _move(source: Path, target: Path) -> None:
    for name in _held(source):
        (source / name).rename(target / name)


def _held(folder: Path) -> list[str]:
    """The files of a run in the folder; links count, wherever they lead."""
    return [name for name in RUN_FILES if os.path.lexists(folder / name)]


def _remove(folder: Path) -> None:
    """A folder and what is in it; a link alone, not what it leads to."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
