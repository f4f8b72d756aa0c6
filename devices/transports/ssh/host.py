"""A host over SSH: its Python, and a folder on it for our files."""

import posixpath
import re
import secrets
import shlex
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BytesIO
from time import monotonic

import paramiko

from devices.card import Ssh
from devices.channel import ANSWER_SECONDS
from devices.transports.ssh.login import log_in
from devices.transports.ssh.route import route
from latency.errors import ConnectionLostError, DeviceError

OLDEST_PYTHON = (3, 9)
"""That the agent runs on."""

LOSSES = (EOFError, OSError, paramiko.SSHException, paramiko.SFTPError)
"""What a connection that ends is raised as by paramiko."""

_OPEN_SECONDS = 60.0
_STALL_SECONDS = 60.0
_CLOSE_SECONDS = 1.0
_ERRORS_EVERY_SECONDS = 1.0
_LAST_WORDS_BYTES = 4096
_MOST_ANSWER_BYTES = 65536
_LEFT_SECONDS = 3600.0
"""A file under way that has not grown for so long belongs to a transfer that was killed."""

_PROBE = "import os, sys; print('agent %d.%d %d' % (sys.version_info[:2] + (os.getuid(),)))"
_PROBED = re.compile(r"^agent (\d+)\.(\d+) (\d+)$", re.MULTILINE)


class Host:
    """A host that we are logged in to, with a Python on it and a folder for our files.

    Raises `ConnectionLostError` where it is out of reach, `DeviceError` where it is not fit for us;
    `put` and `run` may also raise what paramiko does where the connection ends.
    """

    def __init__(self, settings: Ssh) -> None:
        hops = route(settings)
        self._name = str(hops[-1])
        self._connection = log_in(hops)
        self.close = weakref.finalize(self, self._connection.close)
        self._python = settings.python
        self._is_tidy = False
        try:
            with self._connection.deadline(_OPEN_SECONDS, self):
                self._sftp = self._open_sftp()
                home = self._sftp.normalize(".")
                if settings.python.startswith("~/"):
                    self._python = posixpath.join(home, settings.python[2:])
                self._folder = posixpath.join(home, settings.folder.removeprefix("~/"))
                self._make_folder(user=self._check_python())
        except LOSSES as error:
            self.close()
            raise lost(self._name, "lost", error) from None
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return self._name

    @property
    def is_alive(self) -> bool:
        return self._connection.is_alive

    def put(self, content: bytes, suffix: str) -> str:
        """Write a file named by its content, unless it is there; returns its path."""
        path = posixpath.join(self._folder, sha256(content).hexdigest() + suffix)
        with self._files(path):
            with suppress(FileNotFoundError):
                if self._sftp.stat(path).st_size == len(content):
                    return path
            part = f"{path}.{secrets.token_hex(4)}.part"
            try:
                self._sftp.putfo(BytesIO(content), part, len(content))
                self._rename(part, path)
            except BaseException:
                with suppress(Exception):
                    self._sftp.remove(part)
                raise
            if not self._is_tidy:
                self._remove_left(self._sftp.stat(path).st_mtime or 0)
        return path

    def _remove_left(self, now: int) -> None:
        """Remove what killed transfers have left. `now`: by the host's clock."""
        self._is_tidy = True
        for found in self._sftp.listdir_attr(self._folder):
            is_old = now - (found.st_mtime or now) > _LEFT_SECONDS
            if is_old and found.filename.endswith(".part"):
                with suppress(FileNotFoundError):  # another run has just done it
                    self._sftp.remove(posixpath.join(self._folder, found.filename))

    def run(self, *words: str) -> "Process":
        """Run the host's Python with these arguments."""
        with self._connection.deadline(_OPEN_SECONDS, self):
            channel = self._connection.transport.open_session(timeout=_OPEN_SECONDS)
            # `env` and `exec` mean the same in every shell, and leave none in between.
            command = shlex.join(["exec", "env", "OMP_NUM_THREADS=1", self._python, *words])
            channel.exec_command(command)
        return Process(channel, self._name)

    def _rename(self, old: str, new: str) -> None:
        try:
            self._sftp.posix_rename(old, new)
        except OSError:  # not every server knows it; the other one never replaces a file
            self._sftp.rename(old, new)

    def _open_sftp(self) -> paramiko.SFTPClient:
        transport = self._connection.transport
        try:
            sftp = paramiko.SFTPClient.from_transport(transport)
        except LOSSES as error:
            if not transport.is_active():
                raise
            raise DeviceError(
                f"{self}: no files can be sent there ({one_line(error) or 'it hung up'}): is "
                "there a `Subsystem sftp` in its sshd_config, and is its shell silent at login?"
            ) from None
        assert sftp is not None
        channel = sftp.get_channel()
        assert channel is not None
        channel.settimeout(_STALL_SECONDS)
        return sftp

    def _check_python(self) -> int:
        """The number of the user whose Python it is. Raises `DeviceError` where it is none that
        the agent runs on."""
        pipe = self.run("-ES", "-c", _PROBE)
        try:
            said = pipe.everything(_MOST_ANSWER_BYTES)
            code, words = pipe.exit_code(), pipe.last_words()
        finally:
            pipe.close()
        found = _PROBED.search(said)
        if found:
            if said.strip() != found.group():
                raise DeviceError(
                    f"{self}: its shell prints {one_line(said)[:80]!r} before a command runs; "
                    "let it be silent where it is not interactive (~/.bashrc there)"
                )
            version = (int(found[1]), int(found[2]))
            if version < OLDEST_PYTHON:
                raise self._no_python(f"is Python {found[1]}.{found[2]}", "a newer one")
            return int(found[3])
        if code in (126, 127):
            raise self._no_python(f"cannot be run: {words}", "one")
        if not self.is_alive:
            raise ConnectionLostError(f"{self}: the connection was lost while Python was started")
        said = one_line(said)[:80] or words
        raise self._no_python(f"does not answer as a Python does: {said!r}", "one")

    def _no_python(self, what: str, remedy: str) -> DeviceError:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return DeviceError(
            f"{self}: the interpreter {self._python!r} {what}; the agent needs Python {oldest} or "
            f"newer: install {remedy} there (sudo apt-get install python3 python3-numpy), or set "
            "`python` on the card"
        )

    def _make_folder(self, user: int) -> None:
        with self._files(self._folder):
            self._make_folders(self._folder)
            found = self._sftp.stat(self._folder)
        if found.st_mode is not None and not stat.S_ISDIR(found.st_mode):
            raise DeviceError(f"{self}: {self._folder} is no folder: set `folder` on the card")
        if found.st_mode is None or found.st_mode & 0o022 or found.st_uid not in (user, None):
            raise DeviceError(
                f"{self}: others may write into {self._folder}, and what is there is run: set "
                "`folder` on the card to one of your own, or: chmod 700 "
                f"{shlex.quote(self._folder)}"
            )

    def _make_folders(self, path: str) -> None:
        try:
            self._sftp.stat(path)
        except FileNotFoundError:
            if (above := posixpath.dirname(path)) != path:
                self._make_folders(above)
            try:
                self._sftp.mkdir(path, 0o700)
            except OSError:  # another process may have made it in between
                with suppress(FileNotFoundError):
                    self._sftp.stat(path)
                    return
                raise

    @contextmanager
    def _files(self, path: str) -> Iterator[None]:
        """Turns what the host says of its files into an error that names the file."""
        try:
            yield
        except TimeoutError:
            raise
        except OSError as error:
            channel = self._sftp.get_channel()
            if channel is None or channel.closed:
                raise
            said = error.strerror or one_line(error)
            if said == "Failure" or said.startswith("size mismatch"):  # SFTP has no more words
                said = "failure, such as a full disk (df -h there)"
            raise DeviceError(f"{self}: cannot write {path}: {said}") from None


