"""Returns of episodes, scaled rewards, symmetric batches and frozen steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from lightning import Callback
from tiny import TOY_LIMIT, register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import IQL, RLPD, SAC, WSRL, CalQL
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.returns import Unfinished, episode_ends, returns_to_go, with_returns
from adabc_lightning.data.symmetric import check_share
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule


def test_literals() -> None:
    # Two episodes: 1 + 0.5 (2 + 0.5 · 4) and 3; the second is one step.
    returns = returns_to_go(np.array([1.0, 2.0, 4.0, 3.0]), np.array([0, 0, 1, 1]), 0.5)
    assert returns.tolist() == [3.0, 4.0, 4.0, 3.0]


def test_an_episode_of_failures_alone_fails_for_ever() -> None:
    rewards, ends = np.array([-1.0, -1.0, -1.0, 0.0]), np.array([0, 1, 0, 1])
    returns = returns_to_go(rewards, ends, 0.9, failure=-1.0)
    assert returns == pytest.approx([-10, -10, -1, 0])
    assert returns_to_go(rewards, ends, 0.9) == pytest.approx([-1.9, -1, -1, 0])


def write(path: Path, **columns: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = np.asarray(values, np.float32)
    return str(path)


@pytest.mark.parametrize("how", ["terminal", "timeout", "gap", "nothing"])
def test_an_episode_ends_by_terminal_timeout_or_gap(how: str, tmp_path: Path) -> None:
    state = np.arange(5.0)[:, None]
    flags = np.array([0, 0, 1, 0, 0])
    observations = state + (10 * (np.arange(5) > 2)[:, None] if how == "gap" else 0)
    dataset = load_dataset(
        write(
            tmp_path / "log.hdf5",
            observations=observations,
            next_observations=np.where(np.arange(5)[:, None] == 2, 3, observations + 1),
            actions=np.zeros((5, 1)),
            rewards=np.ones(5),
            terminals=flags * (how == "terminal"),
            timeouts=flags * (how == "timeout"),
        )
    )
    expected = [False, False, how != "nothing", False, True]
    assert episode_ends(dataset).tolist() == expected


def test_what_a_log_rounds_tears_no_episode(tmp_path: Path) -> None:
    position = np.random.default_rng(0).normal(size=(101, 2)).cumsum(0)
    columns = {"actions": np.zeros((100, 1)), "rewards": np.ones(100), "terminals": np.zeros(100)}
    path = write(
        tmp_path / "log.hdf5",
        observations=position[:-1].round(3), next_observations=position[1:], **columns,
    )  # fmt: skip
    dataset = load_dataset(path)
    unfinished = Unfinished(replace(dataset.layout, extras=("mc_return",)), 0.5, None)
    assert episode_ends(dataset).sum() == 1
    longer = with_returns(dataset, episode_ends(dataset), unfinished, "a method")
    assert longer.rows[0, -1] == pytest.approx(2)
    assert longer.fingerprint() == dataset.fingerprint()  # of the same data, for another method
    order = np.random.default_rng(0).permutation(100)
    shuffled = replace(dataset, rows=dataset.rows[order])
    with pytest.raises(UserError, match=r"a method needs what an episode earned .* in the order"):
        with_returns(shuffled, episode_ends(shuffled), unfinished, "a method")


@pytest.mark.parametrize(
    ("method", "rewards", "options", "said"),
    [
        (
            IQL(),
            [0, 1],
            {"reward_scale": "return_range"},
            "multiplies rewards by 1000: its epis",
        ),
        (IQL(), [0, 1], {"reward_scale": 1.0, "reward_shift": -1.0}, None),
        (IQL(), [0, 1, 2], {"reward_scale": "return_range"}, None),
        (CalQL(samples=2), [0, 1], {"reward_shift": -1.5}, "model.method CalQL bounds values from"),
        (CalQL(samples=2), [0, 1], {"reward_shift": -1.0, "failure_reward": 0.0}, None),
        (CalQL(samples=2), [0, 1], {}, None),
    ],
)
def test_what_rewards_do_not_suit_is_said_where_a_run_begins(
    method: Any,
    rewards: list[int],
    options: dict[str, Any],
    said: str | None,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_log(tmp_path / "log.hdf5", 3, 2, linked=True)
    with h5py.File(path, "a") as file:
        file["rewards"][:] = 0
        file["rewards"][19::20] = np.resize(rewards, 6)
    for more in ({}, {"ckpt_path": tmp_path / "run" / "checkpoints" / "last.ckpt"}):
        trainer, module, data = tiny_run(
            tmp_path / "run",
            register_toy(),
            path,
            schedule=Schedule(2, 0, 1, evaluation_every=2),
            model={"method": method, "policy_delay": 1},
            data={"replay_capacity": None, **options},
            downsampling={"keep": 1.0},
        )
        trainer.fit(module, data, **more)
        lines = capfd.readouterr().err.splitlines()
        found = [each for each in lines if "multiplies" in each or "bounds values" in each]
        assert [str(said) in each for each in found] == [True] * (said is not None and not more)


class Watch(Callback):
    """Keeps every batch, and the weights at it."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append((trainer.datamodule.env_steps, batch.clone()))
        self.weights.append({n: t.clone() for n, t in pl_module.named_parameters()})


