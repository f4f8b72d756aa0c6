"""The services of the stand-in phone: shell,v2 and shell, exec, and sync (files).

shell,v2 packs what a command says into packets (a byte for the kind, four for the length):
standard output 1, standard error 2, exit code 3. sync speaks in a word of four letters and a
length: SEND path,mode, then DATA ... DONE; STAT, STA2, LST2, RECV.
"""

import os
import selectors
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

NO_SPACE = "write failed: No space left on device"


def serve(daemon: Any, stream: Any, service: str) -> None:
    """Serve a stream (`adbd._Stream`) to its end."""
    name, _, argument = service.partition(":")
    if daemon.garbage:
        stream.write(os.urandom(2000))
    elif name == "sync":
        _Sync(daemon, stream).serve()
    elif name.split(",")[0] in ("shell", "exec"):
        _shell(daemon, stream, argument, "v2" in name.split(","))


def _shell(daemon: Any, stream: Any, command: str, packed: bool) -> None:
    """Run a command; it runs on where the host goes before it ends."""
    process = daemon.run(command, merged=not packed)
    try:
        with process, suppress(EOFError):
            for kind, data in _outputs(process):
                stream.write(struct.pack("<BI", kind, len(data)) + data if packed else data)
    finally:
        daemon.ended(process)
    code = process.returncode
    if packed:
        stream.write(struct.pack("<BIB", 3, 1, code if code >= 0 else 128 - code))


def _outputs(process: Any) -> Any:
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, 1)
        if process.stderr is not None:
            selector.register(process.stderr, selectors.EVENT_READ, 2)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if data:
                    yield key.data, data
                else:
                    selector.unregister(key.fileobj)


class _Sync:
    """Files, one request after another."""

    def __init__(self, daemon: Any, stream: Any) -> None:
        self._daemon = daemon
        self._stream = stream

    def serve(self) -> None:
        while True:
            word, text = self._request()
            if word == b"QUIT":
                return
            answer = {
                b"STAT": self._stat,
                b"STA2": self._stat2,
                b"LST2": self._stat2,
                b"SEND": self._send,
                b"RECV": self._receive,
            }.get(word, self._unknown)
            answer(word, text)

    def _request(self) -> tuple[bytes, str]:
        word, length = struct.unpack("<4sI", self._stream.read(8))
        return word, self._stream.read(length).decode()

    def _path(self, text: str) -> Path:
        return Path(self._daemon.mapped(text))

    def _unknown(self, word: bytes, text: str) -> None:
        self._fail(f"unknown command {word!r}")

    def _fail(self, reason: str) -> None:
        said = reason.encode()
        self._stream.write(struct.pack("<4sI", b"FAIL", len(said)) + said)

    def _stat(self, word: bytes, text: str) -> None:
        facts = (0, 0, 0)
        with suppress(OSError):
            found = self._path(text).stat()
            facts = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
        self._stream.write(struct.pack("<4sIII", b"STAT", *facts))

    def _stat2(self, word: bytes, text: str) -> None:
        try:
            found = self._path(text).stat()
            facts = (0, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, 0, 0)
            facts += (found.st_size, *[int(found.st_mtime)] * 3)
        except OSError as error:
            facts = (error.errno or 1, *[0] * 10)
        self._stream.write(struct.pack("<4sIQQIIIIQqqq", word, *facts))

    def _send(self, word: bytes, text: str) -> None:
        """Write a file; after a failure, what still comes is read and dropped, as adbd does."""
        name, _, mode = text.rpartition(",")
        self._daemon.pushed.append(name)
        failure, written = "", 0
        path = self._path(name)
        if not path.parent.is_dir():
            failure, path = "couldn't create file: No such file or directory", Path(os.devnull)
        with path.open("wb") as file:
            while True:
                kind, length = struct.unpack("<4sI", self._stream.read(8))
                if kind == b"DONE":
                    break
                written += len(data := self._stream.read(length))
                if self._daemon.space is not None and written > self._daemon.space and not failure:
                    failure = NO_SPACE
                    self._fail(failure)
                if not failure:
                    file.write(data)
        if failure == NO_SPACE:
            path.unlink(missing_ok=True)
        elif failure:
            self._fail(failure)
        else:
            path.chmod(int(mode) & 0o777)
            self._stream.write(struct.pack("<4sI", b"OKAY", 0))

    def _receive(self, word: bytes, text: str) -> None:
        try:
            content = self._path(text).read_bytes()
        except OSError as error:
            return self._fail(f"open failed: {error.strerror}")
        for start in range(0, len(content), 65536):
            part = content[start : start + 65536]
            self._stream.write(struct.pack("<4sI", b"DATA", len(part)) + part)
        self._stream.write(struct.pack("<4sI", b"DONE", 0))
