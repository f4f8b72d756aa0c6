"""The history of a search as a checkpoint keeps it."""

import io

import pytest
import torch

from search.training.history import entries, in_columns


def entry(step, multiplier):
    return {
        "step": step,
        "train_loss": 1 / (step + 1),
        "valid_loss": 0.1 + step,
        "entropy": 1.7,
        "expected": {"cpu": 1e-3 * step, "macs": 3e8},
        "multiplier": multiplier,
    }


@pytest.mark.parametrize("multiplier", [{"cpu": 0.1, "macs": 0.3}, {}])
def test_what_is_read_back_from_columns_is_exactly_what_was_kept(multiplier):
    history = [entry(step, multiplier) for step in range(5, 9)]
    history[2]["probabilities"] = [[0.1, 0.9], [1 / 3, 2 / 3]]
    file = io.BytesIO()
    torch.save(in_columns(history), file)
    file.seek(0)
    assert entries(torch.load(file, weights_only=True)) == history
    assert entries(in_columns([])) == []


def test_a_step_more_is_no_value_more_to_be_read_by_itself():
    history = [entry(step, {"cpu": 0.1, "macs": 0.3}) for step in range(100)]
    assert len(in_columns(history)) == len(in_columns(history[:1]))
    told = in_columns(history)
    columns = [told[name] for name in ("step", "train_loss", "valid_loss", "entropy")]
    columns += [*told["expected"].values(), *told["multiplier"].values()]
    assert all(column.shape == (100,) for column in columns)
