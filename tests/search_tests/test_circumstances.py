"""What a result keeps of where a search ran."""

import json
import platform
import tomllib
from dataclasses import replace

import pytest
import torch

from devices.card import load_card
from latency.tables.library import user_folder
from search import spaces
from search.budget import AskedBudget
from search.jobs.targets import Target
from search.result import operators_read
from search.runs.environment import environment, run_facts
from search.runs.goals import Goal
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
sittings = 4
"""


@pytest.fixture
def goal(toy_table, costs, tmp_path):
    """Half the range on a target that is not at hand."""
    target = Target("toy", toy_table, tmp_path / "nowhere.csv", None, ())
    return Goal(target, toy_table, AskedBudget.parse("50%").named("toy").of(costs))


def test_an_environment_tells_versions_the_machine_and_the_processes(goal, toy_space):
    told = environment([goal], toy_space, Compute(ranks=Ranks(0, 3)))
    assert (told["python"], told["torch"]) == (platform.python_version(), torch.__version__)
    assert (told["trained_on"], told["processes"]) == ("cpu", 3)
    assert "CPUs" in told["machine"]
    assert told["files"] == {}


def test_an_environment_holds_the_users_own_space_and_how_their_cards_measure(
    goal, toy_space, tmp_path
):
    path, card = tmp_path / "my space.toml", tmp_path / "pi.toml"
    kept = user_folder() / "cards" / "board.toml"
    kept.parent.mkdir(parents=True)
    for file in (card, kept):
        file.write_text('runtime = "onnxruntime"\n')
    path.write_text(SPACE)
    goals = [
        replace(goal, target=replace(goal.target, name=name))
        for name in (str(card), "board", "cpu")
    ]
    told = environment(goals, spaces.load(str(path)), Compute())
    assert told["files"] == {
        str(path): SPACE,
        "pi.toml": 'runtime = "onnxruntime"\n',
        "board.toml": 'runtime = "onnxruntime"\n',
    }
    card.unlink()
    assert told["files"].keys() - environment(goals, toy_space, Compute())["files"].keys() == {
        str(path),
        "pi.toml",
    }


def test_an_environment_names_and_unlocks_no_machine(goal, toy_space, tmp_path):
    card = tmp_path / "pi.toml"
    card.write_text(REACHED)
    load_card(str(card))
    goal = replace(goal, target=replace(goal.target, name=str(card)))
    (text,) = environment([goal], toy_space, Compute())["files"].values()
    assert "SECRET" not in text
    assert tomllib.loads(text) == {
        "transport": "ssh",
        "runtime": "onnxruntime",
        "threads": 2,
        "precision": "float32",
        "affinity": [0, 3],
        "channels_last": False,
        "measuring": {"ci95": 0.00001, "sittings": 4},
    }


@pytest.mark.parametrize("text", ["threads = \n[ssh", "", '[adb]\nserials = ["SECRET"]\n'])
def test_of_a_card_that_says_nothing_of_measuring_nothing_is_shared(text):
    assert shared_part(text) == ""


def test_operators_are_kept_as_the_model_predicts_them(goal, toy_space):
    network = toy_space.network(toy_space.largest)
    facts = json.loads(json.dumps(run_facts([goal], toy_space, Compute(), network)))
    assert operators_read(facts["operators"]["toy"]) == goal.model.predict(network).per_op


def test_operators_are_those_of_the_targets_batch(goal, toy_space):
    table = goal.target.table
    rows = {replace(op, batch=8): row for op, row in table.rows.items()}
    batched = replace(table, setting=replace(table.setting, batch=8), rows=rows)
    eight = replace(goal, model=batched, target=replace(goal.target, table=batched))
    network = toy_space.network(toy_space.largest)
    facts = run_facts([eight], toy_space, Compute(), network)
    assert {part.op.batch for part in operators_read(facts["operators"]["toy"])} == {8}
