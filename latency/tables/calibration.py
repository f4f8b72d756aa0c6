"""`calibrate`: latency of operators inside a network from their latency alone.

Alone, an operator's latency includes the call and the conversion of its input and output to the
runtime's layout, and its weights stay in the nearest cache. Inside a network there is no call and
no conversion, and its weights come from farther away. So the in-network latency is modelled as

    in_network_ms = a * latency_ms + b + c * border_bytes + d * weight_bytes

with four coefficients fitted to measured whole networks by least squares on relative errors, with
a ridge towards (1, 0, 0, 0) that maximises the evidence of the measured networks (MacKay, Bayesian
interpolation, Neural Computation 1992).
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
_FLOOR = 0.05
"""Least latency inside a network, relative to the latency alone."""
_MAX_NETWORKS, _MAX_ERROR = 10**9, 1e15
"""Limits of a validation that is read from a file."""


@dataclass(frozen=True)
class Calibration:
    """The coefficients a, b (ms), c and d (ms per MB) of one space on one device setting;
    `SpecError` unless they are finite."""

    scale: float = 1.0
    per_op_ms: float = 0.0
    per_border_mb_ms: float = 0.0
    per_weight_mb_ms: float = 0.0

    def __post_init__(self) -> None:
        if not all(abs(value) <= MOST_MS for value in astuple(self)):
            raise SpecError(f"the coefficients of a calibration must be within {MOST_MS:g}")

    def in_network_ms(self, op: OpSpec, latency_ms: float) -> float:
        """Latency inside a network of an operator that takes `latency_ms` alone."""
        inside = float(_features(op, latency_ms) @ np.array(astuple(self)))
        return max(inside, _FLOOR * latency_ms, LEAST_MS)


@dataclass(frozen=True)
class Validation:
    """Relative errors of predicted against measured latency over held-out networks; `SpecError`
    unless there is a network and the errors are finite."""

    networks: int
    mean: float
    worst: float
    rms: float

    def __post_init__(self) -> None:
        if not isinstance(self.networks, int) or not 1 <= self.networks <= _MAX_NETWORKS:
            raise SpecError(f"networks is {self.networks}; expected 1 to {_MAX_NETWORKS}")
        if not all(0 <= error <= _MAX_ERROR for error in (self.mean, self.worst, self.rms)):
            raise SpecError(f"the errors of a validation must be from 0 to {_MAX_ERROR:g}")

    @property
    def relative_ci95(self) -> float:
        """Half the width of a prediction's 95 % interval, relative to it: Student's t with one
        degree of freedom per network, since errors are about zero, not about their mean."""
        return student_t(self.networks) * self.rms

    def __str__(self) -> str:
        return (
            f"mean error {100 * self.mean:.2f} %, worst {100 * self.worst:.2f} % "
            f"of {self.networks} networks"
        )


def calibrate(
    latency_ms: Mapping[OpSpec, float], networks: Sequence[tuple[Sequence[OpSpec], float]]
) -> Calibration:
    """Fit the coefficients to networks (operators and measured ms), given each operator's ms alone.

    Without networks, operators cost the same inside a network.
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
    """Log evidence of the networks' errors `off`, up to a constant, at their best variance."""
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
