"""Tables of ProxylessNAS and Once-for-all, in and out, and files that are no such tables."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from latency import LatencyTable, Measurement, OpSpec, SpecError, TableError, UsageError
from latency.exchange.keys import key_of, ops_of
from latency.exchange.tables import export_table, import_table
from latency.files import MOST_BYTES
from latency.tables.library import shipped_folder
from latency.units import LEAST_MS
from search import spaces

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FILES = {
    "pixel1/mobile_trim.yaml": "proxylessnas",
    "note10/160_lookup_table.yaml": "ofa",
    "note10/192_lookup_table.yaml": "ofa",
    "note10/224_lookup_table.yaml": "ofa",
}
published = pytest.mark.skipif(
    not DATA.exists(), reason="the published tables are not beside the checkout"
)

BLOCK = "expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:5-stride:1-idskip:1"
OFA_BLOCK = (
    "expanded_conv-input:56x56x24-output:28x28x40-expand:72-kernel:7-stride:2-idskip:0-se:1-hs:0"
)
VALUE = "\n  count: 100\n  mean: 2.5\n  var: 0.04\n"


@pytest.fixture
def from_text(tmp_path):
    """Import a text as a table of ProxylessNAS."""

    def read(text: str, format: str = "proxylessnas") -> LatencyTable:
        path = tmp_path / "table.yaml"
        path.write_text(text)
        return import_table(path, format, "phone")

    return read


@published
@pytest.mark.parametrize(("file", "format"), FILES.items())
def test_a_published_table_comes_back_as_it_was(file, format, tmp_path):
    table = import_table(DATA / file, format, "phone", hardware="Some Phone")
    table.save(tmp_path / "ours.csv")
    ours = LatencyTable.load(tmp_path / "ours.csv")
    assert ours.setting.hardware == "Some Phone"
    assert ours.setting.runtime == "TF-Lite (as published)"
    assert ours.setting.transport == "import"
    assert export_table(ours, format, tmp_path / "theirs.yaml") == ()
    before = yaml.safe_load((DATA / file).read_text())
    after = yaml.safe_load((tmp_path / "theirs.yaml").read_text())
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key]["mean"] == pytest.approx(value["mean"], abs=1e-6)
        assert after[key]["count"] == value["count"]
        assert after[key].keys() == value.keys()
    assert set(import_table(tmp_path / "theirs.yaml", format, "phone")) == set(table)


@published
def test_the_published_pixel_1_covers_the_proxyless_space():
    table = import_table(DATA / "pixel1/mobile_trim.yaml", "proxylessnas", "pixel1")
    space = spaces.load("proxyless")
    assert table.missing(space.operators) == ()
    logits = [op for op in space.fixed if op.kind in ("pool", "linear")]
    assert sum(table[op].median_ms for op in logits) == pytest.approx(0.3096415478615071)
    assert all("divided" in table[op].note for op in logits)


@pytest.mark.parametrize("path", sorted(shipped_folder().glob("*.csv")), ids=lambda p: p.stem[-30:])
def test_our_tables_come_back_with_the_same_operators(path, tmp_path):
    table = LatencyTable.load(path)
    kernels = {op for op, row in table.rows.items() if row.is_of_suite}
    table = replace(table, rows={op: table[op] for op in table if op not in kernels})
    assert export_table(table, "proxylessnas", tmp_path / "out.yaml") == ()
    back = import_table(tmp_path / "out.yaml", "proxylessnas", "cpu")
    assert set(back) == set(table)
    blocks = [op for op in table if op.kind == "mbconv"]
    for op in blocks:
        assert back[op].median_ms == pytest.approx(table.predict_op(op).ms)
        assert back[op].relative_ci95 == pytest.approx(table[op].relative_ci95, abs=1e-9)


def test_their_search_code_finds_our_blocks(toy_table, tmp_path):
    export_table(toy_table, "proxylessnas", tmp_path / "out.yaml")
    lut = yaml.safe_load((tmp_path / "out.yaml").read_text())
    op = OpSpec("mbconv", 16, 16, 8, 8, 3, 1, 3, "relu6")
    if op not in toy_table:
        op = next(op for op in toy_table if op.kind == "mbconv" and op.expansion == 3)
    key = key_of((op,), "proxylessnas")
    assert lut[key]["mean"] == pytest.approx(toy_table[op].median_ms)
    linear = next(op for op in toy_table if op.kind == "linear")
    pool = next(op for op in toy_table if op.kind == "pool")
    logits = f"Logits-input:{pool.height}x{pool.width}x{pool.in_channels}-output:10"
    together = toy_table[linear].median_ms + toy_table[pool].median_ms
    assert lut[logits]["mean"] == pytest.approx(together)


def test_the_interval_is_that_of_a_mean(from_text):
    row = from_text(f"{BLOCK}:{VALUE}")[OpSpec("mbconv", 14, 14, 80, 80, 5, 1, 3, "relu6")]
    assert row.median_ms == 2.5
    assert row.runs == 100
    assert row.ci95_ms == pytest.approx(1.96 * math.sqrt(0.04) / math.sqrt(100), rel=1e-3)


def test_once_for_alls_blocks_count_channels_and_squeeze_to_multiples_of_8():
    (op,) = ops_of(OFA_BLOCK, "ofa")
    assert op == OpSpec("mbconv", 56, 56, 24, 40, 7, 2, 3, "relu", 24 / 72)
    reduce = next(layer for layer in op.layers if layer.name == "reduce")
    assert reduce.out_shape == (1, 1, 24)
    assert key_of((op,), "ofa") == OFA_BLOCK


@pytest.mark.parametrize(
    ("format", "op"),
    [
        ("proxylessnas", OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 6, "h_swish")),
        ("proxylessnas", OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 6, "relu6", 0.25)),
        ("proxylessnas", OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 6, "relu6", batch=8)),
        ("proxylessnas", OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 2.5, "relu6")),
        ("proxylessnas", OpSpec("pool", 8, 8, 16, 16, 8)),
        ("ofa", OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 6, "relu6")),
        ("ofa", OpSpec("mbconv", 8, 8, 24, 16, 3, 1, 3, "relu", 0.25)),
        ("ofa", OpSpec("pool", 8, 8, 16, 16, 2, 2)),
        ("ofa", OpSpec("conv", 8, 8, 16, 16, 5, 1, 1, "h_swish")),
    ],
    ids=str,
)
def test_what_a_format_cannot_tell_is_named_and_never_written(toy_table, tmp_path, format, op):
    with pytest.raises(SpecError):
        key_of((op,), format)
    known = ops_of(BLOCK if format == "proxylessnas" else OFA_BLOCK, format)[0]
    rows = {known: Measurement(1, 0.1, 9, 1), op: Measurement(2, 0.1, 9, 1)}
    table = replace(toy_table, rows=rows)
    with pytest.raises(TableError, match=f"no keys for {op.key}.*`partial`"):
        export_table(table, format, tmp_path / "out.yaml")
    assert not (tmp_path / "out.yaml").exists()
    assert export_table(table, format, tmp_path / "out.yaml", partial=True) == (op,)
    assert set(import_table(tmp_path / "out.yaml", format, "phone")) == {known}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("depthwise-input:8x8x8-output:8x8x8", "its keys are expanded_conv, Conv"),
        ("Conv_2-input:1x1x8-output:1x1x8", "its keys are"),
        (BLOCK.replace("-idskip:1", ""), "its keys are"),
        (BLOCK.replace("idskip:1", "idskip:0"), f"contradict each other; .* '{BLOCK}'"),
        (BLOCK.replace("idskip:1", "idskip:7"), "its keys are"),
        (BLOCK.replace("output:14x14", "output:7x7"), f"contradict each other; .* '{BLOCK}'"),
        (BLOCK.replace("kernel:5", "kernel:4"), "kernel of a padded convolution is odd"),
        (BLOCK.replace("kernel:5", "kernel:five"), "its keys are"),
        (BLOCK.replace("input:14x14x80", "input:14x14"), "with shapes such as 14x14x80"),
        (BLOCK.replace("expand:3", "expand:0"), "its keys are"),
        (BLOCK.replace("expand:3", "expand:03"), "its keys are"),
        (BLOCK.replace("kernel:5", "kernel:\uff15"), "its keys are"),
        (BLOCK.replace("input:14x14", "input:1\uff14x14"), "its keys are"),
        ("Logits-input:7x8x1280-output:1000", "a square map"),
    ],
)
def test_a_key_that_no_operator_expresses_is_named(from_text, key, said):
    with pytest.raises(TableError, match=said) as caught:
        from_text(f"{BLOCK}:{VALUE}{key}:{VALUE}")
    assert f"'{key}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{BLOCK}: !!python/object/apply:os.system ['true']", "should be a valid dictionary"),
        ("a: &a {count: 1}\nb: &b {x: *a}\n", "a: mean: Field required"),
        ("a: &a {b: *a}", ":1: broken YAML: found unconstructable recursive node"),
        (f"{BLOCK}:\n  count: [1, 2]", "count: Input should be a valid integer"),
        ("a: {b: " + "{" * 5000, "nested too deep"),
        ("{" * 1_000_000, "nested too deep"),
        ("[" * 1_000_000, "nested too deep"),
        ("{[a, b]: {count: 1}}", ":1: broken YAML: found unhashable key"),
        (f"{BLOCK}:{VALUE}---\n{BLOCK}:{VALUE}", ":5: .*another document"),
        (f"{BLOCK}:{VALUE}{BLOCK}:{VALUE}", ":5: .* appears twice"),
        (f"{BLOCK}:\n  count: 1\n  count: 2", ":3: .*'count' appears twice"),
        (f"{BLOCK}: 3.5", "should be a valid dictionary"),
        (f"{BLOCK}:{VALUE.replace('100', 'many')}", "count: Input should be a valid integer"),
        (f"{BLOCK}:{VALUE.replace('2.5', 'nan')}", "mean: Input should be a finite number"),
        (f"{BLOCK}:{VALUE.replace('2.5', '.nan')}", "mean: Input should be a valid number"),
        (f"{BLOCK}:\n  count: 5\n  mean: 1.0", "expected either var or std"),
        (f"{BLOCK}:{VALUE}  std: 1", "expected either var or std"),
        (f"{BLOCK}:{VALUE.replace('100', '5.5')}", "count: Input should be a valid integer"),
        (f"{BLOCK}: {{", ":1: broken YAML: "),
        ("a: {b: 1}\nc: {b: 2]\n", r":2: broken YAML: expected ',' or '}'"),
        ("a: {b: \x07}\n", ": broken YAML: .*characters are not allowed"),
        ("just words", "should be a valid dictionary"),
        ("", "should be a valid dictionary"),
        ("{}", "has no rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_line(from_text, text, said):
    with pytest.raises(TableError, match=said) as caught:
        from_text(text)
    assert "table.yaml" in str(caught.value)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(TableError, match="larger than 1 MB"):
        import_table(path, "ofa", "phone")


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for said in (r"binary\.yaml:1: not text in UTF-8", r"nonesuch\.yaml: No such file"):
        with pytest.raises(TableError, match=said):
            import_table(tmp_path / said.partition(":")[0].replace("\\", ""), "ofa", "phone")


def test_logits_that_share_a_linear_layer_keep_their_sums(from_text, tmp_path):
    text = "".join(
        f"Logits-input:{size}x{size}x1280-output:1000:\n  count: 9\n  mean: {ms}\n  var: 0.01\n"
        for size, ms in ((7, 0.5), (5, 0.4))
    )
    table = from_text(text)
    linear = OpSpec("linear", 1, 1, 1280, 1000)
    for size, ms in ((7, 0.5), (5, 0.4)):
        pool = OpSpec("pool", size, size, 1280, 1280, size)
        assert table[pool].median_ms + table[linear].median_ms == pytest.approx(ms)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("2.5", mean) for mean in ("0", "-2", "9.9e-07", "1.1e+09", "1e+300")),
        *(("100", count) for count in ("0", "1" + "0" * 16)),
        *(("0.04", var) for var in ("1e+300", "-0.04")),
    ],
)
def test_what_no_measurement_is_is_refused_with_its_key(from_text, old, new):
    with pytest.raises(TableError, match=rf"table\.yaml: {BLOCK}: .* should be (less|greater)"):
        from_text(f"{BLOCK}:{VALUE.replace(old, new)}")


def test_the_least_latency_that_is_imported_reads_back(from_text, tmp_path):
    table = from_text(f"{BLOCK}:{VALUE.replace('2.5', str(LEAST_MS)).replace('0.04', '0')}")
    table.save(tmp_path / "t.csv")
    assert set(LatencyTable.load(tmp_path / "t.csv")) == set(table)


def test_an_unknown_format_suggests_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'ofa'"):
        import_table(tmp_path / "x.yaml", "of", "phone")
