"""Files that a user names: regular ones of a stated size are read, and nothing else is waited for
or read without end."""

import os
import socket

import pytest

from latency.errors import SpecError, TableError, UsageError
from latency.files import read_file, read_text


def test_a_file_is_read_up_to_the_size_that_is_stated(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_file(path, 8) == b"12345678"
    with pytest.raises(SpecError, match=r"file: larger than 7e-06 MB"):
        read_file(path, 7, SpecError)
    os.truncate(path, 1 << 40)  # more than any memory holds
    with pytest.raises(SpecError, match=r"file: larger than 8e-06 MB"):
        read_file(path, 8, SpecError)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "not a regular file"),
        ("socket", ""),
        ("/dev/zero", "not a regular file"),
        ("link", "not a regular file"),
        ("file/below", "Not a directory"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo("pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(TableError, match=f"^{name}: {said}"):
            read_file(name, 10**6, TableError)


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link", 4) == "text"


def test_text_is_read_without_a_byte_order_mark_and_its_fault_has_a_line(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert read_text(path, 99) == "one\r\ntwo"
    path.write_bytes(b"one\ntwo\n\xe9\n")
    with pytest.raises(UsageError, match=r"file:3: not text in UTF-8"):
        read_text(path, 99)
