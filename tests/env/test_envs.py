"""Environments: spaces, exact state, evaluation."""

import logging
import random
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import (
    FlattenObservation,
    FrameStackObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
    StickyAction,
    TimeAwareObservation,
)
from test_resume import Cut, assert_equal, everything, leave
from tiny import TOY_LIMIT, Toy, register_toy, tiny_run, write_log

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.env.contents import contents
from adabc_lightning.env.make import episode_limit, evaluate, make_env
from adabc_lightning.env.saved import saved_environment
from adabc_lightning.env.state import Bookmark, set_state
from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import check
from adabc_lightning.run.schedule import Schedule

ADROIT = [f"AdroitHand{task}-v1" for task in ("Pen", "Door", "Hammer", "Relocate")]
GOALS: dict[str, dict[str, Any]] = {
    "FetchReach-v4": {"reward_type": "dense"},
    "FetchPickAndPlace-v4": {"reward_type": "dense"},  # its mocap body is moved before a step
    "HandReach-v3": {"reward_type": "dense"},
    "PointMaze_UMaze-v3": {"reward_type": "dense", "reset_target": True},  # goals within episodes
    "AntMaze_UMaze-v5": {"reward_type": "dense"},  # an environment within the environment
}


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", *ADROIT, *GOALS])
def test_a_restored_environment_goes_on_exactly(env_id: str) -> None:
    if env_id in ADROIT or env_id in GOALS:
        pytest.importorskip("gymnasium_robotics")
    original, restored = (make_env(env_id, kwargs=GOALS.get(env_id)) for _ in range(2))
    bookmark = Bookmark(original)
    rng = np.random.default_rng(0)
    shape = original.action_space.shape
    for seed in range(5):
        original.reset(seed=seed)
        for _ in range(7):
            original.step(rng.uniform(-1, 1, shape))
        state = bookmark.now()
        assert state is not None
        set_state(restored, state)
        for _ in range(60):  # across the end of an episode, too
            action = rng.uniform(-1, 1, shape)
            a, b = original.step(action), restored.step(action)
            assert np.array_equal(a[0], b[0])
            assert a[1:4] == b[1:4]
            if a[2] or a[3]:
                assert np.array_equal(original.reset()[0], restored.reset()[0])
    original.close()
    restored.close()


class Delayed(gymnasium.ActionWrapper):
    """Each action comes a step later, and the first one is 0."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.weights = [1.0, 0.5]  # a list that stays as it is
        self.waiting, self.count = np.zeros(3), 0

    def action(self, action: np.ndarray) -> np.ndarray:
        now, self.waiting, self.count = self.waiting, action * self.weights[0], self.count + 1
        return now * (1 + self.count % 2)


class Queued(gymnasium.ActionWrapper):
    """The same from a queue."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.queue = deque([np.zeros(3)])

    def action(self, action: np.ndarray) -> np.ndarray:
        self.queue.append(action)
        return self.queue.popleft()


def hopper(*wrappers: Callable[[gymnasium.Env], gymnasium.Env]) -> gymnasium.Env:
    env = gymnasium.make("Hopper-v5", disable_env_checker=True)
    for wrapper in wrappers:
        env = wrapper(env)
    return env


def sticky(env: gymnasium.Env) -> gymnasium.Env:
    return StickyAction(env, 0.5)


@pytest.mark.parametrize(
    "wrappers",
    [(), (Delayed,), (sticky,), (TimeAwareObservation, Delayed)],
    ids=["none", "delayed", "sticky", "two"],
)
def test_numbers_and_arrays_of_wrappers_are_part_of_the_state(wrappers: Any) -> None:
    original, restored = hopper(*wrappers), hopper(*wrappers)
    bookmark, rng = Bookmark(original), np.random.default_rng(0)
    original.reset(seed=1)
    for _ in range(5):
        original.step(rng.uniform(-1, 1, 3))
    state = bookmark.now()
    assert state is not None
    check(saved_environment(state), state)
    set_state(restored, state)
    for _ in range(40):  # across the end of an episode, too
        action = rng.uniform(-1, 1, 3)
        a, b = original.step(action), restored.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]
        if a[2]:
            assert np.array_equal(original.reset()[0], restored.reset()[0])


