"""`AdbServer`: the adb server on this machine, which knows the phones that are attached.

It is started by the `adb` binary where it does not run. Everything else goes through the server:
its list of phones and their states, and connections to services on a phone.
"""

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adbutils import AdbClient, AdbError, adb_path

from latency.errors import ConnectionLostError, DeviceError, UsageError

_CONNECT_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
"""A phone that was just plugged in is `offline` for so long at most."""

_PASSING = ("offline", "authorizing", "connecting")
_REMEDIES = {
    "unauthorized": "unlock it and accept this computer (Allow USB debugging?)",
    "authorizing": "unlock it and accept this computer (Allow USB debugging?)",
    "offline": "unplug it and plug it in again, or restart the server: adb kill-server",
    "connecting": "unplug it and plug it in again, or restart the server: adb kill-server",
    "no": "this user may not open it over USB: add udev rules for it "
    "(apt-get install android-sdk-platform-tools-common) and plug it in again",
}
_STATES = {"no": "not accessible"}
"""The client cuts "no permissions" short."""

_NO_ADB = "adb is not installed: apt-get install adb, or put Android's platform-tools in PATH"
_NETWORK = re.compile(r"[\w.-]+:\d+")


class AdbServer:
    """The server at `address` ("host:port"); None for the one that the command adb talks to."""

    def __init__(self, address: str | None) -> None:
        port_of_adb = os.environ.get("ANDROID_ADB_SERVER_PORT") or "5037"
        host, _, port = (address or f"127.0.0.1:{port_of_adb}").rpartition(":")
        if not (re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
            raise UsageError(f"ANDROID_ADB_SERVER_PORT: {port!r} is no port of an adb server")
        self._address = (host, int(port))
        self._client = AdbClient(host, int(port), socket_timeout=_CONNECT_SECONDS)

    def states(self) -> dict[str, str]:
        """Serial to state ("device": ready) of every phone that is attached.

        Raises `DeviceError` where the server does not run and cannot be started.
        """
        self._ensure_running()
        with _translated("adb server"):
            return {found.serial: found.state for found in self._client.list()}

    def reach(self, serial: str | None, known: bool = False) -> str:
        """The serial of the phone that is meant, which is ready. `known`: it was ready before.

        One in a network ("host:port") is connected to again where it is not. Raises
        `DeviceError` that says what to do, `ConnectionLostError` where a known one is away.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        error: type[DeviceError] = ConnectionLostError if known else DeviceError
        while True:
            states = self.states()
            chosen = _choose(serial, states)
            state = states.get(chosen, "absent")
            if state == "device":
                return chosen
            again = state in ("absent", "offline") and self._connect_again(chosen)
            if not (again or state in _PASSING) or time.monotonic() > deadline:
                break
            if not again:
                time.sleep(0.1)
        if state == "absent":
            raise error(f"phone {chosen} is not attached; {_attached(states)}")
        remedy = _REMEDIES.get(state, "start Android on it")
        kind = error if state in _PASSING else DeviceError
        raise kind(f"phone {chosen} is {_STATES.get(state, state)}: {remedy}")

    @contextmanager
    def opened(self, serial: str, service: str, seconds: float) -> Iterator[socket.socket]:
        """A connection to a service of a phone, on which nothing may take longer than `seconds`.

        Raises `ConnectionLostError` where the phone or the server goes away.
        """
        self._ensure_running()
        with _translated(f"phone {serial}"), self._client.make_connection(seconds) as connection:
            for command in (f"host:transport:{serial}", service):
                connection.send_command(command)
                connection.check_okay()
            yield connection.conn

    def features(self, serial: str) -> set[str]:
        """What the phone's end of adb is able to do."""
        with _translated(f"phone {serial}"), self._client.make_connection() as connection:
            connection.send_command(f"host-serial:{serial}:features")
            connection.check_okay()
            return set(connection.read_string_block().split(","))

    def _connect_again(self, serial: str) -> bool:
        """Connect to a phone in a network; False where it is none, or does not answer."""
        if not _NETWORK.fullmatch(serial):
            return False
        with suppress(AdbError, OSError, ValueError):
            self._client.disconnect(serial)
            said = self._client.connect(serial, timeout=_CONNECT_SECONDS)
            return said.startswith(("connected", "failed to authenticate"))
        return False

    def _ensure_running(self) -> None:
        host, port = self._address
        try:
            socket.create_connection(self._address, _CONNECT_SECONDS).close()
            return
        except OSError as error:
            if host not in ("127.0.0.1", "localhost"):
                said = error.strerror or error
                raise DeviceError(f"no adb server answers at {host}:{port}: {said}") from None
        _start_server(port)


def _start_server(port: int) -> None:
    try:
        command = [adb_path(), "-P", str(port), "start-server"]
    except AdbError:
        raise DeviceError(_NO_ADB) from None
    environment = {key: value for key, value in os.environ.items() if key != "ADB_SERVER_SOCKET"}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would be kept open by the server
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                timeout=30,
            ).returncode
        except FileNotFoundError:
            raise DeviceError(_NO_ADB) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"the adb server cannot be started: {error}") from None
        output.seek(0)
        if code != 0:
            last = (output.read(10_000).strip() or f"exit code {code}").splitlines()[-1]
            raise DeviceError(f"the adb server cannot be started on port {port}: {last}")


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


def _attached(states: dict[str, str]) -> str:
    return f"attached: {', '.join(states)}" if states else "no phone is"


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turns what the client raises into our error."""
    try:
        yield
    except (AdbError, OSError, EOFError, ValueError) as error:
        said = " ".join(str(error).split())[:200] or "the connection ended"
        raise ConnectionLostError(f"{where}: {said}") from None
