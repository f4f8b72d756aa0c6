"""The folder of a run: one run at a time. A run that replaces another one keeps it in a hidden
folder inside until the new one has ended successfully."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency.errors import UsageError
from latency.locked_file import open_locked
from search.run_files import RUN_FILES

_OLD = ".old-run"


def require_free(
    folder: Path, resume: bool, overwrite: bool, reads: Path | str | None = None
) -> None:
    """Raises `UsageError` if the folder contains a run that is neither resumed nor overwritten, and
    if `reads`, which the new run uses, is part of the one to be overwritten."""
    held = _held(folder)
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
    """Lock the folder for one run, and yield it. A run that is overwritten is deleted once the new
    one has ended successfully, and restored if that fails before its first checkpoint. Raises
    `UsageError` if the folder is locked or not free (`require_free`)."""
    lock, old = _claimed(folder), folder / _OLD
    try:
        _restore(folder)
        require_free(folder, resume, overwrite, reads)
        if overwrite and not resume:
            if old.exists():  # the run in the folder was to replace it, and has not ended
                _delete(folder)
            old.mkdir(exist_ok=True)
            _move(folder, old)
        try:
            yield folder
        except BaseException:
            _restore(folder)
            raise
        if old.exists():
            shutil.rmtree(old)
    finally:
        os.close(lock)


def _claimed(folder: Path) -> int:
    try:
        return open_locked(folder / ".lock")
    except BlockingIOError:
        raise UsageError(
            f"{folder}: another search is running in it; write to another folder"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None


def _restore(folder: Path) -> None:
    """Undo a replacement whose run has no checkpoint to resume."""
    old = folder / _OLD
    if old.exists() and not (folder / "checkpoint").exists():
        _delete(folder)
        _move(old, folder)
        old.rmdir()


def _move(source: Path, target: Path) -> None:
    for name in reversed(_held(source)):  # the checkpoint last: until then, nothing is restored
        (source / name).rename(target / name)


def _delete(folder: Path) -> None:
    """Delete the run in a folder; of a link, only the link."""
    for path in (folder / name for name in _held(folder)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _held(folder: Path) -> list[str]:
    """The files of a run in the folder, including broken links."""
    return [name for name in RUN_FILES if os.path.lexists(folder / name)]
