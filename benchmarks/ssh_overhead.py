"""What a measurement over SSH costs besides the device's own time, on loopback.

    python benchmarks/ssh_overhead.py [measurements]

Starts an sshd on this machine, and measures the same operator over SSH and as this machine, in
turns. The overhead is the wall clock of a `run` less the times that it returns.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices.agent_device import AgentDevice, AgentSession
from devices.device import Workload
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.local import LocalTransport
from devices.transports.ssh import SshTransport
from latency import OpSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "devices_tests"))

from sshd import Sshd, why_not

OP = OpSpec.parse("mbconv-32x32x16-24-k3-s2-e6-relu6")
MEASUREMENTS = 500
RUNS = 5


@dataclass(frozen=True)
class Overhead:
    """Milliseconds a measurement, of a way to the device."""

    median: float
    p95: float


def overhead_ms(measurements: int = MEASUREMENTS) -> dict[str, Overhead]:
    """Of "ssh" and "local", measured in turns. Raises `RuntimeError` where there is no sshd."""
    if why_not():
        raise RuntimeError(why_not())
    with tempfile.TemporaryDirectory() as folder:
        server = Sshd(Path(folder) / "sshd")
        card = server.card(python=sys.executable)
        transports = {"ssh": SshTransport(server.settings(python=sys.executable))}
        transports["local"] = LocalTransport()
        try:
            devices = {
                name: AgentDevice(card, transport, OnnxRuntime(card))
                for name, transport in transports.items()
            }
            with devices["ssh"].open_session() as ssh, devices["local"].open_session() as local:
                return _in_turns({"ssh": ssh, "local": local}, measurements)
        finally:
            for transport in transports.values():
                transport.close()
            server.stop()


def _in_turns(sessions: dict[str, AgentSession], measurements: int) -> dict[str, Overhead]:
    handles = {name: session.load(Workload.of_op(OP)) for name, session in sessions.items()}
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(measurements):
        for name, session in sessions.items():
            start = time.perf_counter()
            timing = session.run(handles[name], 0, RUNS)
            wall_ms = 1000 * (time.perf_counter() - start)
            found[name].append(wall_ms - sum(timing.ms))
    return {
        name: Overhead(float(np.median(ms)), float(np.percentile(ms, 95)))
        for name, ms in found.items()
    }


def main() -> None:
    measurements = int(sys.argv[1]) if len(sys.argv) > 1 else MEASUREMENTS
    for name, overhead in overhead_ms(measurements).items():
        print(f"{name:6} median {overhead.median:.3f} ms, 95 % within {overhead.p95:.3f} ms")


if __name__ == "__main__":
    main()
