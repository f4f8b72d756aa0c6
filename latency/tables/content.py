"""`TableContent`: what a table's file holds, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from latency.graphs.fusion import Fusion
from latency.operators.spec import OpSpec
from latency.tables.calibration import Calibration, Validation
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting


@dataclass(frozen=True)
class TableContent:
    """What a table file holds. Spaces are named by their tags ("proxyless@224"; "kernels" for the
    kernel suite), messages are free words.

    `rows`: operators measured alone. `in_network_ms`: what an operator costs inside a network,
    where calibration found it to differ from that; `calibrations`, per space, how it was found.
    `validations`: per space, the table's error on networks that it was not fitted on.
    `circumstances`: free metadata (governor, load, date, ...) by name.
    `measured`, per space: what happened while it was measured. `traced`, per space: what came of
    tracing its networks. `transfers`, per space: from which tables it was transferred, after how
    many measurements. `failed`, by operator key or name of a network: why it could not be measured.
    `fusion`: the fusion rules of the runtime; None where the kernel suite was not measured.
    """

    setting: Setting
    rows: Mapping[OpSpec, Measurement]
    in_network_ms: Mapping[OpSpec, float] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    validations: Mapping[str, Validation] = field(default_factory=dict)
    circumstances: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    traced: Mapping[str, str] = field(default_factory=dict)
    transfers: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    fusion: Fusion | None = None
