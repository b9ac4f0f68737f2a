"""Algorithm 1 as an event tape: what happens, in which order, and not once too often."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from tiny import TOY_LIMIT, register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import alpha as alpha_file
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.run.schedule import Schedule


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every event of interest, in order, written by wrappers around the real functions."""
    events: list[str] = []

    def spy(owner: Any, name: str, event: Any) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            events.append(event(args, result) if callable(event) else event)
            return result

        monkeypatch.setattr(owner, name, wrapper)

    toy = __import__("tiny").Toy
    spy(toy, "step", "step")
    spy(OffToOnModule, "act", lambda args, _: "act" if args[1].ndim == 1 else "evaluate")
    spy(ReplayRing, "add", "add")
    spy(ReplayRing, "sample", lambda args, _: f"sample {args[1]}")
    spy(TD3BC, "update", "critics")
    spy(TD3BC, "delayed", "actor")
    spy(alpha_file, "next_alpha", "alpha")
    return events


def test_order_across_the_hand_over(tape: list[str], tmp_path: Path) -> None:
    schedule = Schedule(
        offline_updates=5,
        online_env_steps=TOY_LIMIT + 2,
        updates_per_env_step=3,
        evaluation_every=1000,
        offline_chunk=2,
    )
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)

    expected = ["step"]  # setup tries a throw-away environment
    update = 0

    def updates(count: int) -> list[str]:
        """Critics at every update, the actor after every second one of the whole run."""
        nonlocal update
        events = [f"sample {count}"]
        for _ in range(count):
            update += 1
            events += ["critics"] + (["actor"] if update % 2 == 0 else [])
        return events

    evaluation = (["evaluate", "step", "step"]) * TOY_LIMIT  # two episodes side by side
    first_return = (["evaluate", "step"]) * TOY_LIMIT  # R_avg's first value: one episode
    for chunk in (2, 2, 1):
        expected += updates(chunk)
    expected += evaluation + first_return
    for step in range(1, schedule.online_env_steps + 1):
        expected += ["act", "step", "add", *updates(3)]
        if step % TOY_LIMIT == 0:
            expected.append("alpha")
    expected += evaluation
    assert tape == expected
    assert module.gradient_updates == 5 + 3 * schedule.online_env_steps
    assert data.env_steps == schedule.online_env_steps


def test_the_policy_that_acts_is_the_newest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    after_update: list[torch.Tensor] = []
    acting: list[torch.Tensor] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            after_update.append(pl_module.actor.weights[0].detach().clone())

    act = OffToOnModule.act

    def watched(self: OffToOnModule, observation: np.ndarray, name: str = "actor") -> np.ndarray:
        if observation.ndim == 1:
            acting.append(self.actor.weights[0].detach().clone())
        return act(self, observation, name)

    monkeypatch.setattr(OffToOnModule, "act", watched)
    schedule = Schedule(4, 6, 2, evaluation_every=100, offline_chunk=2)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=schedule, callbacks=[Watch()]
    )
    trainer.fit(module, data)
    assert len(acting) == 6
    for acted, updated in zip(acting, after_update[1:], strict=False):  # [1] ends pre-training
        assert torch.equal(acted, updated)
    assert not torch.equal(acting[0], acting[1])


def test_hand_over_keeps_what_was_asked_and_rows_are_online_after_it(tmp_path: Path) -> None:
    schedule = Schedule(2, 4, 1, evaluation_every=100)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    rows = data.layout.unpack(data.replay.rows)
    assert len(data.replay) == 60 + 4  # half of 120, then one row per step
    assert rows["online"].tolist() == [0.0] * 60 + [1.0] * 4
    assert rows["terminated"][60:].tolist() == [0.0] * 4


def test_a_time_limit_never_stops_bootstrapping_online(tmp_path: Path) -> None:
    schedule = Schedule(1, 2 * TOY_LIMIT, 1, evaluation_every=100)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    online = data.layout.unpack(data.replay.rows)[60:]
    assert not online["terminated"].any()
    # The state after the limit is stored as it was, not the next episode's first.
    last, first = online[TOY_LIMIT - 1], online[TOY_LIMIT]
    moved = last["observation"] + 0.1 * last["action"].sum()  # the toy's own rule
    assert torch.allclose(last["next_observation"], moved, atol=1e-6)
    assert not torch.allclose(first["observation"], moved, atol=1e-3)
    assert torch.equal(online[0]["next_observation"], online[1]["observation"])


def test_actions_stay_inside_the_range_of_each_dimension(tmp_path: Path) -> None:
    schedule = Schedule(1, 20, 1, evaluation_every=100)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=schedule, data={"exploration_noise": 5.0}
    )
    trainer.fit(module, data)
    actions = data.layout.unpack(data.replay.rows)["action"][60:]
    assert (actions.abs() <= torch.tensor([1.0, 3.0])).all()
    assert (actions[:, 1].abs() == 3.0).any()  # noise of five limits does reach the bounds


def test_without_pretraining_the_untrained_policy_is_the_score_before(tmp_path: Path) -> None:
    schedule = Schedule(0, 3, 1, evaluation_every=100)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), None, schedule=schedule)
    trainer.fit(module, data)
    assert len(data.replay) == 3
    assert module.gradient_updates == 3
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    with open(tmp_path / "run" / "metrics.csv") as file:
        first = next(csv.DictReader(file))
    assert (first["phase"], first["gradient_updates"], first["env_steps"]) == ("offline", "0", "0")
    assert float(first["eval/score"]) == summary["score"]["pretrained"]


def test_collecting_without_updates(tmp_path: Path) -> None:
    schedule = Schedule(2, 4, 0, evaluation_every=100)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    assert (module.gradient_updates, data.env_steps) == (2, 4)
