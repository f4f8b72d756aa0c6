"""A table as one CSV file: `# key: value` lines, a header row, one row an operator.

    # format: 1
    # device: cpu
    # hardware: ...
    # calibration proxyless@224: scale=1.05 per_op_ms=0.02 ...
    # validation proxyless@224: networks=12 mean=0.0074 worst=0.0189 rms=0.0091
    kind,height,width,in_channels,...,latency_ms,ci95_ms,runs,min_ms,in_network_ms,measured_at
    conv,224,224,3,...

`pandas.read_csv(path, comment="#")` reads it too.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from latency.calibration import Calibration, Validation
from latency.errors import SpecError, TableError
from latency.headers import FORMAT_VERSION, Header
from latency.machine import slug
from latency.measurement import Measurement
from latency.ops import OpSpec
from latency.whole_file import whole_file

LEAST_MS = 5.1e-8
"""Less than this is zero in the digits that a file keeps."""


@dataclass(frozen=True)
class Setting:
    """The device setting that a table's numbers hold for. Tables of equal `identity` may merge."""

    device: str
    hardware: str
    system: str = ""
    runtime: str = ""
    threads: int = 1
    precision: str = "float32"
    batch: int = 1
    transport: str = "local"
    options: str = ""
    """Of the runtime, as the card sets them: how models are launched, delegates, layouts."""
    build: str = ""
    """Which build of the runtime it is, where it says: two builds of one version can differ by
    half in speed."""

    @property
    def identity(self) -> tuple[object, ...]:
        """All that changes a latency. The operating system's build is told, not compared."""
        return tuple(getattr(self, f.name) for f in fields(self) if f.name != "system")

    @property
    def stem(self) -> str:
        """A table's file name: hardware and runtime, and what is not as usual.

        >>> Setting("gpu", "NVIDIA H200", runtime="torch 2.11.0", precision="float16", batch=8).stem
        'nvidia-h200-torch-2.11.0-float16-batch-8'
        """
        usual = (self.threads == 1, self.precision == "float32", self.batch == 1)
        named = (f"{self.threads} threads", self.precision, f"batch {self.batch}")
        unusual = [name for name, is_usual in zip(named, usual, strict=True) if not is_usual]
        return slug(" ".join([self.hardware, self.runtime, *unusual]))


@dataclass(frozen=True)
class TableContent:
    """What a table file holds.

    `rows`: operators measured alone. `in_network_ms`: what an operator costs inside a network,
    where calibration found it to differ from that; `calibrations`, per space, how it was found.
    `validations`: per space, the table's error on networks that it was not fitted on.
    `circumstances`: what else was recorded while measuring (clock, date, ...).
    """

    setting: Setting
    rows: Mapping[OpSpec, Measurement]
    in_network_ms: Mapping[OpSpec, float] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    validations: Mapping[str, Validation] = field(default_factory=dict)
    circumstances: Mapping[str, str] = field(default_factory=dict)


_OP_COLUMNS = {f.name: f.type for f in fields(OpSpec)}
_MEASURED = (
    "latency_ms",
    "ci95_ms",
    "runs",
    "min_ms",
    "in_network_ms",
    "measured_at",
    "sittings",
    "converged",
    "memory_bytes",
    "temperature_c",
    "frequency_mhz",
    "note",
    "traced_ms",
)
_YES_NO = {True: "yes", False: "no", None: ""}
_LATER_COLUMNS = ("groups", "dilation", "tree")
"""Columns that older tables lack."""
_NEEDED = (
    *(name for name in _OP_COLUMNS if name not in _LATER_COLUMNS),
    *("latency_ms", "ci95_ms", "runs"),
)


def _one_or_more(text: str) -> int:
    if int(text) < 1:
        raise ValueError(f"{text} is less than 1")
    return int(text)


_SETTING: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys((f.name for f in fields(Setting)), str),
    **dict.fromkeys(("threads", "batch"), _one_or_more),
}


