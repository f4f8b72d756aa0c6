"""Published tables, key by key and line by line."""

import re

import pytest

from latency import LatencyTable, Measurement, OpSpec, Setting, TableError
from latency.exchange.keys import key_of, ops_of
from latency.exchange.tables import export_table, import_table
from latency.exchange.yaml_file import read_plain_yaml

BLOCK = "expanded_conv-input:8x8x4-output:8x8x4-expand:8-kernel:3-stride:1-idskip:1-se:0-hs:"


@pytest.mark.parametrize(("flag", "activation"), [("1", "h_swish"), ("0", "relu")])
def test_hs_says_which_activation_a_block_has(flag, activation):
    block = OpSpec("mbconv", 8, 8, 4, 4, 3, 1, 2, activation)
    assert ops_of(BLOCK + flag, "ofa") == (block,)
    assert key_of((block,), "ofa") == BLOCK + flag


def test_the_stride_of_a_convolution_is_read_off_images_that_are_not_square():
    (op,) = ops_of("Conv-input:8x16x3-output:4x8x6", "proxylessnas")
    assert op == OpSpec("conv", 8, 16, 3, 6, 3, 2, activation="relu6")


def test_an_imported_table_says_what_its_numbers_are(tmp_path):
    path = tmp_path / "pixel.yaml"
    path.write_text("Conv-input:8x8x3-output:4x4x6: {count: 4, mean: 2.0, var: 0.0}\n")
    assert import_table(path, "proxylessnas", "pixel").circumstances == {
        "imported": "pixel.yaml (proxylessnas)",
        "statistic": "mean of single runs",
    }


@pytest.mark.parametrize(
    ("format", "activations"), [("proxylessnas", "relu6"), ("ofa", "relu and h_swish")]
)
def test_what_a_format_has_no_key_for_is_named_with_what_it_knows(tmp_path, format, activations):
    op = OpSpec("conv", 8, 8, 3, 4, activation="gelu")
    table = LatencyTable(Setting("d", "h"), {op: Measurement(1.0, 0.01, 9, 1.0)}, source="t.csv")
    with pytest.raises(TableError) as caught:
        export_table(table, format, tmp_path / "t.yaml")
    assert str(caught.value) == (
        f"t.csv: {format} has no keys for conv-8x8x3-4-k1-s1-gelu (it knows batch 1, "
        f"{activations}); export the rest with `partial`, or in another format"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {b: 1}\n? {c: 1}\n: {b: 2}\n", ":2: a key that is not plain text"),
        ("a: {b: 1}\nc: {b: 2]\n", r":2: broken YAML: [^\"]*expected ',' or '}'[^\"]*"),
        ("a: {b: \x07}\n", ": broken YAML: .*characters are not allowed.*"),
    ],
)
def test_yaml_that_is_broken_is_refused_by_file_line_and_fault(tmp_path, text, said):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(TableError) as caught:
        read_plain_yaml(path)
    assert re.fullmatch(re.escape(str(path)) + said, str(caught.value))
