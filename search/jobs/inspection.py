"""What `lat-profile` tells without profiling: the cards, whether a device is ready, and whether
a table still holds."""

import json
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from devices.card import DeviceCard, load_card
from devices.cards import known_cards
from devices.connection import connect, connect_all
from devices.device import Device, Workload
from devices.verification import verify
from latency.errors import DeviceError, LatError
from latency.operators.spec import OpSpec
from latency.tables.library import tables_of
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.console import folded, following, notice, print_table, progress_bar
from search.jobs.targets import default_path, reachable

PROBE = OpSpec("mbconv", 14, 14, 16, 16, 3, 1, 3, "relu6")
"""What a check runs once on the device."""

_MOST_AT_ONCE = 16
"""So many devices are asked at a time what they are."""


def list_cards(as_json: bool) -> None:
    """Print every card: whether its device is reachable, and its table's age and error."""
    names = list(known_cards())
    with ThreadPoolExecutor(min(len(names), _MOST_AT_ONCE)) as pool:
        rows = list(pool.map(_overview, names))
    if as_json:
        print(json.dumps(rows))
        return
    shown = Table("card", "reachable", "age", "error", "table", box=None, pad_edge=False)
    for row in rows:
        age = "" if row["age_days"] is None else f"{row['age_days']} d"
        error = "" if row["mean_error"] is None else f"{100 * float(str(row['mean_error'])):.1f} %"
        error += " (transferred)" if row["transferred"] else ""
        reachable = "yes" if row["reachable"] else "no"
        shown.add_row(str(row["card"]), reachable, age, error, str(row["table"] or "none"))
    print_table(shown)
    for row in rows:
        if not row["reachable"]:
            print(folded(f"{row['card']}: {row['why']}", 2))
    print("what a device lacks: lat-profile --device CARD --check")


def _overview(name: str) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(
        ("card", "reachable", "why", "table", "age_days", "mean_error", "transferred")
    )
    row["card"], row["reachable"] = name, False
    try:
        card = load_card(name)
        row["description"] = card.description
        setting = connect(card).setting
        row["reachable"] = True
    except LatError as error:
        row["why"] = str(error)
        setting = None
    table = _newest(name, setting)
    if table is not None:
        row["table"] = Path(table.source).stem
        row["age_days"] = _age_days(table)
        errors = [validation.mean for validation in table.validations.values()]
        row["mean_error"] = max(errors, default=None)
        row["transferred"] = table.transfers
    return row


def _newest(name: str, setting: Setting | None) -> LatencyTable | None:
    """The card's newest table, in the device's present setting where that is known."""
    for path in tables_of(name, setting.hardware if setting else ""):
        try:
            table = LatencyTable.load(path)
        except LatError as error:
            notice(str(error))
            continue
        if setting is None or table.setting.identity == setting.identity:
            return table
    return None


def _age_days(table: LatencyTable) -> int | None:
    stamps = [row.measured_at for row in table.rows.values() if row.measured_at]
    if not stamps:
        return None
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(max(stamps))).days
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True)
class _Step:
    """Something that a profile needs; `attempt` says what it found."""

    what: str
    attempt: Callable[[], str]


def check_device(card: DeviceCard, as_json: bool) -> None:
    """Try everything but the measuring, step by step, and say what is missing.

    Raises `DeviceError` where something is; what it is has been printed then.
    """
    steps = _steps(card)
    done: list[dict[str, object]] = []
    for step in steps:
        try:
            done.append({"step": step.what, "ok": True, "found": step.attempt()})
        except LatError as error:
            done.append({"step": step.what, "ok": False, "found": str(error)})
            break
    is_ready = all(one["ok"] for one in done)
    if as_json:
        print(json.dumps({"card": card.name, "ready": is_ready, "steps": done}))
    else:
        for one in done:
            said = "ok     " if one["ok"] else "MISSING"
            print(folded(f"{said} {one['step']}: {one['found']}", 8))
    if not is_ready:
        raise DeviceError(f"{card.name} is not ready to be measured")


def _steps(card: DeviceCard) -> list[_Step]:
    found: list[Device] = []

    def connects() -> str:
        found.extend(connect_all(card))
        return ", ".join(device.label for device in found)

    def answers() -> str:
        settings = [device.setting for device in found]
        return f"{settings[0].hardware}; {settings[0].system}; {settings[0].runtime}"

    def runs() -> str:
        probe = Workload.of_op(OpSpec(**{**vars(PROBE), "batch": card.batch}))
        times = []
        for device in found:
            with device.sit() as sitting:
                times.append(min(sitting.run(sitting.load(probe), 2, 5).ms))
        return f"{probe.name} in {', '.join(map(format_ms, times))}"

    def tells() -> str:
        with found[0].sit() as sitting:
            state = sitting.condition()
        warmth, clock = state.temperature_c, state.frequency_mhz
        return (
            f"temperature {'not readable' if warmth is None else f'{warmth:g} °C'}, "
            f"clock {'not readable' if clock is None else f'{clock:g} MHz'}"
        )

    return [
        _Step("transport and runtime are installed here", connects),
        _Step("the device answers", answers),
        _Step("a model is sent, loaded and run", runs),
        _Step("the device's state", tells),
    ]


def verify_table(card: DeviceCard, out: Path | None, as_json: bool) -> None:
    """Measure a random tenth of the card's table again, and print what has changed. The table is
    the newest, or the one that a profile would write to `out`, a CSV file or a folder."""
    device = reachable(card)[0]
    where = "" if out is None else f" --out {shlex.quote(str(out))}"
    table = _newest(card.name, device.setting) if out is None else _at(out, device.setting)
    if table is None:
        raise DeviceError(
            f"there is no table of {card.name} as it is set up now{f' in {out}' if out else ''}; "
            f"measure one: lat-profile --device {card.words}{where}"
        )
    with progress_bar(as_json) as bar:
        found = verify(
            device,
            table,
            card.measuring,
            following(bar, "measuring again"),
        )
    if as_json:
        print(
            json.dumps(
                {
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
            )
        )
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
        print(f"the table is out of date: lat-profile --device {card.words}{where}")


def _at(out: Path, setting: Setting) -> LatencyTable | None:
    """The table in this setting in a CSV file or a folder; None where there is none. Raises
    `TableError` where it is of another setting."""
    path = default_path(setting, out)
    if not path.exists():
        return None
    table = LatencyTable.load(path)
    table.require_setting(setting)
    return table
