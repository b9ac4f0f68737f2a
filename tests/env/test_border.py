"""What crosses the border to an environment: copied, in its box, tried out first."""

import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from borders import Column, Fixed, Huge, Line, Random, Still, Unbounded, View, register
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_run, write_log

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.losses import behavior_cloning
from adabc_lightning.agent.networks import Actor, policy
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks.handover import measure
from adabc_lightning.commands.export.graph import export, run
from adabc_lightning.commands.inspect.environment import try_out
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import LoggedEpisode, Space, check_episode, check_space
from adabc_lightning.env.make import evaluate, make_env
from adabc_lightning.env.policy import Policy
from adabc_lightning.env.rollout import Part, roll_out
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.env.video import recording
from adabc_lightning.errors import EnvironmentFailure, UserError
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.stopping import Stopped

SHORT = Schedule(6, 12, 1, 6, offline_chunk=3)


def saturated(size: int, low: np.ndarray, high: np.ndarray) -> StoredPolicy:
    """tanh at −1, between and at 1, for observations of both signs."""
    weight = np.linspace(0.1, 40, len(low) * size, dtype=np.float32).reshape(len(low), size)
    return StoredPolicy((weight, np.zeros(len(low), np.float32)))


def test_rows_are_those_of_an_environment_that_shares_nothing() -> None:
    layout, rows = Layout(3, 1), []
    for kind in (Line, View):
        collector = Collector(make_env(register(kind)), layout, seed=0)
        rows.append(torch.stack([collector.step(lambda _, n: 0.1 * n) for _ in range(50)]))
    assert torch.equal(*rows)
    columns = layout.columns
    assert not torch.equal(
        rows[1][:, columns["observation"]], rows[1][:, columns["next_observation"]]
    )
    assert rows[1][:, columns["action"]].abs().max() < 1  # and not the 7 that it wrote