def test_a_state_in_containers_of_a_wrapper_or_of_a_simulator_is_none() -> None:
    def stacked(env: gymnasium.Env) -> gymnasium.Env:
        return FlattenObservation(FrameStackObservation(env, 4))

    for wrapper in (Queued, stacked, NormalizeObservation):
        env = hopper(wrapper)
        bookmark = Bookmark(env)
        env.reset(seed=0)
        env.step(np.ones(3))
        assert bookmark.now() is None, wrapper
    env = hopper()
    env.unwrapped.past = deque(maxlen=3)  # type: ignore[attr-defined]
    bookmark = Bookmark(env)
    env.reset(seed=0)
    assert bookmark.now() is not None
    env.unwrapped.past.append(1.0)  # type: ignore[attr-defined]
    assert bookmark.now() is None


def test_the_time_limit_counts_on_after_a_restore() -> None:
    env = gymnasium.make("Hopper-v5", max_episode_steps=10)
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros(3))
    state = Bookmark(env).now()
    assert state is not None
    set_state(env, state)
    ended = [env.step(np.zeros(3))[3] for _ in range(4)]
    assert ended == [False, False, False, True]


def test_a_time_limit_of_one_s_own_replaces_the_environment_s() -> None:
    env_id = register_toy()
    for limit, expected in ((None, TOY_LIMIT), (3, 3), (9, 9)):
        env = make_env(env_id, limit)
        assert EnvironmentSpec.of(env, env_id).max_episode_steps == expected
        env.reset(seed=0)
        ended = [env.step(np.zeros(2))[3] for _ in range(expected)]
        assert ended == [False] * (expected - 1) + [True]


def test_a_state_without_a_time_limit_is_not_put_into_an_environment_with_one() -> None:
    unlimited, limited = make_env("Hopper-v5", -1), make_env("Hopper-v5")
    unlimited.reset(seed=0)
    state = Bookmark(unlimited).now()
    assert state is not None
    with pytest.raises(UserError, match=r"has 0 time limits, this one 1; resume with the data.max"):
        set_state(limited, state)


