"""Operators, lookup tables and latency models; usable alone, without torch.

`latency.expected.ExpectedLatency` and `latency.modules` are the two parts that need torch and
are imported by name.
"""

from latency.candidates import CandidateLatency, candidate_latency
from latency.errors import CoverageError, LatError, SpecError, TableError, UsageError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.prediction import LatencyModel, OpPrediction, Prediction
from latency.predictors.regression import RegressionModel, fit
from latency.tables.calibration import Validation, calibrate, validate
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable

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
