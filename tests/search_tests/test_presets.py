"""Settings from files: the paper's, and what is said of a file that cannot be."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from latency import UsageError
from search import presets
from search.budget import Budget
from search.commands.search_command import main as lat_search
from search.commands.search_options import SearchOptions
from search.commands.search_ways import settings_for
from search.presets import load_settings, steps_of
from search.settings import MINI, PROXYLESS, SearchSettings, preset
from search.strategies import make_strategy
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.optimizer import Cosines


def test_the_papers_epochs_on_imagenet_are_steps_of_its_training_images():
    settings = load_settings("proxyless-imagenet", images=1_231_167)
    an_epoch = 1_231_167 // 256
    assert settings.warmup_steps == 40 * an_epoch
    assert settings.search_steps == 120 * an_epoch
    assert settings.train_steps == 300 * an_epoch
    assert settings.arch_every == 5
    assert settings.label_smoothing == 0.1
    assert settings.arch_learning_rate == 0.001
    assert settings.arch_steps is None


def test_the_weights_have_a_cosine_for_each_part_of_the_papers_search():
    settings = load_settings("proxyless-imagenet", images=1_231_167)
    cosines = Cosines(settings.search_cosines)
    warmup, total = settings.warmup_steps, settings.warmup_steps + settings.search_steps
    near = {"rel": 0.02, "abs": 1e-6}
    assert cosines.at(warmup // 20) == pytest.approx(0.05, **near)
    assert cosines.at(warmup - 1) == pytest.approx(0.0, **near)
    assert cosines.at(warmup + settings.search_steps // 20) == pytest.approx(0.025, **near)
    assert cosines.at(total - 1) == pytest.approx(0.0, **near)
    assert cosines.peak == 0.05


def test_a_batch_size_of_ones_own_keeps_the_steps_of_the_file():
    images, file = 1_231_167, "proxyless-imagenet"
    plain = settings_for(SearchOptions(settings_file=file), "proxyless", 224, images)
    options = SearchOptions(settings_file=file, batch_size=64)
    smaller = settings_for(options, "proxyless", 224, images)
    assert (smaller.batch_size, smaller.search_steps) == (64, plain.search_steps)


def test_the_papers_epochs_on_cifar_are_steps_of_45000_images():
    settings = load_settings("proxyless-cifar", images=45_000)
    assert (settings.warmup_steps, settings.search_steps) == (0, 200 * 703)
    assert settings.arch_learning_rate == 0.006


@pytest.mark.parametrize(("strategy", "rate"), [("proxyless-g", 0.006), ("proxyless-r", 0.01)])
def test_the_papers_rate_of_the_architecture_on_cifar_is_that_of_the_strategy(
    toy_space, costs, strategy, rate
):
    settings = load_settings("proxyless-cifar", images=45_000).with_choices(strategy=strategy)
    hardware = HardwareTerm([Budget("toy", 0.15, costs)])
    assert make_strategy(SuperNet(toy_space), hardware, settings).optimizer.learning_rate == rate


def test_a_file_of_ones_own_says_what_differs_from_the_defaults(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'strategy = "proxyless-r"\nsearch_epochs = 0.5\nwarmup_steps = 7\nworkers = 3\n'
    )
    settings = load_settings(str(path), images=1000)
    assert settings.strategy == "proxyless-r"
    assert (settings.warmup_steps, settings.search_steps, settings.workers) == (7, 8, 3)
    assert settings.momentum == SearchSettings().momentum


def test_how_many_processes_read_is_nothing_that_a_result_depends_on():
    assert SearchSettings(workers=3).as_dict == SearchSettings().as_dict


def test_epochs_of_a_set_smaller_than_a_batch_are_steps():
    assert steps_of(5, images=20, batch_size=64) == 5


@pytest.mark.parametrize(
    ("space", "resolution", "settings"),
    [
        ("mini", 224, MINI),
        ("mini-w0.5", 224, MINI),
        ("mini-tree-w1.25", 224, MINI),
        ("proxyless", 32, PROXYLESS),
        ("proxyless-cifar-w0.5", 32, PROXYLESS),
        ("mini-3fa9c1", 224, PROXYLESS),
        ("minibot-3fa9c1", 224, PROXYLESS),
        ("mini-w0.5-d12345", 224, PROXYLESS),
        ("proxyless-of-ours-3fa9c1", 32, MINI),
        ("mbv3-w0.5", 32, MINI),
    ],
)
def test_a_users_own_space_has_the_settings_of_its_image_size_whatever_its_name(
    space, resolution, settings
):
    assert preset(space, resolution) == settings


@pytest.mark.parametrize("name", presets.known())
def test_every_shipped_file_is_settings(name):
    assert load_settings(name, images=10_000).search_steps > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat = 0.1", "unknown key 'learning_rat': did you mean 'learning_rate'"),
        ("batch_size = 0", "batch_size: should be greater than or equal to 1, not 0"),
        ('batch_size = "many"', "batch_size: should be a valid integer, not 'many'"),
        ("label_smoothing = 1.0", "label_smoothing: should be less than 1, not 1.0"),
        ("search_epochs = -1", "search_epochs: should be greater than or equal to 0, not -1"),
        ("learning_rate = nan", "learning_rate: should be a finite number"),
        ("learning_rate = inf", "learning_rate: should be a finite number"),
        (
            'penalty = "linear"',
            "penalty: should be 'lagrangian', 'add#linear' or 'mul#log', not 'linear'",
        ),
        ("search_epochs = 0", "search_epochs, in steps: should be greater"),
        ("train_epochs = 0.0001", "train_epochs, in steps: should be greater"),
        (
            "train_epochs = 2\ntrain_steps = 5",
            "train_epochs: give either it or train_steps, not both",
        ),
        ("batch_size 3", "not TOML"),
        ("workers = 10000", "workers: should be less than or equal to 256, not 10000"),
        ("workers = -1", "workers: should be greater than or equal to 0, not -1"),
        ("train_epochs = 1e300", "train_epochs: should be less than or equal to 1000000"),
        ("search_steps = 99999999999", "search_steps: should be less than or equal to 1000000000"),
        ("arch_batch_size = 9999999", "arch_batch_size: should be less than or equal to 65536"),
        ("arch_learning_rate = 1e300", "arch_learning_rate: should be less than or equal to 1"),
        ("momentum = nan", "momentum: should be"),
        ("weight_decay = -1.0", "weight_decay: should be greater than or equal to 0, not -1.0"),
        ("reinforce_networks = 10_000_000", "reinforce_networks: should be less than or equal to"),
        ("evolution_children = 10_000_000", "evolution_children: should be less than or equal to"),
        (f"batch_size = 0x{'f' * 5000}", "batch_size: "),
        (f"batch_size = {'9' * 5000}", "not TOML"),
        (f"batch_size = {'[' * 9999}", "not TOML"),
        (f"a = {'{a = ' * 9999}", "not TOML"),
        ("train_steps = 5" + " " * 1_000_000, "larger than 1 MB"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_key(tmp_path, text, said):
    path = tmp_path / "own.toml"
    path.write_text(text + "\n")
    with pytest.raises(UsageError) as error:
        load_settings(str(path), images=1000)
    assert str(error.value).startswith(f"{path}: {said}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_epochs_are_bounded_by_the_steps_that_they_mean(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("train_epochs = 1e5\n")
    assert load_settings(str(path), images=64_000).train_steps == 10**8
    with pytest.raises(
        UsageError, match=r"train_epochs, in steps: should be less than .* 1000000000"
    ):
        load_settings(str(path), images=10**6)


def test_settings_that_are_nowhere_are_named():
    with pytest.raises(UsageError, match="did you mean 'proxyless-imagenet'"):
        load_settings("proxyless-imagnet", images=1000)
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        load_settings("nowhere.toml", images=1000)


def test_a_pipe_or_a_device_is_no_file_of_settings(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(UsageError, match=f"{name}.toml: not a regular file"):
            load_settings(str(tmp_path / f"{name}.toml"), images=1000)


def test_a_search_on_images_of_ones_own_follows_the_file_and_counts_broken_images(
    invoke, mini_csv, tmp_path
):
    generator = np.random.default_rng(0)
    for name in "abcdefghij":
        for part, count in (("train", 5), ("val", 1)):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{number}.jpg")
    (tmp_path / "images" / "val" / "c" / "0.jpg").write_bytes(b"no image")
    own = "warmup_epochs = 1\nsearch_epochs = 2\ntrain_epochs = 1\nbatch_size = 16\n"
    own += "arch_batch_size = 8\ntrain_batch_size = 20\nworkers = 1\n"
    (tmp_path / "own.toml").write_text(own)
    words = ["--target", mini_csv, "--space", "mini", "--budget", "400us", "--baselines", "0"]
    words += ["--data", "imagenet:images", "--settings", "own.toml", "--out", "run"]
    code, _, err = invoke(lat_search, *words)
    assert code == 0
    assert "broken images left out: 1, e.g. images/val/c/0.jpg: cannot identify" in err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    settings = result["settings"]
    assert (settings["warmup_steps"], settings["search_steps"]) == (2, 4)  # 40 images, 16 a batch
    assert settings["train_steps"] == 2
    code, _, err = invoke(lat_search, *words[:-1], "b", "--settings", "nowhere")
    assert code == 2
    assert "unknown settings 'nowhere'" in err
