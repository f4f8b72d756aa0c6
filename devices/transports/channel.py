"""`AgentChannel`: requests to a running agent and its answers, as JSON lines over a pipe."""

import json
import reprlib
from collections.abc import Mapping
from typing import Any, Protocol

from latency.errors import ConnectionLostError, DeviceError, WorkloadError

MAX_ANSWER_BYTES = 4 << 20
"""An answer is never longer: `run` returns at most some thousand numbers."""

ANSWER_SECONDS = 300.0
"""An agent that takes longer to answer is taken for dead."""


_FAILED = {
    "hello": "the runtime cannot be started",
    "load": "could not load the model",
    "run": "could not run the model",
    "trace": "could not trace the model",
    "state": "could not read its state",
}


class Pipe(Protocol):
    """The two ends of an agent's standard streams."""

    def write(self, data: bytes) -> None:
        """Send all of it; `OSError` where the other end is gone."""
        ...

    def read(self, most: int, seconds: float) -> bytes:
        """What has come, at most so many bytes, at least one; b"" where the other end is gone.
        Raises `TimeoutError` where nothing comes in time."""
        ...

    def last_words(self) -> str:
        """What the process said last on standard error, or its exit code."""
        ...

    def close(self) -> None:
        """End the process; never raises."""
        ...


class AgentChannel:
    """A running agent. What comes back from it is never trusted: answers are limited in size and
    checked, and one that is not as it should be counts as the agent's end."""

    def __init__(self, pipe: Pipe, where: str) -> None:
        self._pipe = pipe
        self._where = where
        self._received = b""
        self._count = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer (see `devices.device.Channel`)."""
        self._count += 1
        line = json.dumps({**request, "id": self._count}) + "\n"
        try:
            self._pipe.write(line.encode())
            answer = json.loads(self._line())
        except (OSError, ValueError, RecursionError) as error:
            raise self._lost(error) from None
        if not isinstance(answer, dict) or answer.pop("id", None) != self._count:
            raise self._lost(ValueError("it does not speak as our agent does"))
        if "error" in answer:
            said = f"{self._where}: {_FAILED[request['do']]}: {shown(answer['error'])}"
            is_of_model = request["do"] in ("load", "run", "trace")
            raise WorkloadError(said) if is_of_model else DeviceError(said)
        return answer

    def close(self) -> None:
        """End the agent."""
        self._pipe.close()

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            if len(self._received) > MAX_ANSWER_BYTES:
                raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            received = self._pipe.read(65536, ANSWER_SECONDS)
            if not received:
                raise ConnectionResetError("it ended")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _lost(self, error: Exception) -> ConnectionLostError:
        garbage = isinstance(error, ValueError | RecursionError)
        said = str(error) if garbage else self._pipe.last_words() or str(error)
        return ConnectionLostError(f"{self._where}: the measuring process is gone: {shown(said)}")


def shown(said: object, most: int = 500) -> str:
    """What a device said, fit for a terminal and a table: one line, no control characters, not
    too long, and of what is nested the beginning."""
    text = said if isinstance(said, str) else reprlib.repr(said)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]
