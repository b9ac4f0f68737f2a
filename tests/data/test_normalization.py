"""Observations minus their mean by their standard deviation: everywhere, exactly, and for good."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from test_replicas import COUNT, assert_rows_close, group_of
from test_replicas import SCHEDULE as GROUP_SCHEDULE
from test_resume import ENV, Cut, assert_equal, everything
from tiny import TOY_LIMIT, Toy, register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import SAC, CalQL
from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.callbacks.handover import measure
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.exchange import Exchange
from adabc_lightning.env.policy import load_policy
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()
ON = {"normalize_observations": True}
OFFSET, SPREAD = np.array([40.0, -3, 0, 0.5]), np.array([25.0, 0.1, 1, 5])


def write(path: Path, size: int, actions: int) -> Path:
    """A log in other units than one."""
    write_log(path, size, actions, linked=True)
    with h5py.File(path, "r+") as file:
        for name in ("observations", "next_observations"):
            file[name][:] = file[name][:] * SPREAD[:size] + OFFSET[:size]
    return path


def test_mean_and_spread_are_those_of_the_rows() -> None:
    rows = torch.tensor([[1.0, 5], [3, 5], [5, 5], [7, 5]])
    mean, scale = Normalization.of_rows(rows)
    assert mean.tolist() == [4, 5]
    # As TD3+BC's code: NumPy's standard deviation, of all rows and not one less, and 0.001.
    torch.testing.assert_close(scale, torch.tensor([5**0.5 + 1e-3, 1e-3]))
    assert Normalization(mean, scale)(rows)[:, 1].tolist() == [0, 0, 0, 0]


def test_large_numbers_keep_their_spread() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(1e5, 1, (300_000, 1))).float()
    mean, scale = Normalization.of_rows(rows)
    exact = rows.double()
    assert mean.item() == exact.mean().float().item()
    assert scale.item() == pytest.approx(exact.std(correction=0).item() + 1e-3, rel=1e-6)


def test_rows_and_actions_are_of_normalised_observations(tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(4, 8, 1, evaluation_every=4, offline_chunk=2)
    trainer, module, data = tiny_run(
        tmp_path, TOY, log, schedule=schedule, data=ON | {"replay_capacity": 200},
        downsampling={"keep": 1.0},
    )  # fmt: skip
    trainer.fit(module, data)
    logged = load_dataset(str(log)).rows
    seen = logged[:, :3].double().numpy()
    mean, scale = seen.mean(0), seen.std(0) + 1e-3
    rows = data.replay.rows
    for columns in (slice(0, 3), slice(6, 9)):
        wanted = (logged[:, columns].double().numpy() - mean) / scale
        np.testing.assert_allclose(rows[:120, columns], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(rows[:120, 3:6], logged[:, 3:6])
    online = rows[120:]
    raw = online[:, :3].double().numpy() * scale + mean
    step = online[:, 6:9].double().numpy() * scale + mean - raw
    np.testing.assert_allclose(
        step, np.tile(0.1 * online[:, 3:5].sum(1, keepdim=True), 3), atol=1e-4
    )
    # The policy takes what the environment gives, one observation or many.
    normalised = torch.from_numpy((raw - mean) / scale).float()
    wanted_BA = module.actor(normalised).detach().numpy()
    np.testing.assert_allclose(module.act(raw), wanted_BA, atol=1e-5)
    np.testing.assert_allclose([module.act(row) for row in raw], wanted_BA, atol=1e-5)
    visited = torch.from_numpy(raw).float()
    found = measure(module, None, visited)["diagnostics/disagreement_online"]
    q_NB = module.critics(normalised, module.actor(normalised))
    assert found == pytest.approx(q_NB.std(0, correction=0).mean().item(), rel=1e-3)
    # And so does what is read from a checkpoint.
    policy = load_policy(tmp_path / "checkpoints" / "last.ckpt")
    np.testing.assert_array_equal(policy(raw[0]), module.act(raw[0]))


def options(name: str) -> dict[str, Any]:
    """A run of each kind of policy and row."""
    own: dict[str, Any] = {"schedule": Schedule(6, 20, 2, 9, 3), "data": dict(ON)}
    if name == "CalQL":
        own["model"] = {"policy_delay": 1, "method": CalQL(samples=2, target_gap=0.5)}
        own["schedule"] = Schedule(6, 20, 1, 9, 3, 2)
        own["data"] |= {"offline_fraction": 0.25, "max_episode_steps": 7,
                        "reward_scale": "return_range", "replay_capacity": None}  # fmt: skip
        own["downsampling"] = {"keep": 1.0}
    return own


@pytest.mark.parametrize("name", ["TD3BC", "CalQL"])
def test_resumed_equals_uncut(name: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", 4, 1)
    cuts = (1, 5, 11)
    trainer, module, data = tiny_run(
        tmp_path, ENV, log, callbacks=[Cut(tmp_path, cuts)], **options(name)
    )
    trainer.fit(module, data)
    expected = everything(trainer)
    for batches in cuts:
        folder = tmp_path / f"from{batches}"
        folder.mkdir()
        shutil.copy(tmp_path / "metrics.csv", folder / "metrics.csv")
        trainer, module, data = tiny_run(folder, ENV, log, **options(name))
        cut = tmp_path / f"cut{batches}.ckpt"
        trainer.fit(module, data, ckpt_path=cut, weights_only=True)
        assert_equal(everything(trainer), expected)


def test_it_stays_what_it_was(tmp_path: Path) -> None:
    log, schedule = write(tmp_path / "log.hdf5", 4, 1), Schedule(4, 6, 1, 4, 2)
    cut = Cut(tmp_path, (1, 5))
    trainer, module, data = tiny_run(
        tmp_path / "a", ENV, log, schedule=schedule, data=ON, callbacks=[cut]
    )
    trainer.fit(module, data)
    scale = module.actor.observation_scale.clone()
    for batches in (1, 5):
        trainer, module, data = tiny_run(tmp_path / "b", ENV, log, schedule=schedule)
        with pytest.raises(UserError, match=r"data.normalize_observations true, not false; resume"):
            trainer.fit(module, data, ckpt_path=tmp_path / f"cut{batches}.ckpt", weights_only=True)
    known = log.read_bytes()
    with h5py.File(log, "r+") as file:
        file["observations"][:] *= 3
    trainer, module, data = tiny_run(tmp_path / "b", ENV, log, schedule=schedule, data=ON)
    with pytest.raises(UserError, match="was pre-trained on other data"):
        trainer.fit(module, data, ckpt_path=tmp_path / "cut5.ckpt", weights_only=True)
    log.write_bytes(known)
    trainer, module, data = tiny_run(tmp_path / "b", ENV, log, schedule=schedule, data=ON)
    trainer.fit(module, data, ckpt_path=tmp_path / "cut5.ckpt", weights_only=True)
    assert torch.equal(module.actor.observation_scale, scale)
    assert data.learnt.normalization is not None
    assert torch.equal(data.learnt.normalization.scale, scale)


def test_it_is_of_a_dataset() -> None:
    with pytest.raises(UserError, match=r"data.normalize_observations is true but data.dataset is"):
        ReplayDataModule(TOY, None, Schedule(0, 1), **ON)


def test_replicas_are_single_runs(tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path / "group", log, data=ON)
    trainer.fit(group.module, group.data)
    assert len(group.replicas) == COUNT
    replica = group.replicas[1]
    single, module, data = tiny_run(
        tmp_path / "single", TOY, log, schedule=GROUP_SCHEDULE, seed=1, data=ON
    )
    single.fit(module, data)
    own = Path(replica.default_root_dir)
    assert_rows_close(own / "metrics.csv", tmp_path / "single" / "metrics.csv")
    actor = replica.lightning_module.actor
    assert torch.equal(actor.observation_mean, module.actor.observation_mean)
    kept = data.replay.rows[:, data.layout.columns["online"]] == 0
    assert torch.equal(replica.datamodule.replay.rows[kept], data.replay.rows[kept])


@pytest.mark.parametrize("squashed", [False, True])
def test_a_robot_acts_with_it(squashed: bool, tmp_path: Path) -> None:
    from adabc_lightning import Robot

    log = write(tmp_path / "log.hdf5", 3, 2)
    folder, body = tmp_path / "exchange", Toy()
    with Robot(folder, 3, [-1, -3], [1, 3], TOY_LIMIT) as robot:
        rng = np.random.default_rng(0)
        for _ in range(2):
            observations = [body.reset(seed=robot.episodes)[0]]
            actions = rng.uniform(-1, 1, (TOY_LIMIT, 2)).astype(np.float32)
            steps = [body.step(action) for action in actions]
            observations += [step[0] for step in steps]
            robot.tell(observations, actions, [step[1] for step in steps], False)
    model = {"method": SAC(), "policy_delay": 1} if squashed else {}
    trainer, module, data = tiny_run(
        tmp_path / "run", f"log:{folder}", log, schedule=Schedule(4, 2 * TOY_LIMIT, 1, 5, 2),
        data=ON, model=model,
    )  # fmt: skip
    trainer.fit(module, data)
    with Robot(folder, 3, [-1, -3], [1, 3], TOY_LIMIT):
        published = Exchange(folder).read_policy()
        assert published is not None
        assert published.finished
    from adabc_lightning.env.robot import RobotPolicy

    policy = RobotPolicy(published, Exchange(folder).space(), np.random.default_rng(0))
    state = OFFSET[:3] + SPREAD[:3]
    # Up to the rounding of float32, of actions that are at most 3.
    np.testing.assert_allclose(policy(state, noise=False), module.act(state), rtol=1e-6, atol=3e-7)
    drawn = np.random.default_rng(0).standard_normal(2)
    wanted = np.clip(module.explore(state, drawn, data.exploration_noise), [-1, -3], [1, 3])
    np.testing.assert_allclose(policy(state), wanted, rtol=1e-5)
    online = data.replay.rows[data.replay.rows[:, data.layout.columns["online"]] == 1]
    raw = online[0, :3] * data.learnt.normalization.scale + data.learnt.normalization.mean
    first = Exchange(folder).read_episode(0, Exchange(folder).space()).observations[0]
    np.testing.assert_allclose(raw, first, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_with_unsound_numbers_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path, TOY, log, schedule=Schedule(2, 0, 1), data=ON)
    trainer.fit(module, data)
    path = tmp_path / "checkpoints" / "last.ckpt"
    content = torch.load(path)
    for wrong in (torch.zeros(3), torch.ones(2), torch.full((3,), torch.nan)):
        content["state_dict"]["actor.observation_scale"] = wrong
        torch.save(content, path)
        with pytest.raises(UserError, match="no sound observation_mean and observation_scale"):
            load_policy(path)
