"""Files that are written whole or not at all: where, how, and what a power cut leaves of them."""

import os
import stat
from pathlib import Path

import pytest

from latency.atomic_file import naming, whole_file, write_whole


@pytest.fixture
def umask():
    """Set the umask for a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="device: 'table'"):  # noqa: SIM117
        with naming(Path("table")), open("/dev/full", "w") as file:
            file.write("a row")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file/a.csv", "Not a directory"),
        ("file/folder/a.csv", "Not a directory"),
        ("folder.csv", "Is a directory"),
        ("/proc/a.csv", "No such file or directory"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_named_as_it_was_given(tmp_path, place, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=said) as raised:
        write_whole(tmp_path / place, "a row")
    assert raised.value.filename == str(tmp_path / place)
    assert raised.value.filename2 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


@pytest.mark.parametrize("content", ["text\r\n", b"\0bytes\n"])
def test_a_file_is_written_as_given(tmp_path, content):
    write_whole(tmp_path / "file", content)
    given = content if isinstance(content, bytes) else content.encode()
    assert (tmp_path / "file").read_bytes() == given


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0o022, 0o644)])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    write_whole(tmp_path / "new", "text")
    assert mode_of(tmp_path / "new") == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_keeps_its_mode(tmp_path, umask, mode):
    path = tmp_path / "old"
    path.touch()
    path.chmod(mode)
    write_whole(path, "text")
    assert (mode_of(path), path.read_text()) == (mode, "text")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_the_file_that_it_leads_to_is_written(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    if there:
        target.write_text("before")
    link.symlink_to("elsewhere/file")
    write_whole(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link"]


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        write_whole(tmp_path / "pipe", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_of_a_name_as_long_as_may_be_is_written(tmp_path):
    path = tmp_path / f"{'a' * 251}.csv"
    write_whole(path, "text")
    assert path.read_text() == "text"


def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    path, done = tmp_path / "file", []
    path.write_text("before")
    fsync, rename = os.fsync, os.replace

    def recorded(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        assert os.path.samestat(os.fstat(handle), tmp_path.stat()) == is_folder
        done.append("folder" if is_folder else Path(f"/proc/self/fd/{handle}").read_text())
        fsync(handle)

    def renamed(old, new):
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", renamed)
    with whole_file(path) as file:
        file.write("text")
    assert done == ["text", "rename", "folder"]
