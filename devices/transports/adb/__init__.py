"""Android phones over adb. No Python runs there: TensorFlow Lite's `benchmark_model` is sent to the
phone and executes the models."""

import secrets
import shlex
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256

from devices.card import Adb
from devices.transports.adb.channel import TOOL, BenchmarkChannel
from devices.transports.adb.claim import claim
from devices.transports.adb.facts import read_facts
from devices.transports.adb.phones import AdbServer, Phone, PushError, last_line
from latency.errors import DeviceError
from latency.names import slug
from latency.tables.library import user_folder

RUN_SECONDS = 180.0
"""Limit for one run of `benchmark_model`."""

_TOOL_SUFFIX = ".benchmark_model"
_KEEP_AWAKE = """
[ -f {saved} ] || settings get global stay_on_while_plugged_in > {saved}
svc power stayon true; input keyevent KEYCODE_WAKEUP
"""
_LET_SLEEP = """
[ -f {saved} ] && settings put global stay_on_while_plugged_in "$(cat {saved})"; rm -f {saved}
"""


class AdbTransport:
    """The phone with this serial, by default the only one attached.

    Files are kept in the card's folder, named by their content. From the first model sent until
    `close`, no other process on this machine can measure on the phone. The screen stays on while
    a session has models loaded; its setting is restored afterwards, or by the next process if
    this one is killed.
    """

    def __init__(
        self, settings: Adb, serial: str | None = None, run_seconds: float = RUN_SECONDS
    ) -> None:
        self._settings = settings
        self._serial = serial
        self._server = AdbServer(settings.server)
        self._run_seconds = run_seconds
        self._was_reached = False
        self._warm: dict[str, int] = {}
        self._release: Callable[[], object] | None = None
        self._is_awake = False
        self._saved = f"{settings.folder}/stay-on-before"

    @property
    def label(self) -> str:
        """The serial, "phone" if it is not yet known."""
        return self._serial or "phone"

    def send(self, content: bytes, suffix: str) -> str:
        """Send a file, once per content; returns its path on the phone. Raises `DeviceError` if
        another process measures on the phone."""
        phone = self._phone()
        self._take(phone)
        return self._put(phone, content, suffix, 0o644)

    def start(self) -> BenchmarkChannel:
        """Start a session: check the phone and the binary. Nothing changes on the phone until a
        model is loaded, so reading its facts does not disturb a measurement."""
        tool = self._tool()
        phone = self._phone()
        path = self._path(tool, _TOOL_SUFFIX)
        # The shell that runs pkill does not match its own pattern.
        kill = f"pkill -9 -f '{path[:-1]}[{path[-1]}]'"

        @cache  # once per session
        def prepare() -> None:
            self._take(phone)
            self._put(phone, tool, _TOOL_SUFFIX, 0o755)
            phone.shell(f"{kill}; rm -f {self._settings.folder}/*.part")
            self._is_awake = True
            phone.shell(_KEEP_AWAKE.format(saved=self._saved))

        def end(interrupted: bool) -> None:
            with suppress(DeviceError):  # the next session does what fails here
                if interrupted:
                    phone.shell(kill)
                if self._is_awake:
                    phone.shell(_LET_SLEEP.format(saved=self._saved))
                    self._is_awake = False

        return BenchmarkChannel(
            phone=phone,
            facts=read_facts(phone),
            runtime=f"benchmark_model {sha256(tool).hexdigest()[:12]}",
            path=path,
            cpu_mask=self._settings.cpu_mask,
            run_seconds=self._run_seconds,
            warm=self._warm,
            prepare=prepare,
            end=end,
        )

    def close(self) -> None:
        """Let other processes measure on the phone."""
        if self._release is not None:
            self._release()
            self._release = None

    def _take(self, phone: Phone) -> None:
        if self._release is None:
            path = user_folder() / "locks" / f"phone-{slug(phone.serial)[:100]}.lock"
            self._release = claim(path, str(phone))

    def _phone(self) -> Phone:
        self._serial = self._server.reach(self._serial, self._was_reached)
        self._was_reached = True
        return Phone(self._server.client, self._serial)

    def _path(self, content: bytes, suffix: str) -> str:
        return f"{self._settings.folder}/{sha256(content).hexdigest()[:32]}{suffix}"

    def _tool(self) -> bytes:
        path = self._settings.benchmark_model
        if path is None:
            raise DeviceError(f"set benchmark_model in section [adb] of the card to {TOOL}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}; it should be {TOOL}") from None

    def _put(self, phone: Phone, content: bytes, suffix: str, mode: int) -> str:
        """Write a file under a temporary name and rename it, unless it exists."""
        folder, path = self._settings.folder, self._path(content, suffix)
        partial = f"{path}.{secrets.token_hex(4)}.part"
        new, old = shlex.quote(path), shlex.quote(partial)
        size = phone.shell(f"mkdir -p {folder}; wc -c < {new}").output.strip()
        if size == str(len(content)):
            return path
        try:
            phone.push(content, partial, mode)
            result = phone.shell(f"chmod {mode:o} {old} && mv -f {old} {new}")
            if result.returncode != 0:
                raise PushError(last_line(result))
        except PushError as error:
            phone.shell(f"rm -f {old}")
            raise DeviceError(
                f"{phone}: cannot write {len(content) / 2**20:.1f} MiB into {folder}: {error}; "
                "make space there, or set another `folder` in section [adb] of the card"
            ) from None
        return path


def chosen_serials(settings: Adb) -> tuple[str | None, ...]:
    """The phones that a card selects; None is the only one attached.

    Raises `DeviceError` if it selects all attached phones and there are none.
    """
    if settings.serials is None:
        return (None,)
    if settings.serials != "all":
        return tuple(dict.fromkeys(settings.serials))
    attached = tuple(AdbServer(settings.server).states())
    if not attached:
        raise DeviceError("no phone is attached, and the card asks for all that are")
    return attached
