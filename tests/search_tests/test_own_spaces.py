"""A user's own space: what a file may say, what it is called, and each mistake in one line."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from devices.export.onnx_model import onnx_model
from devices.export.tflite_model import tflite_model
from latency import LatencyTable, Measurement, OpSpec, Setting, UsageError
from latency.modules import NetworkModule
from search import spaces
from search.commands.profile_command import main as lat_profile
from search.commands.search_command import main as lat_search
from search.spaces.staged import CandidateSection


def made_up_ms(op: OpSpec) -> float:
    return 0.01 + op.macs * 1e-8


EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = """\
resolution = 16
classes = 10
[candidates]
kernels = [3]
squeeze_excite = [0, 0.25]
[stem]
channels = 8
[[stages]]
channels = 8
depth = [1, 2]
stride = 2
[head]
features = 16
"""
PROXYLESS = """\
resolution = 224
stem = { channels = 32, blocks = [{ channels = 16 }] }
stages = [
    { channels = 24, depth = [1, 4], stride = 2 },
    { channels = 40, depth = [1, 4], stride = 2 },
    { channels = 80, depth = [1, 4], stride = 2 },
    { channels = 96, depth = [1, 4] },
    { channels = 192, depth = [1, 4], stride = 2 },
    { channels = 320, depth = 1 },
]
head = { features = 1280 }
"""


@pytest.fixture
def written(tmp_path):
    """Write a space file; its path."""

    def write(text: str, name: str = "small.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("options", [{}, {"width": 0.75, "classes": 7, "resolution": 160}])
def test_the_space_of_proxylessnas_is_a_page_of_toml(written, options):
    own, shipped = spaces.load(written(PROXYLESS), **options), spaces.load("proxyless", **options)
    assert replace(own, name=shipped.name) == shipped


def test_a_stage_says_its_candidates_and_its_depth(written):
    stages = "depth = [2, 3]\nstride = 2\nkinds = ['mbconv', 'conv']\nactivations = ['h_swish']"
    space = spaces.load(written(SMALL.replace("depth = [1, 2]\nstride = 2", stages)))
    assert [None in block for block in space.blocks] == [False, False, True]
    assert [str(op) for op in space.blocks[1]] == [
        "mbconv-4x4x8-8-k3-s1-e3-h_swish",
        "mbconv-4x4x8-8-k3-s1-e6-h_swish",
        "mbconv-4x4x8-8-k3-s1-e3-h_swish-se0.25",
        "mbconv-4x4x8-8-k3-s1-e6-h_swish-se0.25",
        "conv-4x4x8-8-k3-s1-h_swish",
    ]
    assert space.blocks[0][0].stride == 2
    assert space.fixed[0].key == "conv-16x16x3-8-k3-s2-relu6"


def test_candidates_that_come_out_alike_count_once():
    candidates = CandidateSection(
        kinds=["conv"], kernels=[3, 5], squeeze_excite=[0, 0.5], activations=["relu"]
    )
    ops = candidates.operators(8, 4, 4, 1, 1)
    assert [op.kernel for op in ops] == [3, 5]


def test_mbv3_is_the_space_of_once_for_all():
    space = spaces.load("mbv3")
    assert [block[0].out_channels for block in space.blocks[::4]] == [24, 40, 80, 112, 160]
    assert {len(block) for block in space.blocks} == {9, 10}
    excited = [block[0].squeeze_excite > 0 for block in space.blocks[::4]]
    assert excited == [False, True, False, True, True]
    swished = [block[0].activation == "h_swish" for block in space.blocks[::4]]
    assert swished == [False, False, True, True, True]
    distinct = (9**2 + 9**3 + 9**4) ** 5  # depth 2, 3 or 4 of each of five stages
    assert distinct == pytest.approx(2e19, rel=0.15)
    assert spaces.load("mbv3", width=1.2).tag == "mbv3-w1.2@224"


@pytest.mark.parametrize(
    "name", ["mbv3", str(EXAMPLES / "own_space.toml"), EXAMPLES / "own_space.py"]
)
def test_a_network_of_the_space_computes_the_same_in_torch_and_deployed(name, generator):
    space = spaces.load(str(name), resolution=32, classes=10)
    network = space.network(space.random_choices(1, generator)[0].tolist())
    module = NetworkModule(network.ops).eval()
    session = onnxruntime.InferenceSession(onnx_model(network.ops, module.folded, "own"))
    images = generator.standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = module(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(session.run(None, {"input": images})[0], expected, atol=1e-4)
    interpreter = Interpreter(model_content=tflite_model(network.ops, module.folded))
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], images.transpose(0, 2, 3, 1)
    )
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_the_name_tells_edited_spaces_apart_and_not_comments(written):
    name = spaces.load(written(SMALL)).name
    assert name.startswith("small-")
    assert spaces.load(written(SMALL + "# more words\n")).name == name
    assert spaces.load(written(SMALL), classes=3).name == name
    edited = spaces.load(written(SMALL.replace("kernels = [3]", "kernels = [5]"))).name
    assert edited.startswith("small-")
    assert edited != name


def test_a_space_has_the_arguments_that_load_it_again(written):
    path = written(SMALL, "my space.toml")
    space = spaces.load(path, resolution=24, width=1.0, classes=5, batch=2)
    assert space.arguments == f"'{path}' --resolution 24 --classes 5"
    assert spaces.load("mini", width=0.5).arguments == "mini --width 0.5"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "kernels = [3]",
            "kernel = [3]",
            "candidates: unknown key 'kernel': did you mean 'kernels'?",
        ),
        ("kernels = [3]", "kernels = [4]", "candidates.kernels.1: should be odd"),
        ("kernels = [3]", "kernels = 3", "candidates.kernels: should be a valid list, not 3"),
        ("kernels = [3]", "kernels = []", "candidates.kernels: list should have at least 1 item"),
        ("kernels = [3]", "activations = ['swish']", "did you mean 'h_swish'"),
        ("kernels = [3]", "kinds = ['resnet']", "should be 'mbconv' or 'conv', not 'resnet'"),
        ("0.25]", "4]", "squeeze_excite.2: should be less than or equal to 1, not 4"),
        ("depth = [1, 2]", "depth = [2, 1]", "stages.1.depth: should be a number of blocks"),
        ("depth = [1, 2]", "depth = 0", "stages.1.depth.1: should be greater than or equal to 1"),
        ("depth = [1, 2]", "depth = 'deep'", "stages.1.depth: should be a number of blocks"),
        ("depth = [1, 2]\n", "", "stages.1.depth: is missing"),
        ("channels = 8\ndepth", "channels = '8'\ndepth", "should be a valid integer, not '8'"),
        ("channels = 8\ndepth", "chanels = 8\ndepth", "stages.1: unknown key 'chanels'"),
        ("resolution = 16", "resolution = 0", "resolution: should be greater than or equal to 1"),
        ("[head]\nfeatures = 16\n", "", "head: is missing"),
        ("[stem]", "[stem", "not TOML:"),
        ("[[stages]]", "[stages]", "stages: should be a valid list"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_the_key_and_what_is_allowed(written, old, new, said):
    assert old in SMALL
    with pytest.raises(UsageError) as raised:
        spaces.load(path := written(SMALL.replace(old, new)))
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value).lower().replace("toml:", "TOML:").replace(
        "not toml", "not TOML"
    )
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["mini", "mbv3", "proxyless-cifar", "own"])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("resolution", (0, -1, 8193, 10**30)),
        ("classes", (0, -1, 10**7)),
        ("batch", (0, -1, 10**6)),
        ("width", (0.0, -1.0, math.nan, math.inf, 1e300)),
    ],
)
def test_sizes_that_cannot_be_are_no_defaults(written, name, option, values):
    space = written(SMALL) if name == "own" else name
    for value in values:
        with pytest.raises(UsageError, match=f"^`{option}` .* must be a .*number"):
            spaces.load(space, **{option: value})


def test_files_of_a_space_that_never_end_or_are_too_deep_are_refused(written, tmp_path):
    for suffix in ("toml", "py"):
        (tmp_path / f"x.{suffix}").symlink_to("/dev/zero")
        os.mkfifo(tmp_path / f"y.{suffix}")
        for stem in "xy":
            with pytest.raises(UsageError, match=rf"{stem}\.{suffix}: not a regular file"):
                spaces.load(str(tmp_path / f"{stem}.{suffix}"))
    for text in (f"resolution = {'[' * 9999}", f"resolution = {'9' * 5000}", "a." * 5000 + "b = 1"):
        with pytest.raises(UsageError, match=r"small\.toml: ") as raised:
            spaces.load(written(text, "small.toml"))
        assert "\n" not in str(raised.value)


PYTHON = (EXAMPLES / "own_space.py").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("STEPS = 32, 3", "STEPS = 32 3", "mine.py:LINE: SyntaxError: invalid syntax"),
        ("STEPS = 32, 3", "STEPS = 32, 1 / 0", "mine.py:LINE: ZeroDivisionError: division by zero"),
        ("blocks = []", "blocks = size.old", "mine.py:LINE: AttributeError: 'int' object has no"),
        ("kernel in (3, 5)", "kernel in (3, 4)", ": SpecError: mbconv-16x16x32-32-k4-s1"),
        ("blocks = []", "raise SystemExit(3)", "mine.py:LINE: SystemExit: 3"),
        ("def build(", "def make(", "has no function build(resolution, width, classes, batch)"),
        (", batch: int = 1", "", "got an unexpected keyword argument 'batch'"),
        (
            "resolution: int = 32, width: float = 1.0",
            "resolution: int, width: float = 1.0",
            "'resolution'",
        ),
        ("return SearchSpace(", "return list(", ": TypeError: list expected at most 1 argument"),
        ('SearchSpace("own", resolution, classes,', "tuple(", "TypeError"),
        (
            '"own", resolution, classes, (stem,)',
            '"own", resolution, 3, (stem,)',
            "images to 10 classes",
        ),
        (
            "(stem,), tuple(blocks), head)",
            "(stem,), tuple(blocks), head[1:])",
            "form a chain",
        ),
        ("(stem,), tuple(blocks), head)", "(), tuple(blocks), head)", "from 32x32x3 images"),
        (
            "(stem,), tuple(blocks), head)",
            "(stem,), tuple(blocks), head[:1])",
            "images to 10 classes",
        ),
        (
            "*refining, None",
            "OpSpec('add', *shape), None",
            "form a chain",
        ),
        ("batch=batch)\n    blocks", ")\n    blocks", "at batch 2"),
    ],
)
def test_a_mistake_in_python_is_one_line_with_the_line_of_the_file(written, old, new, said):
    assert old in PYTHON
    path = written(PYTHON.replace(old, new), "mine.py")
    with pytest.raises(UsageError) as raised:
        spaces.load(path, width=1.0, classes=10, batch=2)
    line = PYTHON[: PYTHON.index(old)].count("\n") + 1
    assert said.replace("LINE", str(line)) in str(raised.value)
    assert path in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_or_no_file_of_a_space_is_said_so(tmp_path):
    for name in ("absent.toml", "absent.py"):
        with pytest.raises(UsageError, match="No such file"):
            spaces.load(str(tmp_path / name))
    with pytest.raises(UsageError, match=r"for your own space, `space` is FILE.toml or"):
        spaces.load("absent.yaml")


def test_the_whole_way_with_the_example(invoke, quick_cpu, tmp_path):
    """Profiled on the real CPU, searched, and measured on it, with nothing else written."""
    path = EXAMPLES / "own_space.toml"
    tag = spaces.load(str(path)).tag
    code, out, err = invoke(lat_profile, "--device", quick_cpu, "--space", path, "--json")
    assert code == 0, err
    assert set(LatencyTable.load(json.loads(out)["table"]).validations) == {tag}
    words = ["--target", quick_cpu, "--space", path]
    code, out, err = invoke(lat_search, *words, "--range", "--json")
    assert code == 0, err
    reach = json.loads(out)
    assert (reach["space"], 0 < reach["fastest_ms"] < reach["slowest_ms"]) == (tag, True)
    words += ["--budget", f"{2 * reach['slowest_ms']}ms", "--steps", "4", "--train-steps", "2"]
    words += ["--baselines", "0"]
    code, out, err = invoke(lat_search, *words, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["space"] == tag
    assert result["measured_ms"] > 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith(f"quick-cpu-{tag.partition('@')[0]}-")
    assert (folder / "model.onnx").exists()


def test_a_run_does_not_go_on_with_an_edited_space(invoke, written, tmp_path):
    edits = [SMALL, SMALL.replace("kernels = [3]", "kernels = [5]")]
    known = [spaces.load(written(text)) for text in edits]
    ops = [op for space in known for op in space.operators]
    rows = {op: Measurement(made_up_ms(op), 1e-5, 50, made_up_ms(op)) for op in ops}
    LatencyTable(Setting("far", "some phone", runtime="some runtime 1"), rows).save("far.csv")
    words = ["--target", "far.csv", "--budget", "1s", "--steps", "2", "--train-steps", "1"]
    words += ["--baselines", "0", "--out", "run", "--resume"]
    for text, expected in zip(edits, (0, 2), strict=True):
        code, _, err = invoke(lat_search, "--space", written(text), *words)
        assert code == expected, err
    assert re.search(rf"another space \({known[0].tag} .* there, {known[1].tag} .* here\)", err)


def test_a_space_in_python_is_profiled_without_being_asked(invoke, tmp_path):
    path = EXAMPLES / "own_space.py"
    space = spaces.load(str(path))
    rows = {op: Measurement(made_up_ms(op), 1e-5, 50, made_up_ms(op)) for op in space.operators}
    LatencyTable(Setting("far", "some phone", runtime="some runtime 1"), rows).save(
        tmp_path / "far.csv"
    )
    rules = "[measuring]\nmax_samples = 12\n[replay]\ntable = 'far.csv'\n"
    (tmp_path / "there.toml").write_text(f"transport = 'replay'\n{rules}")
    words = ["--target", "there.toml", "--space", path, "--range", "--json"]
    code, out, err = invoke(lat_search, *words)
    assert code == 0, err
    assert f"no measurements of {space.tag} on there.toml yet: profiling it first" in err
    slowest_ms = sum(map(made_up_ms, space.network(space.largest).ops))
    assert json.loads(out)["slowest_ms"] == pytest.approx(slowest_ms, rel=0.02)
