"""What is lost where something dies in the middle of a measurement.

    python benchmarks/kills.py [kills]

Kills, at random moments, the agent (locally and over SSH), sshd's sessions, the adb server, and
the profiler itself, which is then resumed; and counts the samples that were lost, and those made
again of operators that were complete.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices.agent_archive import SUFFIX
from devices.agent_device import AgentDevice
from devices.card import Measuring, load_card
from devices.connection import connect
from devices.device import Device, Workload
from devices.measuring.journal import Journal
from devices.measuring.rounds import measure
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.ssh import SshTransport
from latency import OpSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "devices_tests"))

from adb_bench import SCRIPTED, Bench
from adbd import AdbDaemon
from phone_sandbox import make_phone
from sshd import Sshd, descendants

KILLS = 100
OPS = [OpSpec("conv", 16, 16, 4 * c, 16, 3, activation="relu6") for c in range(1, 17)]
SAMPLES = 240
RULE = Measuring(
    sessions=3, max_sessions=3, min_samples=SAMPLES, max_samples=SAMPLES, drift=1e9, seconds=1e6
)


@dataclass(frozen=True)
class Losses:
    """After `kills`: samples lost, and samples made again of complete operators."""

    kills: int = 0
    lost: int = 0
    again: int = 0

    def __add__(self, other: "Losses") -> "Losses":
        return Losses(self.kills + other.kills, self.lost + other.lost, self.again + other.again)


def losses(kills: int = KILLS) -> dict[str, Losses]:
    """What dies, to what was lost; about `kills` in all."""
    generator = np.random.default_rng(0)
    share = -(-kills // 5)
    found = {}
    for name, running in (
        ("agent", _local),
        ("agent over ssh", _ssh_agent),
        ("sshd session", _ssh_session),
        ("adb server", _adb),
    ):
        total = Losses()
        while total.kills < share:
            with running() as (device, kill):
                total += _killed_while_measuring(device, kill, generator, share - total.kills)
        found[name] = total
    total = Losses()
    while total.kills < share:
        total += _killed_profiler(generator)
    found["profiler"] = total
    return found


def _killed_while_measuring(
    device: Device, kill: Callable[[], object], generator: np.random.Generator, most: int
) -> Losses:
    """One measurement, during which things die now and then."""
    over = threading.Event()
    count = 0

    def keep_killing() -> None:
        nonlocal count
        while count < most and not over.wait(generator.uniform(0.1, 3.0)):
            kill()
            count += 1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.journal"
        with Journal(path, device.setting, resume=False) as journal:
            killer = threading.Thread(target=keep_killing)
            killer.start()
            try:
                measured = measure(device, [Workload.of_op(op) for op in OPS], RULE, journal)
            finally:
                over.set()
                killer.join()
            written = journal.samples
        with Journal(path, device.setting, resume=True) as journal:
            kept = journal.samples
    assert not measured.failures, measured.failures
    counts = Counter(sample.workload for sample in kept)
    lacking = sum(max(0, SAMPLES - counts[op.key]) for op in OPS)
    surplus = sum(max(0, counts[op.key] - SAMPLES) for op in OPS)
    return Losses(count, len(written) - len(kept) + lacking, surplus)


def _killed_profiler(generator: np.random.Generator) -> Losses:
    """A profile of `mini`, killed once in its midst and resumed to its end."""
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "quick.toml"
        rules = "sessions = 2\nmax_sessions = 2\nmin_samples = 8\nmax_samples = 8\ndrift = 1e9\n"
        card.write_text("threads = 1\n[measuring]\n" + rules)
        words = [str(Path(sys.executable).parent / "lat-profile"), "--device", str(card)]
        words += ["--space", "mini", "--out", folder, "--json", "--resume"]
        run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not (found := list(Path(folder).glob("*.journal"))) and run.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 2.5))
        if run.poll() is not None or not found[0].exists():
            run.communicate()
            return Losses()
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        before = _whole_lines(found[0])
        copy = Path(folder) / "copy"
        watcher = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while watcher.poll() is None:
            if found[0].exists():
                shutil.copyfile(found[0], copy)
            time.sleep(0.02)
        watcher.communicate()
        assert watcher.returncode == 0
        after = _whole_lines(copy)
    lost = sum(old != new for old, new in zip(before, after, strict=False))
    return Losses(1, lost + max(0, len(before) - len(after)), 0)


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


Running = tuple[Device, Callable[[], object]]


@contextmanager
def _local() -> Iterator[Running]:
    def kill() -> None:
        for pid in descendants(os.getpid()):
            if f"{SUFFIX}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    yield connect(load_card("cpu")), kill


@contextmanager
def _ssh(kill: Callable[[Sshd], object]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        server = Sshd(Path(folder) / "sshd")
        transport = SshTransport(server.settings(python=sys.executable))
        card = server.card(python=sys.executable)
        try:
            yield AgentDevice(card, transport, OnnxRuntime(card)), lambda: kill(server)
        finally:
            transport.close()
            server.stop()


@contextmanager
def _ssh_agent() -> Iterator[Running]:
    def kill(server: Sshd) -> None:
        for pid in server.agents():
            os.kill(pid, signal.SIGKILL)

    with _ssh(kill) as running:
        yield running


@contextmanager
def _ssh_session() -> Iterator[Running]:
    with _ssh(lambda server: server.kill_sessions()) as running:
        yield running


@contextmanager
def _adb() -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(15037 + os.getpid() % 10000, Path(folder))
        phone = AdbDaemon(make_phone(Path(folder) / "phone"))
        phone.start()
        try:
            bench.adb("connect", phone.serial)
            bench.tool("tool", SCRIPTED.encode())
            yield bench.device(phone), lambda: bench.adb("kill-server")
        finally:
            bench.adb("kill-server")
            phone.stop()


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    for name, found in losses(kills).items():
        print(
            f"{name:15} {found.kills:3} kills: {found.lost} samples lost, {found.again} made again"
        )


if __name__ == "__main__":
    main()
