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
    kernel suite), messages are free text.

    `rows`: operators measured alone. `in_network_ms`: latency inside a network, where it differs;
    `calibrations`: its model per space. `validations`: errors per space on held-out networks.
    `circumstances`: free metadata (governor, load, date, ...) by name. `measured`, `traced`,
    `transfers`: notes per space on measuring, on tracing, and on the tables it was transferred
    from. `failed`: errors by operator key or network name. `fusion`: the fusion rules of the
    runtime; None if the kernel suite was not measured.
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