def test_every_other_way_into_an_environment_copies_too() -> None:
    plain, shared = (register(kind) for kind in (Line, View))
    trials = [try_out(env_id, None) for env_id in (plain, shared)]
    assert np.array_equal(trials[0].observations, trials[1].observations)
    episodes, visited = [], []
    for env_id in (plain, shared):
        envs = [make_env(env_id) for _ in range(2)]
        spec = EnvironmentSpec.of(envs[0], env_id)
        part = Part(0, saturated(3, np.array([-1.0]), np.array([1.0])), 40)
        episodes.append(list(roll_out(part, spec, envs, seed=0, noise=0.1)))
        buffer, seen = np.zeros((2, 1), np.float32), []

        def act(observations: np.ndarray, buffer=buffer, seen=seen) -> np.ndarray:
            assert not buffer.any()  # nobody wrote into what the callable gave
            seen.append(observations)
            return buffer

        evaluate(act, envs, 2, 0)
        visited.append(np.concatenate(seen))
    for a, b in zip(*episodes, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert np.array_equal(*visited)


def bounds(kind: type, size: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Boxes of any position and width, zero included, in float32 or float64."""
    number = st.floats(-1e6, 1e6, width=32 if kind == np.float32 else 64)
    pair = st.tuples(number, st.one_of(number, st.floats(-1, 1))).map(sorted)
    return st.lists(pair, min_size=size, max_size=size).map(
        lambda pairs: tuple(np.array(pairs, kind).T)
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_action_is_in_its_box(kind: type, data: st.DataObject) -> None:
    low, high = data.draw(bounds(kind, 6))
    inside = np.float64(inward(low, high))
    served = (inside[0] >= low) & (inside[1] <= high)  # the others hold no float32
    stored = saturated(3, low, high)
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32) * 3
    weights = tuple(torch.from_numpy(array) for array in stored.layers)
    actor = Actor(3, low, high, [4])
    graph = policy(torch.from_numpy(x), weights, actor.action_low, actor.action_high).numpy()
    for action in (NumpyPolicy(stored, low, high)(x), Policy(stored, low, high)(x), graph):
        assert action.dtype == np.float32
        assert ((action >= low) & (action <= high))[:, served].all()
        spacing = np.spacing(np.float32(np.maximum(abs(low), abs(high))))
        assert (abs(action - (low + high) / 2) <= (high - low) / 2 + spacing).all()


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_an_exported_file_s_actions_are_in_their_box(kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    generator = np.random.default_rng(0)
    low = generator.normal(size=200) * 10.0 ** generator.integers(-3, 4, 200)
    high = low + 10.0 ** generator.integers(-2, 3, 200)
    own = Policy(saturated(3, low, high), low, high)
    x = generator.standard_normal((500, 3)).astype(np.float32) * 3
    action = run(export(own, kind), kind, x)
    assert ((action >= low) & (action <= high)).all()
    assert np.allclose(action, own(x), rtol=1e-6, atol=1e-5 * (high - low).max())
    unclipped = np.tanh(x @ own.layers[0].T) * ((high - low) / 2).astype(np.float32)
    unclipped += ((high + low) / 2).astype(np.float32)
    assert ((unclipped < low) | (unclipped > high)).any()  # else this would test nothing


def test_bounds_are_rounded_into_the_box() -> None:
    low, high = inward([-0.1, 0.1, -1, 0.3], [0.1, 0.1, 1, 0.7])
    # The float32 next to 0.1 and 0.3 are above them, that next to 0.7 is below it.
    tenth = np.nextafter(np.float32(0.1), np.float32(0))
    assert np.array_equal(low, np.float32([-tenth, 0.1, -1, 0.3]))
    assert np.array_equal(high, np.float32([tenth, 0.1, 1, 0.7]))
    assert np.array_equal(inward(low, high), (low, high))


def test_the_clip_keeps_the_gradient_of_what_is_not_saturated() -> None:
    low, high = torch.tensor([-0.3, 2.0]), torch.tensor([1.7, 2.5])
    for x, saturates in ((0.5, False), (-2.0, False), (100.0, True)):
        weight, bias = torch.tensor([[x], [x]], requires_grad=True), torch.zeros(2)
        policy(torch.ones(1, 1), (weight, bias), low, high).sum().backward()
        expected = (high - low) / 2 * (1 - torch.tanh(torch.tensor(x)) ** 2)
        assert weight.grad is not None
        assert torch.allclose(weight.grad[:, 0], expected)
        assert bool((weight.grad == 0).all()) == saturates


def test_a_run_with_fixed_actions(tmp_path: Path) -> None:
    env_id, log = register(Fixed), write_log(tmp_path / "log.hdf5", 3, 3)
    import h5py

    with h5py.File(log, "r+") as file:
        file["actions"][:] = np.clip(file["actions"][:], Fixed.low, Fixed.high)
    trainer, module, data = tiny_run(tmp_path / "run", env_id, log, schedule=SHORT)
    trainer.fit(module, data)  # the environment checks each action
    online = data.replay.rows[-12:, data.layout.columns["action"]]
    assert torch.equal(online[:, 1:], torch.tensor([0.1, 0.0]).expand(12, 2))
    batch = data.layout.unpack(data.replay.rows)
    values = measure(module, batch, None)
    free = (module.actor(batch["observation"]) - batch["action"])[:, :1].detach()
    own = behavior_cloning(free / 0.2, torch.zeros_like(free)).sqrt()
    options = module.work(batch.unsqueeze(0), module.agent_state()).options
    assert options.free_actions.tolist() == [True, False, False]  # those that α weighs
    assert values["diagnostics/action_distance"] == pytest.approx(float(own), rel=1e-4)
    assert 0 <= values["diagnostics/saturated"] <= 1


def test_awac_with_fixed_actions(tmp_path: Path) -> None:
    from adabc_lightning.agent.methods import AWAC

    model = {"method": AWAC()}
    trainer, module, data = tiny_run(
        tmp_path, register(Fixed), None, schedule=Schedule(0, 12, 1, 6), model=model
    )
    before = module.actor.log_std.detach().clone()  # type: ignore[union-attr]
    trainer.fit(module, data)
    after = module.actor.log_std.detach()  # type: ignore[union-attr]
    assert torch.equal(before[1:], after[1:])  # nothing is learnt of what is fixed
    assert not torch.equal(before[:1], after[:1])


@pytest.mark.parametrize("name", ["IQL", "CQL", "SPOT", "ReBRAC", "RLPD"])
def test_other_methods_with_fixed_actions(tmp_path: Path, name: str) -> None:
    import h5py

    from adabc_lightning.agent import methods

    log = write_log(tmp_path / "log.hdf5", 3, 3, linked=True)
    with h5py.File(log, "r+") as file:
        file["actions"][:] = np.clip(file["actions"][:], Fixed.low, Fixed.high)
    given = {"vae_updates": 2} if name == "SPOT" else {}
    model = {"method": getattr(methods, name)(**given), "policy_delay": 1}
    trainer, module, data = tiny_run(
        tmp_path / "run", register(Fixed), log, schedule=Schedule(4, 4, 1, 4), model=model
    )
    trainer.fit(module, data)
    assert all(weight.isfinite().all() for weight in module.state_dict().values())


def test_a_robot_s_action_may_be_fixed() -> None:
    space = Space(1, (-0.1, 0.1), (0.3, 0.1))
    check_space(space, "here")
    single = np.float32([[0.3, 0.1]])
    told = LoggedEpisode(np.zeros((2, 1)), single, np.zeros(1), False)
    (action,) = check_episode(told, space, "here").actions
    assert action[0] <= 0.3
    assert action[1] == np.float32(0.1)
    with pytest.raises(UserError, match="equal where an action is fixed"):
        check_space(Space(1, (0.1,), (0.1,)), "here")


@pytest.mark.parametrize("kind", [Unbounded, Huge])
def test_the_advice_for_unbounded_actions_works(kind: type[Line]) -> None:
    env = kind()
    with pytest.raises(UserError) as caught:
        EnvironmentSpec.of(env, "X-v0")
    _, _, advice = str(caught.value).partition("within ")
    code = advice.removesuffix(", whose bounds are finite").replace("LOW, HIGH", "-1, 1")
    wrapped = eval(code, {"gymnasium": gymnasium, "env": env})  # as a person would
    assert EnvironmentSpec.of(wrapped, "X-v0").action_high == (1.0,)
    wrapped.reset(seed=0)
    wrapped.step(np.float32([0.5]))


def test_actions_that_cannot_vary_are_refused() -> None:
    with pytest.raises(UserError, match="none of which can vary"):
        EnvironmentSpec.of(Still(), "X-v0")


def test_a_broken_environment_is_found_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer, module, data = tiny_run(folder, register(Column), None, schedule=Schedule(0, 12, 1, 6))
    with pytest.raises(UserError, match=r"shape \[3, 1\] instead of \[3\] in reset, tried out"):
        trainer.fit(module, data)
    assert not folder.exists()


def test_trying_out_leaves_the_process_s_generators_alone(tmp_path: Path) -> None:
    _, _, data = tiny_run(tmp_path, register(Random), None, schedule=Schedule(0, 12, 1, 6))
    np.random.seed(0)
    expected = np.random.get_state()[1].tolist()
    data.setup("fit")
    assert np.random.get_state()[1].tolist() == expected


def test_no_time_limit_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for env_id, more in ((register(Line), {}), (register(Line, None), {"max_episode_steps": 9})):
        _, _, data = tiny_run(tmp_path, env_id, None, schedule=Schedule(0, 12, 1, 6), data=more)
        data.setup("fit")
        assert capsys.readouterr().err == ""
    _, _, data = tiny_run(tmp_path, register(Line, None), None, schedule=Schedule(0, 12, 1, 6))
    data.setup("fit")
    line = capsys.readouterr().err
    assert line.endswith("set data.max_episode_steps\n")
    assert line.count("\n") == 1


def test_the_error_of_a_picture_speaks_of_the_environment_s_own(tmp_path: Path) -> None:
    env, target = make_env(register(Line)), tmp_path / "a.mp4"
    pytest.importorskip("imageio_ffmpeg")
    with pytest.raises(UserError) as caught, recording(env, target, 30):
        pass
    assert "MUJOCO_GL" not in str(caught.value)
    assert str(caught.value).endswith("leave --video out")


class Rude(Line):
    """Does in its second step what it must not."""

    what: Any = None

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        answer = super().step(action)
        if self.what == "swallows":
            for _ in range(2):
                try:
                    time.sleep(0.3)
                except BaseException:  # as a driver with a bare `except:` does
                    continue
        if self.what == "exits":
            sys.exit(7)
        return (*answer[:2], self.what, False, {}) if self.what in ("False", None, []) else answer

    def close(self) -> None:
        raise OSError("cannot close")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("swallows", "did not answer within data.step_timeout 0.1 seconds in step 1 of an episode"),
        ("exits", "raised SystemExit: 7 in step 1 of an episode"),
        ("False", "gave a value of type str as terminated or truncated instead of one flag"),
        (None, "gave a value of type NoneType as terminated or truncated instead of one flag"),
        ([], "gave a value of type list as terminated or truncated instead of one flag"),
    ],
)
def test_what_a_step_must_not_do_is_a_sentence(what: Any, sentence: str) -> None:
    env = Rude()
    env.what = what
    checked = CheckedEnv(env, 0.1 if what == "swallows" else None)
    checked.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match=sentence):
        checked.step(np.zeros(1, np.float32))
    checked.close()


def test_a_signal_s_end_is_not_the_environment_s() -> None:
    class Interrupted(Line):
        def step(self, action: np.ndarray) -> Any:
            raise Stopped(143)

    checked = CheckedEnv(Interrupted())
    checked.reset(seed=0)
    with pytest.raises(Stopped):
        checked.step(np.zeros(1, np.float32))


def test_an_environment_that_cannot_be_closed_can_be_used(tmp_path: Path) -> None:
    class Stuck(Line):
        def close(self) -> None:
            raise OSError("cannot close")

    env_id = register(Stuck)
    trainer, module, data = tiny_run(tmp_path, env_id, None, schedule=Schedule(0, 12, 1, 6))
    trainer.fit(module, data)
    assert data.env_steps == 12