class Process:
    """The standard streams of a process on the host: a `devices.channel.Pipe`."""

    def __init__(self, channel: paramiko.Channel, where: str) -> None:
        self._channel = channel
        self._where = where
        self._errors = b""

    def write(self, data: bytes) -> None:
        self._channel.settimeout(ANSWER_SECONDS)
        try:
            self._channel.sendall(data)
        except EOFError:  # so paramiko says that it was cut while it was written to
            raise ConnectionError("the connection was lost") from None

    def read(self, most: int, seconds: float) -> bytes:
        end = monotonic() + seconds
        while True:
            self._take_errors()  # unread, they would fill the window that answers come through
            self._channel.settimeout(min(_ERRORS_EVERY_SECONDS, max(end - monotonic(), 0.001)))
            try:
                return self._channel.recv(most)
            except TimeoutError:
                if monotonic() >= end:
                    raise TimeoutError(f"no answer within {seconds:g} s") from None

    def everything(self, most: int) -> str:
        """All that it says until it ends, or so many bytes."""
        said = b""
        while len(said) < most and (more := self.read(most, _OPEN_SECONDS)):
            said += more
        return said.decode(errors="replace")

    def exit_code(self) -> int | None:
        """None where it still runs, or nobody knows."""
        self._channel.status_event.wait(_CLOSE_SECONDS)
        return self._channel.exit_status if self._channel.exit_status_ready() else None

    def last_words(self) -> str:
        code = self.exit_code()
        transport = self._channel.get_transport()
        if not transport.is_active():
            return "the connection was lost"
        if code is None:
            return ""
        self._take_errors()
        lines = self._errors.decode(errors="replace").strip().splitlines()
        if lines and code >= 0:
            return one_line(lines[-1])
        return f"exit code {code}" if code >= 0 else "it was killed there (out of memory?)"

    def close(self) -> None:
        with suppress(Exception):  # at the end of its input the agent ends
            self._channel.shutdown_write()
            self._channel.status_event.wait(_CLOSE_SECONDS)
        with suppress(Exception):
            self._channel.close()

    def _take_errors(self) -> None:
        while self._channel.recv_stderr_ready():
            self._errors = (self._errors + self._channel.recv_stderr(65536))[-_LAST_WORDS_BYTES:]


def lost(where: str, how: str, error: Exception) -> ConnectionLostError:
    said = one_line(error)
    return ConnectionLostError(f"{where}: the connection was {how}{': ' if said else ''}{said}")


def one_line(said: object) -> str:
    """What came from elsewhere, made fit for a terminal."""
    text = "".join(c if c.isprintable() else " " for c in str(said))
    return " ".join(text.split())[:300]
