"""Observations of parts: one rule of names and order, for environments, logs, robots, policies."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from dict_envs import CHOICE, IMAGE, PARTS, register_seen, register_slide
from gymnasium.spaces import Box, Dict, Text
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import register_toy

from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.exchange import Exchange, Publication
from adabc_lightning.env.make import make_env
from adabc_lightning.env.observations import Misfit, choose, column_names, flatten, is_parts
from adabc_lightning.env.policy import Policy
from adabc_lightning.env.robot import Robot
from adabc_lightning.env.state import Bookmark, set_state
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.errors import EnvironmentFailure, UserError
from adabc_lightning.run.schedule import Schedule


def spec_of(env_id: str, **made: Any) -> EnvironmentSpec:
    env = make_env(env_id, **made)
    try:
        return EnvironmentSpec.of(env, env_id)
    finally:
        env.close()


def test_the_rule_of_order() -> None:
    names = ["b", "A", "c.x", "B.y"]
    assert choose(names, names, None, "here") == ["A", "b", "B.y", "c.x"]
    assert choose(names, names, ["c.x", "a"], "here") == ["c.x", "A"]


SIZES = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 3), min_size=1)


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.integers(0, 99))
def test_flat_is_what_gymnasium_makes_of_a_dict(
    outer: dict[str, int], inner: dict[str, int], seed: int
) -> None:
    def boxes(sizes: dict[str, int]) -> dict[str, gymnasium.Space]:
        return {name: Box(-1, 1, (size,), np.float64) for name, size in sizes.items()}

    space = Dict({**boxes(outer), "inner": Dict(boxes(inner))})
    space.seed(seed)
    sample = space.sample()
    sizes = {**outer, **{f"inner.{name}": size for name, size in inner.items()}}
    parts = tuple((name, sizes[name]) for name in choose(sizes, sizes, None, "here"))
    assert np.array_equal(flatten(sample, parts), gymnasium.spaces.flatten(space, sample))
    dotted = {f"inner.{name}": value for name, value in sample.pop("inner").items()}
    assert np.array_equal(flatten(sample | dotted, parts), np.concatenate(
        [(sample | dotted)[name] for name, _ in parts]
    ))  # fmt: skip


def test_batches_and_parts_of_one_number() -> None:
    parts = (("goal", 2), ("x", 1))
    expected = [[1, 2, 5], [3, 4, 6]]
    goal, x = np.array([[1, 2], [3, 4]]), np.array([5, 6])
    assert flatten({"goal": goal, "x": x}, parts).tolist() == expected
    assert flatten({"goal": goal, "x": x[:, None], "more": "text"}, parts).tolist() == expected
    assert flatten({"goal": goal[0], "x": 5}, parts).tolist() == expected[0]
    assert flatten({"goal": goal[0], "x": x}, parts).tolist() == [[1, 2, 5], [1, 2, 6]]
    with pytest.raises(Misfit, match="parts of different batches: goal \\[2, 2\\], x \\[3, 1\\]"):
        flatten({"goal": goal, "x": np.zeros(3)}, parts)
    with pytest.raises(Misfit, match="without 'x'"):
        flatten({"goal": goal}, parts)
    with pytest.raises(Misfit, match=r"'goal' of an observation in the shape \[3\], not \[2\]"):
        flatten({"goal": np.zeros(3), "x": 5}, parts)
    assert column_names(parts) == [
        *("observation.goal[0]", "observation.goal[1]", "observation.x[0]")
    ]
    assert is_parts([["goal", 2]])
    assert not any(map(is_parts, ([], [["a", 0]], [["a", 1], ["a", 2]], [["a", True]], "ab")))


def test_an_environment_s_observations_are_its_parts_by_name(tmp_path: Path) -> None:
    env_id = register_slide(tmp_path)
    env = make_env(env_id)
    spec = EnvironmentSpec.of(env, env_id)
    assert spec.observation_parts == PARTS
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (4,)
    base: Any = env.unwrapped
    expected = [base.data.qpos[0], base.goal[0], base.data.qpos[0], base.data.qvel[0]]
    assert observation.tolist() == expected
    env.close()
    assert spec_of(env_id, observation_keys=["state"]).observation_parts == (("state", 2),)
    chosen = spec_of(env_id, observation_keys=("State", "goals.want"))
    assert chosen.observation_parts == (("state", 2), ("goals.want", 1))
    assert spec_of(register_toy(), observation_keys=["state"]).observation_parts is None


def test_the_constructor_is_given_what_env_kwargs_say(tmp_path: Path) -> None:
    env_id = register_slide(tmp_path)
    env = make_env(env_id, kwargs={"reward_type": "dense"})
    env.reset(seed=0)
    assert -1 < env.step(np.zeros(1, np.float32))[1] < 0
    env.close()
    for kwargs, sentence in (
        ({"reward": "dense"}, "with data.env_kwargs .*: .*unexpected keyword argument 'reward'"),
        ({"max_episode_steps": 3}, "set data.max_episode_steps instead"),
        ({"reward_type": object()}, "values must be numbers, texts, true or false"),
    ):
        with pytest.raises(UserError, match=sentence):
            make_env(env_id, kwargs=kwargs)


BOX = Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("spaces", "keys", "sentence"),
    [
        ({"b": BOX, "image": IMAGE, "a": BOX}, None,
         "'image' of Box.*only a Box of one dimension.*the others in data.observation_keys: a, b"),
        ({"b": BOX, "choice": CHOICE}, None, "'choice' of Discrete\\(3\\)"),
        ({"b": BOX, "says": Text(3)}, None, "'says' of Text"),
        ({"b": BOX, "image": IMAGE}, ["image"], "'image' .* no array of one dimension.*are: b"),
        ({"position": BOX}, ["positon"], "'positon' .* is not there; did you mean 'position'"),
        ({"image": IMAGE}, None, "no part of the observations is flat; they have: image"),
        ({"a": Dict(b=BOX), "a.b": BOX}, None, "two parts of observations named 'a.b'"),
        ({"goal": BOX, "Goal": BOX}, None, "two parts of observations named"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_flat_is_one_sentence(
    spaces: dict[str, gymnasium.Space], keys: list[str] | None, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_env(register_seen(Dict(spaces)), observation_keys=keys)


def test_what_is_left_out_may_be_anything() -> None:
    env_id = register_seen(Dict(image=IMAGE, choice=CHOICE, b=BOX))
    assert spec_of(env_id, observation_keys=["b"]).observation_parts == (("b", 2),)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"a": np.zeros(2)}, "gave an observation without 'b' in reset"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, r"'b' of an observation in the shape \[3\]"),
        ({"a": np.zeros(2), "b": np.array([0, np.nan])},
         r"number 3 \(observation.b\[1\]\) is nan"),
        (np.zeros(4), "gave an observation without 'a'"),
    ],
)  # fmt: skip
def test_an_environment_s_own_faults_name_the_part(answer: Any, sentence: str) -> None:
    class Answer:
        """Something true, whatever it holds."""

        def __new__(cls) -> Any:
            return answer

    env_id = register_seen(Dict(a=BOX, b=BOX))
    env = make_env(env_id)
    env.unwrapped.reset = lambda **_: (Answer(), {})  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFailure, match=sentence):
        CheckedEnv(env).reset(0)


def test_the_goal_is_part_of_the_state(tmp_path: Path) -> None:
    env_id = register_slide(tmp_path)
    original, restored = (make_env(env_id, kwargs={"reward_type": "dense"}) for _ in range(2))
    original.reset(seed=3)
    for _ in range(5):
        original.step(np.ones(1, np.float32))
    state = Bookmark(original).now()
    assert state is not None
    assert state["attributes"]["pushes"] == 5
    set_state(restored, state)
    assert restored.unwrapped.goal == original.unwrapped.goal  # type: ignore[attr-defined]
    for _ in range(30):  # across the end of two episodes
        answers = [env.step(np.full(1, 0.3, np.float32)) for env in (original, restored)]
        assert np.array_equal(answers[0][0], answers[1][0])
        assert answers[0][1:4] == answers[1][1:4]
        if answers[0][3]:
            assert np.array_equal(original.reset()[0], restored.reset()[0])
    for env in (original, restored):
        env.close()


def write(path: Path, parts: dict[str, int], flat: bool = False, attribute: Any = None) -> Path:
    """A log of 20 steps of observations with these parts, or of as many numbers."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key in ("observations", "next_observations"):
            if flat:
                file[key] = random.normal(size=(20, sum(parts.values())))
            else:
                for name, size in parts.items():
                    file[f"{key}/{name}"] = random.normal(size=(20, size))
        file["actions"] = random.uniform(-1, 1, (20, 1))
        file["rewards"], file["terminals"] = random.normal(size=20), np.arange(20) % 5 == 4
        if attribute is not None:
            file.attrs["observation_parts"] = attribute
    return path


