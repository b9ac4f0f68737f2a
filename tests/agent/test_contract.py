"""What a method of one's own may get wrong is a sentence, where it comes in."""

from collections import UserList
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent.method import Trained
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.state import tensors
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()
SCHEDULE = Schedule(4, 4, 1, 2, 2)


class Number(TD3BC):
    def update(self, *arguments: Any) -> Any:
        return {**super().update(*arguments), "my/x": 1.0}


class Vector(TD3BC):
    def update(self, state: Any, batch: Any, *rest: Any) -> Any:
        return {**super().update(state, batch, *rest), "my/x": batch["reward"]}


class Nothing(TD3BC):
    def update(self, *arguments: Any) -> Any:
        super().update(*arguments)


class Delayed(TD3BC):
    def delayed(self, *arguments: Any) -> Any:
        return {**super().delayed(*arguments), "my/x": torch.ones(1, requires_grad=True).sum()}


class Late(TD3BC):
    def delayed(self, *arguments: Any) -> Any:
        super().delayed(*arguments)


class Few(TD3BC):
    def draw(self, random: Any, shape: Any) -> Any:
        return {**super().draw(random, shape), "mine": torch.zeros(3)}


class Short(TD3BC):
    def delayed_after(self, *arguments: Any) -> Any:
        return super().delayed_after(*arguments)[:1]


class Plain(TD3BC):
    def parts(self, shape: Any) -> Any:
        return {**super().parts(shape), "mine": Trained(torch.nn.Linear(2, 2), 1e-3)}


class Network(TD3BC):
    def parts(self, shape: Any) -> Any:
        return {**super().parts(shape), "mine": torch.nn.Linear(2, 2)}


class Headless(TD3BC):
    def parts(self, shape: Any) -> Any:
        parts = super().parts(shape)
        return {"actor": parts["actor"]}


STATED = [
    (Plain(), "the part mine of model.method Plain is a Linear without weights; it must have"),
    (Network(), "the part mine of model.method Network is a Linear; it must be"),
    (Headless(), "model.method Headless has no part critics"),
    (TD3BC, "model.method is TD3BC; it must be an instance of a subclass of"),
    ("mine.Method", "model.method is 'mine.Method'; it must be an instance"),
]
MADE = [
    (Number(), "the metric my/x of model.method Number is a float; it must be a tensor of one"),
    (Vector(), r"the metric my/x of model.method Vector is of the shape \[8\]; it must be"),
    (Nothing(), r"update\(\) of model.method Nothing returns a NoneType; it must return its"),
    (Delayed(), "the metric my/x of model.method Delayed is with a gradient; it must be"),
    (Late(), r"delayed\(\) of model.method Late returns a NoneType; it must return its"),
    (Short(), r"delayed_after\(\) of model.method Short returns 1 answers for 2 updates; it must"),
    (Few(), r"the draws mine of model.method Few have the shape \[3\]; they must begin with the 2"),
]


@pytest.mark.parametrize(("method", "said"), STATED)
def test_what_it_states_is_looked_at_when_it_is_made(method: Any, said: str) -> None:
    data = ReplayDataModule(TOY, None, Schedule(0, 4))
    with pytest.raises(UserError, match=said):
        OffToOnModule(data.spec, method=method, num_critics=2, hidden_sizes=(4,))


@pytest.mark.parametrize("key", ["target_noise", "target_noise_clip", "normalizer"])
def test_keys_of_the_default_method_are_for_no_other(key: str) -> None:
    spec = ReplayDataModule(TOY, None, Schedule(0, 4)).spec
    values: dict[str, Any] = {"target_noise": 0.3, "target_noise_clip": 0.4, "normalizer": "data"}
    OffToOnModule(spec, hidden_sizes=(4,), **{key: values[key]})
    with pytest.raises(UserError, match=r"for the default method; model\.method is Few, give it"):
        OffToOnModule(spec, hidden_sizes=(4,), method=Few(), **{key: values[key]})
    OffToOnModule(spec, hidden_sizes=(4,), method=Few(), **{key: getattr(TD3BC(), key)})


@pytest.mark.parametrize(("method", "said"), MADE)
def test_what_it_makes_is_looked_at_in_the_first_update(
    method: Any, said: str, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "a", TOY, log, schedule=SCHEDULE, model={"method": method}
    )
    with pytest.raises(UserError, match=said):
        trainer.fit(module, data)


def test_a_module_of_another_environment_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, _, data = tiny_run(tmp_path / "a", TOY, log, schedule=SCHEDULE)
    other = ReplayDataModule("InvertedPendulum-v5", None, Schedule(0, 4)).spec
    module = OffToOnModule(other, num_critics=2, hidden_sizes=(4,))
    with pytest.raises(
        UserError, match="made for 'InvertedPendulum-v5', observations of 4 and actions from"
    ):
        trainer.fit(module, data)


@pytest.mark.parametrize("shape", [(), (2,), (5, 2), (1, 1, 3)])
def test_an_observation_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    data = ReplayDataModule(TOY, None, Schedule(0, 4))
    module = OffToOnModule(data.spec, num_critics=2, hidden_sizes=(4,))
    assert module.act(np.zeros(3)).shape == (len(data.spec.action_low),)
    assert module.act(np.zeros((4, 3))).shape == (4, len(data.spec.action_low))
    with pytest.raises(UserError, match=r"it must be \[3\], or \[B, 3\] for a batch"):
        module.act(np.zeros(shape))


def test_an_environment_is_an_id_and_a_dataset_may_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="env_id is a int; it must be the id of a registered"):
        ReplayDataModule(3)  # type: ignore[arg-type]
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    for dataset in (log, [log], [{"path": log}]):
        data = ReplayDataModule(TOY, dataset, SCHEDULE)  # type: ignore[arg-type]
        assert data.dataset_name == str(log)


class Listed(torch.nn.Linear):
    """Its weights are a sequence that PyTorch's pytrees do not know."""

    @property
    def weights(self) -> UserList:
        return UserList([self.weight, self.bias])


class Own(TD3BC):
    def parts(self, shape: Any) -> Any:
        return {**super().parts(shape), "mine": Trained(Listed(2, 2), 1e-3, target=True)}


def test_weights_may_be_any_sequence() -> None:
    spec = ReplayDataModule(TOY, None, Schedule(0, 4)).spec
    module = OffToOnModule(spec, num_critics=2, hidden_sizes=(4,), method=Own())
    optimizers = module.configure_optimizers()
    module.optimizers = lambda **_: optimizers  # type: ignore[method-assign]
    part = module.part("mine")
    assert len(tensors([part.weights, part.target])) == 4
