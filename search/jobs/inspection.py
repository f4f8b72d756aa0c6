"""What `lat-profile` finds out without a profile: all cards, whether a device is ready to be
measured, and whether a table is still valid."""

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
from latency.timestamps import NEVER
from latency.units import format_ms
from search.console import following, progress_bar
from search.jobs.bench import default_path, reachable
from search.jobs.target_tables import readable_tables

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
    description, setting, why = "", None, None
    try:
        card = load_card(name)
        description = card.description
        setting = connect(card).setting
    except LatError as error:
        why = str(error)
    found = CardOverview(name, description, why is None, why)
    table = _newest(name, setting)
    if table is None:
        return found
    return replace(
        found,
        table=Path(table.source).stem,
        age_days=None if table.date == NEVER else (datetime.now(UTC) - table.date).days,
        mean_error=max((one.mean for one in table.validations.values()), default=None),
        transferred=table.transfers,
    )


def _newest(name: str, setting: Setting | None) -> LatencyTable | None:
    """The card's newest table, in the device's present setting if that is known."""
    for table in readable_tables(tables_of(name, setting.hardware if setting else "")):
        if setting is None or table.setting.identity == setting.identity:
            return table
    return None


@dataclass(frozen=True)
class Step:
    """Something that a profile needs: whether it works, and the result or the error."""

    step: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Readiness:
    """Whether a card's device is ready to be measured; a step that fails is the last one."""

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
    readings = {"temperature": (state.temperature_c, "°C"), "clock": (state.frequency_mhz, "MHz")}
    return ", ".join(
        f"{name} not readable" if value is None else f"{name} {value:g} {unit}"
        for name, (value, unit) in readings.items()
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
    if out is None:
        table = _newest(card.name, first.setting)
    else:
        path = default_path(first.setting, out)
        table = LatencyTable.load(path) if path.exists() else None
    if table is None:
        where = f" in {out}" if out else ""
        raise NoTableError(f"there is no table of {card.name} as it is set up now{where}")
    table.require_setting(first.setting)
    with progress_bar(quiet) as bar:
        found = verify(first, table, card.measuring, following(bar, "measuring again"))
    return table, found
