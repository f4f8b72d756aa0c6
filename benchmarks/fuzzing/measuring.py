"""What comes of devices: the journals of runs that were killed, and the answers of an agent."""

import itertools
import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from devices.agent_device import AgentDevice
from devices.card import DeviceCard, Measuring
from devices.device import Workload
from devices.measuring.journal import Journal
from devices.measuring.record import Record
from devices.measuring.rounds import known_before, measure
from devices.measuring.sessions import RetryingSession
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.channel import AgentChannel
from fuzzing.damage import damaged, relined, revalued, revalued_lines, reworded
from fuzzing.target import Target, one_file
from latency import LatencyTable, NetworkSpec, OpSpec, Setting

_OPS = [OpSpec("conv", 16, 16, 4 * c, 16, 3, activation="relu6") for c in range(1, 10)]
_NETWORK = NetworkSpec.of("two", (_OPS[0], _OPS[3]))
_WORKLOADS = (*map(Workload.of_op, _OPS), Workload.of_network(_NETWORK))
_RULE = Measuring(sessions=2, max_sessions=2, min_samples=6, max_samples=8, max_network_samples=8)
_CPU_INFO = "processor\t: 0\nmodel name\t: Some CPU\ncpu family\t: 6\nmodel\t\t: 85\n"
_FACTS = {"system": "Linux 6", "cpus": 4, "machine": "x86_64", "board": "", "cpu_info": _CPU_INFO}


def journal(folder: Path) -> Target:
    """A journal, read to go on from it."""
    path, setting = folder / "run.journal", Setting("board", "some board", "", "runtime 1")
    stand_in = _Answers(None)
    with Journal(path, setting, resume=False) as kept:
        measure(_device(stand_in), _WORKLOADS, _RULE, kept, sleep=lambda seconds: None)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:60]))

    def read(generator: Random) -> None:
        path.with_suffix(".old").unlink(missing_ok=True)
        with Journal(path, setting, resume=generator.random() < 0.95) as kept:
            known_before(_WORKLOADS, _RULE, kept.samples)
            record = Record(_WORKLOADS, _RULE, kept.samples)
            for workload in filter(record.count, _WORKLOADS):
                record.measurement(workload)
            for sample in kept.samples[:3]:
                kept.append(sample)
        with Journal(path, setting, resume=True):
            pass

    return one_file(path, read, revalued_lines, revalued_lines, reworded, relined)


def answers(folder: Path) -> Target:
    """What a device answers while it is measured, until its table is written."""
    stand_in = _Answers(None)

    def damage(generator: Random) -> None:
        stand_in.generator = generator

    def restore() -> None:
        stand_in.generator = None

    return Target(restore, damage, partial(_measured, stand_in, folder / "measured.csv"))


def _measured(stand_in: "_Answers", path: Path, generator: Random) -> None:
    stand_in.start()
    device = _device(stand_in)
    measured = measure(device, _WORKLOADS, _RULE, sleep=lambda seconds: None)
    with RetryingSession(device, sleep=lambda seconds: None) as session:
        if session.traces:
            session.trace(_WORKLOADS[-1], 1, 2)
    rows = {op: measured.rows[op.key] for op in _OPS if op.key in measured.rows}
    if rows:
        told = dict(measured.circumstances)
        LatencyTable(device.setting, rows, circumstances=told).save(path)
        assert LatencyTable.load(path).setting == device.setting


def _device(stand_in: "_Answers") -> AgentDevice:
    card = DeviceCard(name="board", affinity=(0,))
    return AgentDevice(card, _Transport(stand_in), OnnxRuntime(card))


class _Answers:
    """What a sound agent answers; damaged where there is a generator: each now and then, some of
    them every time, by their verb."""

    def __init__(self, generator: Random | None) -> None:
        self.generator = generator
        self.verbs: tuple[str, ...] = ()
        self.often = 0.0

    def start(self) -> None:
        """Choose which verbs are answered badly, and how often."""
        if self.generator:
            self.verbs = tuple(self.generator.sample(["hello", "load", "run", "trace", "state"], 2))
            self.often = self.generator.choice([0.02, 0.2, 1.0])

    def to(self, request: dict[str, Any]) -> bytes:
        answer = json.dumps({**self._sound(request), "id": request["id"]}).encode()
        generator = self.generator
        if generator and request["do"] in self.verbs and generator.random() < self.often:
            answer = damaged(answer, generator, (revalued, revalued, revalued, reworded))
            if generator.random() < 0.02:
                answer = b'{"ns": [' + b"1, " * 2_000_000
        return answer + b"\n"

    def _sound(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "hello":
            said = {"runtime": "onnxruntime 1", "build": "b", "cpus": [0], "traces": True}
            return {**said, "resident": True, "facts": _FACTS}
        if request["do"] == "load":
            return {"handle": 0}
        if request["do"] == "run":
            return {
                "ns": [200_000 + run for run in range(request["runs"])],
                "memory_bytes": 1 << 20,
            }
        if request["do"] == "trace":
            return {"ns": {"0.conv": 100_000.0, "1.conv": 90_000.0}}
        return {"temperature_c": 41.5, "frequency_mhz": 2400.0}


class _Transport:
    """The way to a stand-in for an agent."""

    label = "a board"

    def __init__(self, stand_in: _Answers) -> None:
        self._stand_in = stand_in
        self._numbers = itertools.count()

    def send(self, content: bytes, suffix: str) -> str:
        return f"{next(self._numbers)}{suffix}"

    def start(self) -> AgentChannel:
        return AgentChannel(_Pipe(self._stand_in), self.label)

    def close(self) -> None:
        pass


class _Pipe:
    """Its streams."""

    def __init__(self, stand_in: _Answers) -> None:
        self._stand_in = stand_in
        self._coming = bytearray()

    def write(self, data: bytes) -> None:
        self._coming += self._stand_in.to(json.loads(data))

    def read(self, most: int, seconds: float) -> bytes:
        came = bytes(self._coming[:most])
        del self._coming[:most]
        return came

    def exit_reason(self) -> str:
        return "killed \x1b[2J"

    def close(self) -> None:
        pass
