"""`Phone`: commands and files on a phone that an adb server knows."""

import struct
import time
from contextlib import suppress
from subprocess import CompletedProcess

from devices.transports.adb.server import AdbServer
from latency.errors import ConnectionLostError, DeviceError

MAX_OUTPUT_BYTES = 1 << 20
COMMAND_SECONDS = 60.0
_STDOUT, _STDERR, _EXIT = 1, 2, 3
_CHUNK_BYTES = 64 * 1024


class PushError(DeviceError):
    """The phone refuses a file; the message is the phone's."""


class Phone:
    """A phone. Its methods raise `ConnectionLostError` if it goes away or breaks the protocol;
    the size of its output is limited."""

    def __init__(self, server: AdbServer, serial: str) -> None:
        self.serial = serial
        self._server = server

    def check_shell(self) -> None:
        """Raise `DeviceError` if adb on the phone does not return exit codes."""
        if "shell_v2" not in self._server.features(self.serial):
            raise DeviceError(
                f"phone {self.serial}: its adb returns no exit codes (shell_v2); "
                "Android 7 or newer is needed"
            )

    def shell(self, command: str, seconds: float = COMMAND_SECONDS) -> CompletedProcess[str]:
        """Run a command, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        outputs = {_STDOUT: bytearray(), _STDERR: bytearray()}
        with self._server.opened(self.serial, f"shell,v2:{command}", seconds) as connection:
            while True:
                connection.conn.settimeout(max(0.01, deadline - time.monotonic()))
                kind, length = struct.unpack("<BI", connection.read_exact(5))
                if kind not in (_STDOUT, _STDERR, _EXIT) or length > MAX_OUTPUT_BYTES:
                    raise self._broken("its shell does not speak the protocol of adb")
                data = connection.read_exact(length)
                if kind == _EXIT:
                    break
                outputs[kind] += data
                if sum(map(len, outputs.values())) > MAX_OUTPUT_BYTES:
                    raise self._broken(f"a command printed more than {MAX_OUTPUT_BYTES} bytes")
        output, errors = (text.decode(errors="replace") for text in outputs.values())
        code = data[0] if data else 255
        return CompletedProcess(command, code, output.replace("\r\n", "\n"), errors)

    def push(self, content: bytes, path: str, mode: int) -> None:
        """Write a file. Raises `PushError` if the phone refuses it."""
        target = f"{path},{0o100000 | mode}".encode()
        with self._server.opened(self.serial, "sync:", COMMAND_SECONDS) as connection:
            send = connection.conn.sendall
            # A phone that refuses during the transfer sends the reason before it closes.
            with suppress(BrokenPipeError, ConnectionResetError):
                send(struct.pack("<4sI", b"SEND", len(target)) + target)
                for start in range(0, len(content), _CHUNK_BYTES):
                    part = content[start : start + _CHUNK_BYTES]
                    send(struct.pack("<4sI", b"DATA", len(part)) + part)
                send(struct.pack("<4sI", b"DONE", int(time.time())))
            status, length = struct.unpack("<4sI", connection.read_exact(8))
            if status == b"FAIL" and length < MAX_OUTPUT_BYTES:
                raise PushError(connection.read_exact(length).decode(errors="replace")[:200])
            if status != b"OKAY":
                raise self._broken("it does not answer as adb does when files are sent")

    def _broken(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(f"phone {self.serial}: {what}")


def last_line(result: CompletedProcess[str]) -> str:
    """The last line of standard error, or of standard output, for a message."""
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return lines[-1].strip()[:200] if lines else f"exit code {result.returncode}"
