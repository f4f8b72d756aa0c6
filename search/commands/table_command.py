"""`lat-table`: show tables, compare, merge, import and export them."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from latency.errors import UsageError
from latency.exchange.tables import export_table, import_table
from latency.locked_file import locked
from latency.operators.spec import OpSpec
from latency.tables.comparison import TableDifference, diff
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.commands.options import Json, require_suffix
from search.console import Command, folded, notice, print_table, run

Name = Annotated[str, typer.Argument(help="A table: path, stem, or a card's name.")]
Format = Annotated[str, typer.Option("--format", help="proxylessnas or ofa.")]
Rows = Annotated[int, typer.Option(min=1, help="Largest number of operators to list.")]
Out = Annotated[Path, typer.Option(help="The table to write.")]


def show(table: Name, rows: Rows = 10, as_json: Json = False) -> None:
    """Print a table: its metadata, slowest and unstable operators, and its own error.

    Examples:

      lat-table show cpu

      lat-table show my-phone.csv --rows 30

      lat-table show my-phone.csv --json
    """
    one = LatencyTable.load(table)
    slowest = sorted(one, key=lambda op: -one[op].median_ms)
    unstable = [op for op in slowest if one[op].is_unstable]
    if as_json:
        print(json.dumps(_table_as_dict(one, unstable)))
        return
    setting = {name: value for name, value in asdict(one.setting).items() if value != ""}
    _print_pairs(str(one.source), {**setting, **one.header_lines()})
    print(f"\n{len(one)} operators")
    for tag in one.validations:
        print(f"{tag}: {one.stated_error(tag)}")
    if not one.validations:
        print("error on whole networks: not measured")
    _print_ops("slowest", one, slowest[:rows])
    if unstable:
        _print_ops("unstable", one, unstable[:rows])
        print(f"{len(unstable)} unstable: measure them again, on an idle machine")


def diff_tables(a: Name, b: Name, rows: Rows = 20, as_json: Json = False) -> None:
    """Compare table B with table A, operator by operator, and test which differences are
    significant.

    Examples:

      lat-table diff before.csv after.csv

      lat-table diff cpu.csv phone.csv --json
    """
    found = diff(LatencyTable.load(a), LatencyTable.load(b))
    if as_json:
        print(json.dumps(_difference_as_dict(found)))
        return
    if found.settings:
        pairs = {name: f"{x} | {y}" for name, (x, y) in found.settings.items()}
        _print_pairs("settings differ: A | B", pairs)
    print(f"only in A: {len(found.only_a)}; only in B: {len(found.only_b)}")
    if not found.common:
        print("no operator in common")
        return
    _print_differences(found, rows)
    print(
        f"{len(found.significant)} of {len(found.common)} common operators differ significantly "
        "(5 %, Holm)"
    )
    print(
        f"B takes {found.median_ratio:.3f} times as long as A (median); "
        f"sign test: p = {found.sign_p_value:.2g}"
    )


def merge(
    tables: Annotated[list[str], typer.Argument(help="Two tables or more.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Merge tables of one setting. Of an operator in several tables, the newest row counts, or that
    of the last table if the rows have no time stamps.

    Tables of different hardware, runtime, precision, batch, ... are refused with the reason.

    Examples:

      lat-table merge old.csv new.csv --out both.csv
    """
    require_suffix(out, ".csv")
    if len(tables) < 2:
        raise UsageError("merging takes two tables or more")
    with locked(out):  # which may be one of them
        merged = reduce(LatencyTable.merge, map(LatencyTable.load, tables))
        merged.save(out)
    _print_written(as_json, table=str(out), operators=len(merged))


def import_file(
    file: Annotated[Path, typer.Argument(help="The published YAML file.")],
    format: Format,
    device: Annotated[str, typer.Option(help="Name of the card that the table is for.")],
    out: Out,
    hardware: Annotated[str, typer.Option(help="The hardware that it was measured on.")] = "",
    as_json: Json = False,
) -> None:
    """Convert a table of ProxylessNAS or Once-for-all to CSV.

    Examples:

      lat-table import --format proxylessnas mobile_trim.yaml --device pixel1 --out pixel1.csv

      lat-table import --format ofa 224_lookup_table.yaml --device note10
      --hardware "Samsung Note10" --out note10.csv
    """
    require_suffix(out, ".csv")
    table = import_table(file, format, device, hardware=hardware)
    with locked(out):
        table.save(out)
    _print_written(as_json, table=str(out), operators=len(table))


