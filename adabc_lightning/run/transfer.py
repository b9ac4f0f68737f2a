"""Numbers on their way between the host and a device."""

import torch
from torch import Tensor


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """The same on a device; the host does not wait for what a GPU has still to do.

    Args:
        numbers: on the CPU, any shape ``[*]``.
        device: where they are read, in the order of what it is told.
    Returns: ``[*]``; on the CPU the tensor itself.
    """
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.contiguous().pin_memory().to(device, non_blocking=True)  # it may be expanded
