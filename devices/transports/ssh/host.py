"""A host over SSH: its Python, and a folder for our files."""

import posixpath
import re
import secrets
import shlex
import weakref
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from time import monotonic

import paramiko

from devices.card import Ssh
from devices.transports.channel import ANSWER_SECONDS, shown
from devices.transports.ssh.login import Connection
from devices.transports.ssh.route import route
from latency.errors import ConnectionLostError, DeviceError

LOSSES = (EOFError, OSError, paramiko.SSHException, paramiko.SFTPError)
"""What paramiko raises if a connection ends."""

_OPEN_SECONDS = 60.0
_STALL_SECONDS = 60.0
_CLOSE_SECONDS = 1.0
_ERRORS_EVERY_SECONDS = 1.0
_MAX_ERROR_BYTES = 4096
_MAX_ANSWER_BYTES = 65536

# One line, because some shells allow no more.
_PROBE = (
    "import os, sys; assert sys.version_info >= (3, 9), 'it is Python ' + sys.version; "
    "os.umask(63); f = os.path.join(os.path.expanduser('~'), sys.argv[1]); "
    "os.makedirs(f, exist_ok=True); print('folder ' + f)"
)


class Host:
    """A host we are logged in to.

    Raises `ConnectionLostError` if it cannot be reached, `DeviceError` if its Python, folder or
    SFTP cannot be used, and `LOSSES` if the connection ends.
    """

    def __init__(self, settings: Ssh) -> None:
        hops = route(settings)
        self._name = str(hops[-1])
        self._python = settings.python
        self._connection = Connection(hops)
        self.close = weakref.finalize(self, self._connection.close)
        try:
            with self._connection.deadline(_OPEN_SECONDS, self):
                self._folder = self._open_folder(settings.folder)
                self._sftp = self._open_sftp()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return self._name

    @property
    def is_alive(self) -> bool:
        return self._connection.transport.is_active()

    def put(self, content: bytes, suffix: str) -> str:
        """Write a file named by its content, unless it exists; returns its path."""
        path = posixpath.join(self._folder, sha256(content).hexdigest() + suffix)
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            with suppress(FileNotFoundError):
                if self._sftp.stat(path).st_size == len(content):
                    return path
            try:
                self._sftp.putfo(BytesIO(content), part, len(content))
                self._sftp.posix_rename(part, path)
            except BaseException:
                with suppress(Exception):
                    self._sftp.remove(part)
                raise
        except OSError as error:
            if isinstance(error, TimeoutError) or self._sftp.sock.closed:
                raise
            raise DeviceError(
                f"{self}: cannot write {path}: {shown(str(error))}; is the disk full (df -h there)?"
            ) from None
        return path

    def run(self, *arguments: str) -> "Process":
        """Run the host's Python with these arguments."""
        with self._connection.deadline(_OPEN_SECONDS, self):
            channel = self._connection.transport.open_session(timeout=_OPEN_SECONDS)
            # `exec`, `env` and "$HOME" work in every shell; no shell stays in between.
            home = '"$HOME"/' if self._python.startswith("~/") else ""
            command = shlex.join([self._python.removeprefix("~/"), *arguments])
            channel.exec_command(f"exec env OMP_NUM_THREADS=1 {home}{command}")
        return Process(channel)

    def _open_sftp(self) -> paramiko.SFTPClient:
        try:
            sftp = self._connection.transport.open_sftp_client()
        except LOSSES as error:
            if not self.is_alive:
                raise
            raise DeviceError(
                f"{self}: SFTP does not work ({shown(str(error)) or 'it hung up'}): is there a "
                "`Subsystem sftp` in its sshd_config, and does its shell print nothing at login?"
            ) from None
        sftp.sock.settimeout(_STALL_SECONDS)
        return sftp

    def _open_folder(self, folder: str) -> str:
        """Have the host's Python make the folder; returns its path."""
        process, answer = self.run("-ES", "-c", _PROBE, folder.removeprefix("~/")), b""
        while len(answer) < _MAX_ANSWER_BYTES and (more := process.read(65536, _OPEN_SECONDS)):
            answer += more
        reason = process.exit_reason()
        process.close()
        if not self.is_alive:
            raise ConnectionLostError(f"{self}: the connection was lost while Python started")
        text = answer.decode(errors="replace")
        if found := re.fullmatch("folder (.+)\n", text):
            return found[1]
        raise DeviceError(
            f"{self}: {self._python!r} cannot make the folder {folder!r}: "
            f"{shown(text, 80) or reason}. The agent needs Python 3.9 or newer (sudo apt-get "
            "install python3 python3-numpy, or set `python` on the card), a `folder` that it can "
            "write to, and a shell that prints nothing at login"
        )


class Process:
    """The standard streams of a process on the host: a `devices.transports.channel.Pipe`."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel = channel
        self._errors = b""

    def write(self, data: bytes) -> None:
        self.channel.settimeout(ANSWER_SECONDS)
        try:
            self.channel.sendall(data)
        except EOFError:  # paramiko's error for a connection cut during a write
            raise ConnectionError("the connection was lost") from None

    def read(self, most: int, seconds: float) -> bytes:
        end = monotonic() + seconds
        while True:
            self._take_errors()  # unread, they would fill the channel's window
            self.channel.settimeout(min(_ERRORS_EVERY_SECONDS, max(end - monotonic(), 0.001)))
            try:
                return self.channel.recv(most)
            except TimeoutError:
                if monotonic() >= end:
                    raise TimeoutError(f"no answer within {seconds:g} s") from None

    def exit_reason(self) -> str:
        self.channel.status_event.wait(_CLOSE_SECONDS)
        if not self.channel.get_transport().is_active():
            return "the connection was lost"
        if not self.channel.exit_status_ready():
            return ""
        self._take_errors()
        lines = self._errors.decode(errors="replace").strip().splitlines()
        if self.channel.exit_status < 0:
            return "it was killed there (out of memory?)"
        return shown(lines[-1]) if lines else f"exit code {self.channel.exit_status}"

    def close(self) -> None:
        with suppress(Exception):  # the agent exits when its input closes
            self.channel.shutdown_write()
            self.channel.status_event.wait(_CLOSE_SECONDS)
        with suppress(Exception):
            self.channel.close()

    def _take_errors(self) -> None:
        while self.channel.recv_stderr_ready():
            self._errors = (self._errors + self.channel.recv_stderr(65536))[-_MAX_ERROR_BYTES:]
