"""One search, from the supernet's training to the certificate."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from latency.candidates import CandidateLatency
from latency.measurement import Measurement
from latency.modules import NetworkModule
from latency.network import NetworkSpec
from latency.table import LatencyTable
from search.budget import Budget
from search.checkpoint import Checkpoint
from search.commands.console import notice, progress_bar, version
from search.commands.targets import Target
from search.confirmation import Attempt, confirm, derive_confirmed, export, measure_on
from search.data import Dataset
from search.derivation import derive
from search.result import SearchResult
from search.searcher import NetworkTraining, StepReport, SupernetTraining
from search.settings import SearchSettings
from search.space import SearchSpace
from search.training import accuracy

_TRAININGS = 3
"""How often a network that proves over budget once trained is derived and trained anew."""


class SearchJob:
    """A search of `space` for `target` under `budget`, whose files are kept in `folder`.

    The job goes on from what it finds in `folder`: the supernet's checkpoint, the networks that
    were derived and measured already, the trained network's checkpoint.
    """

    def __init__(
        self,
        target: Target,
        table: LatencyTable,
        costs: CandidateLatency,
        space: SearchSpace,
        data: Dataset,
        budget: Budget,
        settings: SearchSettings,
        seed: int,
        folder: Path,
    ) -> None:
        self.target, self.table, self.costs = target, table, costs
        self.space, self.data, self.budget = space, data, budget
        self.settings, self.seed, self.folder = settings, seed, folder

    def run(self, started: float, quiet: bool, with_largest: bool) -> SearchResult:
        """Search, derive, train, export and measure. `started`: on the monotonic clock."""
        with progress_bar(quiet) as bar:
            search = SupernetTraining(
                self.space, self.data, self.costs, self.budget.ms, self.settings, self.seed
            )
            search.run(self._checkpoint("search"), _show(bar, "searching", quiet))
            utility = search.supernet.log_probabilities.detach().double().numpy()
            attempts, training, measured = self._derive_and_train(utility, bar, quiet)
            largest = self._largest(bar, quiet) if with_largest else None
        chosen = attempts[-1]
        prediction = self.table.predict(chosen.network)
        result = SearchResult(
            target=self.target.name,
            space=self.space.tag,
            data=self.data.name,
            strategy="proxyless-g",
            budget_ms=self.budget.ms,
            predicted_ms=prediction.ms,
            predicted_low_ms=prediction.low_ms,
            predicted_high_ms=prediction.high_ms,
            measured_ms=measured.median_ms if measured else None,
            measured_low_ms=measured.low_ms if measured else None,
            measured_high_ms=measured.high_ms if measured else None,
            meets_budget=(measured.high_ms if measured else prediction.ms) <= self.budget.ms,
            **self._accuracies(training),
            macs=chosen.network.macs,
            params=chosen.network.params,
            seconds=time.monotonic() - started,
            seed=self.seed,
            choices=chosen.choices,
            settings=self.settings.as_dict,
            attempts=[_as_dict(attempt) for attempt in attempts],
            history=search.history,
            probabilities=np.exp(utility).tolist(),
            table=self.table.source,
            version=version(),
            largest=largest,
        )
        (self.folder / "network.json").write_text(chosen.network.to_json())
        result.save(self.folder / "result.json")
        return result

    def _derive_and_train(
        self, utility: NDArray[np.float64], bar: Progress, quiet: bool
    ) -> tuple[list[Attempt], NetworkTraining, Measurement | None]:
        """Derive a network that meets the budget, train it, and measure what is deployed. Where
        that proves over budget, correct the latency model and start over, a few times at most.
        All attempts (the last one counts), its training, and what was measured of its file."""
        attempts: list[Attempt] = []
        for number in range(_TRAININGS):
            correction = attempts[-1].correction if attempts else 1.0
            attempts += self._derive(utility, correction, number)
            chosen = attempts[-1]
            training = NetworkTraining(chosen.network, self.data, self.settings, self.seed)
            phase = f"train-{'.'.join(map(str, chosen.choices))}"
            training.run(self._checkpoint(phase), _show(bar, "training the network", quiet))
            model = export(chosen.network, training.module)
            (self.folder / "model.onnx").write_bytes(model)
            measured = self._measure_trained(
                chosen.network, training.module, self.budget.ms, self.folder / "model"
            )
            if measured is None or measured.high_ms <= self.budget.ms:
                break
            attempts.append(Attempt(chosen.choices, chosen.network, chosen.predicted_ms, measured))
            if chosen.choices == tuple(np.nanargmin(self.costs.matrix, axis=1)):
                break
        return attempts, training, measured

    def _derive(
        self, utility: NDArray[np.float64], correction: float, number: int
    ) -> list[Attempt]:
        """Derive a network, measured as often as it takes where the device is at hand. What a
        broken-off run found out already is taken from the folder."""
        path = self.folder / "checkpoint" / f"derived-{number}.json"
        if path.exists():
            return [self._attempt(saved) for saved in json.loads(path.read_text())]
        if self.target.device is None or self.target.card is None:
            choices = derive(utility, self.costs, self.budget.ms)
            ms = float(self.costs.predict(choices)[0])
            attempts = [Attempt(choices, self.space.network(choices), ms, None)]
        else:
            measure = measure_on(self.target.device, self.target.card.measuring)
            attempts = list(
                derive_confirmed(
                    self.space, utility, self.costs, self.budget.ms, measure, correction
                )
            )
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps([_as_dict(attempt) for attempt in attempts]))
        temporary.replace(path)
        return attempts

    def _attempt(self, saved: dict[str, Any]) -> Attempt:
        choices = tuple(saved["choices"])
        measured = Measurement(**saved["measured"]) if saved["measured"] else None
        return Attempt(choices, self.space.network(choices), saved["predicted_ms"], measured)

    def _measure_trained(
        self,
        network: NetworkSpec,
        module: NetworkModule,
        budget_ms: float,
        keep_as: Path | None = None,
    ) -> Measurement | None:
        """Measure the file that the target's runtime executes, and keep it: model.onnx, or one
        beside it."""
        device, card = self.target.device, self.target.card
        if device is None or card is None:
            return None
        model = device.build(network, module.folded)
        if keep_as is not None:
            keep_as.with_suffix(device.suffix).write_bytes(model)
        return confirm(device, network, model, budget_ms, card.measuring)

    def _largest(self, bar: Progress, quiet: bool) -> dict[str, Any]:
        """The space's largest network, trained and measured like the one found."""
        choices = self.space.largest
        network = self.space.network(choices)
        training = NetworkTraining(network, self.data, self.settings, self.seed)
        training.run(self._checkpoint("largest"), _show(bar, "training the largest", quiet))
        predicted_ms = self.table.predict(network).ms
        measured = self._measure_trained(network, training.module, math.inf)
        return {
            "predicted_ms": predicted_ms,
            "measured_ms": measured.median_ms if measured else None,
            **self._accuracies(training),
            "macs": network.macs,
            "params": network.params,
        }

    def _accuracies(self, training: NetworkTraining) -> dict[str, float]:
        module, resolution = training.module, self.space.resolution
        return {
            "valid_accuracy": accuracy(module, self.data.valid, resolution),
            "test_accuracy": accuracy(module, self.data.test, resolution),
        }

    def _checkpoint(self, phase: str) -> Checkpoint:
        """The checkpoint of a phase; it belongs to this job's words alone."""
        mine = {
            "target": self.target.name,
            "space": self.space.tag,
            "data": self.data.name,
            "budget_ms": self.budget.ms,
            "seed": self.seed,
            **self.settings.as_dict,
        }
        return Checkpoint(self.folder / "checkpoint" / f"{phase}.pt", mine)


def _as_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "choices": list(attempt.choices),
        "predicted_ms": attempt.predicted_ms,
        "measured": asdict(attempt.measured) if attempt.measured else None,
    }


def _show(bar: Progress, doing: str, quiet: bool) -> Callable[[StepReport], None]:
    """Show steps as a bar on a terminal, and as a line now and then where there is none."""
    task = bar.add_task(doing, total=None)

    def show(report: StepReport) -> None:
        said = f"{doing}, loss {report.train_loss:.2f}"
        bar.update(task, description=said, completed=report.step, total=report.total_steps)
        if bar.disable and not quiet and report.step % max(1, report.total_steps // 10) == 0:
            notice(
                f"{doing}: step {report.step} of {report.total_steps}, loss {report.train_loss:.2f}"
            )

    return show
