"""`AdbServer`: the adb server, which lists the attached phones and connects to them.

The `adb` binary only starts it; everything else uses the server's protocol.
"""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adbutils import AdbClient, AdbConnection, AdbError, adb_path

from devices.transports.channel import shown
from latency.errors import ConnectionLostError, DeviceError, UsageError

_CONNECT_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
"""How long a phone that was just plugged in may be `offline`."""

_TRANSIENT = ("offline", "authorizing", "connecting")
_ACCEPT = "unlock it and accept this computer (Allow USB debugging?)"
_REPLUG = "unplug it and plug it in again, or restart the server: adb kill-server"
_REMEDIES = {
    "unauthorized": _ACCEPT,
    "authorizing": _ACCEPT,
    "offline": _REPLUG,
    "connecting": _REPLUG,
    "not accessible": "this user may not open it over USB: add udev rules for it "
    "(apt-get install android-sdk-platform-tools-common) and plug it in again",
}

_NO_ADB = "adb is not installed: apt-get install adb, or put Android's platform-tools in PATH"
_NETWORK = re.compile(r"[\w.-]+:\d+")


class AdbServer:
    """The server at `address` ("host:port"), by default the one that the command adb uses."""

    def __init__(self, address: str | None) -> None:
        port_of_adb = os.environ.get("ANDROID_ADB_SERVER_PORT") or "5037"
        host, _, port = (address or f"127.0.0.1:{port_of_adb}").rpartition(":")
        if not (re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
            raise UsageError(f"ANDROID_ADB_SERVER_PORT: {port!r} is not a valid port")
        self._address = (host, int(port))
        self._client = AdbClient(host, int(port), socket_timeout=_CONNECT_SECONDS)

    def states(self) -> dict[str, str]:
        """Serial to state ("device" means ready) of every attached phone.

        Raises `DeviceError` if the server does not run and cannot be started.
        """
        self._ensure_running()
        with _translated("adb server"):
            states = {found.serial: found.state for found in self._client.list()}
        # adbutils keeps one word of "no permissions".
        return {name: "not accessible" if s == "no" else s for name, s in states.items()}

    def reach(self, serial: str | None, known: bool = False) -> str:
        """Wait until a phone is ready, by default the only one attached; returns its serial.

        Reconnects to a phone in the network ("host:port"). Raises `DeviceError`, or
        `ConnectionLostError` if `known`: the phone was ready before, and may come back.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        error: type[DeviceError] = ConnectionLostError if known else DeviceError
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
            attached = f"attached: {', '.join(states)}" if states else "no phone is"
            raise error(f"phone {chosen} is not attached; {attached}")
        remedy = _REMEDIES.get(state, "start Android on it")
        kind = error if state in _TRANSIENT else DeviceError
        raise kind(f"phone {chosen} is {state}: {remedy}")

    @contextmanager
    def opened(self, serial: str, service: str, seconds: float) -> Iterator[AdbConnection]:
        """A connection to a service of a phone, with a timeout.

        Raises `ConnectionLostError` if the phone or the server goes away.
        """
        self._ensure_running()
        with _translated(f"phone {serial}"), self._client.make_connection(seconds) as connection:
            for command in (f"host:transport:{serial}", service):
                connection.send_command(command)
                connection.check_okay()
            yield connection

    def features(self, serial: str) -> set[str]:
        """The features of adb on the phone."""
        with _translated(f"phone {serial}"):
            return set(self._client.device(serial).get_features().split(","))

    def _reconnect(self, serial: str) -> bool:
        """Reconnect to a phone in the network; False for other phones, and if none answers."""
        if not _NETWORK.fullmatch(serial):
            return False
        with suppress(AdbError, OSError, ValueError):
            self._client.disconnect(serial)
            answer = self._client.connect(serial, timeout=_CONNECT_SECONDS)
            return answer.startswith(("connected", "failed to authenticate"))
        return False

    def _ensure_running(self) -> None:
        host, port = self._address
        try:
            socket.create_connection(self._address, _CONNECT_SECONDS).close()
            return
        except OSError as error:
            if host not in ("127.0.0.1", "localhost"):
                reason = error.strerror or error
                raise DeviceError(f"no adb server answers at {host}:{port}: {reason}") from None
        _start_server(port)


def _start_server(port: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ADB_SERVER_SOCKET"}
    try:
        command = [adb_path(), "-P", str(port), "start-server"]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            timeout=30,
        )
    except (AdbError, FileNotFoundError):
        raise DeviceError(_NO_ADB) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"the adb server cannot be started: {error}") from None
    if done.returncode != 0:
        last = (done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
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


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Raise errors of the client as `ConnectionLostError`."""
    try:
        yield
    except EOFError:
        raise ConnectionLostError(f"{where}: the connection ended") from None
    except (AdbError, OSError, ValueError) as error:
        reason = shown(str(error), 200) or "the connection ended"
        raise ConnectionLostError(f"{where}: {reason}") from None
