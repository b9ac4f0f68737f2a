"""Environments: spaces, exact state, evaluation."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny import TOY_LIMIT, register_toy

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.env.make import episode_limit, evaluate, make_env
from adabc_lightning.env.state import get_state, set_state
from adabc_lightning.errors import UserError

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
    rng = np.random.default_rng(0)
    shape = original.action_space.shape
    for seed in range(5):
        original.reset(seed=seed)
        for _ in range(7):
            original.step(rng.uniform(-1, 1, shape))
        state = get_state(original)
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


def test_the_time_limit_counts_on_after_a_restore() -> None:
    env = gymnasium.make("Hopper-v5", max_episode_steps=10)
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros(3))
    state = get_state(env)
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
    state = get_state(unlimited)
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
    assert get_state(make_env(register_toy())) is None


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
