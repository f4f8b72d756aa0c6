"""What `lat-profile` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from devices.verification import Verification
from latency.tables.library import user_folder
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.console import folded, print_table
from search.jobs.inspection import CardOverview, Readiness
from search.jobs.summary import ProfileSummary

_MOST_NAMED = 5
"""Notes, and operators per note, that are printed; the table has all of them."""


def print_summary(summary: ProfileSummary, device: str, as_json: bool) -> None:
    """Print what a profile measured, and how to use its table. `device`: the card as given."""
    if as_json:
        print(json.dumps(summary.to_dict()))
        return
    table, setting = summary.table, summary.table.setting
    lines = [f"{setting.hardware}, {setting.runtime}, {setting.threads} thread(s)"]
    if summary.own:
        lines.append(
            f"{len(summary.own)} operators; 95 % interval: median "
            f"± {100 * summary.median_ci95:.2f} %, {100 * summary.within_asked:.0f} % of them "
            f"within {100 * summary.asked_ci95:g} %"
        )
    if summary.kernels:
        lines.append(
            f"{len(summary.kernels)} kernels of the suite; 95 % interval: median "
            f"± {100 * summary.kernels_ci95:.1f} %"
        )
    if summary.transferred:
        lines.append(
            f"{summary.transferred} operators transferred from other devices, not measured"
        )
    lines += [f"{tag}: {table.stated_error(tag)}" for tag in table.validations]
    lines += [f"could not be measured: {key}: {why}" for key, why in table.failed.items()]
    for note, keys in summary.unsteady[:_MOST_NAMED]:
        others = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
        lines.append(f"{note}: {', '.join(keys[:_MOST_NAMED])}{others}")
    for line in lines:
        print(folded(line))
    if table.transfers:
        print(f"to measure all operators: lat-profile --device {device}")
    print(f"table: {summary.path}")
    is_users = summary.path.parent == user_folder()
    print(f"report: lat-report {setting.device if is_users else summary.path}")
    if not is_users:
        print(f"search: lat-search --target {summary.path} ...")


def print_cards(cards: Sequence[CardOverview], as_json: bool) -> None:
    """Print every card, whether its device is reachable, and its table's age and error."""
    if as_json:
        print(json.dumps([asdict(card) for card in cards]))
        return
    shown = Table("card", "reachable", "age", "error", "table", box=None, pad_edge=False)
    for card in cards:
        reachable = "yes" if card.reachable else "no"
        age = "" if card.age_days is None else f"{card.age_days} d"
        error = "" if card.mean_error is None else f"{100 * card.mean_error:.1f} %"
        error += " (transferred)" if card.transferred else ""
        shown.add_row(card.card, reachable, age, error, card.table or "none")
    print_table(shown)
    for card in cards:
        if not card.reachable:
            print(folded(f"{card.card}: {card.why}"))
    print("to check a device: lat-profile --device CARD --check")


def print_readiness(found: Readiness, as_json: bool) -> None:
    """Print each step of a check, and what was found."""
    if as_json:
        steps = [asdict(step) for step in found.steps]
        print(json.dumps({"card": found.card, "ready": found.is_ready, "steps": steps}))
        return
    for step in found.steps:
        state = "ok     " if step.ok else "MISSING"
        print(folded(f"{state} {step.step}: {step.found}", 8))


def print_verification(found: Verification, table: LatencyTable, again: str, as_json: bool) -> None:
    """Print what has changed since a table was measured. `again`: the command that measures it."""
    if as_json:
        print(json.dumps(_verification_as_dict(found, table)))
        return
    shown = Table("operator", "before", "now", "change")
    for r in found.rechecks:
        change = f"{100 * (r.ratio - 1):+.1f} %{' *' if r.is_significant else ''}"
        shown.add_row(r.op.key, format_ms(r.before.median_ms), format_ms(r.now.median_ms), change)
    print_table(shown)
    for key, error in found.failures.items():
        print(f"{key} could not be measured: {error}")
    print(folded(f"{found} (*)"))
    print(table.source)
    if not found.still_holds:
        print(f"the table is out of date: {again}")


def _verification_as_dict(found: Verification, table: LatencyTable) -> dict[str, object]:
    return {
        "table": table.source,
        "operators": len(found.rechecks),
        "drift": found.drift,
        "median_difference": found.spread,
        "at_equal_speed": found.levelled_spread,
        "probability": found.probability,
        "significant": not found.still_holds,
        "failed": found.failures,
        "ops": [
            {
                "key": r.op.key,
                "before_ms": r.before.median_ms,
                "now_ms": r.now.median_ms,
                "significant": r.is_significant,
            }
            for r in found.rechecks
        ],
    }
