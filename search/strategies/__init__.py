"""How the architecture is searched: one file a strategy."""

from collections.abc import Callable

from latency.errors import unknown_name
from search.settings import STRATEGIES, SearchSettings
from search.strategies.base import Strategy
from search.strategies.hardware_loss import HardwareTerm
from search.strategies.proxyless_g import ProxylessG
from search.strategies.proxyless_r import ProxylessR
from search.supernet.supernet import SuperNet
from search.training.compute import ON_CPU, Compute


def make_strategy(
    supernet: SuperNet,
    hardware: HardwareTerm,
    settings: SearchSettings,
    compute: Compute = ON_CPU,
) -> Strategy | None:
    """The strategy that the settings name; None for `evolution`, which leaves alpha uniform and
    searches once the weights are trained. `UsageError` for unknown names."""
    makers: dict[str, Callable[[], Strategy | None]] = {
        "proxyless-g": lambda: ProxylessG(
            supernet,
            hardware,
            settings.binarisation,
            settings.arch_learning_rate,
            settings.arch_steps,
            compute,
        ),
        "proxyless-r": lambda: ProxylessR(
            supernet,
            hardware,
            settings.reward,
            settings.reinforce_learning_rate or settings.arch_learning_rate,
            settings.arch_steps,
            settings.reinforce_networks,
            compute=compute,
        ),
        "evolution": lambda: None,
    }
    if settings.strategy not in makers:
        raise unknown_name("strategy", settings.strategy, STRATEGIES)
    return makers[settings.strategy]()