@pytest.mark.parametrize("env_id", [*ADROIT, "FetchReach-v4", "PointMaze_UMaze-v3"])
def test_an_environment_of_another_package_says_what_to_install(
    env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.delitem(gymnasium.registry, env_id, raising=False)
    with pytest.raises(UserError) as caught:
        make_env(env_id)
    assert str(caught.value) == (
        f"environment {env_id!r} needs gymnasium_robotics, which cannot be imported; "
        "`pip install 'adabc_lightning[adroit]'` installs it"
    )


def test_other_environments_have_no_capturable_state() -> None:
    assert Bookmark(make_env(register_toy())).now() is None


def test_evaluation_depends_on_policy_and_seed_alone() -> None:
    env_id = register_toy()

    def policy(observation: np.ndarray) -> np.ndarray:
        return -observation[..., :2]

    one, three = [make_env(env_id)], [make_env(env_id) for _ in range(3)]
    first = evaluate(policy, one, 4, seed=5)
    assert evaluate(policy, three, 4, seed=5) == first  # side by side or one after the other
    assert evaluate(policy, three, 4, seed=5) == first  # and whatever ran before
    assert evaluate(policy, one, 4, seed=6) != first
    assert first[1] == [TOY_LIMIT] * 4
    assert len(set(first[0])) == 4


def test_action_limits_come_from_the_space_per_dimension() -> None:
    env = make_env("InvertedPendulum-v5")
    spec = EnvironmentSpec.of(env, "InvertedPendulum-v5")
    assert (spec.action_low, spec.action_high) == ((-3.0,), (3.0,))
    assert (spec.observation_size, spec.action_size, spec.max_episode_steps) == (4, 1, 1000)


@pytest.mark.parametrize(
    ("env_id", "sentence"),
    [
        ("Hoper-v5", "did you mean 'Hopper-v5'"),
        ("CartPole-v1", "continuous actions"),
        ("FrozenLake-v1", "only a Box of one dimension"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(env_id: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        EnvironmentSpec.of(make_env(env_id), env_id)


def test_the_limit_of_an_id_without_making_it() -> None:
    assert episode_limit("Hopper-v5") == 1000
    assert episode_limit("Nothing-v0") is None
    assert episode_limit("antigravity:Flight-v0") is None
    assert "antigravity" not in sys.modules  # nothing is imported that is not allowed


def test_what_is_suggested_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the module that registers it, whether that is imported by now or not."""
    source = "import gymnasium\ngymnasium.register('AdabcRover-v0', 'tiny:Toy')\n"
    (tmp_path / "adabc_rovers.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ADABC_ALLOW", "adabc_rovers")
    for env_id, near in {
        "adabc_rovers:AdabcRovr-v0": "did you mean 'adabc_rovers:AdabcRover-v0'?",
        "adabc_rovers:adabcrover-v0": "did you mean 'adabc_rovers:AdabcRover-v0'?",
        "adabc_rovers:Hoper-v5": "did you mean 'Hopper-v5'?",
        "adabc_rovers:Submarine-v0": "adabc_rovers registers no such name",
    }.items():
        with pytest.raises(UserError) as refused:
            make_env(env_id)
        assert str(refused.value) == f"environment {env_id!r} is not registered; {near}"
        if "'" in near:
            make_env(near.split("'")[1]).close()


class Saves(Toy):
    """A toy that saves itself, drifts by chance and counts in an array of its own."""

    wrong: Any = None

    def reset(self, **keywords: Any) -> tuple[np.ndarray, dict]:
        self.counts, self.wind = np.zeros(2, np.int64), 0.0
        return super().reset(**keywords)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.wind = 0.9 * self.wind + float(self.np_random.normal())
        self.counts += 1
        self.position = self.position + 0.1 * self.wind + self.counts.sum()
        return super().step(action)

    def state_dict(self) -> dict[str, Any]:
        state = {"position": self.position, "counts": self.counts, "wind": self.wind}
        return state if self.wrong is None else {**state, "log": self.wrong}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.counts = state["position"], state["counts"]
        self.wind = state["wind"]


@pytest.fixture
def saves() -> str:
    name = "AdabcSaves-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, Saves, max_episode_steps=TOY_LIMIT)
    return name


def test_an_environment_that_saves_itself_goes_on_exactly(saves: str) -> None:
    original, restored = make_env(saves), make_env(saves)
    rng = np.random.default_rng(0)
    original.reset(seed=3)
    for _ in range(2):
        original.step(rng.uniform(-1, 1, 2))
    state = Bookmark(original).now()
    check(saved_environment(state), state)
    for _ in range(2):  # what is noted is a copy
        original.step(rng.uniform(-1, 1, 2))
    rng = np.random.default_rng(1)
    set_state(restored, state)  # type: ignore[arg-type]
    first = []
    for _ in range(8):  # across the time limit
        step = restored.step(rng.uniform(-1, 1, 2))
        first.append(step)
        if step[3]:
            restored.reset()
    rng = np.random.default_rng(1)
    set_state(restored, state)  # type: ignore[arg-type]
    for expected in first:
        step = restored.step(rng.uniform(-1, 1, 2))
        assert np.array_equal(step[0], expected[0])
        assert step[1:4] == expected[1:4]
        if step[3]:
            restored.reset()
    assert [step[3] for step in first] == [False, False, True, False, False, False, False, True]


@pytest.mark.parametrize("wrong", ["text", [1, 2], np.array(["a"])], ids=str)
def test_a_state_of_anything_but_numbers_is_refused(saves: str, wrong: Any) -> None:
    env = make_env(saves)
    env.reset(seed=0)
    env.unwrapped.wrong = wrong  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"state_dict has 'log', .* names to numbers and NumPy"):
        Bookmark(env).now()


def test_numbers_of_a_wrapper_around_it_are_part_of_the_state(saves: str) -> None:
    original, restored = (TimeAwareObservation(make_env(saves)) for _ in range(2))
    bookmark = Bookmark(original)
    original.reset(seed=3)
    original.step(np.zeros(2))
    state = bookmark.now()
    check(saved_environment(state), state)
    set_state(restored, state)  # type: ignore[arg-type]
    a, b = original.step(np.ones(2)), restored.step(np.ones(2))
    assert np.array_equal(a[0], b[0])


def test_a_state_is_for_an_environment_that_saves_itself_alone(saves: str) -> None:
    own, other = make_env(saves), make_env("Hopper-v5")
    own.reset(seed=0), other.reset(seed=0)
    for env, state in ((other, Bookmark(own).now()), (own, Bookmark(other).now())):
        with pytest.raises(UserError, match="had its own state_dict and load_state_dict, or this"):
            set_state(env, state)  # type: ignore[arg-type]


def test_a_run_in_it_resumes_bit_for_bit(saves: str, tmp_path: Path) -> None:
    log, schedule = write_log(tmp_path / "log.hdf5", 3, 2), Schedule(4, 12, 1, 4, 2)
    cut = Cut(tmp_path, (6, 9))
    trainer, module, data = tiny_run(tmp_path / "a", saves, log, schedule=schedule, callbacks=[cut])
    trainer.fit(module, data)
    expected = everything(trainer)
    for batches in (6, 9):
        folder = tmp_path / f"from{batches}"
        folder.mkdir()
        leave(tmp_path / "a", folder)
        trainer, module, data = tiny_run(folder, saves, log, schedule=schedule)
        trainer.fit(module, data, ckpt_path=tmp_path / f"cut{batches}.ckpt", weights_only=True)
        assert_equal(everything(trainer), expected)


def test_what_a_container_says_of_itself() -> None:
    class Statistics:
        def __init__(self) -> None:
            self.mean, self.count = np.zeros(2), 0

    class Slots:
        __slots__ = ("value",)

    class Holder:
        def __init__(self) -> None:
            self.number, self.array = 1, np.zeros(3)
            self.queue, self.nested = deque([1.0]), {"a": [1, {"b": np.zeros(2)}]}
            self.statistics, self.log = Statistics(), logging.getLogger("any")
            self.map, self.space = [0] * 10_001, gymnasium.spaces.Discrete(2)
            self.many = [np.zeros(101) for _ in range(100)]
            self.phase, self.slots, self.pair = "reach", Slots(), np.array([None, [1]], object)
            self.slots.value = 1
            self.generators = [np.random.default_rng(0), np.random.RandomState(0)]
            self.rng, self.random = np.random.default_rng(0), random.Random(0)
            self.tensor = torch.zeros(2)
            self.mujoco_renderer = {"viewers": []}

    holder = Holder()
    before = contents([holder])
    assert before is not None
    holder.number, holder.array = 2, np.ones(3)  # part of a state by themselves
    holder.map[0], holder.space = 1, gymnasium.spaces.Discrete(3)  # constants
    holder.many[0][0] = 1.0
    holder.mujoco_renderer["viewers"].append(1)  # draws pictures
    logging.getLogger("another")
    assert contents([holder]) == before
    for change in (
        lambda: holder.queue.append(2.0),
        lambda: holder.nested["a"][1]["b"].__setitem__(0, 1.0),  # type: ignore[index, call-overload]
        lambda: setattr(holder.statistics, "count", 1),
        lambda: holder.statistics.mean.__setitem__(0, np.nan),
        lambda: setattr(holder, "phase", "grasp"),
        lambda: setattr(holder.slots, "value", 2),
        lambda: holder.pair[1].append(2),
        lambda: holder.generators[0].random(),  # type: ignore[union-attr]
        lambda: holder.generators[1].random(),  # type: ignore[union-attr]
        lambda: holder.rng.random(),
        lambda: holder.random.random(),
        lambda: holder.tensor.add_(1.0),
    ):
        now = contents([holder])
        change()
        assert contents([holder]) != now
        assert contents([holder]) == contents([holder]) is not None

    class Changing(dict):
        def items(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    holder.nested = Changing(a=1)
    assert contents([holder]) is None


def test_what_is_recorded_and_drawn_is_no_state() -> None:
    env = gymnasium.make("InvertedPendulum-v5", max_episode_steps=3, disable_env_checker=True)
    env = RecordEpisodeStatistics(env)
    bookmark = Bookmark(env)
    for _ in range(2):  # it keeps the episodes that have ended
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.zeros(1))
    assert bookmark.now() is not None
