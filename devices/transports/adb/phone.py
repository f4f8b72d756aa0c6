"""`Phone`: commands and files, on a phone that an adb server knows."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from devices.transports.adb.server import AdbServer
from latency.errors import ConnectionLostError, DeviceError

MAX_OUTPUT_BYTES = 1 << 20
"""Nothing that we run says more."""

COMMAND_SECONDS = 60.0
_STDOUT, _STDERR, _EXIT = 1, 2, 3
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Said:
    """What a command said: exit code, standard output and standard error."""

    code: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """Of what it said on either, for an error."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1].strip()[:200] if lines else f"exit code {self.code}"


class PushError(DeviceError):
    """The phone does not take a file; says why in the phone's words."""


class Phone:
    """A phone. Raises `ConnectionLostError` where it goes away; what comes from it is limited in
    size and checked."""

    def __init__(self, server: AdbServer, serial: str) -> None:
        self.serial = serial
        self._server = server

    def check_shell(self) -> None:
        """Raise `DeviceError` unless exit codes of commands can be read."""
        if "shell_v2" not in self._server.features(self.serial):
            raise DeviceError(
                f"phone {self.serial}: its adb cannot tell exit codes (shell_v2); "
                "Android 7 or newer is needed"
            )

    def shell(self, command: str, seconds: float = COMMAND_SECONDS) -> Said:
        """Run a command, for `seconds` at most."""
        deadline = time.monotonic() + seconds
        texts = {_STDOUT: bytearray(), _STDERR: bytearray()}
        with self._server.opened(self.serial, f"shell,v2:{command}", seconds) as peer:
            while True:
                peer.settimeout(max(0.01, deadline - time.monotonic()))
                kind, length = struct.unpack("<BI", self._read(peer, 5))
                if kind not in (_STDOUT, _STDERR, _EXIT) or length > MAX_OUTPUT_BYTES:
                    raise self._nonsense("its shell does not speak the protocol of adb")
                data = self._read(peer, length)
                if kind == _EXIT:
                    break
                texts[kind] += data
                if sum(map(len, texts.values())) > MAX_OUTPUT_BYTES:
                    raise self._nonsense(f"a command said more than {MAX_OUTPUT_BYTES} bytes")
        output, errors = (bytes(text).decode(errors="replace") for text in texts.values())
        return Said(data[0] if data else 255, output.replace("\r\n", "\n"), errors)

    def push(self, content: bytes, path: str, mode: int) -> None:
        """Write a file. Raises `PushError` where the phone does not take it."""
        target = f"{path},{0o100000 | mode}".encode()
        with self._server.opened(self.serial, "sync:", COMMAND_SECONDS) as peer:
            # Where the phone refuses in the middle, it says why before it closes.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(struct.pack("<4sI", b"SEND", len(target)) + target)
                for part in _parts(content):
                    peer.sendall(struct.pack("<4sI", b"DATA", len(part)))
                    peer.sendall(part)
                peer.sendall(struct.pack("<4sI", b"DONE", int(time.time())))
            word, length = struct.unpack("<4sI", self._read(peer, 8))
            if word == b"FAIL" and length < MAX_OUTPUT_BYTES:
                raise PushError(self._read(peer, length).decode(errors="replace")[:200])
            if word != b"OKAY":
                raise self._nonsense("it does not answer as adb does when files are sent")

    def _read(self, peer: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            received = peer.recv(size - len(data))
            if not received:
                raise ConnectionLostError(f"phone {self.serial}: it went away in the middle")
            data += received
        return bytes(data)

    def _nonsense(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(f"phone {self.serial}: {what}")


def _parts(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), _CHUNK_BYTES):
        yield view[start : start + _CHUNK_BYTES]
