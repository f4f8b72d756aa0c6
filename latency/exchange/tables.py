"""Tables of other projects, in and out: the YAML of ProxylessNAS and of Once-for-all.

Each key (`latency.exchange.keys`) holds `count`, `mean` (ms) and `var` (proxylessnas) or `std`
(ofa) of single runs. Their search code reads what `export_table` writes; `import_table` reads
the published files. An operator that cannot be expressed is named, never dropped in silence.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from latency.errors import SpecError, TableError, unknown_name
from latency.exchange.keys import FORMATS, Ops, key_of, ops_of
from latency.exchange.yaml_file import read_plain_yaml, write_plain_yaml
from latency.operators.spec import OpSpec
from latency.stats import Z95
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.units import LEAST_MS, MOST_MS

_MOST_RUNS = 1e15


@dataclass(frozen=True)
class _Published:
    """A value of a published table: ms of single runs."""

    count: int
    mean: float
    std: float

    @classmethod
    def read(cls, fields: Mapping[str, float], where: str) -> "_Published":
        spread = next((name for name in ("std", "var") if name in fields), None)
        if spread is None or not {"count", "mean"} <= set(fields):
            raise TableError(f"{where} needs count, mean, and var or std")
        count, mean = fields["count"], fields["mean"]
        std = fields[spread] if spread == "std" else math.sqrt(max(0.0, fields[spread]))
        is_possible = LEAST_MS <= mean <= MOST_MS and fields[spread] >= 0 and std <= MOST_MS / Z95
        if not (is_possible and 1 <= count <= _MOST_RUNS and count.is_integer()):
            raise TableError(
                f"{where}: count {count:g}, mean {mean:g}, {spread} {fields[spread]:g}; expected "
                f"a positive latency over a whole number of runs, within {LEAST_MS:g} and "
                f"{MOST_MS:g} ms"
            )
        return cls(int(count), mean, std)

    @classmethod
    def of_rows(cls, table: LatencyTable, ops: Ops) -> "_Published":
        """The sum of the operators' latencies inside a network."""
        ms = [table.in_network_ms.get(op, table[op].median_ms) for op in ops]
        half = sum(table[op].relative_ci95 * each for op, each in zip(ops, ms, strict=True))
        count = min(table[op].runs for op in ops)
        return cls(count, sum(ms), half * math.sqrt(count) / Z95)

    def measurement(self, ms: float, note: str = "") -> Measurement:
        """`ms` of the mean, with its relative 95 % interval."""
        half = Z95 * self.std / math.sqrt(self.count)
        return Measurement(
            median_ms=ms, ci95_ms=half * ms / self.mean, runs=self.count, min_ms=ms, note=note
        )

    def fields(self, format: str) -> dict[str, float]:
        spread = {"std": self.std} if format == "ofa" else {"var": self.std**2}
        return {"count": self.count, "mean": self.mean, **spread}


def import_table(
    path: str | Path,
    format: str,
    device: str,
    *,
    hardware: str = "",
    runtime: str = "TF-Lite (as published)",
) -> LatencyTable:
    """Read a published table as one of ours, for the card `device`.

    `format` is one of `FORMATS`; `hardware` is the measured hardware, by default `device`.
    The mean stands for the median and for the fastest run, with the interval of a mean.
    ProxylessNAS' `Logits`, a pooling and a linear layer, is divided between them by the bytes
    that they move; the sum stays.

    Raises `UsageError` for unknown formats, and `TableError` with file and key (or line) for
    files over 8 MB, tags, anchors, aliases, nesting, values that no measurement has, and keys that
    no `OpSpec` expresses.
    """
    _check_format(format)
    path = Path(path)
    rows: dict[OpSpec, Measurement] = {}
    pooled: list[tuple[OpSpec, OpSpec, _Published]] = []
    for key, fields in read_plain_yaml(path).items():
        where = f"{path}: '{key[:200]}'"
        published = _Published.read(fields, where)
        try:
            ops = ops_of(key, format)
        except SpecError as error:
            raise TableError(f"{where} is not a valid operator of {format}: {error}") from None
        if ops[0] in rows:
            raise TableError(f"{where} is the operator {ops[0].key} of an earlier key")
        if len(ops) == 2:
            pooled.append((ops[0], ops[1], published))
        else:
            rows[ops[0]] = published.measurement(published.mean)
    _divide(pooled, rows, path)
    if not rows:
        raise TableError(f"{path}: the table has no rows")
    setting = Setting(device, hardware or device, runtime=runtime, transport="import")
    circumstances = {"imported": f"{path.name} ({format})", "statistic": "mean of single runs"}
    return LatencyTable(setting, rows, circumstances=circumstances, source=str(path))


def export_table(
    table: LatencyTable, format: str, path: str | Path, *, partial: bool = False
) -> tuple[OpSpec, ...]:
    """Write a table so that the search code of ProxylessNAS or Once-for-all reads it.

    Values are latencies inside a network, since that code adds them up. Returns the
    operators that the format has no key for, which `partial` leaves out; else raises
    `TableError` that names them. The file is written whole or not at all.
    """
    _check_format(format)
    keys: dict[str, dict[str, float]] = {}
    missing: list[OpSpec] = []
    for ops in _units(table, format):
        try:
            keys[key_of(ops, format)] = _Published.of_rows(table, ops).fields(format)
        except SpecError:
            missing += ops
    if (missing and not partial) or not keys:
        named = ", ".join(op.key for op in missing[:3])
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        activations = "relu6" if format == "proxylessnas" else "relu and h_swish"
        raise TableError(
            f"{table.source}: {format} has no keys for {named}{more} (it knows batch 1, "
            f"{activations}); export the rest with `partial`, or in another format"
        )
    write_plain_yaml(keys, Path(path))
    return tuple(missing)


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)


def _units(table: LatencyTable, format: str) -> Iterator[Ops]:
    """The operators of each key: single ones, and for ProxylessNAS every global pooling
    together with every linear layer of as many channels."""
    pools = [op for op in table if op.kind == "pool" and op.kernel == op.height == op.width]
    joined: set[OpSpec] = set()
    if format == "proxylessnas":
        for linear in (op for op in table if op.kind == "linear"):
            for pool in (pool for pool in pools if pool.in_channels == linear.in_channels):
                joined |= {pool, linear}
                yield pool, linear
    yield from ((op,) for op in table if op not in joined)


def _divide(
    pooled: list[tuple[OpSpec, OpSpec, _Published]], rows: dict[OpSpec, Measurement], path: Path
) -> None:
    """Divide sums of a pooling and a linear layer, by the bytes that each moves where neither is
    known yet. The shortest sum is divided first, so that the others keep a positive rest."""
    for pool, linear, published in sorted(pooled, key=lambda each: each[2].mean):
        share = pool.bytes / (pool.bytes + linear.bytes)
        if pool in rows:
            pool_ms = rows[pool].median_ms
        elif linear in rows:
            pool_ms = published.mean - rows[linear].median_ms
        else:
            pool_ms = share * published.mean
        linear_ms = published.mean - pool_ms
        known = rows[linear].median_ms if linear in rows else linear_ms
        if min(pool_ms, linear_ms) < LEAST_MS or abs(known - linear_ms) > 1e-6 * published.mean:
            raise TableError(
                f"{path}: the Logits of {pool.key} and {linear.key} are not the sum of a pooling "
                "and a linear layer that other keys agree with"
            )
        note = "divided from Logits by bytes moved"
        rows.setdefault(pool, published.measurement(pool_ms, note))
        rows.setdefault(linear, published.measurement(linear_ms, note))
