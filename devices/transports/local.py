"""This machine: the agent runs in a child process."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from devices.agent_archive import SUFFIX, agent_archive
from devices.transports.channel import AgentChannel

_CLOSE_SECONDS = 5


class LocalTransport:
    """Keeps the agent, the model files and the agent's temporary files in a temporary folder. It is
    deleted by `close`, when this process ends, or by the agent if this process is killed."""

    label = "this machine"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lat-search-agent-"))
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def send(self, content: bytes, suffix: str) -> str:
        """Write a file, once per content; returns its path."""
        path = self._folder / (sha256(content).hexdigest() + suffix)
        if not path.exists():
            path.write_bytes(content)
        return str(path)

    def start(self) -> AgentChannel:
        """Start an agent."""
        path = self.send(agent_archive(), SUFFIX)
        return AgentChannel(_ProcessPipe(path, self._folder), self.label)


class _ProcessPipe:
    """The standard streams of an agent in a child process, which keeps temporary files in
    `folder`."""

    def __init__(self, path: str, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        # In a new session, so that Ctrl-C reaches only the host, which then closes the agent.
        self._process = subprocess.Popen(
            [sys.executable, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(folder),
                "LAT_AGENT_FOLDER": str(folder),
            },
        )

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def read(self, most: int, seconds: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], seconds)[0]:
            raise TimeoutError(f"no answer within {seconds:g} s")
        return os.read(descriptor, most)

    def exit_reason(self) -> str:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def close(self) -> None:
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):  # flushing a broken pipe
                    stream.close()
