"""Locks: one process at a time, even where lock files come and go."""

import os

import pytest

from latency.errors import LatError
from latency.locked_file import locked, open_locked


def test_what_is_done_under_a_lock_is_done_one_after_the_other(tmp_path, held_up):
    path, done = tmp_path / "new" / "t.csv", []

    def work():
        with locked(path):
            done.append("second")

    with locked(path):
        thread = held_up(work, tmp_path / "new" / ".t.csv.lock")
        assert thread.is_alive()
        done.append("first")
    thread.join()
    assert done == ["first", "second"]
    assert list(path.parent.iterdir()) == []


def test_a_lock_file_that_was_deleted_meanwhile_is_no_lock(tmp_path, held_up):
    path, got = tmp_path / "lock", []
    handle = open_locked(path)
    thread = held_up(lambda: got.append(open_locked(path, wait=True)), path)
    path.unlink()
    os.close(handle)
    thread.join()
    assert os.path.samestat(os.fstat(got[0]), path.stat())
    with pytest.raises(BlockingIOError):
        open_locked(path)
    os.close(got[0])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("elsewhere", path)])
def test_what_is_no_file_is_no_lock(tmp_path, make):
    make(tmp_path / "lock")
    with pytest.raises(LatError, match=r"lock is a symbolic link or not a regular file: delete it"):
        open_locked(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()
