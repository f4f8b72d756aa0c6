"""`Phone`: commands and files on a phone that an adb server knows."""

import struct
import time
from contextlib import suppress

from adbutils import AdbClient, ShellReturn

from devices.transports.adb.server import translated
from latency.errors import DeviceError

COMMAND_SECONDS = 60.0
_CHUNK_BYTES = 64 * 1024


class PushError(DeviceError):
    """The phone refuses a file; the message is the phone's."""


class Phone:
    """A phone. Its methods raise `ConnectionLostError` if it goes away."""

    def __init__(self, client: AdbClient, serial: str) -> None:
        self.serial = serial
        self._device = client.device(serial)

    def __str__(self) -> str:
        return f"phone {self.serial}"

    def shell(self, command: str, seconds: float = COMMAND_SECONDS) -> ShellReturn:
        """Run a command, for at most `seconds`."""
        with translated(str(self)):
            return self._device.shell2(command, seconds, v2=True)

    def push(self, content: bytes, path: str, mode: int) -> None:
        """Write a file. Raises `PushError` with the phone's reason if the phone refuses it."""
        target = f"{path},{0o100000 | mode}".encode()
        with translated(str(self)), self._device.open_transport(timeout=COMMAND_SECONDS) as opened:
            opened.send_command("sync:")
            opened.check_okay()
            send = opened.conn.sendall
            # A phone that refuses during the transfer sends the reason before it closes.
            with suppress(BrokenPipeError, ConnectionResetError):
                send(struct.pack("<4sI", b"SEND", len(target)) + target)
                for start in range(0, len(content), _CHUNK_BYTES):
                    part = content[start : start + _CHUNK_BYTES]
                    send(struct.pack("<4sI", b"DATA", len(part)) + part)
                send(struct.pack("<4sI", b"DONE", int(time.time())))
            status, length = struct.unpack("<4sI", opened.read_exact(8))
            if status != b"OKAY":
                raise PushError(opened.read_exact(length).decode(errors="replace")[:200])


def last_line(result: ShellReturn) -> str:
    """The last line that a command printed, for a message."""
    lines = result.output.strip().splitlines()
    return lines[-1].strip()[:200] if lines else f"exit code {result.returncode}"
