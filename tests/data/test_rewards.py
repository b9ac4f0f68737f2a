"""Rewards of a function or of success: which numbers, for which rows, and what is refused."""

import csv
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from test_resume import ENV, Cut, assert_equal, everything
from tiny import TOY_LIMIT, register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.data.actions import fitting_factor
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.learnt import scale_of_range
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import EnvironmentFailure, UserError
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()
HERE = f"{__name__}:"  # a module that is imported already needs no --allow
SCHEDULE = Schedule(4, 6, 1, evaluation_every=4, offline_chunk=2)


def gain(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> np.ndarray:
    return following[:, 0] - observation[:, 0] - 0.5 * np.abs(action).sum(1)


def other(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> np.ndarray:
    observation *= 0  # it may do what it likes with what it gets
    return following[:, 0] * 0 + 7


def one(observation, action, following):
    return 1.0


def transposed(observation, action, following):
    return observation[:, :1]


def words(observation, action, following):
    return np.array(["good"] * len(observation))


def raises(observation, action, following):
    return {}["goal"]


def undefined(observation, action, following):
    return np.where(observation[:, 0] == 6, np.nan, 0)


def huge(observation, action, following):
    return np.full(len(observation), 1e300)


def centred(observation, action, following):
    return observation[:, 0] - observation[:, 0].mean()


NOT_CALLABLE = 3
partly = partial(other)  # an object of one's own, whose class is Python's


def columns(**others: Any) -> dict[str, Any]:
    """Two episodes of three steps, by a time limit and a terminal; observation t is 2 t."""
    x = np.arange(6)[:, None] * np.array([2.0, 0, 0])
    values: dict[str, Any] = {
        "observations": x,
        "actions": np.tile([[1.0, -3.0]], (6, 1)),
        "terminals": np.arange(6) == 5,
        "timeouts": np.arange(6) == 2,
    }
    return {name: value for name, value in (values | others).items() if value is not None}


def write(path: Path, **others: Any) -> str:
    np.savez(path, **columns(**others))
    return str(path)


def load(path: str, reward: str | None, **reading: Any) -> Any:
    return load_dataset(path, reading=Reading(reward=reward, **reading))


def test_a_function_makes_rewards_and_returns(tmp_path: Path) -> None:
    dataset = load(write(tmp_path / "a.npz"), f"{HERE}gain")
    rewards = dataset.rows[:, dataset.layout.columns["reward"]]
    # The step at the time limit has no next observation; at the terminal it is the last one.
    assert rewards.tolist() == [0, 0, 0, 0, -2]
    assert dataset.episode_return_E.tolist() == [0, -2]
    assert dataset.episode_length_E.tolist() == [3, 3]
    assert dataset.reward == f"{HERE}gain"
    whole = load(write(tmp_path / "c.npz"), f"{HERE}partly")
    assert whole.rows[:, dataset.layout.columns["reward"]].tolist() == [7] * 5
    half = load(write(tmp_path / "b.npz"), f"{HERE}gain", action_scale=0.5)
    assert half.rows[:, dataset.layout.columns["reward"]].tolist() == [1, 1, 1, 1, -1]
    assert half.rows[0, 3:5].tolist() == [0.5, -1.5]


def test_a_function_takes_the_place_of_what_was_logged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", rewards=np.full(6, np.nan))
    with pytest.raises(
        UserError, match=r"'rewards' must be finite in float32, but row 0 \(counted from 0\) is nan"
    ):
        load(path, None)
    dataset = load(path, f"{HERE}other")
    assert dataset.rows[:, 5].tolist() == [7] * 5
    assert dataset.rows[2, 0] == 6  # the observations are what they were


@pytest.mark.parametrize(
    ("flags", "rewards"),
    [
        ([0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1]),
        ([np.nan, np.nan, 0, np.nan, 1, 1], [0, 0, 0, 1, 1]),  # known at the end only
        (None, None),
    ],
)
def test_success_is_worth_one(
    flags: list[float] | None, rewards: list[float] | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.npz", success=None if flags is None else np.array(flags))
    if rewards is None:
        with pytest.raises(UserError, match=r"data.reward is success, but .* has no 'success'"):
            load(path, "success")
        return
    dataset = load(path, "success")
    assert dataset.rows[:, 5].tolist() == rewards
    assert dataset.episode_return_E.tolist() == [0, sum(rewards)]


def test_success_that_is_left_out_is_said(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "a.npz", success=np.array([0, 0, 1, 0, 0, 1]))
    assert load(path, "success").episode_return_E.tolist() == [1, 1]
    assert "1 of 2 steps with success are the last of their episodes" in capsys.readouterr().err
    ended = load(path, "success", success_terminates=True)
    assert (ended.rows[:, 5].tolist(), ended.terminals) == ([0, 0, 1, 0, 0, 1], 2)
    with pytest.raises(
        UserError, match=r"'success' must be 0 or 1, but row 1 \(counted from 0\) is 0.5"
    ):
        load(write(tmp_path / "b.npz", success=np.full(6, [0.5]) * (np.arange(6) == 1)), "success")


@pytest.mark.parametrize("shaping", [False, True, None])
def test_sparse_rewards_of_robomimic_are_success(shaping: bool | None, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for i in range(2):
            demo = file.create_group(f"data/demo_{i}")
            demo["obs/x"], demo["next_obs/x"] = np.zeros((3, 2)), np.ones((3, 2))
            demo["actions"], demo["rewards"] = np.zeros((3, 2)), np.array([0.0, 0, i])
        about = {"env_kwargs": {"reward_shaping": shaping}} if shaping is not None else {}
        file["data"].attrs["env_args"] = json.dumps(about)
    if shaping is not False:
        with pytest.raises(UserError, match=r"has no 'success'"):
            load(str(tmp_path / "a.hdf5"), "success")
        return
    dataset = load(str(tmp_path / "a.hdf5"), "success")
    assert dataset.episode_return_E.tolist() == [0, 1]
    assert dataset.success_E.tolist() == [False, True]


@pytest.mark.parametrize("steps", [3, 4], ids=["of steps", "of a reset, too"])
def test_success_of_minaris_infos(steps: int, tmp_path: Path) -> None:
    space = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1, -1], "high": [1, 1]}
    metadata = {"total_episodes": 1, "total_steps": 3, "data_format": "hdf5"}
    metadata |= {f"{key}_space": json.dumps(space) for key in ("observation", "action")}
    folder = tmp_path / "mine" / "data"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        episode = file.create_group("episode_0")
        episode["observations"], episode["actions"] = np.zeros((4, 2)), np.zeros((3, 2))
        episode["rewards"] = np.zeros(3)
        episode["terminations"] = episode["truncations"] = np.arange(3) == 2
        episode["infos/success"] = np.array([False, False, False, True])[-steps:]
    dataset = load(str(tmp_path / "mine"), "success")
    assert dataset.rows[:, dataset.layout.columns["reward"]].tolist() == [0, 0, 1]


def test_a_log_without_rewards_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no 'rewards'; it has: .* set data.reward to a func"):
        load(write(tmp_path / "a.npz"), None)


BROKEN = {
    "one": "must give one reward for each of 5 transitions, .5., but gives ..$",
    "transposed": r"must give one reward for each of 5 transitions, .5., but gives .5, 1.$",
    "words": "must give numbers, but gives <U4",
    "raises": "fails on 5 transitions of 3 and 2 numbers: KeyError: 'goal'",
    "undefined": "must be finite in float32, but is nan for transition 2 .of episode 1, both",
    "huge": "must be finite in float32, but is inf for transition 0 .of episode 0, both",
    "centred": "gives .* for the last transition of dataset .* among others and 0 for it alone",
    "missing": "missing is not in ",
    "NOT_CALLABLE": "NOT_CALLABLE is no function",
}


@pytest.mark.parametrize(("name", "said"), BROKEN.items(), ids=BROKEN)
def test_what_a_function_may_not_give(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"data.reward '{HERE}{name}':? {said}"):
        load(write(tmp_path / "a.npz"), f"{HERE}{name}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gain", "must be a function as module:name, success, logged or null"),
        ("a:b:c", "must be a function as module:name"),
        ("os.path:", "must be a function as module:name"),
        ("this:s", "names this, and only parts of .* are imported unasked; .* add --allow this"),
        ("os:system", "names os, and only parts of"),
        ("subprocess:Popen", "names subprocess, and only parts of"),
        ("builtins:exec", "names builtins, and only parts of"),
        ("adabc_lightning.env.make:import_module", "names importlib, and only parts of"),
        ("torch.no_such_part:f", "torch.no_such_part cannot be imported: ModuleNotFoundError"),
    ],
)
def test_names_that_are_none(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        ReplayDataModule(TOY, write(tmp_path / "a.npz"), SCHEDULE, reward=name)
    entry = {"path": write(tmp_path / "a.npz"), "reward": name}
    with pytest.raises(UserError, match=said):
        ReplayDataModule(TOY, [entry], SCHEDULE)
    with pytest.raises(UserError, match=said):
        load(write(tmp_path / "a.npz"), name)


def test_rewards_of_environment_steps_need_a_function(tmp_path: Path) -> None:
    for reward in (None, "logged", "success"):
        with pytest.raises(UserError, match=r"data.reward_online is true and data.reward is"):
            ReplayDataModule(TOY, None, Schedule(0, 1), reward=reward, reward_online=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"reward": f"{HERE}gain", "reward_online": True}, ""),
        ({"reward": "success"}, "data.reward has no effect: data.dataset is null"),
        ({"done_means": "terminal", "action_scale": 2.0},
         "data.done_means, data.action_scale have no effect: data.dataset is null"),
    ],
)  # fmt: skip
def test_what_is_of_a_dataset_is_said_without_one(
    given: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = Schedule(0, 6, 1, evaluation_every=6)
    trainer, _, data = tiny_run(tmp_path, TOY, None, schedule=schedule, data=given)
    data.trainer = trainer
    data.setup("fit")
    data.teardown("fit")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "is null" in line]
    assert len(warnings) == bool(said)
    assert all(said in line for line in warnings)


