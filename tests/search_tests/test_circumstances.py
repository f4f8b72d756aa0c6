"""What a result keeps of where a search ran."""

import json
import platform
import tomllib
from dataclasses import replace

import pytest
import torch

from devices.card import load_card
from latency.operators.spec import OpSpec
from latency.prediction import OpPrediction
from latency.tables.library import user_folder
from search import spaces
from search.budget import Budget
from search.jobs.targets import Target
from search.result import operator_rows
from search.runs.certificate import environment
from search.shared_card import shared_part
from search.training.compute import Compute
from search.training.distributed import Ranks

pytestmark = pytest.mark.identity
SPACE = """
resolution = 32
classes = 10
stages = [{ channels = 24, depth = [1, 2], stride = 1 }]
candidates = { kinds = ["mbconv"], kernels = [3], expansions = [3], activations = ["relu6"] }
stem = { channels = 16, kernel = 3, stride = 2, activation = "relu6" }
head = { features = 64, activation = "relu6" }
"""

REACHED = """
# SECRET comment
description = "SECRET"
transport = "ssh"
runtime = "onnxruntime"
threads = 2
precision = "float32"
affinity = [0, 3]
channels_last = false
[ssh]
host = "SECRET"
hosts = ["SECRET2"]
port = 2222
user = "SECRET"
key = "/home/SECRET/id"
jump = "SECRET@SECRET:22"
known_hosts = "/home/x/SECRET"
config = "/home/x/SECRET"
python = "SECRET"
folder = "SECRET"
[adb]
serials = ["SECRET"]
server = "SECRET:5037"
folder = "/data/SECRET"
[measuring]
ci95 = 1e-5
sessions = 4
"""


@pytest.fixture
def target(toy_table):
    """A target whose device cannot be reached."""
    return Target("toy", toy_table)


@pytest.fixture
def budget(toy_table, costs):
    """Half the range on that target."""
    return Budget.parse("50%", "toy").over(costs, toy_table)


def test_an_environment_tells_versions_the_machine_and_the_processes(target, toy_space):
    told = environment([target], toy_space, Compute(ranks=Ranks(0, 3)))
    assert (told["python"], told["torch"]) == (platform.python_version(), torch.__version__)
    assert (told["trained_on"], told["processes"]) == ("cpu", 3)
    assert "CPUs" in told["machine"]
    assert told["files"] == {}


def test_an_environment_holds_the_users_own_space_and_how_their_cards_measure(
    target, toy_space, tmp_path
):
    path, card = tmp_path / "my space.toml", tmp_path / "pi.toml"
    kept = user_folder() / "cards" / "board.toml"
    kept.parent.mkdir(parents=True)
    for file in (card, kept):
        file.write_text('runtime = "onnxruntime"\n')
    path.write_text(SPACE)
    targets = [replace(target, name=name) for name in (str(card), "board", "cpu")]
    files = environment(targets, spaces.load(str(path)), Compute())["files"]
    assert files == {
        str(path): SPACE,
        "pi.toml": 'runtime = "onnxruntime"\n',
        "board.toml": 'runtime = "onnxruntime"\n',
    }
    card.unlink()
    left = environment(targets, toy_space, Compute())["files"]
    assert files.keys() - left.keys() == {str(path), "pi.toml"}


def test_an_environment_names_and_unlocks_no_machine(target, toy_space, tmp_path):
    card = tmp_path / "pi.toml"
    card.write_text(REACHED)
    load_card(str(card))
    named = replace(target, name=str(card))
    (text,) = environment([named], toy_space, Compute())["files"].values()
    assert "SECRET" not in text
    assert tomllib.loads(text) == {
        "transport": "ssh",
        "runtime": "onnxruntime",
        "threads": 2,
        "precision": "float32",
        "affinity": [0, 3],
        "channels_last": False,
        "measuring": {"ci95": 0.00001, "sessions": 4},
    }


@pytest.mark.parametrize("text", ["threads = \n[ssh", "", '[adb]\nserials = ["SECRET"]\n'])
def test_of_a_card_that_says_nothing_of_measuring_nothing_is_shared(text):
    assert shared_part(text) == ""


def test_operators_are_kept_as_the_model_predicts_them(budget, toy_space):
    prediction = budget.predict(toy_space.network(toy_space.largest))
    rows = json.loads(json.dumps(operator_rows(prediction)))
    read = tuple(OpPrediction(**{**row, "op": OpSpec.parse(row["op"])}) for row in rows)
    assert read == prediction.per_op


def test_operators_are_those_of_the_targets_batch(toy_table, budget, toy_space):
    rows = {replace(op, batch=8): row for op, row in toy_table.rows.items()}
    batched = replace(toy_table, setting=replace(toy_table.setting, batch=8), rows=rows)
    prediction = replace(budget, model=batched, batch=8).predict(
        toy_space.network(toy_space.largest)
    )
    assert {part.op.batch for part in prediction.per_op} == {8}
