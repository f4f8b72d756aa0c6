"""The fusion rules of a runtime that does not tell what it executes: pairs are timed, together and
apart. An activation that adds less than half of what it takes alone costs no kernel of its own. The
fastest runs are compared: what else the device does takes nothing away."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.rounds import Keeper, measure
from latency.graphs.fusion import USUAL, Fusion
from latency.operators.kinds import ACTIVATIONS
from latency.operators.spec import OpSpec

_BASES = {kind: OpSpec(kind, 112, 112, 16, 64, 1, 1) for kind in ("conv", "conv_add", "matmul")}
"""Cheap ones with a large output, over which it takes long to go once more."""
_ALONE = OpSpec("activation", 112, 112, 64, 64, 1, 1, activation="relu")
_FOLLOWERS = tuple(name for name in ACTIVATIONS if name != "none")
_MOST = 0.5
_MEASURING = Measuring(
    ci95=0.02, sittings=2, max_sittings=3, min_bursts=8, max_bursts=24, burst_ms=4.0, seconds=10.0
)


def operators() -> list[OpSpec]:
    """What is timed: activations, what may take them in, and both together."""
    ops = [replace(_ALONE, activation=name) for name in _FOLLOWERS]
    for base in _BASES.values():
        ops += [base, *(replace(base, activation=name) for name in _FOLLOWERS)]
    return ops


def timed_fusion(device: Device, journal: Keeper | None = None) -> Fusion:
    """The pairs that a device's runtime fuses; of those that cannot be timed on it, what is usual.
    Raises `DeviceError` where the device fails."""
    ops = operators()
    measured = measure(device, [Workload.of_op(op) for op in ops], _MEASURING, journal)
    ms = {op: measured.rows[op.key].min_ms for op in ops if op.key in measured.rows}
    fused = dict.fromkeys(USUAL.pairs, True) | dict(_timed(ms))
    return replace(USUAL, pairs=frozenset(pair for pair, is_so in fused.items() if is_so))


def _timed(ms: Mapping[OpSpec, float]) -> Iterator[tuple[str, bool]]:
    """Pairs that were timed, and whether they are fused."""
    for kind, base in _BASES.items():
        for name in _FOLLOWERS:
            together, alone = replace(base, activation=name), replace(_ALONE, activation=name)
            if {base, together, alone} <= ms.keys():
                yield f"{kind}+{name}", ms[together] - ms[base] < _MOST * ms[alone]