def test_each_of_several_datasets_has_its_own(tmp_path: Path) -> None:
    success = np.arange(6) == 1
    paths = [write(tmp_path / f"{i}.npz", success=success, rewards=np.full(6, 3)) for i in range(4)]
    entries: list[str | dict[str, Any]] = [
        paths[0],
        {"path": paths[1], "reward": "success", "action_scale": 0.5},
        {"path": paths[2], "reward": "logged"},
        {"path": paths[3], "filter": "best 50 %"},  # by the returns that the function makes
    ]
    data = ReplayDataModule(TOY, entries, SCHEDULE, reward=f"{HERE}other")
    dataset = data.loading.load(data.spec)
    rewards, actions = dataset.rows[:, 5], dataset.rows[:, 3]
    assert rewards.tolist() == [7] * 5 + [0, 1, 0, 0, 0] + [3] * 5 + [7] * 3
    assert actions.tolist() == [1] * 5 + [0.5] * 5 + [1] * 8
    assert dataset.reward == f"{HERE}other + success + logged"
    with pytest.raises(UserError, match="the action_scale of 'x' is -1; it must be a positive"):
        ReplayDataModule(TOY, [{"path": "x", "action_scale": -1}], SCHEDULE)
    with pytest.raises(UserError, match="the reward of 'x' is 3; it must be a function"):
        ReplayDataModule(TOY, [{"path": "x", "reward": 3}], SCHEDULE)


