"""The folder of a run: one run at a time, and no run lost by another.

A run that replaces another one works in a hidden folder inside until it has ended successfully. The
states of the folder, and what the next run to enter does (`_recover`):

    folder           .next-run   .old-run    .done-run
    old run          new run                             resumes the new one, or starts it anew
    part of the old  new run     the rest                moves the rest back, then as above
                                 old run     new run     moves the new one into the folder
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
    """Raises `UsageError` if the folder contains a run that is neither resumed nor overwritten, and
    if `reads`, which the new run uses, is part of the one to be overwritten."""
    held = _held(folder) or _held(folder / _NEXT)
    if not held or resume:
        return
    if not overwrite:
        raise UsageError(
            f"{folder} holds another run ({held[0]}): resume it, overwrite it, or write to another "
            "folder"
        )
    if reads is not None:
        read, root = Path(reads).resolve(), folder.resolve()
        if read == root or any(read.is_relative_to(root / name) for name in RUN_FILES):
            raise UsageError(
                f"{reads} is read from the run in {folder}, which would be overwritten; write to "
                "another folder"
            )


def require_usable(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> None:
    """Raises `UsageError` if `run_folder` would, before anything is measured. Creates no folder."""
    if (folder / ".lock").exists():
        os.close(_claimed(folder))
    else:
        first = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not first.is_dir() or not os.access(first, os.W_OK | os.X_OK):
            raise UsageError(f"{folder}: cannot be written to: {first} is not a writable folder")
    require_free(folder, resume, overwrite, reads)


@contextmanager
def run_folder(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> Iterator[Path]:
    """Lock the folder for one run; yields where the run writes its files, which replace another
    run's once it has ended successfully. Raises `UsageError` if the folder is locked or not free
    (`require_free`)."""
    lock = _claimed(folder)
    try:
        _recover(folder)
        require_free(folder, resume, overwrite, reads)
        if not _works_beside(folder, resume, overwrite):
            yield folder
            return
        try:
            yield folder / _NEXT
        except BaseException:
            if not (folder / _NEXT / "checkpoint").exists():
                _remove(folder / _NEXT)
            raise
        (folder / _OLD).mkdir()
        _move(folder, folder / _OLD)
        (folder / _NEXT).rename(folder / _DONE)
        _recover(folder)
    finally:
        os.close(lock)


def _claimed(folder: Path) -> int:
    """The lock of the folder; `UsageError` if another run has it, or it cannot be written."""
    try:
        return open_locked(folder / ".lock")
    except BlockingIOError:
        raise UsageError(
            f"{folder}: another search is running in it; write to another folder"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None


def _works_beside(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether the run works in a hidden folder, which is made, since it replaces another run."""
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


def _recover(folder: Path) -> None:
    """Complete an interrupted replacement if the old run was moved away completely; else undo
    it."""
    if os.path.lexists(folder / _DONE):
        _move(folder / _DONE, folder)
        _remove(folder / _DONE)
    elif os.path.lexists(folder / _OLD):
        _move(folder / _OLD, folder)
    _remove(folder / _OLD)


def _move(source: Path, target: Path) -> None:
    for name in _held(source):
        (source / name).rename(target / name)


def _held(folder: Path) -> list[str]:
    """The files of a run in the folder, including broken links."""
    return [name for name in RUN_FILES if os.path.lexists(folder / name)]


def _remove(folder: Path) -> None:
    """Delete a folder; of a link, only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
