"""What TensorFlow Lite's profiler prints, and the layers that its nodes execute."""

import pytest

from devices.agent.lite_rt import node_times
from devices.export.tflite_profile import named_nodes
from latency.errors import DeviceError
from latency.operators.spec import OpSpec

OPS = (
    OpSpec("conv", 16, 16, 3, 8, 3, 2, activation="relu6"),
    OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "h_swish", 0.25),
    OpSpec("pool", 8, 8, 8, 8, 8),
    OpSpec("linear", 1, 1, 8, 10),
)
EXECUTED = {
    "Convolution (NHWC, F32) IGEMM": "0.conv",
    "Fully Connected (NC, F32) GEMM": "1.expand",
    "HardSwish (NC)": None,
    "Convolution (NHWC, F32) DWConv": "1.depthwise",
    "Average Pooling (NHWC, F32)": "1.squeeze",
    "Convolution (NHWC, F32) GEMM": "1.reduce",
    "Dynamic Fully Connected (NC, F32)": "1.excite",
    "Clamp (NC)": None,
    "Fully Connected (NC, F32)": "1.project",
    "Global Average Pooling (NWC, F32)": "2.pool",
    "Fully Connected (NC)": "output",
}
COLUMNS = ("node type", "first", "avg ms", "%", "cdf%", "mem KB", "times called", "Name")
HEADING = "".join(f"\t[{name}]" for name in COLUMNS)
ORDER, TOP = (f"{'=' * 30} {name} {'=' * 30}" for name in ("Run Order", "Top by Computation Time"))
ROW = "\t{:>20}\t{:9.3f}\t{:9.3f}\t{:7.3f}%\t{:7.3f}%\t{:10.3f}\t{:9}\t{}"


def board_table(title, *rows):
    lines = (ROW.format(kind, 0.1, ms, share, 0, 0, 1, name) for kind, ms, share, name in rows)
    return "\n".join([title, HEADING, *lines, ""])


IGEMM, SUM = "Convolution (NHWC, F32) IGEMM", "Sum (ND) Reduce"
OF_A_BOARD = "\n".join(
    (
        "INFO: Profiling Info for Benchmark Initialization:",
        board_table(ORDER, ("ModifyGraphWithDelegate", 14.842, 99.317, "Modify/0")),
        "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:",
        board_table(
            ORDER,
            (IGEMM, 0.278, 69.5, f"Delegate/{IGEMM}:0"),
            ("CONV_2D", 0.122, 30.488, "[1.expand]:7"),
            (SUM, 0.0, 0.012, f"Delegate/{SUM}:2"),
        ),
        board_table(TOP, ("CONV_2D", 9.122, 99.488, "[9.expand]:7")),
    )
)
"""As a board of Arm's printed it, in 2022, and a node of the runtime's own."""

OLD = """============================== Run Order ==============================
     [node type]   [start]  [first] [avg ms]      [%]   [cdf%]  [mem KB] [times called]  [Name]
         CONV_2D     0.000    4.269    4.000  80.000%  80.000%     0.000        0  [0.conv, b]:0
         SOFTMAX     4.270    1.000    1.000  20.000% 100.000%     0.000        0  [output]:1

"""


def traced(kinds):
    return {f"Delegate/{kind} [Delegate]:{i}": float(i + 1) for i, kind in enumerate(kinds)}


def test_nodes_of_the_delegate_are_told_apart_by_their_order():
    nodes = traced(EXECUTED)
    named = named_nodes(OPS, "float32", nodes)
    expected = [name or node for name, node in zip(EXECUTED.values(), nodes, strict=True)]
    assert list(named) == expected
    assert list(named.values()) == list(nodes.values())


def test_where_convolutions_are_missing_it_is_an_error():
    kinds = [kind for kind in EXECUTED if "DWConv" not in kind]
    with pytest.raises(DeviceError, match=r"reports 6 convolutions .* the model has 7"):
        named_nodes(OPS, "float32", traced(kinds))


def test_the_runtimes_own_nodes_say_what_they_compute():
    nodes = traced(EXECUTED)
    expand = next(node for node in nodes if "GEMM [Delegate]:1" in node)
    own = {("CONV_2D [1.expand]:1" if node == expand else node): ms for node, ms in nodes.items()}
    assert named_nodes(OPS, "float32", own) == named_nodes(OPS, "float32", nodes)


def test_a_boards_profile_is_read_finer_than_it_prints_times():
    found = node_times(OF_A_BOARD)
    names = [f"{IGEMM} Delegate/{IGEMM}:0", "CONV_2D [1.expand]:7", f"{SUM} Delegate/{SUM}:2"]
    assert list(found) == names
    half_a_us = 500
    expected = [278_000 * share / 69.5 + half_a_us for share in (69.5, 30.488, 0.012)]
    assert list(found.values()) == pytest.approx(expected)


def test_an_old_profile_has_another_column():
    found = node_times(OLD)
    assert found == pytest.approx(
        {"CONV_2D [0.conv, b]:0": 4e6 + 500, "SOFTMAX [output]:1": 1e6 + 500}
    )


@pytest.mark.parametrize(
    ("share", "rest"), [("80.000%", "20.000%"), ("100.000%", "0.000%"), ("0.000%", "0.000%")]
)
def test_nodes_that_take_less_than_a_microsecond_take_half_of_one(share, rest):
    """On a fast device all of a small model's nodes do, and whatever has a share of nothing."""
    printed = OLD.replace("4.000  80.000%", f"0.000  {share}")
    found = node_times(printed.replace("1.000  20.000%", f"0.000  {rest}"))
    assert found == {"CONV_2D [0.conv, b]:0": 500, "SOFTMAX [output]:1": 500}


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Segmentation fault",
        OLD.replace("[avg ms]", "[ms]    "),
        OLD.partition("         CONV_2D")[0],
        OLD.replace("CONV_2D     0.000", "CONV_2D     ?????"),
        OLD.replace("80.000%", "8.0.00%"),
    ],
)
def test_anything_else_is_refused(printed):
    with pytest.raises(ValueError, match=r"nodes|float"):
        node_times(printed)
