"""What a training step keeps in memory: the tensors that autograd saves for the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def saved_bytes(forward: Callable[[], Tensor], module: nn.Module) -> int:
    """Bytes of activations that `forward` saves for its backward pass.

    Each storage counts once; the module's own parameters and buffers, which are there anyway, do
    not count.
    """
    own = {value.untyped_storage().data_ptr() for value in module.state_dict().values()}
    own |= {value.untyped_storage().data_ptr() for value in module.buffers()}
    saved: dict[int, int] = {}
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no other tensor takes its place meanwhile
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(saved.values())
