"""What goes to a GPU goes from memory of which each number is there once."""

import pytest
import torch
from torch import Tensor

from adabc_lightning.run.transfer import sent


def test_on_the_cpu_it_is_the_tensor_itself() -> None:
    numbers = torch.arange(3.0)
    assert sent(numbers, torch.device("cpu")) is numbers


def test_expanded_numbers_are_written_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """All N critics drawn is one row, expanded, which memory of the host cannot be pinned for."""

    def pinned(numbers: Tensor) -> Tensor:
        assert numbers.is_contiguous()
        return numbers

    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    monkeypatch.setattr(Tensor, "to", lambda numbers, device, non_blocking: numbers)
    rows = torch.arange(4).expand(3, -1)
    assert torch.equal(sent(rows, torch.device("cuda")), rows)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_has_the_same_numbers() -> None:
    for numbers in (torch.arange(4).expand(3, -1), torch.randn(5, 6)[:, 1:3], torch.tensor(2.0)):
        assert torch.equal(sent(numbers, torch.device("cuda")).cpu(), numbers)
