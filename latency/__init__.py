"""Operators, lookup tables and latency models; usable alone, without torch.

`latency.expected.ExpectedLatency` and `latency.modules` are the two parts that need torch and
are imported by name.
"""

from latency.calibration import Validation, calibrate, validate
from latency.candidates import CandidateLatency, candidate_latency
from latency.errors import CoverageError, LatError, SpecError, TableError, UsageError
from latency.formats import Setting
from latency.measurement import Measurement
from latency.model import LatencyModel, OpPrediction, Prediction
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.regression import RegressionModel, fit
from latency.table import LatencyTable

__all__ = [
    "CandidateLatency",
    "CoverageError",
    "LatError",
    "LatencyModel",
    "LatencyTable",
    "Measurement",
    "NetworkSpec",
    "OpPrediction",
    "OpSpec",
    "Prediction",
    "RegressionModel",
    "Setting",
    "SpecError",
    "TableError",
    "UsageError",
    "Validation",
    "calibrate",
    "candidate_latency",
    "fit",
    "validate",
]
