"""What a search is held to: targets with their latency models and budgets, and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

from latency.candidates import candidate_latency
from latency.errors import CoverageError, UsageError
from latency.operators.network import NetworkSpec
from latency.prediction import PREDICTED, LatencyModel, Prediction
from latency.predictors.regression import RegressionModel, fit
from latency.tables.table import LatencyTable
from search.budget import MEMORY, SIZES, AskedBudget, Budget, size_costs
from search.console import notice
from search.jobs.target_names import require_known
from search.jobs.targets import Target, covered
from search.space import SearchSpace, network_at


@dataclass(frozen=True)
class Goal:
    """A target, what predicts latencies on it, and the budget there."""

    target: Target
    model: LatencyModel
    budget: Budget

    def predict(self, network: NetworkSpec) -> Prediction:
        """What the model says of a network at the target's batch."""
        return self.model.predict(network_at(network, self.target.batch))

    @property
    def table(self) -> str:
        """Where the model's table was read from, or else where the target's goes."""
        table = self.model.table if isinstance(self.model, RegressionModel) else self.model
        return table.source if isinstance(table, LatencyTable) else str(self.target.path)


def parse_budgets(words: Sequence[str], target: str | None) -> list[AskedBudget]:
    """The budgets as given, the first one's of `target` where they name nothing ("cpu" where
    that is not given either). Raises `UsageError` for a name twice or of no target, and where none
    is a latency.
    """
    asked = [AskedBudget.parse(word) for word in words]
    named = [one.named(target or "cpu") for one in asked]
    names = [one.name for one in named]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two budgets for {name}; give one")
        if name and name not in SIZES:
            require_known(name)
    if target is not None and target not in names:
        raise UsageError(f"no budget for the target {target}; give one, e.g. --budget 5ms")
    if all(name in SIZES for name in names):
        raise UsageError("no latency among the budgets; say how long it may take: --budget 5ms")
    # The target's budget is the first, which the network makes use of.
    return sorted(named, key=lambda one: (one.name in SIZES, one.name != (target or names[0])))


def memory_limit(asked: Sequence[AskedBudget]) -> float | None:
    """The bytes of a memory budget; None where there is none."""
    return next((budget.amount for budget in asked if budget.name == MEMORY), None)


def size_budgets(space: SearchSpace, asked: Sequence[AskedBudget]) -> list[Budget]:
    """Budgets of parameters and multiply-accumulates."""
    names = [name for name in SIZES if name != MEMORY]
    return [budget.of(size_costs(space, budget.name)) for budget in asked if budget.name in names]


def goal_of(
    target: Target,
    space: SearchSpace,
    asked: AskedBudget,
    sigmas: float,
    predicted: bool,
    quiet: bool,
) -> Goal:
    """The goal of a budget on a target. Where operators are predicted and not measured, all count
    with `sigmas` standard deviations above their mean."""
    model = latency_model(target, space, predicted, quiet)
    lacking = [op for op in space.operators if model.predict_op(op).source == PREDICTED]
    if lacking:
        notice(
            f"{target.name}: {len(lacking)} of {len(space.operators)} operators are predicted, not "
            f"measured; the budget is held for mean + {sigmas:g} standard deviations"
        )
    costs = candidate_latency(model, space.blocks, space.fixed, sigmas if lacking else 0.0)
    return Goal(target, model, asked.of(costs))


def latency_model(target: Target, space: SearchSpace, predicted: bool, quiet: bool) -> LatencyModel:
    """The target's table with every operator of the space in it; with `predicted`, what it lacks
    is predicted by regression, where that reaches, and not measured."""
    table = target.table
    if not predicted or table is None or not table.missing(space.operators):
        return covered(target, space, quiet)
    model = fit(table)
    if far := model.missing(space.operators):
        remedy = (
            "they are too far from what it has to be predicted: measure them: lat-profile "
            f"--device {table.setting.device} --space {space.words}"
        )
        raise CoverageError((op.key for op in far), f"the table {table.source}", remedy)
    return model