def fit_together(env_id: str, log: Path, keys: list[str] | None = None) -> ReplayDataModule:
    schedule = Schedule(2, 2, 1, evaluation_every=2)
    data = ReplayDataModule(env_id, str(log), schedule, batch_size=4, observation_keys=keys)
    data.loading.load(data.spec)
    return data


SLIDE = {"goals/have": 1, "goals/want": 1, "state": 2}


def test_environment_and_data_have_one_order(tmp_path: Path) -> None:
    env_id = register_slide(tmp_path)
    log = write(tmp_path / "log.hdf5", {"state": 2, "goals/want": 1, "goals/have": 1})
    data = fit_together(env_id, log)
    dataset = load_dataset(str(log))
    assert dataset.observation_parts == data.spec.observation_parts == PARTS
    keys = ["state", "goals.have"]
    chosen = fit_together(env_id, log, keys)
    dataset = load_dataset(str(log), reading=Reading(tuple(keys)))
    assert dataset.observation_parts == chosen.spec.observation_parts
    with h5py.File(log) as file:
        expected = np.concatenate([file["observations/state"], file["observations/goals/have"]], 1)
    rows = dataset.rows[:, dataset.layout.columns["observation"]].numpy()
    assert np.array_equal(rows, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("parts", "flat", "env", "keys", "sentence"),
    [
        ({"state": 2, "goal": 2}, False, "slide", None,
         r"observations of goal \(2\), state \(2\), environment .* of goals.have"),
        ({"state": 3, "goals/have": 1}, False, "slide", ["state", "goals.have"],
         r"state \(3\), goals.have \(1\), environment .* of state \(2\)"),
        ({"state": 5}, True, "slide", None, "flat observations of 5 numbers, environment .* has"),
        ({"state": 2, "goal": 2}, False, "toy", None,
         r"observations of goal \(2\), state \(2\), .* has flat observations of 3 numbers"),
        ({"state": 3}, True, "toy", ["state"], "no observations of .* have parts; set it to null"),
        (SLIDE, False, "slide", ["state", "gaols.have"], "did you mean 'goals.have'"),
        (SLIDE, False, "slide", ["state", "State"], "'state' twice"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_are_one_sentence(
    parts: dict[str, int], flat: bool, env: str, keys: list[str] | None, sentence: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    env_id = register_slide(tmp_path) if env == "slide" else register_toy()
    log = write(tmp_path / "log.hdf5", parts, flat)
    if env == "toy":
        with h5py.File(log, "r+") as file:
            del file["actions"]
            file["actions"] = np.zeros((20, 2))
    with pytest.raises(UserError, match=sentence):
        fit_together(env_id, log, keys)


def test_a_flat_array_says_what_its_columns_are(tmp_path: Path) -> None:
    named = json.dumps([["state", 2], ["goals.want", 1], ["goals.have", 1]])
    log = write(tmp_path / "log.hdf5", SLIDE, flat=True, attribute=named)
    dataset = load_dataset(str(log))
    assert dataset.observation_parts == PARTS
    with h5py.File(log) as file:
        expected = file["observations"][:][:, [3, 2, 0, 1]].astype(np.float32)
    rows = dataset.rows[:, dataset.layout.columns["observation"]].numpy()
    assert np.array_equal(rows, expected)
    assert dataset.unread == ()
    grouped = load_dataset(str(write(tmp_path / "grouped.hdf5", SLIDE)))
    assert grouped.observation_parts == PARTS
    assert grouped.unread == ()


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        ("[", "must be a list of names and sizes"),
        ('{"a": 4}', "must be a list of names and sizes"),
        ('[["a", 4], ["a", 4]]', "must be a list of names and sizes"),
        (7, "must be a list of names and sizes"),
        ("[" * 100_000, "must be a list of names and sizes"),
        ('[["a", 2]]', "is about 2 numbers, but 'observations' has 4 columns"),
    ],
)
def test_a_wrong_attribute_is_one_sentence(attribute: Any, sentence: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", SLIDE, flat=True, attribute=attribute)
    with pytest.raises(UserError, match=sentence):
        load_dataset(str(log))


def test_groups_in_a_circle_are_one_sentence(tmp_path: Path) -> None:
    log = write(tmp_path / "log.hdf5", SLIDE)
    with h5py.File(log, "r+") as file:
        file["observations/goals/again"] = file["observations"]
    with pytest.raises(UserError, match=r"the group goals.again is in the file under two names"):
        load_dataset(str(log))


def test_a_robot_tells_and_asks_by_parts(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    layers = (generator.normal(size=(1, 3)).astype(np.float32), np.zeros(1, np.float32))
    policy = StoredPolicy(layers, np.zeros(1, np.float32))
    with Robot(tmp_path / "x", {"state": 2, "goal": 1}, [-1], [1]) as robot:
        assert robot.space.observation_parts == (("goal", 1), ("state", 2))
        states, goals = generator.normal(size=(4, 2)), generator.normal(size=4)
        robot.tell({"state": states, "goal": goals}, np.zeros((3, 1)), np.zeros(3), True)
        rows = [{"state": s, "goal": g} for s, g in zip(states, goals, strict=True)]
        robot.tell(rows, np.zeros((3, 1)), np.zeros(3), True)
        with pytest.raises(UserError, match="episode 2 has no steps: its rewards are empty"):
            robot.tell(rows[:1], np.zeros((0, 1)), np.zeros(0), True)
        exchange = Exchange(tmp_path / "x")
        assert exchange.space() == robot.space
        expected = np.column_stack([goals, states]).astype(np.float32)
        for index in range(2):
            told = exchange.read_episode(index, robot.space)
            assert np.array_equal(told.observations, expected)
        exchange.write_policy(Publication(policy, 2, 6, 0, False))
        asked = robot.ask(timeout=1)
        assert asked is not None
        assert np.array_equal(asked(rows[0], noise=False), asked(expected[0], noise=False))
        with pytest.raises(UserError, match=r"episode 2 gave an observation without 'goal', in a"):
            robot.tell({"state": states}, np.zeros((3, 1)), np.zeros(3), True)
    data = ReplayDataModule(f"log:{tmp_path / 'x'}", None, Schedule(0, 6, 1, evaluation_every=6))
    assert data.spec.observation_parts == (("goal", 1), ("state", 2))
    log = write(tmp_path / "log.hdf5", {"state": 2, "aim": 1})
    with pytest.raises(UserError, match=r"aim \(1\), state \(2\), environment .* goal \(1\), st"):
        fit_together(data.env_id, log)
    with pytest.raises(UserError, match="sizes of parts must be 1 or more"):
        Robot(tmp_path / "y", {"state": 0}, [-1], [1])
    with Robot(tmp_path / "y", 3, [-1], [1]) as flat:
        assert "observation_parts" not in (tmp_path / "y" / "space.json").read_text()
        with pytest.raises(UserError, match="mappings, but have no parts in this space"):
            flat.tell({"state": states}, np.zeros((3, 1)), np.zeros(3), True)


def test_a_policy_takes_a_dict_or_a_flat_array() -> None:
    layers = (np.eye(1, 3, dtype=np.float32), np.zeros(1, np.float32))
    parts = [["goal", 1], ["state", 2]]
    policy = Policy(StoredPolicy(layers), [-1], [1], {"observation_parts": parts})
    flat = np.array([[0.5, 2, 3], [-0.5, 2, 3]], np.float32)
    by_parts = {"state": flat[:, 1:], "goal": flat[:, 0]}
    assert np.array_equal(policy(by_parts), policy(flat))
    assert np.allclose(policy(flat)[:, 0], np.tanh([0.5, -0.5]))
    said = r"the caller gave .* without 'goal'; the policy takes goal \(1\), state \(2\)"
    with pytest.raises(UserError, match=said):
        policy({"state": flat[:, 1:]})
    with pytest.raises(UserError, match="it knows no parts"):
        Policy(StoredPolicy(layers), [-1], [1])(by_parts)
