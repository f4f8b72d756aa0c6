"""A host over SSH: its Python, and a folder on it for our files."""

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

# One line, as not every shell takes more. Any Python gets as far as to its version. What is partly
# written, and has not grown for an hour, belongs to a transfer that was killed.
_PROBE = (
    "import os, sys, time; sys.stdout.write('agent %d.%d ' % sys.version_info[:2]); os.umask(63); "
    "f = os.path.join(os.path.expanduser('~'), sys.argv[1]); os.makedirs(f, exist_ok=True); "
    "s = os.stat(f); own = s.st_uid == os.getuid() and not s.st_mode & 18; "
    "sys.stdout.write('%d %s' % (own, os.fsencode(f).hex())); "
    "[os.remove(p) for p in (os.path.join(f, n) for n in os.listdir(f) if n.endswith('.part')) "
    "if own and time.time() - os.stat(p).st_mtime > 3600]"
)
_PROBED = re.compile(r"^agent (\d+)\.(\d+) (?:([01]) ((?:[0-9a-f]{2})+)$)?", re.MULTILINE)


class Host:
    """A host that we are logged in to, with a Python on it and a folder for our files.

    Raises `ConnectionLostError` where it is out of reach, `DeviceError` where it is not fit for us,
    and what paramiko does (`LOSSES`) where the connection ends.
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
        """Write a file named by its content, unless it is there; returns its path."""
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
            reason = error.strerror or shown(str(error))
            if reason == "Failure" or reason.startswith("size mismatch"):  # SFTP has no more words
                reason = "failure, such as a full disk (df -h there)"
            raise DeviceError(f"{self}: cannot write {path}: {reason}") from None
        return path

    def run(self, *words: str) -> "Process":
        """Run the host's Python with these arguments."""
        with self._connection.deadline(_OPEN_SECONDS, self):
            channel = self._connection.transport.open_session(timeout=_OPEN_SECONDS)
            # `exec`, `env` and "$HOME" mean the same in every shell; none is left in between.
            home = '"$HOME"/' if self._python.startswith("~/") else ""
            command = shlex.join([self._python.removeprefix("~/"), *words])
            channel.exec_command(f"exec env OMP_NUM_THREADS=1 {home}{command}")
        return Process(channel)

    def _open_sftp(self) -> paramiko.SFTPClient:
        try:
            sftp = self._connection.transport.open_sftp_client()
        except LOSSES as error:
            if not self.is_alive:
                raise
            raise DeviceError(
                f"{self}: no files can be sent there ({shown(str(error)) or 'it hung up'}): is "
                "there a `Subsystem sftp` in its sshd_config, and is its shell silent at login?"
            ) from None
        sftp.sock.settimeout(_STALL_SECONDS)
        return sftp

    def _open_folder(self, folder: str) -> str:
        """Let the host's Python make the folder, or tidy it up; returns its path. Raises
        `DeviceError` where the agent needs another Python, or others may write into the folder."""
        process, answer = self.run("-ES", "-c", _PROBE, folder.removeprefix("~/")), b""
        while len(answer) < _MOST_ANSWER_BYTES and (more := process.read(65536, _OPEN_SECONDS)):
            answer += more
        words, code = process.last_words(), process.channel.exit_status
        process.close()
        if not self.is_alive:
            raise ConnectionLostError(f"{self}: the connection was lost while Python started")
        text = answer.decode(errors="replace")
        found = _PROBED.search(text)
        if found is None:
            if code in (126, 127):
                raise self._no_python(f"cannot be run: {words}")
            words = shown(text, 80) or words
            raise self._no_python(f"does not answer as a Python does: {words!r}")
        if (int(found[1]), int(found[2])) < OLDEST_PYTHON:
            raise self._no_python(f"is Python {found[1]}.{found[2]}")
        if text.strip() != found[0].strip():
            raise DeviceError(
                f"{self}: its shell prints {shown(text, 80)!r} before a command runs; "
                "let it be silent where it is not interactive (~/.bashrc there)"
            )
        if found[4] is None:
            raise DeviceError(
                f"{self}: the folder {folder!r} cannot be made there ({words}): set another one, "
                "`folder` on the card"
            )
        path = bytes.fromhex(found[4]).decode(errors="replace")
        if found[3] == "0":
            raise DeviceError(
                f"{self}: others may write into {path}, and what is there is run: set `folder` on "
                f"the card to one of your own, or: chmod 700 {shlex.quote(path)}"
            )
        return path

    def _no_python(self, what: str) -> DeviceError:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return DeviceError(
            f"{self}: the interpreter {self._python!r} {what}; the agent needs Python {oldest} or "
            "newer: install one there (sudo apt-get install python3 python3-numpy), or set "
            "`python` on the card"
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
        except EOFError:  # so paramiko says that it was cut while it was written to
            raise ConnectionError("the connection was lost") from None

    def read(self, most: int, seconds: float) -> bytes:
        end = monotonic() + seconds
        while True:
            self._take_errors()  # unread, they would fill the window that answers come through
            self.channel.settimeout(min(_ERRORS_EVERY_SECONDS, max(end - monotonic(), 0.001)))
            try:
                return self.channel.recv(most)
            except TimeoutError:
                if monotonic() >= end:
                    raise TimeoutError(f"no answer within {seconds:g} s") from None

    def last_words(self) -> str:
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
        with suppress(Exception):  # at the end of its input the agent ends
            self.channel.shutdown_write()
            self.channel.status_event.wait(_CLOSE_SECONDS)
        with suppress(Exception):
            self.channel.close()

    def _take_errors(self) -> None:
        while self.channel.recv_stderr_ready():
            self._errors = (self._errors + self.channel.recv_stderr(65536))[-_LAST_WORDS_BYTES:]
