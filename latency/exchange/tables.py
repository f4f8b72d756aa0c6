"""Tables of other projects, in and out: the YAML of ProxylessNAS and of Once-for-all.

Each key (`latency.exchange.keys`) holds `count`, `mean` (ms) and `var` (proxylessnas) or `std`
(ofa) of single runs. Their search code reads what `export_table` writes; `import_table` reads
the published files. An operator that a format cannot express is named, never dropped silently.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml  # type: ignore[import-untyped,unused-ignore]
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from latency.atomic_file import write_whole
from latency.errors import SpecError, TableError, unknown_name
from latency.exchange.keys import FORMATS, Ops, key_of, ops_of
from latency.files import MOST_BYTES, read_text
from latency.operators.spec import OpSpec
from latency.stats import Z95
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.units import LEAST_MS, MOST_MS


class _Published(BaseModel, allow_inf_nan=False):
    """A value of a published table: ms of single runs."""

    count: int = Field(ge=1, le=10**15)
    mean: float = Field(ge=LEAST_MS, le=MOST_MS)
    std: float | None = Field(None, ge=0, le=MOST_MS / Z95)
    var: float | None = Field(None, ge=0, le=(MOST_MS / Z95) ** 2)

    @model_validator(mode="after")
    def _has_spread(self) -> Self:
        if (self.std is None) == (self.var is None):
            raise ValueError("expected either var or std")
        return self

    @classmethod
    def of_rows(cls, table: LatencyTable, ops: Ops) -> Self:
        """The sum of the operators' latencies inside a network."""
        ms = [table.in_network_ms.get(op, table[op].median_ms) for op in ops]
        half = sum(table[op].relative_ci95 * each for op, each in zip(ops, ms, strict=True))
        count = min(table[op].runs for op in ops)
        return cls(count=count, mean=sum(ms), std=half * math.sqrt(count) / Z95)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.var) if self.var is not None else self.std or 0.0

    def measurement(self, ms: float, note: str = "") -> Measurement:
        """`ms` of the mean, with its relative 95 % interval."""
        half = Z95 * self.deviation / math.sqrt(self.count)
        return Measurement(
            median_ms=ms, ci95_ms=half * ms / self.mean, runs=self.count, min_ms=ms, note=note
        )

    def fields(self, format: str) -> dict[str, float]:
        std = self.deviation
        spread = {"std": std} if format == "ofa" else {"var": std**2}
        return {"count": self.count, "mean": self.mean, **spread}


class _Loader(yaml.BaseLoader):
    """Reads scalars as text and constructs no objects; refuses a key that appears twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                problem = f"'{name[:80]}' appears twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


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
    files over 1 MB, broken YAML, values that no measurement has, and keys that no `OpSpec`
    expresses.
    """
    _check_format(format)
    path = Path(path)
    rows: dict[OpSpec, Measurement] = {}
    pooled: list[tuple[OpSpec, OpSpec, _Published]] = []
    for key, published in _read(path).items():
        where = f"{path}: '{key[:200]}'"
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
    operators that the format has no key for, which `partial` leaves out; otherwise raises
    `TableError`, which names them. The file is written whole or not at all.
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
    write_whole(Path(path), yaml.safe_dump(keys, width=1000))
    return tuple(missing)


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)


def _read(path: Path) -> dict[str, _Published]:
    """The values of a published table, by key; `TableError` names the file and the key or line."""
    text = read_text(path, MOST_BYTES, TableError)
    try:
        content = yaml.load(text, _Loader)
        return TypeAdapter(dict[str, _Published]).validate_python(content)
    except RecursionError:
        raise TableError(f"{path}: broken YAML: nested too deep") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise TableError(f"{path}:{line}: broken YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise TableError(f"{path}: broken YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        where = ": ".join(str(part)[:200] for part in (path, *detail["loc"]))
        raise TableError(f"{where}: {detail['msg'].removeprefix('Value error, ')}") from None


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
