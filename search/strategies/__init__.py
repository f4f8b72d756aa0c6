"""Search strategies: how the architecture parameters are updated."""

from search.settings import SearchSettings
from search.strategies.base import Strategy
from search.strategies.hardware_loss import HardwareTerm
from search.strategies.proxyless_g import ProxylessG
from search.strategies.proxyless_r import ProxylessR
from search.supernet.supernet import SuperNet
from search.training.compute import ON_CPU, Compute

_STRATEGIES: dict[str, type[Strategy]] = {"proxyless-g": ProxylessG, "proxyless-r": ProxylessR}


def make_strategy(
    supernet: SuperNet,
    hardware: HardwareTerm,
    settings: SearchSettings,
    compute: Compute = ON_CPU,
) -> Strategy | None:
    """The strategy that the settings name; None for `evolution`, which leaves alpha uniform and
    searches after the training."""
    kind = _STRATEGIES.get(settings.strategy)
    return kind(supernet, hardware, settings, compute) if kind else None
