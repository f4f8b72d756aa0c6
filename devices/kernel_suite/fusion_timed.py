"""The fusion rules of a runtime without a per-node profiler: pairs are timed together and apart.

An activation that adds less than half of its time alone is fused. The fastest runs are compared,
since other load on the device only adds time."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.rounds import Keeper, measure
from latency.graphs.fusion import USUAL, Fusion
from latency.operators.kinds import ACTIVATIONS
from latency.operators.spec import OpSpec

_BASES = {kind: OpSpec(kind, 112, 112, 16, 64, 1, 1) for kind in ("conv", "conv_add", "matmul")}
"""Cheap operators with a large output, which takes long to process again."""
_ALONE = OpSpec("activation", 112, 112, 64, 64, 1, 1, activation="relu")
_FOLLOWERS = tuple(name for name in ACTIVATIONS if name != "none")
_MOST = 0.5
_MEASURING = Measuring(
    ci95=0.02,
    sessions=2,
    max_sessions=3,
    min_samples=8,
    max_samples=24,
    sample_ms=4.0,
    seconds=10.0,
)


def operators() -> list[OpSpec]:
    """The timed operators: activations, bases that may fuse them, and both together."""
    ops = [replace(_ALONE, activation=name) for name in _FOLLOWERS]
    for base in _BASES.values():
        ops += [base, *(replace(base, activation=name) for name in _FOLLOWERS)]
    return ops


def timed_fusion(device: Device, journal: Keeper | None = None) -> Fusion:
    """The pairs that a runtime fuses; the usual rule for pairs that cannot be timed. Raises
    `DeviceError` where the device fails."""
    ops = operators()
    measured = measure(device, [Workload.of_op(op) for op in ops], _MEASURING, journal)
    ms = {op: measured.rows[op.key].min_ms for op in ops if op.key in measured.rows}
    fused = dict.fromkeys(USUAL.pairs, True) | dict(_timed(ms))
    return replace(USUAL, pairs=frozenset(pair for pair, is_so in fused.items() if is_so))


def _timed(ms: Mapping[OpSpec, float]) -> Iterator[tuple[str, bool]]:
    """The timed pairs, and whether they are fused."""
    for kind, base in _BASES.items():
        for name in _FOLLOWERS:
            together, alone = replace(base, activation=name), replace(_ALONE, activation=name)
            if {base, together, alone} <= ms.keys():
                yield f"{kind}+{name}", ms[together] - ms[base] < _MOST * ms[alone]
