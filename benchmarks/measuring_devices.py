"""What is promised of devices: tables of all runtimes, repeatability, SSH, fleets, kills."""

import time
from collections.abc import Callable, Iterator

from figure import Figure
from kills import losses
from ssh_overhead import overhead_ms

from devices.card import Measuring, load_card
from devices.connection import connect
from devices.device import Workload
from devices.fleet import measure_on_all
from devices.replay import ReplayDevice
from devices.verification import verify
from latency import LatencyTable
from latency.tables.library import shipped_folder
from search import spaces

CARDS = ("cpu", "cpu-litert", "cpu-torch")


def _shipped(card: str) -> LatencyTable | None:
    """The table that we ship of this machine's hardware, as the card sets it up."""
    path = shipped_folder() / f"{connect(load_card(card)).setting.stem}.csv"
    return LatencyTable.load(path) if path.exists() else None


def held_out() -> Iterator[Figure]:
    """The error that each shipped table states, on networks that it was not fitted on."""
    for card in CARDS:
        if (table := _shipped(card)) is None:
            continue
        for space, error in table.validations.items():
            most, worst = (1.0, 4.0) if space == "proxyless@224" else (None, None)
            yield Figure(f"{card}, {space}: mean error", 100 * error.mean, most, unit="%")
            yield Figure("  worst", 100 * error.worst, worst, unit="%")


def repeatability() -> Iterator[Figure]:
    """Each shipped table's `proxyless` operators measured again now."""
    for name in CARDS:
        if (table := _shipped(name)) is None:
            continue
        card = load_card(name)
        found = verify(connect(card), table, card.measuring, seed=0, share=0.4)
        yield Figure(f"{name}: median difference an operator", 100 * found.spread, 2.0, unit="%")
        yield Figure("  drift of the whole since", 100 * found.drift, unit="%")
        yield Figure("  at equal speed", 100 * found.levelled_spread, unit="%")


def ssh() -> Iterator[Figure]:
    """What a measurement over SSH costs besides the device's own time, on loopback."""
    for name, overhead in overhead_ms().items():
        most = 5.0 if name == "ssh" else None
        yield Figure(f"overhead a measurement, {name}", overhead.median, most, unit="ms")
        yield Figure("  95 % within", overhead.p95, unit="ms")


def fleet() -> Iterator[Figure]:
    """Four replayed phones against one, on the same operators."""
    table = next(table for card in CARDS if (table := _shipped(card)))
    ops = spaces.load("proxyless").operators
    workloads = [Workload.of_op(op) for op in ops if op in table]
    rule = Measuring(sessions=1, max_sessions=1, sample_ms=20.0, drift=1e9)
    seconds = []
    for count in (1, 4):
        devices = [ReplayDevice(table, seed, pace=1.0) for seed in range(count)]
        start = time.perf_counter()
        measure_on_all(devices, workloads, rule)
        seconds.append(time.perf_counter() - start)
    yield Figure("four replay phones against one: time", seconds[1] / seconds[0], 0.30)


def kills() -> Iterator[Figure]:
    """Things killed at 100 random moments."""
    found = losses()
    total = sum(each.kills for each in found.values())
    yield Figure("kills", total, least=100)
    for name, each in found.items():
        yield Figure(f"  {name}: samples lost", each.lost, 0)
        yield Figure(f"  {name}: samples made again of complete operators", each.again, 0)


BENCHMARKS: dict[str, Callable[[], Iterator[Figure]]] = {
    "held-out": held_out,
    "repeatability": repeatability,
    "ssh": ssh,
    "fleet": fleet,
    "kills": kills,
}
