"""Critics whose hidden layers are normalised, against PyTorch's own layers one by one."""

from pathlib import Path

import pytest
import torch
from test_resume import assert_equal
from tiny import tiny_run, write_log
from torch import Tensor, nn

from adabc_lightning.agent.methods import AWAC, TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.networks import CriticEnsemble, q_values
from adabc_lightning.agent.norm import EPSILON, Norm
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

N, B, O, A = 3, 6, 4, 2  # noqa: E741
NORMS: list[Norm] = ["before", "after"]


def ensemble(norm: Norm, hidden: tuple[int, ...]) -> CriticEnsemble:
    """Critics with scales and shifts that are not 1 and 0, each member's its own."""
    torch.manual_seed(0)
    critics = CriticEnsemble(N, O, A, hidden, norm=norm).double()
    with torch.no_grad():
        for weight in critics.weights:
            weight += 0.3 * torch.randn_like(weight)
    return critics


def plain_values(weights: tuple[Tensor, ...], norm: Norm, member: int, x: Tensor) -> Tensor:
    """One member's values, layer by layer."""
    mine = [weight[member] for weight in weights]
    while len(mine) > 2:
        weight, bias, scale, shift, *mine = mine
        x = nn.functional.linear(x, weight, bias)
        if norm == "after":
            x = x.relu()
        x = nn.functional.layer_norm(x, scale.shape, scale, shift, EPSILON)
        if norm == "before":
            x = x.relu()
    return nn.functional.linear(x, *mine).squeeze(-1)


@pytest.mark.parametrize("hidden", [(7,), (7, 5), (5, 6, 7)])
@pytest.mark.parametrize("norm", NORMS)
def test_values_and_gradients_are_those_of_the_layers(norm: Norm, hidden: tuple[int, ...]) -> None:
    critics = ensemble(norm, hidden)
    weights = critics.weights
    assert len(weights) == 4 * len(hidden) + 2
    observation, action = torch.randn(B, O).double(), torch.randn(B, A).double()
    observation.requires_grad_()
    action.requires_grad_()
    sources = (*weights, observation, action)
    ours = critics(observation, action)
    pair = torch.cat([observation, action], 1)
    theirs = torch.stack([plain_values(weights, norm, member, pair) for member in range(N)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weighting = torch.randn(N, B).double()
    our_grads = torch.autograd.grad((ours * weighting).sum(), sources)
    their_grads = torch.autograd.grad((theirs * weighting).sum(), sources)
    for mine, wanted in zip(our_grads, their_grads, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("norm", NORMS)
def test_replicas_stay_apart_and_frozen_weights_get_no_gradient(norm: Norm) -> None:
    alone = [ensemble(norm, (7, 5)).weights, tuple(w * 0.5 for w in ensemble(norm, (7, 5)).weights)]
    together = tuple(torch.stack(same).detach() for same in zip(*alone, strict=True))
    observation, action = torch.randn(2, B, O).double(), torch.randn(2, B, A).double()
    action.requires_grad_()
    q_RNB = q_values(observation, action, together, norm)
    for replica, weights in enumerate(alone):
        q_NB = q_values(observation[replica], action[replica], weights, norm)
        torch.testing.assert_close(q_RNB[replica], q_NB, rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(q_RNB.sum(), action)
    assert grad.abs().min() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_a_member_s_scale_and_shift_are_its_own(norm: Norm) -> None:
    critics = ensemble(norm, (7, 5))
    observation, action = torch.randn(B, O).double(), torch.randn(B, A).double()
    before = critics(observation, action)
    with torch.no_grad():
        critics.weights[2][1] *= 3  # scale of member 1
        critics.weights[7][1] += 1  # and its second shift
    after = critics(observation, action)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.isclose(before[1], after[1]).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", [TD3BC(), AWAC()])
def test_a_run_with_normalised_critics_goes_on_bit_exactly(
    norm: Norm, method: TD3BC | AWAC, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    kept = {}
    for name, steps in (("whole", (8,)), ("parts", (4, 8))):
        for last in steps:
            trainer, module, data = tiny_run(
                tmp_path / name,
                "InvertedPendulum-v5",
                log,
                schedule=Schedule(3, last, 2, evaluation_every=4),
                model={"critic_norm": norm, "method": method},
            )
            resumes = tmp_path / name / "checkpoints" / "last.ckpt" if last != steps[0] else None
            trainer.fit(module, data, ckpt_path=resumes, weights_only=True)
        kept[name] = module.state_dict()
        assert f"critics.params.{1 if norm == 'before' else 2}.weight" in kept[name]
    assert_equal(kept["whole"], kept["parts"])


def test_another_place_is_refused() -> None:
    spec = EnvironmentSpec("Test-v0", O, (-1.0,), (1.0,), None)
    with pytest.raises(UserError, match="critic_norm is behind; it must be before, after or"):
        OffToOnModule(spec, critic_norm="behind")  # type: ignore[arg-type]
