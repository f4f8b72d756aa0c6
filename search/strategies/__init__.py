"""Search strategies: how the architecture parameters are updated."""

from search.settings import SearchSettings
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
    searches after the training."""
    if settings.strategy == "proxyless-g":
        return ProxylessG(
            supernet,
            hardware,
            settings.binarisation,
            settings.arch_learning_rate,
            settings.arch_steps,
            compute,
        )
    if settings.strategy == "proxyless-r":
        return ProxylessR(
            supernet,
            hardware,
            settings.reward,
            settings.reinforce_learning_rate or settings.arch_learning_rate,
            settings.arch_steps,
            settings.reinforce_networks,
            compute=compute,
        )
    return None
