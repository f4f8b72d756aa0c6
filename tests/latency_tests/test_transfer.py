"""Latencies on a new device from ten measured networks."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latency import SpecError, UsageError
from latency.transfer import choose_samples, few_shot

PUBLIC = Path(__file__).parents[2].parent / "shared" / "data" / "fewshot" / "nasbench201.csv.gz"
TARGETS = ["titanx_1", "titanx_32", "titanx_256", "gold_6240"]
OPERATORS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


def _spearman(predicted, measured, index):
    unseen = np.ones(len(measured), bool)
    unseen[index] = False
    ranks = [pd.Series(values[unseen]).rank() for values in (predicted, measured)]
    return np.corrcoef(*ranks)[0, 1]


def _toy(generator, count=300, blocks=5):
    """Networks as sums of operators: choices one-hot, and latencies on three devices."""
    choices = generator.integers(0, 4, (count, blocks))
    one_hot = np.eye(4)[choices].reshape(count, -1)
    block = 1 + 0.2 * np.arange(blocks)[:, None]
    candidates = np.array([[0, 1, 2, 4], [0, 1, 3, 5], [0.2, 1, 2, 6]])
    devices = [5 + one_hot @ (block * costs).ravel() for costs in candidates]
    return np.stack(devices, 1), one_hot


@pytest.mark.parametrize("scale", [0.001, 3.0, 1000.0])
def test_a_scaled_copy_of_a_source_is_predicted_almost_exactly(generator, scale):
    sources, _ = _toy(generator)
    target = scale * sources[:, 1]
    index = choose_samples(sources)
    predicted = few_shot(sources, index, target[index])
    assert np.median(np.abs(predicted / target - 1)) < 0.003
    assert _spearman(predicted, target, index) > 0.999


def test_two_measurements_scale_a_lone_source(generator):
    source = generator.uniform(1, 3, (200, 1))
    predicted = few_shot(source, [3, 7], 5 * source[[3, 7], 0])
    assert predicted == pytest.approx(5 * source[:, 0], rel=0.1)
    assert _spearman(predicted, source[:, 0], [3, 7]) > 0.999


def test_a_monotone_transform_of_a_source_keeps_the_order(generator):
    sources, _ = _toy(generator)
    target = 2 + np.sqrt(sources[:, 0])
    index = choose_samples(sources)
    assert _spearman(few_shot(sources, index, target[index]), target, index) > 0.995


def test_features_rescue_a_device_unlike_its_sources(generator):
    sources, one_hot = _toy(generator, 600)
    target = 5 + one_hot @ np.tile([0, 5, 1, 0.5], 5)
    scores = []
    for features in (None, one_hot):
        index = choose_samples(sources, features=features)
        predicted = few_shot(sources, index, target[index], features)
        scores.append(_spearman(predicted, target, index))
    assert scores[1] > 0.95 > scores[0]


def test_the_order_of_one_hot_columns_does_not_matter_much(generator):
    sources, one_hot = _toy(generator)
    by_candidate = one_hot.reshape(-1, 5, 4).transpose(0, 2, 1).reshape(len(one_hot), -1)
    target = sources[:, 0] + sources[:, 2]
    index = choose_samples(sources, features=one_hot)
    first, second = (few_shot(sources, index, target[index], f) for f in (one_hot, by_candidate))
    assert first == pytest.approx(second, rel=1e-6)


def test_the_same_seed_chooses_and_predicts_the_same(generator):
    sources, one_hot = _toy(generator, 2000)
    index = choose_samples(sources, seed=4, features=one_hot)
    again = choose_samples(sources, seed=4, features=one_hot)
    assert index.tolist() == again.tolist()
    assert index.tolist() != choose_samples(sources, seed=5, features=one_hot).tolist()
    target = sources[index, 0]
    first = few_shot(sources, index, target, one_hot)
    assert first.tolist() == few_shot(sources, index, target, one_hot).tolist()


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_as_many_networks_are_chosen_as_asked_each_once(generator, n):
    sources, one_hot = _toy(generator)
    index = choose_samples(sources, n, features=one_hot)
    assert len(set(index.tolist())) == len(index) == n
    assert index.min() >= 0
    assert index.max() < len(sources)


def test_more_measurements_help(generator):
    sources, one_hot = _toy(generator, 600)
    target = (5 + one_hot @ generator.uniform(0, 3, 20)) * np.exp(generator.normal(0, 0.01, 600))
    scores = []
    for n in (2, 10, 100):
        index = choose_samples(sources, n, features=one_hot)
        predicted = few_shot(sources, index, target[index], one_hot)
        scores.append(_spearman(predicted, target, index))
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > 0.98


def test_duplicated_constant_rounded_and_zero_columns_do_no_harm(generator):
    sources, one_hot = _toy(generator)
    target = sources[:, 0] * 2
    dead = np.where(np.arange(len(sources)) % 50 == 0, 0.0, sources[:, 1])
    hard = np.column_stack([sources, sources, np.full(300, 7.0), np.round(sources[:, 2]), dead])
    features = np.column_stack([one_hot, one_hot.sum(1), hard[:, 0], np.zeros(300)])
    for given in (None, features):
        index = choose_samples(hard, features=given)
        predicted = few_shot(hard, index, target[index], given)
        assert np.isfinite(predicted).all()
        assert _spearman(predicted, target, index) > 0.99


def test_where_nothing_is_known_the_middle_of_the_measured_is_predicted():
    sources = np.full((30, 2), 5.0)
    index = choose_samples(sources, 4)
    predicted = few_shot(sources, index, np.full(4, 3.0))
    assert predicted == pytest.approx(np.full(30, 3.0))


def test_a_whole_millisecond_device_that_reads_one_zero_is_predicted(generator):
    sources, one_hot = _toy(generator)
    target = np.round(sources[:, 0])
    index = choose_samples(sources, features=one_hot)
    measured = target[index].copy()
    measured[-1] = 0.0
    assert _spearman(few_shot(sources, index, measured, one_hot), target, index) > 0.9


@pytest.mark.parametrize("n", [0, 301, -1])
def test_networks_that_there_are_not_cannot_be_chosen(generator, n):
    sources, _ = _toy(generator)
    with pytest.raises(UsageError, match=f"`n` is {n}; expected 1 to 300"):
        choose_samples(sources, n)


@pytest.mark.parametrize(
    ("index", "measured", "error", "words"),
    [
        ([0, 300], [1, 2], UsageError, "between 0 and 299"),
        ([-1, 3], [1, 2], UsageError, "between 0 and 299"),
        ([3, 3], [1, 2], UsageError, "each once"),
        ([3], [1], UsageError, "at least two networks"),
        ([1, 2, 3], [1, 2], SpecError, "the same length"),
        ([0.5, 1.5], [1, 2], SpecError, "must be integers"),
        ([1, 2], [1, np.nan], SpecError, "must be finite"),
        ([1, 2], [1, -2], SpecError, "latencies in ms"),
        ([1, 2], [0, 0], SpecError, "not all of them zero"),
        ([1, 2], ["fast", "slow"], SpecError, "must be numbers"),
    ],
)
def test_labels_that_cannot_be_are_refused(generator, index, measured, error, words):
    sources, _ = _toy(generator)
    with pytest.raises(error, match=words):
        few_shot(sources, index, measured)


def test_sources_and_features_that_cannot_be_are_refused(generator):
    sources, one_hot = _toy(generator)
    holed = sources.copy()
    holed[4, 1] = np.nan
    for wrong, features, words in (
        (holed, None, r"`sources_ms` of shape .* must be finite"),
        (-sources, None, "negative"),
        (sources[:, 0], None, "2 dimension"),
        (sources[:1], None, "two networks and a source"),
        (sources[:, :0], None, "two networks and a source"),
        (sources, one_hot[:-1], "299 rows for 300 networks"),
        (sources, np.where(one_hot, np.inf, 0), "`features` of shape"),
    ):
        with pytest.raises(SpecError, match=words):
            choose_samples(wrong, 2, features=features)


def test_the_package_is_imported_without_heavy_libraries():
    heavy = {"torch", "scipy", "sklearn", "pandas"}
    code = f"import sys, latency.transfer; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ten_measurements_rank_the_networks_of_published_devices():
    if not PUBLIC.exists():
        pytest.skip(f"the public data set {PUBLIC.name} is not beside the checkout")
    table = pd.read_csv(PUBLIC)
    names = [re.findall(r"(\w+)~", arch) for arch in table.arch]
    choices = np.array([[OPERATORS.index(name) for name in cell] for cell in names])
    one_hot = np.eye(5)[choices].reshape(len(table), -1)
    sources = table.drop(columns=["arch", *TARGETS]).to_numpy(float)
    scores = []
    for seed in range(2):
        index = choose_samples(sources, seed=seed, features=one_hot)
        for target in TARGETS:
            measured = table[target].to_numpy(float)
            predicted = few_shot(sources, index, measured[index], one_hot)
            scores.append(_spearman(predicted, measured, index))
    assert np.mean(scores) >= 0.97
    assert min(scores) >= 0.93
