"""`AgentChannel`: requests to a running agent, and its answers, as JSON lines over a pipe."""

import json
import reprlib
from collections.abc import Mapping
from typing import Any, Protocol

from latency.errors import ConnectionLostError, DeviceError, WorkloadError

MAX_ANSWER_BYTES = 4 << 20
"""`run` returns at most some thousand numbers."""

ANSWER_SECONDS = 300.0
"""An agent that takes longer to answer counts as dead."""


class Pipe(Protocol):
    """The standard streams of an agent."""

    def write(self, data: bytes) -> None:
        """Send all of it. Raises `OSError` if the other end is gone."""
        ...

    def read(self, most: int, seconds: float) -> bytes:
        """Receive between one and `most` bytes; b"" if the other end is gone. Raises
        `TimeoutError` if nothing arrives in time."""
        ...

    def exit_reason(self) -> str:
        """The last line on standard error, or the exit code; "" if the process still runs."""
        ...

    def close(self) -> None:
        """End the process; never raises."""
        ...


class AgentChannel:
    """A running agent. Answers are untrusted: their size is limited, and an invalid one is raised
    as `ConnectionLostError`."""

    def __init__(self, pipe: Pipe, where: str) -> None:
        self._pipe = pipe
        self._where = where
        self._received = b""
        self._count = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for the answer (see `devices.device.Channel`)."""
        self._count += 1
        line = json.dumps({**request, "id": self._count}) + "\n"
        try:
            self._pipe.write(line.encode())
            answer = json.loads(self._line())
        except (OSError, ValueError, RecursionError) as error:
            raise self._lost(error) from None
        if not isinstance(answer, dict) or answer.pop("id", None) != self._count:
            raise self._lost(ValueError("it does not answer as the agent does"))
        if "error" in answer:
            verb, message = request["do"], f"{self._where}: {shown(answer['error'])}"
            if verb in ("load", "run", "trace"):
                raise WorkloadError(f"cannot {verb} the model on {message}")
            raise DeviceError(message)
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
        exit_reason = self._pipe.exit_reason() if isinstance(error, OSError) else ""
        reason = shown(exit_reason or str(error))
        return ConnectionLostError(f"{self._where}: the measuring process is gone: {reason}")


def shown(value: object, most: int = 500) -> str:
    """A value from a device, made safe for a terminal and a table: one line of at most `most`
    characters, without control characters; nested values are abbreviated."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]
