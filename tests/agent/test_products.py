"""Products in bfloat16: as near to float64 as its 8 bits allow, inside of updates and nowhere else.

A rounding is at most 2**-9 of a number, and in a network of two hidden layers some ten of them lie
on the way to a value: an error's norm is at most 10 · 2**-9 of that of what is right. So large a
share of the units has its activation on the other side of the kink, too, and a gradient lacks them
or has them too much: the norm of its error is at most the root of that share.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import METHODS, SPEC, Standalone, train
from tiny import register_toy, tiny_run, write_log
from torch import Tensor

from adabc_lightning.agent import mlp as relu_networks
from adabc_lightning.agent import products
from adabc_lightning.agent.engines import Compiled, Eager
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import RLPD
from adabc_lightning.agent.mlp import dropped_mlp, mlp
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.networks import CriticEnsemble
from adabc_lightning.agent.norm import Norm
from adabc_lightning.run.schedule import Schedule

BF16 = torch.bfloat16
VALUE = 10 * 2**-9
GRADIENT = VALUE**0.5
LEAST = 2**-12  # what float32 does not explain


def error(found: Tensor, right: Tensor) -> float:
    """Norm of the difference, as a share of what is right."""
    return float((found.double() - right.double()).norm() / right.double().norm())


def evaluated(
    dtype: torch.dtype, norm: Norm | None, dropped: bool, outputs: int = 1
) -> list[Tensor]:
    """Output of a network and the gradients of input and weights, on the same numbers."""
    torch.manual_seed(0)
    network = CriticEnsemble(3, 7, 4, (64, 64), norm=norm)
    weights = [weight.detach() for weight in network.weights]
    weights[-2] = torch.randn(3, outputs, 64) / 8
    weights[-1] = torch.zeros(3, outputs)
    weights = [weight[0] if dropped else weight for weight in weights]
    x, kept = torch.randn(32, 11), torch.randint(0, 2, (32, 128)) * 2.0
    x, kept = x.to(dtype).requires_grad_(), kept.to(dtype)
    leaves = [weight.to(dtype).requires_grad_() for weight in weights]
    out = dropped_mlp(x, tuple(leaves), kept) if dropped else mlp(x, tuple(leaves), norm)
    gradients = torch.autograd.grad(out.square().sum(), [x, *leaves])
    assert all(each.dtype is dtype for each in (out, *gradients))
    return [out.detach(), *gradients]


@pytest.mark.parametrize(
    ("norm", "dropped", "outputs"),
    [
        (None, False, 1),
        (None, False, 3),
        ("before", False, 1),
        ("after", False, 2),
        (None, True, 1),
    ],
)
def test_networks_are_as_near_as_eight_bits_allow(
    norm: Norm | None, dropped: bool, outputs: int
) -> None:
    right = evaluated(torch.float64, norm, dropped, outputs)
    plain = evaluated(torch.float32, norm, dropped, outputs)
    with products.products_in(BF16):
        rounded = evaluated(torch.float32, norm, dropped, outputs)
    again = evaluated(torch.float32, norm, dropped, outputs)
    assert all(map(torch.equal, plain, again))  # outside they are what they were
    errors = [error(a, b) for a, b in zip(rounded, right, strict=True)]
    assert LEAST < errors[0] < VALUE
    assert max(errors[1:]) < GRADIENT
    assert max(error(a, b) for a, b in zip(plain, right, strict=True)) < 1e-5


@pytest.mark.parametrize(("outputs", "dtype"), [(1, BF16), (2, BF16), (1, torch.float32)])
def test_the_sums_that_the_compiler_gets_are_the_product(outputs: int, dtype: torch.dtype) -> None:
    """Of an odd number of rows, with one output and rounded inputs alone."""
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(3, 33, outputs, generator=generator)
    inputs = torch.randn(3, 33, 7, generator=generator).to(dtype)
    traced: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        traced.append(graph.code)
        return graph

    compiled = torch.compile(relu_networks._weight_gradient, backend=backend, fullgraph=True)
    expected = torch.matmul(grad.mT, inputs.float())
    torch.testing.assert_close(compiled(grad, inputs), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(relu_networks._weight_gradient(grad, inputs), expected)
    assert ["tensor_split" in code for code in traced] == [outputs == 1 and dtype is BF16]


@pytest.mark.parametrize("method", METHODS)
def test_the_gradients_of_every_method_are(method: Method | None) -> None:
    """Adam's first moments after one update, a tenth of its gradients."""

    def moments(precision: str) -> dict[str, Tensor]:
        agent = Standalone(Eager(), method, precision=precision)
        agent.gradient_updates = agent.method.preparation
        agent.policy_delay = 1
        train(agent, 1, 1)
        adams = {name: part.adam for name, part in agent.agent_state().items()}
        return {
            name: torch.cat([each.flatten() for each in adam.first_moments])
            for name, adam in adams.items()
            if adam is not None
        }

    right, rounded = moments("float32"), moments("bf16")
    for name, expected in right.items():
        if expected.any():
            assert error(rounded[name], expected) < GRADIENT, name
    assert error(rounded["critics"], right["critics"]) > LEAST


@pytest.mark.parametrize("method", [None, RLPD()])
def test_compiled_updates_are_believed_and_are_those_of_their_precision(
    method: Method | None,
) -> None:
    """In one process with float32's, whose compiled code is another."""

    def trained(engine: Eager, precision: str) -> list[Tensor]:
        agent = Standalone(engine, method, precision=precision).float()
        agent.gradient_updates = agent.method.preparation
        return train(agent, 2, 2, torch.float32)

    engines = Compiled(), Compiled()
    full, rounded = trained(engines[0], "float32"), trained(engines[1], "bf16")
    assert [engine.name for engine in engines] == ["compiled", "compiled"]
    plain, plain_rounded = trained(Eager(), "float32"), trained(Eager(), "bf16")

    def distance(a: list[Tensor], b: list[Tensor]) -> float:
        return float(
            torch.stack([(x - y).double().norm() for x, y in zip(a, b, strict=True)]).norm()
        )

    assert distance(full, plain) < 0.01 * distance(rounded, plain)
    assert distance(rounded, plain_rounded) < distance(rounded, plain)


def test_acting_is_not_rounded() -> None:
    agents = [OffToOnModule(SPEC, precision=precision) for precision in ("float32", "bf16")]
    observations = np.random.default_rng(0).standard_normal((6, 5))
    for observation in (observations, observations[0]):
        np.testing.assert_array_equal(*(agent.act(observation) for agent in agents))


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_machine_that_is_slower_in_it_says_so(
    ratio: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(products, "gain", lambda dtype, device: ratio)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule, model = Schedule(2, 0, 1, evaluation_every=5), {"precision": "bf16"}
    trainer, module, data = tiny_run(tmp_path, register_toy(), log, schedule=schedule, model=model)
    trainer.fit(module, data)
    said = "model.precision is bf16, but this machine multiplies in it at 0.5 × float32's speed"
    assert any(said in str(warning.message) for warning in recwarn) == (ratio < 1)


def test_the_gain_is_measured_once() -> None:
    cpu = torch.device("cpu")
    assert products.gain(BF16, cpu) == products.gain(BF16, cpu) > 0
