"""What can be found out without a profile: all cards, whether a device is ready to be measured, and
whether a table is still valid."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from devices.card import load_card
from devices.cards import known_cards
from devices.connection import connect, connect_all
from devices.device import Device, Workload
from devices.verification import Verification, verify
from latency.errors import DeviceError, LatError
from latency.operators.spec import OpSpec
from latency.tables.library import tables_of
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.console import following, notice, progress_bar
from search.jobs.bench import default_path, reachable

PROBE = OpSpec("mbconv", 14, 14, 16, 16, 3, 1, 3, "relu6")
"""The operator that a check runs on the device."""

_MOST_AT_ONCE = 16
"""Devices that are asked for their settings at a time."""


@dataclass(frozen=True)
class CardOverview:
    """A card, whether its device is reachable or else why not, and its newest table, if any: the
    stem, age and largest mean error of a space, and the spaces that were transferred."""

    card: str
    description: str = ""
    reachable: bool = False
    why: str | None = None
    table: str | None = None
    age_days: int | None = None
    mean_error: float | None = None
    transferred: Mapping[str, str] | None = None


def list_cards() -> list[CardOverview]:
    """All known cards, each with the state of its device and its table."""
    names = list(known_cards())
    with ThreadPoolExecutor(min(len(names), _MOST_AT_ONCE)) as pool:
        return list(pool.map(_overview, names))


def _overview(name: str) -> CardOverview:
    found, setting = CardOverview(name), None
    try:
        card = load_card(name)
        found = replace(found, description=card.description)
        setting = connect(card).setting
        found = replace(found, reachable=True)
    except LatError as error:
        found = replace(found, why=str(error))
    table = _newest(name, setting)
    if table is None:
        return found
    errors = [validation.mean for validation in table.validations.values()]
    return replace(
        found,
        table=Path(table.source).stem,
        age_days=_age_days(table),
        mean_error=max(errors, default=None),
        transferred=table.transfers,
    )


def _newest(name: str, setting: Setting | None) -> LatencyTable | None:
    """The card's newest table, in the device's present setting if that is known."""
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
class Step:
    """Something that a profile needs: whether it works, and what was found or went wrong."""

    step: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Readiness:
    """Whether a card's device is ready to be measured, step by step; a step that fails is the last
    one."""

    card: str
    steps: tuple[Step, ...]

    @property
    def is_ready(self) -> bool:
        return all(step.ok for step in self.steps)


def check_device(device: str) -> Readiness:
    """Try everything that a profile of a card's device needs, except the measuring."""
    card = load_card(device)
    devices: list[Device] = []

    def connects() -> str:
        devices.extend(connect_all(card))
        return ", ".join(device.label for device in devices)

    attempts: dict[str, Callable[[], str]] = {
        "transport and runtime are installed here": connects,
        "the device answers": lambda: _answers(devices),
        "a model is sent, loaded and run": lambda: _runs(devices, card.batch),
        "the device's state": lambda: _state(devices[0]),
    }
    steps: list[Step] = []
    for name, attempt in attempts.items():
        try:
            steps.append(Step(name, True, attempt()))
        except LatError as error:
            steps.append(Step(name, False, str(error)))
            break
    return Readiness(card.name, tuple(steps))


def _answers(devices: list[Device]) -> str:
    settings = [device.setting for device in devices]
    return f"{settings[0].hardware}; {settings[0].system}; {settings[0].runtime}"


def _runs(devices: list[Device], batch: int) -> str:
    probe = Workload.of_op(replace(PROBE, batch=batch))
    times = []
    for device in devices:
        with device.open_session() as session:
            times.append(min(session.run(session.load(probe), 2, 5).ms))
    return f"{probe.name} in {', '.join(map(format_ms, times))}"


def _state(device: Device) -> str:
    with device.open_session() as session:
        state = session.condition()
    warmth, clock = state.temperature_c, state.frequency_mhz
    return (
        f"temperature {'not readable' if warmth is None else f'{warmth:g} °C'}, "
        f"clock {'not readable' if clock is None else f'{clock:g} MHz'}"
    )


class NoTableError(DeviceError):
    """There is no table to verify."""


def verify_table(
    device: str, out: Path | None = None, *, quiet: bool
) -> tuple[LatencyTable, Verification]:
    """Measure a random tenth of a card's table again, and compare. The table is the newest, or the
    one that a profile would write to `out`, a CSV file or a folder. Raises `NoTableError` if there
    is none, and `TableError` if that in `out` is of another setting."""
    card = load_card(device)
    first = reachable(card)[0]
    table = _newest(card.name, first.setting) if out is None else _at(out, first.setting)
    if table is None:
        where = f" in {out}" if out else ""
        raise NoTableError(f"there is no table of {card.name} as it is set up now{where}")
    with progress_bar(quiet) as bar:
        found = verify(first, table, card.measuring, following(bar, "measuring again"))
    return table, found


def _at(out: Path, setting: Setting) -> LatencyTable | None:
    """The table in this setting in a CSV file or a folder; None if there is none. Raises
    `TableError` if it is of another setting."""
    path = default_path(setting, out)
    if not path.exists():
        return None
    table = LatencyTable.load(path)
    table.require_setting(setting)
    return table