def small(method: Any, **more: Any) -> dict[str, Any]:
    return {"policy_delay": 1, "method": method, **more}


def test_every_minibatch_has_as_many_rows_of_each_kind_and_the_actor_moves_once_a_step(
    tmp_path: Path,
) -> None:
    watch = Watch()
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        write_log(tmp_path / "log.hdf5", 3, 2),
        schedule=Schedule(0, 12, 3, frozen_env_steps=2),
        callbacks=[watch],
        model=small(RLPD(), critic_norm="before"),
        data={"offline_fraction": 0.25, "replay_capacity": None, "frozen_actions": "uniform"},
        downsampling={"keep": 1.0},
    )
    trainer.fit(module, data)
    learnt = [batch for _, batch in watch.batches if batch.batch_size[0]]
    assert len(learnt) == 10
    for batch in learnt:
        assert (batch["online"].sum(1) == 6).all()  # of 8
    assert len(data.replay) == 12
    assert data.replay.rows[:, data.layout.columns["online"]].all()
    steps = {name: int(module.part(name).adam.steps[0]) for name in module.trained_parts}
    assert steps == {"actor": 10, "critics": 30, "temperature": 10}


def test_the_first_steps_are_uniform_then_the_policy_samples(tmp_path: Path) -> None:
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        None,
        schedule=Schedule(0, 600, 0, frozen_env_steps=300, evaluation_every=1000),
        model=small(SAC()),
        data={"replay_capacity": None, "frozen_actions": "uniform"},
        downsampling={"keep": 1.0},
    )
    with torch.no_grad():
        module.actor.log_std_head.weight.zero_()
        module.actor.log_std_head.bias.fill_(-3)
        for weight in module.actor.net.parameters():
            weight.zero_()
    trainer.fit(module, data)
    actions = data.layout.unpack(data.replay.rows)["action"] / torch.tensor([1, 3])
    uniform = actions[:300].flatten().sort().values
    assert (uniform - torch.linspace(-1, 1, 600)).abs().max() < 0.1  # Kolmogorov and Smirnov's
    assert actions[300:].std().item() == pytest.approx(np.exp(-3), rel=0.1)


def test_frozen_steps_change_no_weight_and_the_ring_begins_empty(tmp_path: Path) -> None:
    watch = Watch()
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        write_log(tmp_path / "log.hdf5", 3, 2),
        schedule=Schedule(4, 9, 2, frozen_env_steps=5, offline_chunk=4),
        callbacks=[watch],
        model=small(WSRL(samples=2), critic_norm="before"),
        data={"replay_capacity": None},
        downsampling={"keep": 0.0, "minimum": 0},
    )
    trainer.fit(module, data)
    assert [env_steps for env_steps, _ in watch.batches] == [0, *range(1, 10)]
    pretrained = watch.weights[0]
    for weights in watch.weights[1:6]:
        assert all(torch.equal(weights[name], pretrained[name]) for name in weights)
    assert not any(
        torch.equal(watch.weights[6][name], pretrained[name])
        for name in ("critics.params.0.weight", "actor.net.0.weight", "temperature.raw")
    )
    assert len(data.replay) == 9
    assert module.gradient_updates == 4 + 2 * 4


def calibrated_wsrl(folder: Path, steps: int, **more: Any) -> Any:
    """Trainer, module and data of a run with fewer frozen steps than an episode has."""
    return tiny_run(
        folder / "run",
        register_toy(),
        write_log(folder / "log.hdf5", 3, 2, linked=True),
        schedule=Schedule(4, steps, 2, frozen_env_steps=2, offline_chunk=4),
        model=small(WSRL(samples=2, calibrate=True), critic_norm="before"),
        data={"replay_capacity": None},
        downsampling={"keep": 0.0, "minimum": 0},
        **more,
    )


