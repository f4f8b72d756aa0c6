"""How well ten measurements rank all networks on a new device (`latency.transfer`).

    python benchmarks/transfer.py nasbench201.csv.gz [--seeds 10] [--features none|choices|totals]

The file has a column `arch` (NAS-Bench-201 cells) and one column a device, in ms, as published
with HELP (Lee et al., NeurIPS 2021). First the published protocol (nine sources, four targets),
then devices of another kind than all sources, then each device from all those not of its family.
Spearman's rank correlation and median absolute percentage error are over all networks that were
not measured, without any cut, averaged over seeds. `--only protocol` leaves out the rest.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from latency.transfer import choose_samples, few_shot

OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
TARGETS = ("titanx_1", "titanx_32", "titanx_256", "gold_6240")
FAMILIES = (("1080ti", "titanx"), ("silver", "gold"))
PHONES = ("samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")


@dataclass(frozen=True)
class Split:
    """Sources, and targets that are predicted from them, one at a time."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def splits(devices: list[str]) -> Iterator[Split]:
    """The published protocol first."""
    yield Split("protocol", tuple(d for d in devices if d not in TARGETS), TARGETS)
    desktops = tuple(d for d in devices if d not in PHONES)
    yield Split("desktops to phones", desktops, PHONES)
    yield Split("phones to desktops", PHONES, desktops)
    gpus = tuple(d for d in devices if d.startswith(FAMILIES[0]))
    yield Split("GPUs to CPUs", gpus, tuple(d for d in desktops if d not in gpus))
    yield Split("one GPU to all", gpus[:1], tuple(d for d in devices if d != gpus[0]))
    for device in devices:
        family = next((f for f in FAMILIES if device.startswith(f)), (device,))
        others = tuple(d for d in devices if not d.startswith(family))
        yield Split("other families", others, (device,))


def features(architectures: pd.Series, kind: str) -> np.ndarray | None:
    """None, operator choices one-hot, or these with convolutions, MACs, bytes and launches of a
    cell (in those of a 1x1 convolution, an activation, and one kernel)."""
    if kind == "none":
        return None
    cells = [re.findall(r"(\w+)~", cell) for cell in architectures]
    choices = np.array([[OPERATORS.index(name) for name in cell] for cell in cells])
    one_hot = np.eye(len(OPERATORS))[choices]
    _, skips, small, large, pools = one_hot.sum(1).T
    convolutions, macs = small + large, small + 9 * large
    moved = 2 * (skips + pools + 3 * convolutions) + 0.1 * macs
    totals = np.stack([convolutions, macs, moved, 3 * convolutions + pools], 1)
    flat = one_hot.reshape(len(cells), -1)
    return flat if kind == "choices" else np.hstack([flat, totals])


def score(predicted: np.ndarray, measured: np.ndarray, index: np.ndarray) -> tuple[float, float]:
    """Spearman and median absolute percentage error over networks not in `index`."""
    unseen = np.ones(len(measured), bool)
    unseen[index] = False
    ranks = [pd.Series(values[unseen]).rank() for values in (predicted, measured)]
    errors = np.abs(predicted / measured - 1)[unseen]
    return float(np.corrcoef(*ranks)[0, 1]), 100 * float(np.median(errors))


def scores(table: pd.DataFrame, split: Split, seeds: int, given: np.ndarray | None) -> np.ndarray:
    """(targets, seeds, 2): Spearman and error."""
    sources = table[list(split.sources)].to_numpy(float)
    found = np.empty((len(split.targets), seeds, 2))
    for seed in range(seeds):
        index = choose_samples(sources, seed=seed, features=given)
        for row, target in enumerate(split.targets):
            measured = table[target].to_numpy(float)
            predicted = few_shot(sources, index, measured[index], given)
            found[row, seed] = score(predicted, measured, index)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--features", choices=("none", "choices", "totals"), default="choices")
    parser.add_argument("--only", help="name of a split")
    asked = parser.parse_args()
    data = pd.read_csv(asked.data)
    given = features(data.arch, asked.features)
    report = Table("split", "target", "Spearman", "worst seed", "median error %")
    for split in splits([name for name in data.columns if name != "arch"]):
        if asked.only in (None, split.name):
            found = scores(data, split, asked.seeds, given)
            for target, rows in zip(split.targets, found, strict=True):
                rank, error = rows.mean(0)
                words = [split.name, target, f"{rank:.4f}", f"{rows[:, 0].min():.4f}"]
                report.add_row(*words, f"{error:.1f}")
            if len(found) > 1:
                rank, error = found.mean((0, 1))
                words = [split.name, "mean", f"{rank:.4f}", f"{found[..., 0].min():.4f}"]
                report.add_row(*words, f"{error:.1f}", end_section=True)
    Console().print(report)


if __name__ == "__main__":
    main()