def start(folder: Path, log: Path, **data: Any) -> Any:
    return tiny_run(folder, TOY, log, schedule=SCHEDULE, data=data)


@pytest.mark.parametrize("online", [False, True])
def test_what_is_learnt_from_is_scaled_after_it(online: bool, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    scaled = {"reward_scale": 2.0, "reward_shift": 1.0}
    trainer, module, data = start(
        tmp_path, log, reward=f"{HERE}gain", reward_online=online, **scaled
    )
    trainer.fit(module, data)
    rows = data.layout.unpack(data.replay.rows)
    wanted = 2 * gain(*(rows[name].numpy() for name in
                        ("observation", "action", "next_observation"))) + 1  # fmt: skip
    own = 2 * (1 - rows["next_observation"][:, 0] ** 2) + 1
    is_online = rows["online"] == 1
    assert is_online.sum() == 6
    torch.testing.assert_close(rows["reward"][~is_online], torch.from_numpy(wanted)[~is_online])
    expected = torch.from_numpy(wanted) if online else own
    torch.testing.assert_close(rows["reward"][is_online], expected[is_online])
    # What is reported of an episode is the environment's.
    raw = (1 - rows["next_observation"][is_online][:TOY_LIMIT, 0] ** 2).sum()
    with open(tmp_path / "metrics.csv") as file:
        returns = [row["online/episode_return"] for row in csv.DictReader(file)]
    assert float(next(filter(None, returns))) == pytest.approx(float(raw), rel=1e-4)


def test_the_range_of_returns_scales_offline_and_online_rows_alike(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    returns = load_dataset(str(log)).episode_return_E
    scale = 1000 / float(returns.max() - returns.min())
    trainer, module, data = start(tmp_path, log, reward_scale="return_range", reward_shift=-1.0)
    trainer.fit(module, data)
    assert data.learnt.scale == pytest.approx(scale)
    rows = data.layout.unpack(data.replay.rows)
    is_online = rows["online"] == 1
    assert 0 < is_online.sum() < len(is_online)
    raw = 1 - rows["next_observation"][:, 0] ** 2  # the toy's
    torch.testing.assert_close(rows["reward"][is_online], (scale * raw - 1)[is_online])
    logged = load_dataset(str(log)).rows[:, data.layout.columns["reward"]]
    kept = rows["reward"][~is_online]
    assert all((scale * logged - 1).sub(each).abs().min() < 1e-3 for each in kept)


def write_returns(path: Path, returns: list[float]) -> Path:
    """A log of the toy with an episode of two steps for each return."""
    count = len(returns)
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((2 * count, 2), np.float32)
        file["next_observations"] = np.zeros((2 * count, 2), np.float32)
        file["actions"] = np.zeros((2 * count, 1), np.float32)
        file["rewards"] = np.repeat(returns, 2).astype(np.float32) / 2
        file["terminals"] = np.tile([False, True], count)
        file["timeouts"] = np.zeros(2 * count, bool)
    return path


def test_a_range_of_returns_needs_returns_that_differ(tmp_path: Path) -> None:
    good = load_dataset(str(write_returns(tmp_path / "good.hdf5", [-30.0, 10.0, 20.0])))
    assert scale_of_range(good) == 20.0  # 1000 / 50
    for returns, why in (
        ([3.0, 3.0], "all 2 episodes earned 3"),
        ([3.0, 3.0 + 5e-7], "all 2 episodes earned 3"),  # rounding
        ([3.0], "it is one episode"),
    ):
        bad = load_dataset(str(write_returns(tmp_path / "bad.hdf5", returns)))
        with pytest.raises(UserError, match=f"has no range of returns: {why}; give a number"):
            scale_of_range(bad)
    with pytest.raises(UserError, match=r"return_range but data\.dataset is null"):
        ReplayDataModule(TOY, None, Schedule(0, 6), reward_scale="return_range")


def test_a_run_with_another_range_of_returns_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = start(tmp_path / "a", log, reward_scale="return_range")
    trainer.fit(module, data)
    other = write_log(tmp_path / "other.hdf5", 3, 2)
    with h5py.File(other, "r+") as file:
        file["rewards"][:] *= 2
    checkpoint = tmp_path / "a" / "checkpoints" / "last.ckpt"
    trainer, module, data = start(tmp_path / "b", other, reward_scale="return_range")
    with pytest.raises(UserError, match="the dataset is another one, or that was a number then"):
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


def test_one_that_shares_the_rows_has_their_scale(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    first, other = (
        ReplayDataModule(TOY, str(log), SCHEDULE, seed=seed, reward_scale="return_range")
        for seed in (0, 1)
    )
    other.shares = first
    for data in (first, other):
        data.setup("fit")
    assert first.learnt.scale == other.learnt.scale != 1.0


class Armed:
    """A reward that does one thing wrong, once: when it is given its n-th single row."""

    kind, left = "", 0

    @classmethod
    def reward(cls, observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> Any:
        if len(observation) == 1 and cls.kind:
            cls.left -= 1
            if not cls.left:
                kind, cls.kind = cls.kind, ""
                if kind == "raises":
                    raise KeyError("goal")
                return np.log(-np.ones(1)) if kind == "nan" else np.zeros((1, 2))
        return -(following**2).sum(1) - 0.1 * (action**2).sum(1)


armed = Armed.reward
STEP = 13


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The log of a run, and where it ends if the reward never fails."""
    folder = tmp_path_factory.mktemp("unharmed")
    write_log(folder / "log.hdf5", 4, 1)
    trainer = pendulum_run(folder, folder)
    return folder, everything(trainer)


def pendulum_run(folder: Path, logs: Path, goes_on: bool = False) -> Any:
    schedule = Schedule(2, 24, 2, evaluation_every=100, offline_chunk=2)
    data = {"reward": f"{HERE}armed", "reward_online": True}
    trainer, module, data = tiny_run(folder, ENV, logs / "log.hdf5", schedule=schedule, data=data)
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last if goes_on else None, weights_only=True)
    return trainer


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raises", "fails on 1 transition of 4 and 1 numbers: KeyError: 'goal'"),
        ("shape", r"must give one reward for each of 1 transitions, \[1\], but gives \[1, 2\]"),
        ("nan", "is nan for a step of the environment"),  # and NumPy says nothing of it
    ],
)
def test_a_reward_that_fails_in_fine_tuning_loses_nothing(
    kind: str, said: str, unharmed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    Armed.kind, Armed.left = kind, STEP + 1  # one is asked for when the log is read
    with pytest.raises(EnvironmentFailure) as failure:
        pendulum_run(tmp_path, unharmed[0])
    sentence = str(failure.value)
    assert re.search(said, sentence), sentence
    assert f"(environment step {STEP} of the run); the state before this step is saved" in sentence
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["ReplayDataModule"]["collector"]["env_steps"] == STEP - 1
    trainer = pendulum_run(tmp_path, unharmed[0], goes_on=True)
    assert_equal(everything(trainer), unharmed[1])


def test_other_names_on_resume_are_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    own = {"reward": f"{HERE}gain", "reward_online": True}
    cuts = Cut(tmp_path, (1, 5))
    trainer, module, data = tiny_run(
        tmp_path / "a", TOY, log, schedule=SCHEDULE, data=own, callbacks=[cuts]
    )
    trainer.fit(module, data)
    before, after = tmp_path / "cut1.ckpt", tmp_path / "cut5.ckpt"
    for cut, changed, said in [
        (before, {"reward": f"{HERE}other"}, f"with data.reward {HERE}gain, not {HERE}other"),
        (after, {"reward": f"{HERE}other"}, f"with data.reward {HERE}gain, not {HERE}other"),
        (after, {"reward_online": False}, f"rewards of {HERE}gain, this run's .* environment"),
    ]:
        trainer, module, data = start(tmp_path / "b", log, **own | changed)
        with pytest.raises(UserError, match=said):
            trainer.fit(module, data, ckpt_path=cut, weights_only=True)
    # A pre-training serves with either kind of environment step.
    trainer, module, data = start(tmp_path / "c", log, **own | {"reward_online": False})
    trainer.fit(module, data, ckpt_path=before, weights_only=True)


def test_inspect_shows_and_converts_them(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "a.npz")
    assert main(["inspect", path]) == 2
    assert "set --reward to a function" in capsys.readouterr().err
    target = tmp_path / "new.hdf5"
    words = ["inspect", path, "--reward", f"{HERE}gain", "--action-scale", "0.5"]
    assert main([*words, "--convert", str(target)]) == 0
    assert f"per step -1 to 1, mean 0.6; from {HERE}gain" in capsys.readouterr().out
    with h5py.File(target) as file:
        assert file.attrs["reward_source"] == f"{HERE}gain"
    converted = load_dataset(str(target))
    original = load(path, f"{HERE}gain", action_scale=0.5)
    assert torch.equal(converted.rows, original.rows)
    assert converted.reward == "logged"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        (100, 0.01),
        (180 / np.pi, np.pi / 180),
        (127, 1 / 127),
        (1000, 0.001),
        (0.01, 100),
        (1, None),  # it is right as it is
        (1.5, None),  # of no unit that is known
    ],
)
def test_the_factor_that_would_fit(unit: float, factor: float | None) -> None:
    low, high = np.array([-1.0, -3.0]), np.array([1.0, 3.0])
    actions = np.random.default_rng(0).uniform(low, high, (1000, 2)) * unit
    actions[0] *= 50  # an outlier
    found = fitting_factor(actions, low, high)
    assert found == (None if factor is None else pytest.approx(factor))
    # With bounds on one side of 0 no factor is sure.
    assert fitting_factor(actions, high, high + 1) is None


def test_actions_in_percent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", rewards=np.zeros(6), actions=np.tile([[90, -250]], (6, 1)))
    data = ReplayDataModule(TOY, path, SCHEDULE)
    with pytest.raises(
        UserError, match=r"they would fit times 0\.01 \(percent\): if that .* data.action_scale"
    ):
        data.loading.load(data.spec)
    data = ReplayDataModule(TOY, path, SCHEDULE, action_scale=0.01)
    actions = data.loading.load(data.spec).as_d4rl()["actions"]
    np.testing.assert_allclose(actions, np.tile([[0.9, -2.5]], (5, 1)), rtol=1e-6)
    with pytest.raises(UserError, match=r"data.action_scale"):
        ReplayDataModule(TOY, path, SCHEDULE, action_scale=0)
    with pytest.raises(UserError, match=r"an action times data.action_scale 1e\+38 is not finite"):
        load(path, None, action_scale=1e38)
