"""Android phones over adb. No Python runs there: TensorFlow Lite's `benchmark_model` is sent to the
phone and executes the models."""

import os
import re
import secrets
import shlex
from contextlib import suppress
from functools import cache
from hashlib import sha256

from devices.card import Adb
from devices.transports.adb.channel import BenchmarkChannel
from devices.transports.adb.facts import read_facts
from devices.transports.adb.phone import Phone, PushError, last_line
from devices.transports.adb.server import AdbServer
from devices.transports.adb.tool import read_tool
from devices.transports.locks import Claim
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
before=$(cat {saved}) || exit 0
case "$before" in
  ''|*[!0-9]*) svc power stayon false;;
  *) settings put global stay_on_while_plugged_in "$before";;
esac
rm -f {saved}
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
        self._claim: Claim | None = None
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
        tool = read_tool(self._settings.benchmark_model)
        phone = self._phone()
        phone.check_shell()
        facts = read_facts(phone)
        tool.check(facts.abis, f"phone {phone.serial}")
        path = self._path(tool.content, _TOOL_SUFFIX)
        # The shell that runs pkill does not match its own pattern.
        kill = f"pkill -9 -f '{path[:-1]}[{path[-1]}]'"

        @cache  # once per session
        def prepare() -> None:
            self._take(phone)
            self._put(phone, tool.content, _TOOL_SUFFIX, 0o755)
            phone.shell(f"{kill}; rm -f {self._settings.folder}/*.part")
            self._is_awake = True
            phone.shell(_KEEP_AWAKE.format(saved=self._saved))

        def end(interrupted: bool) -> None:
            with suppress(DeviceError):  # the next session does what fails here
                if interrupted:
                    phone.shell(kill)
                self._let_sleep(phone)

        return BenchmarkChannel(
            phone=phone,
            facts=facts,
            tool=tool,
            path=path,
            cpu_mask=self._settings.cpu_mask,
            run_seconds=self._run_seconds,
            warm=self._warm,
            prepare=prepare,
            end=end,
        )

    def close(self) -> None:
        """Let the phone sleep if no session could, and let other processes measure on it."""
        if self._serial is not None:
            with suppress(DeviceError):
                self._let_sleep(Phone(self._server, self._serial))
        if self._claim is not None:
            self._claim.release()

    def _take(self, phone: Phone) -> None:
        """Claim the phone for this process. Raises `DeviceError` if another one has it."""
        if self._claim is None:
            path = user_folder() / "locks" / f"phone-{slug(phone.serial)[:100]}.lock"
            self._claim = Claim(path, f"phone {phone.serial}")
        self._claim.take()

    def _phone(self) -> Phone:
        self._serial = self._server.reach(self._serial, self._was_reached)
        self._was_reached = True
        return Phone(self._server, self._serial)

    def _path(self, content: bytes, suffix: str) -> str:
        return f"{self._settings.folder}/{sha256(content).hexdigest()[:32]}{suffix}"

    def _put(self, phone: Phone, content: bytes, suffix: str, mode: int) -> str:
        """Write a file under a temporary name and rename it, unless it exists."""
        path = self._path(content, suffix)
        size, free = self._look(phone, path)
        if size == len(content):
            return path
        if free is not None and free < len(content):
            raise self._full(phone, len(content), free)
        partial = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"
        old, new = shlex.quote(partial), shlex.quote(path)
        try:
            phone.push(content, partial, mode)
        except PushError as error:
            phone.shell(f"rm -f {old}")
            if "No space left" in str(error):
                raise self._full(phone, len(content), free) from None
            raise self._refused(phone, str(error)) from None
        result = phone.shell(
            f"[ $(wc -c < {old}) -eq {len(content)} ] && chmod {mode:o} {old} && mv -f {old} {new}"
            f" || {{ rm -f {old}; exit 1; }}"
        )
        if result.returncode != 0:
            raise self._refused(phone, last_line(result))
        return path

    def _look(self, phone: Phone, path: str) -> tuple[int, int | None]:
        """Make the folder; returns the size of the file, -1 if there is none, and the free bytes,
        None if `df` prints no such column."""
        folder, file = self._settings.folder, shlex.quote(path)
        result = phone.shell(
            f"mkdir -p {folder} || exit 1; [ -w {folder} ] || {{ echo Permission denied; exit 1; }}"
            f"; if [ -f {file} ]; then wc -c < {file}; else echo -1; fi; df -k {folder}; exit 0"
        )
        size, *table = result.stdout.strip().splitlines() or [""]
        if result.returncode != 0 or not re.fullmatch(r"-?\d+", size.strip()):
            raise self._refused(phone, last_line(result))
        rows = [line.split() for line in table]
        with suppress(ValueError, IndexError):
            return int(size), int(rows[-1][rows[0].index("Available")]) * 1024
        return int(size), None

    def _refused(self, phone: Phone, reason: str) -> DeviceError:
        return DeviceError(
            f"phone {phone.serial}: cannot write into {self._settings.folder}: {reason}; "
            "set another `folder` in section [adb] of the card"
        )

    def _full(self, phone: Phone, size: int, free: int | None) -> DeviceError:
        available = "too little" if free is None else f"{free / 2**20:.1f} MiB"
        return DeviceError(
            f"phone {phone.serial}: {self._settings.folder} has {available} free, and a file needs "
            f"{size / 2**20:.1f} MiB; delete something on the phone"
        )

    def _let_sleep(self, phone: Phone) -> None:
        """Restore the setting of the screen."""
        if self._is_awake:
            phone.shell(_LET_SLEEP.format(saved=self._saved))
            self._is_awake = False


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
