"""From operators measured alone to what they cost inside a network.

Alone, an operator pays for being called and for bringing its input and output into the
runtime's layout, and its weights stay in the nearest cache; inside a network it pays for
neither of the first two, and its weights come from farther away. So the in-network latency is
modelled as

    in_network_ms = a * latency_ms + b + c * border_bytes + d * weight_bytes

with four coefficients fitted to measured whole networks by least squares on relative errors,
drawn towards (1, 0, 0, 0) by a ridge: as much as makes the measured networks most likely
(MacKay, Bayesian interpolation, Neural Computation 1992). Where a few operators dominate all
networks, these say little of the others, and the ridge is strong. It stays a sum over operators,
so that tables add up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from latency.errors import SpecError
from latency.operators.spec import OpSpec
from latency.stats import student_t
from latency.units import LEAST_MS, MOST_MS

_RIDGES = np.geomspace(1e-4, 10, 41)
"""Standard deviation of networks' relative errors over that of what a coefficient changes an
operator of average latency by, as a share."""
_FLOOR = 0.05
"""An operator never costs less inside a network than this share of its cost alone."""
_MOST_NETWORKS, _WORST = 10**9, 1e15
"""Of a validation: networks, and relative error (that of a nanosecond taken for eleven days)."""


@dataclass(frozen=True)
class Calibration:
    """The coefficients a, b (ms), c and d (ms per MB) of one space on one device setting;
    `SpecError` where one is not a finite number."""

    scale: float = 1.0
    per_op_ms: float = 0.0
    per_border_mb_ms: float = 0.0
    per_weight_mb_ms: float = 0.0

    def __post_init__(self) -> None:
        if not all(abs(value) <= MOST_MS for value in astuple(self)):
            raise SpecError(f"a coefficient of a calibration is a finite number up to {MOST_MS:g}")

    def in_network_ms(self, op: OpSpec, latency_ms: float) -> float:
        """What an operator that takes `latency_ms` alone costs inside a network."""
        inside = float(_features(op, latency_ms) @ np.array(astuple(self)))
        return max(inside, _FLOOR * latency_ms, LEAST_MS)


@dataclass(frozen=True)
class Validation:
    """Relative errors of predicted against measured latency over networks never fitted on;
    `SpecError` where there are none."""

    networks: int
    mean: float
    worst: float
    rms: float

    def __post_init__(self) -> None:
        if not isinstance(self.networks, int) or not 1 <= self.networks <= _MOST_NETWORKS:
            raise SpecError(
                f"networks is {self.networks}; a validation is of 1 to {_MOST_NETWORKS}"
            )
        if not all(0 <= error <= _WORST for error in (self.mean, self.worst, self.rms)):
            raise SpecError(
                f"an error of a validation is a finite number up to {_WORST:g}, and not negative"
            )

    @property
    def relative_ci95(self) -> float:
        """Half the width of a 95 % interval around a prediction, as a share of it: Student's t of
        as many degrees of freedom as there are networks. None is lost, since errors are taken from
        zero, not from their mean."""
        return student_t(self.networks) * self.rms

    def __str__(self) -> str:
        return (
            f"mean error {100 * self.mean:.2f} %, worst {100 * self.worst:.2f} % "
            f"of {self.networks} networks"
        )


def calibrate(
    latency_ms: Mapping[OpSpec, float], networks: Sequence[tuple[Sequence[OpSpec], float]]
) -> Calibration:
    """Fit the coefficients to networks' operators and their measured ms, given each operator's ms
    alone.

    `networks` may be empty: then operators cost what they cost alone.
    """
    if not networks:
        return Calibration()
    identity = np.array(astuple(Calibration()))
    typical = np.mean([_features(op, ms) for op, ms in latency_ms.items()], axis=0)
    typical /= np.mean(list(latency_ms.values()))
    typical[typical == 0] = 1.0  # weights of operators that have none
    totals = [
        sum(_features(op, latency_ms[op]) for op in ops) / measured_ms
        for ops, measured_ms in networks
    ]
    shares, off = np.array(totals) / typical, 1 - np.array(totals) @ identity
    ridge = max(_RIDGES, key=lambda ridge: _log_evidence(shares, off, ridge))
    design = np.vstack([shares, ridge * np.eye(len(identity))])
    wanted = np.concatenate([off, np.zeros(len(identity))])
    found = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return Calibration(*(identity + found / typical).tolist())


def _log_evidence(shares: NDArray[np.float64], off: NDArray[np.float64], ridge: float) -> float:
    """Log likelihood of what networks are `off` by, up to a constant, at the most likely variance
    of their errors."""
    covariance = np.eye(len(off)) + shares @ shares.T / ridge**2
    variance = float(off @ np.linalg.solve(covariance, off)) / len(off)
    log_determinant = float(np.linalg.slogdet(covariance)[1])
    return -(len(off) * math.log(max(variance, 1e-300)) + log_determinant) / 2


def _features(op: OpSpec, latency_ms: float) -> NDArray[np.float64]:
    return np.array([latency_ms, 1.0, op.border_bytes / 1e6, 4e-6 * op.params])


def validate(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Validation:
    """Summarise the relative errors of predictions; at least one network."""
    errors = np.abs(np.asarray(predicted_ms) / np.asarray(measured_ms) - 1)
    rms = float(np.sqrt(np.mean(errors**2)))
    return Validation(len(errors), float(errors.mean()), float(errors.max()), rms)
