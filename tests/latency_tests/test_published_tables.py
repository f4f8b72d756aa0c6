"""Published tables, key by key."""

import pytest

from latency import OpSpec
from latency.exchange.keys import key_of, ops_of

BLOCK = "expanded_conv-input:8x8x4-output:8x8x4-expand:8-kernel:3-stride:1-idskip:1-se:0-hs:"


@pytest.mark.parametrize(("flag", "activation"), [("1", "h_swish"), ("0", "relu")])
def test_hs_says_which_activation_a_block_has(flag, activation):
    block = OpSpec("mbconv", 8, 8, 4, 4, 3, 1, 2, activation)
    assert ops_of(BLOCK + flag, "ofa") == (block,)
    assert key_of((block,), "ofa") == BLOCK + flag


def test_the_stride_of_a_convolution_is_read_off_images_that_are_not_square():
    (op,) = ops_of("Conv-input:8x16x3-output:4x8x6", "proxylessnas")
    assert op == OpSpec("conv", 8, 16, 3, 6, 3, 2, activation="relu6")
