"""Networks that commands take: on inputs of which sizes, and in which precision."""

import json
import os

import numpy as np
import onnx
import pytest

from devices.card import load_card
from devices.export.graph_writer import GraphWriter
from latency import UsageError, zoo
from latency.graphs.fusion import USUAL
from search import spaces
from search.commands.predict_command import main as lat_predict
from search.jobs.networks import read_network, read_network_on
from search.presets import load_settings

pytestmark = pytest.mark.identity


def on(name, input_shape, batch=1):
    return read_network_on(str(name), batch, USUAL, input_shape, "float32")


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "proxyless_cifar"])
def test_a_published_network_takes_images_of_the_input_shape(name):
    assert on(f"zoo:{name}", "2x3x64x64", batch=2) == zoo.load(name, 64, 2)
    assert on(f"zoo:{name}", None) == zoo.load(name)


@pytest.mark.parametrize("shape", ["1x3x96x128", "1x1x96x96", "2x3x96x96", "96x96", "1x96x96x3"])
def test_a_published_network_takes_no_other_images(shape):
    with pytest.raises(UsageError, match=f"{shape}: zoo:mobilenet_v2 takes square RGB images"):
        on("zoo:mobilenet_v2", shape)


def test_the_input_shape_of_a_network_file_is_its_own(tmp_path):
    path = tmp_path / "network.json"
    path.write_text(zoo.load("mobilenet_v2", 96).to_json())
    assert on(path, "1x3x96x96") == on(path, None)
    with pytest.raises(UsageError, match="is fixed, 1x3x96x96"):
        on(path, "1x3x128x128")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_that_begin_with_a_byte_order_mark_are_read(tmp_path, mark):
    def written(name, text):
        (tmp_path / name).write_text(mark + text.replace("\n", "\r\n"), newline="")
        return str(tmp_path / name)

    network = zoo.load("mobilenet_v2", 96)
    assert on(written("n.json", network.to_json()), None) == network
    assert load_card(written("card.toml", "threads = 2\n")).threads == 2
    assert load_settings(written("s.toml", "search_steps = 7\n"), 100).search_steps == 7
    build = "from search.spaces.cifar_tree import build\n"
    assert spaces.load(written("space.py", build)).resolution == 32


@pytest.mark.parametrize(
    ("read", "name"), [(load_card, "c.toml"), (spaces.load, "s.toml"), (spaces.load, "s.py")]
)
def test_a_file_that_people_write_is_a_regular_one_of_a_stated_size(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name}: not a regular file"):
        read(str(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).write_text("#" * 1_000_001)
    with pytest.raises(UsageError, match=f"{name}: larger than 1 MB"):
        read(str(tmp_path / name))


@pytest.mark.parametrize(
    "shape", [f"{10**22}x3x96x96", "\uff11x3x96x96", "1" * 5000, "0x3x96x96", "1x-3", "1xx3"]
)
def test_sizes_that_no_input_has_are_refused_in_words(shape):
    with pytest.raises(UsageError, match="must be sizes such as 1x3x224x224"):
        on("model.onnx", shape)


def test_a_prediction_is_on_the_input_shape(invoke, mini_csv):
    words = ["zoo:mobilenet_v2", "--target", mini_csv, "--extrapolate", "--json"]
    code, out, err = invoke(lat_predict, *words, "--input-shape", "1x3x96x96")
    assert code == 0, err
    assert json.loads(out)["ops"][0]["key"] == "conv-96x96x3-32-k3-s2-relu6"


@pytest.fixture
def file_of(tmp_path):
    """A convolution with weights of a precision, as an ONNX file."""

    def write(kind):
        writer = GraphWriter(np.dtype(kind).type)
        y = writer.node("Conv", ["x", writer.constant(np.zeros((16, 16, 3, 3)))])
        model = writer.proto("small", {"x": (1, 16, 14, 14)}, {y: None})
        path = tmp_path / f"{kind}.onnx"
        onnx.save(model, path)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("weights", "table", "told"),
    [
        ("float32", "float32", ()),
        ("float32", "tf32", ()),
        ("float16", "float16", ()),
        ("float16", None, ()),
        (*("float16", "float32"), ("weights of float16 are taken as float32",)),
        (*("float32", "int8"), ("weights of float32 are taken as int8",)),
    ],
)
def test_weights_of_another_precision_than_the_table_are_told(file_of, weights, table, told):
    graph = read_network(file_of(weights), 1, USUAL, precision=table)
    assert graph.warnings == tuple(f"{each}, the precision of the table" for each in told)
    assert [op.key for op in graph.ops] == ["conv-12x12x16-16-k3-s1"]


def test_a_prediction_tells_of_weights_of_another_precision(invoke, file_of, mini_csv):
    words = [file_of("float16"), "--target", mini_csv, "--extrapolate", "--json"]
    code, out, err = invoke(lat_predict, *words)
    assert code == 0, err
    assert "float16 are taken as float32" in json.loads(out)["warnings"][0]