def test_after_cal_ql_wsrl_learns_from_an_online_row_at_once(tmp_path: Path) -> None:
    watch = Watch()
    trainer, module, data = calibrated_wsrl(tmp_path, 8, callbacks=[watch])
    trainer.fit(module, data)
    assert TOY_LIMIT > 2
    assert watch.batches[0][1]["mc_return"].all()
    assert [len(batch) for _, batch in watch.batches] == [4, 0, 0, *[2] * 6]
    assert len(data.replay) == 8  # three of them of an episode that has not ended


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
def test_rows_that_waited_are_learnt_from_by_a_method_that_does_not_wait(tmp_path: Path) -> None:
    trainer, module, data = calibrated_wsrl(tmp_path, 8)
    trainer.fit(module, data)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path)
    ring = checkpoint["ReplayDataModule"]["replay"]
    ring["pending"] = data.replay.rows[:2].clone() + 1
    torch.save(checkpoint, path)
    trainer, module, data = calibrated_wsrl(tmp_path, 11)
    trainer.fit(module, data, ckpt_path=path, weights_only=True)
    assert len(data.replay) == 8 + 2 + 3
    assert torch.equal(data.replay.rows[8:10], ring["pending"])


def test_returns_are_of_finished_episodes_and_of_scaled_rewards(tmp_path: Path) -> None:
    watch = Watch()
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        write_log(tmp_path / "log.hdf5", 3, 2, linked=True),
        schedule=Schedule(1, 13, 1, frozen_env_steps=TOY_LIMIT),
        callbacks=[watch],
        model=small(CalQL(samples=2), gamma=0.5),
        data={"replay_capacity": None, "reward_scale": 10.0, "reward_shift": -5.0},
        downsampling={"keep": 1.0},
    )
    trainer.fit(module, data)
    # Of 13 steps of episodes of 5, three are of an unfinished one.
    assert len(data.replay) == 120 + 10
    assert data.unfinished is not None
    assert len(data.unfinished.rows) == 3
    rows = data.layout.unpack(data.replay.rows)
    raw = 1 - rows["next_observation"][120:, 0] ** 2
    torch.testing.assert_close(rows["reward"][120:], 10 * raw - 5, rtol=1e-4, atol=1e-3)
    reward, following = rows["reward"][120:125].tolist(), 0.0
    for t in reversed(range(5)):
        following = reward[t] + 0.5 * following
        assert rows["mc_return"][120 + t].item() == pytest.approx(following, rel=1e-5)
    ends = np.arange(1, 121) % 20 == 0
    logged = returns_to_go(rows["reward"][:120].numpy(), ends, 0.5)
    assert rows["mc_return"][:120].numpy() == pytest.approx(logged, rel=1e-5)
    episodes = [callback for callback in data.finished_episodes if callback.steps != TOY_LIMIT]
    assert not episodes
    assert [env_steps for env_steps, batch in watch.batches if batch.batch_size[0]][1] == 6


@pytest.mark.parametrize(
    ("schedule", "data", "said"),
    [
        (Schedule(1, 9, 1), {}, "frozen_env_steps is 0; model.method CalQL learns .* 5 or more"),
        (
            Schedule(1, 9, 1, frozen_env_steps=5),
            {"failure_reward": 0.0},
            "no finite return",
        ),
    ],
)
def test_returns_that_cannot_be_known_are_refused(
    schedule: Schedule, data: dict[str, Any], said: str, tmp_path: Path
) -> None:
    trainer, module, datamodule = tiny_run(
        tmp_path / "run",
        register_toy(),
        write_log(tmp_path / "log.hdf5", 3, 2, linked=True),
        schedule=schedule,
        model=small(CalQL(), gamma=1.0),
        data=data,
    )
    with pytest.raises(UserError, match=said):
        trainer.fit(module, datamodule)


@pytest.mark.parametrize(("fraction", "ranks"), [(0.3, 1), (0.125, 2), (0.01, 1)])
def test_a_share_that_is_no_whole_number_is_refused(fraction: float, ranks: int) -> None:
    check_share(0.5, 8, 2)
    with pytest.raises(UserError, match=r"data\.offline_fraction is"):
        check_share(fraction, 8, ranks)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"offline_fraction": 1.0}, r"data\.offline_fraction is 1.0; it must be above 0 and below"),
        ({"offline_fraction": 0.5, "dataset": None}, r"data\.dataset is null but data\.offline"),
        ({"reward_scale": 0.0}, r"data\.reward_scale is 0.0"),
        ({"reward_shift": float("nan")}, r"data\.reward_shift is nan"),
        ({"frozen_actions": "none"}, r"data\.frozen_actions is none; it must be policy or uniform"),
    ],
)
def test_wrong_settings_are_one_sentence(data: dict[str, Any], said: str) -> None:
    from adabc_lightning.data.module import ReplayDataModule

    with pytest.raises(UserError, match=said):
        ReplayDataModule(register_toy(), schedule=Schedule(0, 9, 1), **data)
