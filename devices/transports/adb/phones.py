"""`AdbServer` lists the attached phones; `Phone` runs commands on one and sends files to it."""

import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adbutils import AdbClient, AdbError, ShellReturn, adb_path

from devices.transports.channel import shown
from latency.errors import ConnectionLostError, DeviceError, UsageError

COMMAND_SECONDS = 60.0
_CHUNK_BYTES = 64 * 1024
_CONNECT_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
"""How long a phone that was just plugged in may be `offline`."""

_TRANSIENT = ("offline", "authorizing", "connecting")
_REMEDIES = {
    "unauthorized": "unlock it and accept this computer (Allow USB debugging?)",
    "not accessible": "this user may not open it over USB: add udev rules for it "
    "(apt-get install android-sdk-platform-tools-common) and plug it in again",
}
_REPLUG = "start Android on it, plug it in again, or restart the server: adb kill-server"
_NETWORK = re.compile(r"[\w.-]+:\d+")


class AdbServer:
    """The server at `address` ("host:port"), by default the one that the command adb uses, which is
    started if it does not run."""

    def __init__(self, address: str | None) -> None:
        host, _, port = (address or "").rpartition(":")
        try:
            self.client = AdbClient(host or None, int(port or 0) or None, _CONNECT_SECONDS)
        except ValueError:
            raise UsageError("ANDROID_ADB_SERVER_PORT is not a port number") from None

    def states(self) -> dict[str, str]:
        """Serial to state ("device" means ready) of every attached phone.

        Raises `DeviceError` if adb is not installed or the server does not run.
        """
        try:
            adb_path()
            states = {found.serial: found.state for found in self.client.list()}
        except (AdbError, OSError, ValueError, OverflowError) as error:
            raise DeviceError(
                f"no adb server at {self.client.host}:{self.client.port} "
                f"({shown(str(error), 200)}): apt-get install adb, or start it there"
            ) from None
        # adbutils keeps one word of "no permissions".
        return {name: "not accessible" if s == "no" else s for name, s in states.items()}

    def reach(self, serial: str | None, known: bool = False) -> str:
        """Wait until a phone is ready, by default the only one attached; returns its serial.

        Reconnects to a phone in the network ("host:port"). Raises `DeviceError`, or
        `ConnectionLostError` if `known`: the phone was ready before, and may come back.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            states = self.states()
            chosen = _choose(serial, states)
            state = states.get(chosen, "absent")
            if state == "device":
                return chosen
            reconnected = state in ("absent", "offline") and self._reconnect(chosen)
            if not (reconnected or state in _TRANSIENT) or time.monotonic() > deadline:
                break
            if not reconnected:
                time.sleep(0.1)
        if state == "absent":
            problem = f"not attached; attached: {', '.join(states) or 'none'}"
        else:
            problem = f"{state}: {_REMEDIES.get(state, _REPLUG)}"
        may_return = known and (state == "absent" or state in _TRANSIENT)
        raise (ConnectionLostError if may_return else DeviceError)(f"phone {chosen} is {problem}")

    def _reconnect(self, serial: str) -> bool:
        """Reconnect to a phone in the network; False for other phones, and if none answers."""
        if not _NETWORK.fullmatch(serial):
            return False
        with suppress(AdbError, OSError, ValueError):
            self.client.disconnect(serial)
            answer = self.client.connect(serial, timeout=_CONNECT_SECONDS)
            return answer.startswith(("connected", "failed to authenticate"))
        return False


def _choose(serial: str | None, states: dict[str, str]) -> str:
    if serial is not None:
        return serial
    if not states:
        raise DeviceError(
            "no phone is attached: plug one in and allow USB debugging on it (developer options)"
        )
    if len(states) > 1:
        first = next(iter(states))
        raise DeviceError(
            f"{len(states)} phones are attached ({', '.join(states)}): choose in section [adb] of "
            f'the card, serials = ["{first}"], or serials = "all"'
        )
    return next(iter(states))


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
        with _translated(str(self)):
            return self._device.shell2(command, seconds, v2=True)

    def push(self, content: bytes, path: str, mode: int) -> None:
        """Write a file. Raises `PushError` with the phone's reason if the phone refuses it."""
        target = f"{path},{0o100000 | mode}".encode()
        with _translated(str(self)), self._device.open_transport(timeout=COMMAND_SECONDS) as opened:
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


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Raise errors of the client as `ConnectionLostError`."""
    try:
        yield
    except (AdbError, OSError, EOFError, ValueError) as error:
        reason = shown(str(error), 200) or "the connection ended"
        raise ConnectionLostError(f"{where}: {reason}") from None
