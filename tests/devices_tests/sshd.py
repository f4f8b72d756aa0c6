"""A real sshd for tests: on 127.0.0.1, with throwaway keys, its sessions and itself killable."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from devices.agent_archive import SUFFIX
from devices.card import DeviceCard, Ssh

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
WAIT_SECONDS = 10.0
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def why_not() -> str:
    """Why no sshd can be started here; "" where one can."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        return "sshd is not installed (apt-get install openssh-server)"
    if os.getuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    return ""


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something holds; returns it."""
    end = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {WAIT_SECONDS:g} s in vain until {what}")
        time.sleep(0.01)
    return found


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key pair; returns the path of the private one."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run([*words, "-b", "2048"] if kind == "rsa" else words, check=True)
    return path


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rsplit(")")[-1].split()[1]
                )
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


class Sshd:
    """A server that lets the key `user_key` in. What it keeps is in `folder`; `home` is where
    files go that are sent to a relative path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.user = getpass.getuser()
        self.user_key = make_key(folder / "user_key")
        self.host_key = make_key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        shutil.copy(f"{self.user_key}.pub", folder / "authorized_keys")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.know()

    def start(
        self, *more: str, host_key: Path | None = None, most_bytes: int | None = None
    ) -> None:
        """Start it on its port; `more`: lines of its configuration; `most_bytes`: no file that it
        writes gets longer, as on a full disk."""
        assert SSHD is not None
        config = self.folder / "sshd_config"
        lines = [
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {host_key or self.host_key}",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PidFile none",
            "UseDNS no",
            "MaxStartups 100",
            f"SetEnv HOME={self.home}",  # so that the shell reads nothing of the user's
            *(more or (f"Subsystem sftp internal-sftp -d {self.home}",)),
        ]
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "sshd.log").open("ab") as log:
            words = [SSHD, "-D", "-e", "-f", str(config)]
            if most_bytes is not None:
                limit = f'trap "" XFSZ; ulimit -f {most_bytes // 512}; exec "$@"'
                words = ["sh", "-c", limit, "sh", *words]
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._answers, "sshd answers")

    def stop(self) -> None:
        """Kill the server and its sessions."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)  # so that it starts no more
            started = self.descendants()
            self._process.kill()
            self._process.wait()
            self._kill(started)
            self._process = None
            wait_until(lambda: not self._listens(), "nothing listens on the port")

    def restart(self, *more: str, **options: Any) -> None:
        """Stop it, and start it on the same port (see `start`)."""
        self.stop()
        self.start(*more, **options)

    def descendants(self) -> list[int]:
        """All processes of its sessions."""
        return [] if self._process is None else descendants(self._process.pid)

    def agents(self) -> list[int]:
        """The processes of its sessions that run Python with an agent."""
        return [pid for pid in self.descendants() if _runs_an_agent(pid)]

    def kill_sessions(self) -> None:
        """Kill the processes that serve its connections, but not what runs in them."""
        agents = set(self.agents())
        self._kill([pid for pid in self.descendants() if pid not in agents])

    def know(self, host_key: Path | None = None) -> None:
        """Make `known_hosts` have its host key."""
        kind, key = Path(f"{host_key or self.host_key}.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def fingerprint(self, host_key: Path | None = None) -> str:
        """Of its host key, as ssh-keygen prints it."""
        words = ["ssh-keygen", "-lf", f"{host_key or self.host_key}.pub"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]

    def settings(self, **more: Any) -> Ssh:
        """A card's section for it, hermetic: nothing of the user's own is read."""
        own = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "key": self.user_key,
            "config": self.folder / "no_ssh_config",
            "known_hosts": self.known_hosts,
            "connect_seconds": WAIT_SECONDS,
        }
        return Ssh(**{**own, **more})

    def card(self, **more: Any) -> DeviceCard:
        """A card for it."""
        return DeviceCard(name="board", transport="ssh", ssh=self.settings(**more))

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "sshd.log").read_text())
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as stream:
            return stream.recv(4) == b"SSH-"
        return False

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @staticmethod
    def _kill(pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody has waited for yet has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z"
    except OSError:
        return True


def _runs_an_agent(pid: int) -> bool:
    return any(word.endswith(SUFFIX) for word in _command_line(pid)[1:2])


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
