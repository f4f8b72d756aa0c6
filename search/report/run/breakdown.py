"""What each operator of a network that a search found takes on each of its targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latency.errors import LatError
from latency.prediction import OpPrediction
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from search.report.run.saved_run import SavedRun
from search.space import network_at


@dataclass(frozen=True)
class Breakdown:
    """The operators of a network in order of execution on `target`; none where that is not known,
    and then `why` in words."""

    target: str
    operators: tuple[OpPrediction, ...]
    why: str = ""


def breakdowns(run: SavedRun) -> Iterator[Breakdown]:
    """One a target: as the search kept it, or else by the target's table as it is now."""
    kept = run.operators
    for target, table in run.tables.items():
        if target in kept:
            yield Breakdown(target, kept[target])
        else:
            yield _by_table(run, target, table)


def _by_table(run: SavedRun, target: str, table: Path) -> Breakdown:
    try:
        known = LatencyTable.load(table)
    except LatError as error:
        return Breakdown(target, (), f"{target}: the table is not at hand: {error}")
    try:
        network = network_at(run.network, known.setting.batch)
        is_whole = not known.missing(network.parts)
        model = known if is_whole else fit(known, operators=network.parts)
        return Breakdown(target, model.predict(network).per_op)
    except LatError as error:
        return Breakdown(target, (), f"{target}: the table does not cover the network: {error}")
