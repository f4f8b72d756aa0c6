"""Android phones, by the real adb client. No Python runs there: TensorFlow Lite's
`benchmark_model` is put on the phone and executes the models."""

import os
import re
import secrets
import shlex
from contextlib import suppress
from hashlib import sha256

from devices.card import Adb
from devices.transports.adb.channel import BenchmarkChannel, Installed
from devices.transports.adb.facts import read_facts
from devices.transports.adb.phone import Phone, PushError
from devices.transports.adb.server import AdbServer
from devices.transports.adb.tool import read_tool
from devices.transports.locks import Claim
from latency.errors import DeviceError
from latency.names import slug
from latency.tables.library import user_folder

RUN_SECONDS = 180.0
"""A run that takes longer is given up."""

_KEEP_AWAKE = """
[ -f {kept} ] || settings get global stay_on_while_plugged_in > {kept}
svc power stayon true; input keyevent KEYCODE_WAKEUP
"""
_LET_SLEEP = """
before=$(cat {kept}) || exit 0
case "$before" in
  ''|*[!0-9]*) svc power stayon false;;
  *) settings put global stay_on_while_plugged_in "$before";;
esac
rm -f {kept}
"""


class AdbTransport:
    """A phone: the one with this serial, or where that is None the only one that is attached.

    Files are kept in the card's folder, named by their content. From the first model that is sent
    to `close`, no other process on this machine measures on the phone. Its screen is kept on while
    a session has models loaded, and its setting restored; where a process was killed before that,
    the next one restores it.
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

    @property
    def label(self) -> str:
        """The serial; "phone" where it is not yet known."""
        return self._serial or "phone"

    def send(self, content: bytes, suffix: str) -> str:
        """Put a file on the phone, once per content; returns its path there. Raises `DeviceError`
        where another process measures on the phone."""
        phone = self._phone()
        self._claimed(phone)
        return self._put(phone, content, suffix, 0o644)

    def start(self) -> BenchmarkChannel:
        """Begin a session: check the phone and the binary. Nothing changes on the phone before a
        model is loaded: whoever only asks what it is disturbs no measurement."""
        tool = read_tool(self._settings.benchmark_model)
        phone = self._phone()
        phone.check_shell()
        facts = read_facts(phone)
        tool.check(facts.abis, f"phone {phone.serial}")
        path = self._path(tool.content, ".benchmark_model")
        mask = self._settings.cpu_mask
        installed = Installed(phone, facts, tool, path, mask, self._run_seconds)
        return BenchmarkChannel(
            installed,
            self._warm,
            lambda: self._prepare(installed),
            lambda interrupted: self._end(installed, interrupted),
        )

    def close(self) -> None:
        """Let the phone sleep again, where a session could not, and others measure on it."""
        if self._serial is not None:
            with suppress(DeviceError):
                self._let_sleep(Phone(self._server, self._serial))
        if self._claim is not None:
            self._claim.release()

    def _claimed(self, phone: Phone) -> None:
        """Keep the phone for this process. Raises `DeviceError` where another has it."""
        if self._claim is None:
            path = user_folder() / "locks" / f"phone-{slug(phone.serial)[:100]}.lock"
            self._claim = Claim(path, f"phone {phone.serial}")
        self._claim.take()

    def _prepare(self, installed: Installed) -> None:
        """Make a phone ready for a session's runs: the binary is there, nothing else runs, it is
        awake."""
        phone = installed.phone
        self._claimed(phone)
        self._put(phone, installed.tool.content, ".benchmark_model", 0o755)
        installed.kill()
        phone.shell(f"rm -f {shlex.quote(self._settings.folder)}/*.part")
        self._is_awake = True
        phone.shell(_KEEP_AWAKE.format(kept=self._kept))

    def _phone(self) -> Phone:
        self._serial = self._server.reach(self._serial, self._was_reached)
        self._was_reached = True
        return Phone(self._server, self._serial)

    def _path(self, content: bytes, suffix: str) -> str:
        return f"{self._settings.folder}/{sha256(content).hexdigest()[:32]}{suffix}"

    @property
    def _kept(self) -> str:
        """The file on the phone with the setting that is to be restored."""
        return shlex.quote(f"{self._settings.folder}/stay-on-before")

    def _put(self, phone: Phone, content: bytes, suffix: str, mode: int) -> str:
        """Write a file, under a temporary name first, unless it is there."""
        path = self._path(content, suffix)
        found, free = self._look(phone, path)
        if found == len(content):
            return path
        if free is not None and free < len(content):
            raise self._full(phone, len(content), free)
        partial = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            phone.push(content, partial, mode)
        except PushError as error:
            phone.shell(f"rm -f {shlex.quote(partial)}")
            if "No space left" in str(error):
                raise self._full(phone, len(content), free) from None
            raise self._refused(phone, str(error)) from None
        old, new = shlex.quote(partial), shlex.quote(path)
        said = phone.shell(
            f"[ $(wc -c < {old}) -eq {len(content)} ] && chmod {mode:o} {old} && mv -f {old} {new}"
            f" || {{ rm -f {old}; exit 1; }}"
        )
        if said.code != 0:
            raise self._refused(phone, said.last_line)
        return path

    def _look(self, phone: Phone, path: str) -> tuple[int, int | None]:
        """Size of a file, -1 where it is absent, and the bytes that are free in the folder.

        Makes the folder.
        """
        folder, file = shlex.quote(self._settings.folder), shlex.quote(path)
        said = phone.shell(
            f"mkdir -p {folder} || exit 1; [ -w {folder} ] || {{ echo Permission denied; exit 1; }}"
            f"; if [ -f {file} ]; then wc -c < {file}; else echo -1; fi; df -k {folder}; exit 0"
        )
        first, _, rest = said.output.strip().partition("\n")
        if said.code != 0 or not re.fullmatch(r"-?\d+", first.strip()):
            raise self._refused(phone, said.last_line)
        return int(first), _free_bytes(rest)

    def _refused(self, phone: Phone, said: str) -> DeviceError:
        return DeviceError(
            f"phone {phone.serial}: cannot write into {self._settings.folder}: {said}; "
            "`folder` in section [adb] of the card names another"
        )

    def _full(self, phone: Phone, size: int, free: int | None) -> DeviceError:
        has = "too little" if free is None else f"{free / 2**20:.1f} MiB"
        return DeviceError(
            f"phone {phone.serial}: {self._settings.folder} has {has} free, and a file of "
            f"{size / 2**20:.1f} MiB is to be put there; delete something on the phone"
        )

    def _let_sleep(self, phone: Phone) -> None:
        """Restore what keeping it awake has changed."""
        if self._is_awake:
            phone.shell(_LET_SLEEP.format(kept=self._kept))
            self._is_awake = False

    def _end(self, installed: Installed, interrupted: bool) -> None:
        """A session is over. Never raises; what fails here is done by the next session."""
        with suppress(DeviceError):
            if interrupted:
                installed.kill()
            self._let_sleep(installed.phone)


def chosen_serials(settings: Adb) -> tuple[str | None, ...]:
    """The phones that a card asks for; None: the one that is attached when it is reached.

    Raises `DeviceError` where all that are attached are asked for, and none is.
    """
    if settings.serials is None:
        return (None,)
    if settings.serials != "all":
        return tuple(dict.fromkeys(settings.serials))
    attached = tuple(AdbServer(settings.server).states())
    if not attached:
        raise DeviceError("no phone is attached, and the card asks for all that are")
    return attached


def _free_bytes(table: str) -> int | None:
    """What `df -k` says is available; None where it says it in another way."""
    lines = [line.split() for line in table.strip().splitlines()]
    with suppress(ValueError, IndexError):
        return int(lines[-1][lines[0].index("Available")]) * 1024
    return None
