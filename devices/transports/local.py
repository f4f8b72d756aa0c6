"""This machine: the agent runs in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from devices import agent
from latency.errors import DeviceError

_CLOSE_SECONDS = 5


class LocalTransport:
    """Keeps model files in a temporary folder, which goes when the transport goes."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lat-models-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def send(self, content: bytes, suffix: str) -> str:
        """Put a file on the device, once per content; returns its path there."""
        path = self._folder / (sha256(content).hexdigest() + suffix)
        if not path.exists():
            path.write_bytes(content)
        return str(path)

    def start(self) -> "LocalChannel":
        """Start an agent."""
        return LocalChannel()


class LocalChannel:
    """A running agent, spoken to in JSON lines."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the channel)
        # A session of its own: Ctrl-C is for the host, which closes the agent in good order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(agent.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, request: dict) -> dict:
        """Send a request and wait for its answer; `DeviceError` where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise DeviceError(f"the measuring process ended: {self._last_words()}") from None
        if "error" in answer:
            raise DeviceError(f"the measuring process could not {request['do']}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the agent."""
        self._process.kill()
        self._process.wait(_CLOSE_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):  # a pipe whose other end has gone cannot be flushed
                    stream.close()

    def _last_words(self) -> str:
        code = self._process.wait(_CLOSE_SECONDS)
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"