def read_table(path: Path) -> TableContent:
    """Read a table. `TableError` names file and line of whatever is not as it should be."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as a table: {error}") from None
    if not any(line.strip() for line in lines):
        raise TableError(f"{path}: the table is empty; measure it again with lat-profile")
    comments = {number: line for number, line in enumerate(lines, 1) if line.startswith("#")}
    header = Header.read(path, comments)
    body = [(number, line) for number, line in enumerate(lines, 1) if number not in comments]
    rows: dict[OpSpec, Measurement] = {}
    in_network: dict[OpSpec, float] = {}
    for number, row in _read_rows(path, body):
        op, measurement, inside = _parse_row(f"{path}:{number}", row)
        if op in rows:
            raise TableError(f"{path}:{number}: operator {op.key} stands in the table twice")
        rows[op] = measurement
        if inside is not None:
            in_network[op] = inside
    if not rows:
        raise TableError(f"{path}: the table has no rows; measure it again with lat-profile")
    expected = header.values.pop("rows", "")
    if expected and expected != str(len(rows)):
        raise TableError(
            f"{path}: truncated: the header promises {expected} rows, {len(rows)} are there; "
            "measure it again with lat-profile"
        )
    calibrations = header.pop_per_space("calibration", Calibration)
    validations = header.pop_per_space("validation", Validation)
    header.check_transfers(validations)
    setting = _pop_setting(header)
    return TableContent(setting, rows, in_network, calibrations, validations, header.values)


def write_table(table: TableContent, path: Path) -> None:
    """Write to a temporary file beside `path`, then rename: whole or not at all."""
    with whole_file(path) as file:
        for key, value in _header(table).items():
            file.write(f"# {key}: {' '.join(str(value).split())}\n")
        writer = csv.DictWriter(file, (*_OP_COLUMNS, *_MEASURED), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table_rows(table))


def table_rows(table: TableContent) -> Iterator[dict[str, object]]:
    """Each operator as a mapping from column to value, sorted by key so that files diff well."""
    for op in sorted(table.rows, key=lambda op: op.key):
        measured = table.rows[op]
        yield {
            **asdict(op),
            "latency_ms": round(measured.median_ms, 7),
            "ci95_ms": round(measured.ci95_ms, 7),
            "runs": measured.runs,
            "min_ms": round(measured.min_ms, 7),
            "in_network_ms": round(table.in_network_ms.get(op, measured.median_ms), 7),
            "measured_at": measured.measured_at,
            "sittings": measured.sittings,
            "converged": _YES_NO[measured.converged],
            "memory_bytes": measured.memory_bytes,
            "temperature_c": measured.temperature_c,
            "frequency_mhz": measured.frequency_mhz,
            "note": measured.note.replace("#", "no."),
            "traced_ms": None if measured.traced_ms is None else round(measured.traced_ms, 7),
        }


def read_header(path: Path) -> dict[str, str]:
    """The `# key: value` lines alone, without reading rows; {} where the file has none."""
    header = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            key, _, value = line[1:].partition(":")
            header[key.strip()] = value.strip()
    return header


def _header(table: TableContent) -> dict[str, object]:
    return {
        "format": FORMAT_VERSION,
        **asdict(table.setting),
        **table.circumstances,
        **_per_space("calibration", table.calibrations),
        **_per_space("validation", table.validations),
        "rows": len(table.rows),
    }


def _per_space(what: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{what} {space}": " ".join(f"{k}={v:.6g}" for k, v in asdict(value).items())
        for space, value in sorted(values.items())
    }


def _read_rows(path: Path, body: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    numbers = [number for number, line in body if line.strip()]
    reader = csv.DictReader(line for _, line in body if line.strip())
    try:
        lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if lacking:
            number = numbers[0] if numbers else len(body) + 1
            raise TableError(f"{path}:{number}: the header row lacks {', '.join(lacking)}")
        for row in reader:
            number = numbers[reader.line_num - 1]
            if None in row or None in row.values():
                raise TableError(f"{path}:{number}: broken row: other columns than the header row")
            yield number, row
    except csv.Error as error:  # in the line behind those that were read
        raise TableError(f"{path}:{numbers[reader.line_num]}: broken row: {error}") from None


def _parse_row(where: str, row: dict[str, str]) -> tuple[OpSpec, Measurement, float | None]:
    try:
        op = OpSpec(**{name: kind(row[name]) for name, kind in _OP_COLUMNS.items() if name in row})  # type: ignore[operator]
        measurement = Measurement(
            float(row["latency_ms"]),
            float(row["ci95_ms"]),
            int(row["runs"]),
            float(row.get("min_ms") or row["latency_ms"]),
            row.get("measured_at") or "",
            int(row.get("sittings") or 1),
            {"yes": True, "no": False}.get(row.get("converged") or ""),
            _optional(int, row.get("memory_bytes")),
            _optional(float, row.get("temperature_c")),
            _optional(float, row.get("frequency_mhz")),
            row.get("note") or "",
            _optional(float, row.get("traced_ms")),
        )
        inside = float(row["in_network_ms"]) if row.get("in_network_ms") else None
    except (ValueError, SpecError) as error:
        raise TableError(f"{where}: broken row: {error}") from None
    for name, ms in (
        ("latency_ms", measurement.median_ms),
        ("min_ms", measurement.min_ms),
        ("in_network_ms", 1.0 if inside is None else inside),
        ("traced_ms", 1.0 if measurement.traced_ms is None else measurement.traced_ms),
    ):
        if not (math.isfinite(ms) and ms > 0):
            raise TableError(f"{where}: {name} is {ms:g}; a latency is finite and positive")
    if not measurement.ci95_ms >= 0 or measurement.runs < 1:
        raise TableError(f"{where}: ci95_ms must not be negative, and runs at least 1")
    return op, measurement, inside


def _optional(kind: Callable[[str], Any], text: str | None) -> Any:
    return kind(text) if text else None


def _pop_setting(header: Header) -> Setting:
    lacking = [name for name in ("device", "hardware", "runtime") if not header.values.get(name)]
    if lacking:
        raise TableError(f"{header.path}:1: the header lacks {', '.join(lacking)}")
    return Setting(**header.pop_fields(_SETTING))