def export_file(
    table: Name,
    format: Format,
    out: Annotated[Path, typer.Option(help="The YAML file to write.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out operators that the format has no keys for.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a table in the format that the search code of ProxylessNAS or Once-for-all reads.

    Examples:

      lat-table export cpu --format proxylessnas --out cpu.yaml

      lat-table export cpu --format ofa --partial --out cpu.yaml
    """
    require_suffix(out, ".yaml", ".yml")
    one = LatencyTable.load(table)
    left_out = export_table(one, format, out, partial=partial)
    if left_out:
        kinds = Counter(op.kind for op in left_out).most_common()
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds)
        notice(folded(f"left out, since {format} has no keys for them: {counts}"))
    keys = [op.key for op in left_out]
    _print_written(as_json, file=str(out), operators=len(one) - len(left_out), left_out=keys)


def _print_written(as_json: bool, **summary: object) -> None:
    if as_json:
        print(json.dumps(summary))
    else:
        print(f"{summary['operators']} operators: {summary.get('table') or summary.get('file')}")


def _print_pairs(title: str, pairs: Mapping[str, object]) -> None:
    print(title)
    shown = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        shown.add_row(f"  {name}", str(value))
    print_table(shown)


def _print_ops(title: str, table: LatencyTable, ops: list[OpSpec]) -> None:
    shown = Table(title, "alone", "± 95 %", "in network", "runs", box=None, pad_edge=False)
    for op in ops:
        row = table[op]
        alone, interval = format_ms(row.median_ms), f"{100 * row.relative_ci95:.2f} %"
        inside = format_ms(table.in_network_ms.get(op, row.median_ms))
        shown.add_row(op.key, alone, interval, inside, str(row.runs))
    print()
    print_table(shown)


def _print_differences(found: TableDifference, rows: int) -> None:
    ranked = sorted(found.common, key=lambda one: (not one.significant, one.p_value))
    shown = Table("operator", "A", "B", "B / A", "95 %", "", box=None, pad_edge=False)
    for one in ranked[:rows]:
        ends = f"{one.low:.3f} to {one.high:.3f}"
        mark = "*" if one.significant else ""
        a, b = format_ms(one.a_ms), format_ms(one.b_ms)
        shown.add_row(one.op.key, a, b, f"{one.ratio:.3f}", ends, mark)
    print_table(shown)
    print(f"*: significant; {max(0, len(ranked) - rows)} more not listed (--rows)")


def _table_as_dict(table: LatencyTable, unstable: list[OpSpec]) -> dict[str, object]:
    return {
        "table": table.source,
        "setting": asdict(table.setting),
        "circumstances": table.header_lines(),
        "validation": {tag: asdict(one) for tag, one in table.validations.items()},
        "unstable": [op.key for op in unstable],
        "ops": [
            {
                "key": op.key,
                "latency_ms": row.median_ms,
                "ci95_ms": row.ci95_ms if math.isfinite(row.ci95_ms) else None,
                "runs": row.runs,
                "in_network_ms": table.in_network_ms.get(op, row.median_ms),
                "traced_ms": row.traced_ms,
            }
            for op, row in table.rows.items()
        ],
    }


def _difference_as_dict(found: TableDifference) -> dict[str, object]:
    common = [{**vars(one), "key": one.op.key} for one in found.common]
    for one in common:
        del one["op"]
    return {
        "median_ratio": found.median_ratio if found.common else None,
        "sign_p_value": found.sign_p_value,
        "significant": len(found.significant),
        "common": common,
        "only_a": [op.key for op in found.only_a],
        "only_b": [op.key for op in found.only_b],
        "settings": found.settings,
    }


COMMANDS: dict[str, Command] = {
    "show": show,
    "diff": diff_tables,
    "merge": merge,
    "import": import_file,
    "export": export_file,
}


_ABOUT = """Show latency tables, compare, merge, import and export them.

Examples:

  lat-table show cpu

  lat-table diff before.csv after.csv

  lat-table merge old.csv new.csv --out both.csv

  lat-table import --format proxylessnas FILE --device NAME --out FILE.csv

  lat-table export cpu --format proxylessnas --out cpu.yaml
"""


def main() -> None:
    run(COMMANDS, "lat-table", _ABOUT)
