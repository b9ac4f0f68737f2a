"""Fine-tuning from a folder that another process adds episodes to."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TOY_LIMIT, Toy, tiny_run, write_log

from adabc_lightning import Robot
from adabc_lightning.__main__ import main
from adabc_lightning.agent.control import next_alpha, next_return_average
from adabc_lightning.agent.gaussian import SquashedActor
from adabc_lightning.agent.methods import SAC
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.callbacks import AlphaController, Evaluation
from adabc_lightning.data.log import LogCollector
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import Exchange, Publication
from adabc_lightning.errors import EnvironmentFailure, UserError
from adabc_lightning.run.schedule import Schedule

LOW, HIGH = [-1, -3], [1, 3]
SCHEDULE = Schedule(4, 17, 2, evaluation_every=6)  # ends in the middle of an episode


def act(robot: Robot, lag: int = 0) -> list[float]:
    """Episodes of the toy until training is over; every third one ends in a terminal."""
    body, returns = Toy(), []
    while (policy := robot.ask(lag, timeout=60)) is not None:
        steps = 3 if robot.episodes % 3 == 2 else TOY_LIMIT
        observations, actions, rewards = [body.reset(seed=robot.episodes)[0]], [], []
        for _ in range(steps):
            actions.append(policy(observations[-1]))
            observation, reward, *_ = body.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        robot.tell(observations, actions, rewards, steps < TOY_LIMIT)
        returns.append(float(np.float32(rewards).sum(dtype=np.float64)))
    return returns


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with Robot(tmp_path / "exchange", 3, LOW, HIGH, TOY_LIMIT) as robot:
        yield robot


def start(tmp_path: Path, name: str = "run", **options: Any) -> tuple:
    log = tmp_path / "log.hdf5"
    if not log.exists():
        write_log(log, 3, 2)
    return tiny_run(
        tmp_path / name, f"log:{tmp_path / 'exchange'}", log, schedule=SCHEDULE, **options
    )


def fit_beside(
    robot: Robot, tmp_path: Path, name: str = "run", model: Any = None, **options: Any
) -> tuple:
    """A whole run, with the robot in a thread of its own."""
    trainer, module, data = start(tmp_path, name, model=model)
    returns: list[float] = []
    thread = threading.Thread(target=lambda: returns.extend(act(robot)))
    thread.start()
    trainer.fit(module, data, **options)
    thread.join(60)
    assert not thread.is_alive()
    return trainer, module, data, returns


def rows_of(path: Path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_learns_from_what_the_robot_tells(robot: Robot, tmp_path: Path) -> None:
    trainer, module, data, returns = fit_beside(robot, tmp_path)
    assert (data.env_steps, module.gradient_updates) == (17, 4 + 17 * 2)
    assert data.collector.episodes == 3  # of 5, 5 and 3 steps; 4 steps of the next

    # the ring holds the episodes, step by step, after what was kept of the dataset
    batch = data.layout.unpack(data.replay.rows[-17:])
    episodes = [robot.exchange.read_episode(i, robot.space) for i in range(4)]
    assert robot.exchange.episode_count() == 4
    taken = [(e, t) for e in episodes for t in range(len(e.rewards))][:17]
    for row, (episode, t) in enumerate(taken):
        np.testing.assert_array_equal(batch["observation"][row], episode.observations[t])
        np.testing.assert_array_equal(batch["next_observation"][row], episode.observations[t + 1])
        np.testing.assert_array_equal(batch["action"][row], episode.actions[t])
        assert batch["reward"][row] == episode.rewards[t]
        assert batch["terminated"][row] == (row == 12)  # a time limit is no terminal
    assert batch["online"].all()

    # α follows these returns; R_avg starts at the first of them
    (controller,) = (c for c in trainer.callbacks if isinstance(c, AlphaController))
    alpha, average = 0.4, data.reference.fraction(returns[0])
    for value, steps in zip(returns[:3], (5, 5, 3), strict=True):
        current = data.reference.fraction(value)
        alpha = next_alpha(
            alpha, return_average=average, return_current=current, episode_steps=steps,
            target=1.05, kp=1e-3, kd=1e-2, ceiling=0.4,
        )  # fmt: skip
        average = next_return_average(average, current, 0.05)
    assert controller.alpha == pytest.approx(alpha)
    assert controller.return_average == pytest.approx(average)

    # an evaluation is that of the episodes since the last one
    (evaluation,) = (c for c in trainer.callbacks if isinstance(c, Evaluation))
    found = [(point["env_steps"], point["eval/return"]) for point in evaluation.history]
    assert found == [
        (6, pytest.approx(returns[0])),
        (12, pytest.approx(returns[1])),
        (17, pytest.approx(returns[2])),
    ]
    evaluated = [row for row in rows_of(tmp_path / "run") if row["eval/return"]]
    assert [row["env_steps"] for row in evaluated] == ["6", "12", "17"]
    assert (tmp_path / "run" / "summary.json").exists()
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def brittle(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> np.ndarray:
    return np.where(np.abs(observation[:, 0] - 2) < 1e-3, np.inf, 10 * following[:, 0])


def test_a_function_of_rewards_is_given_the_log_s_steps(robot: Robot) -> None:
    observations = np.arange(TOY_LIMIT + 1.0)[:, None] * [1, 0, 0]
    robot.tell(observations, np.zeros((TOY_LIMIT, 2)), np.zeros(TOY_LIMIT), False)
    reward, nothing = Reward(f"{__name__}:brittle"), lambda *_: None
    collector = LogCollector(robot.exchange, Layout(3, 2), nothing, nothing, reward=reward)
    column = collector.layout.columns["reward"]
    assert [float(collector.step(nothing)[column]) for _ in range(2)] == [10, 20]
    before = collector.state_dict()
    for _ in range(2):  # asked again it is where it was
        with pytest.raises(EnvironmentFailure, match=r"is inf for .* \(environment step 3\)") as e:
            collector.step(nothing)
        assert e.value.undone
        assert collector.state_dict() == before
        assert before.pop("digest")
        assert before == {"env_steps": 2, "episodes": 0, "step": 2}
        before = collector.state_dict()
    collector.close()


def test_an_episode_that_fails_at_its_first_step_is_not_begun(robot: Robot) -> None:
    for start in (-9, 2):  # the second is `brittle` from its start
        observations = np.full((3, 1), start) * [1, 0, 0]
        robot.tell(observations, np.zeros((2, 2)), np.zeros(2), False)
    reward, nothing = Reward(f"{__name__}:brittle"), lambda *_: None
    collector = LogCollector(robot.exchange, Layout(3, 2), nothing, nothing, reward=reward)
    for _ in range(2):
        collector.step(nothing)
    before = collector.state_dict()
    with pytest.raises(EnvironmentFailure, match="environment step 3"):
        collector.step(nothing)
    assert collector.state_dict() == before
    collector.close()
    again = LogCollector(robot.exchange, Layout(3, 2), nothing, nothing)
    assert again.load_state_dict(before)
    again.step(nothing)
    again.close()


def test_the_robot_acts_as_the_agent_does(robot: Robot, tmp_path: Path) -> None:
    _, module, _, _ = fit_beside(robot, tmp_path)
    publication = robot.exchange.read_policy()
    assert publication is not None
    assert publication[1:] == (3, 17, 38, True)
    assert robot.ask() is None  # training is over
    robot.exchange.write_policy(publication._replace(finished=False, episodes=robot.episodes))
    policy = robot.ask()
    assert policy is not None
    observations = np.random.default_rng(0).normal(size=(2000, 3))
    calm = np.stack([policy(o, noise=False) for o in observations])
    np.testing.assert_allclose(calm, module.act(observations), rtol=1e-5, atol=1e-6)
    noisy = np.stack([policy(o) for o in observations])
    assert ((noisy > LOW) & (noisy < HIGH)).all()  # so young a policy is far from the bounds
    np.testing.assert_allclose((noisy - calm).std(0), [0.1, 0.3], rtol=0.1)  # σ in action limits


def test_an_interrupted_run_goes_on_where_it_was(robot: Robot, tmp_path: Path) -> None:
    """With lag 0 who acts waits for who learns: the same policies, the same episodes."""
    _, uncut, _, _ = fit_beside(robot, tmp_path, "uncut")
    whole = rows_of(tmp_path / "uncut")
    for path in robot.exchange.policy_folder.glob("*.npz"):
        path.unlink()
    aside = tmp_path / "aside.npz"
    robot.exchange.episode_path(2).rename(aside)  # not told yet

    trainer, module, data = start(tmp_path, "cut", data={"step_timeout": 0.2})
    with pytest.raises(EnvironmentFailure, match=r"2.npz did not come within data\.step_timeout"):
        trainer.fit(module, data)
    assert data.env_steps == 10
    aside.rename(robot.exchange.episode_path(2))
    trainer, module, data = start(tmp_path, "cut", data={"step_timeout": 0.2})
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    assert data.env_steps == 17
    for a, b in zip(module.state_dict().values(), uncut.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert rows_of(tmp_path / "cut") == whole


def test_episodes_that_are_there_already_are_learnt_from(robot: Robot, tmp_path: Path) -> None:
    """And with a lag who acts does not wait."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        robot.tell(rng.normal(size=(6, 3)), rng.uniform(LOW, HIGH, (5, 2)), rng.normal(size=5), 0)
    with pytest.raises(TimeoutError, match="no policy in"):
        robot.ask(lag=9, timeout=0)
    trainer, module, data = start(tmp_path)
    trainer.fit(module, data)
    assert data.env_steps == 17
    publication = robot.exchange.read_policy()
    assert publication is not None
    robot.exchange.write_policy(publication._replace(finished=False))
    policy = robot.ask(lag=1, timeout=0)
    assert policy is not None
    assert (policy.episodes, policy.env_steps, policy.gradient_updates) == (3, 17, 38)
    with pytest.raises(TimeoutError, match="learnt from 4 episodes, after 0 seconds"):
        robot.ask(lag=0, timeout=0)


def test_one_process_on_each_side(robot: Robot, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a process that acts is at work in"):
        Robot(tmp_path / "exchange", 3, LOW, HIGH, TOY_LIMIT)
    trainer, module, data = start(tmp_path, data={"step_timeout": 0.1})
    other, _, more = start(tmp_path, "other")
    failures: list[BaseException] = []

    def idle() -> None:
        try:
            more.trainer = other
            more.setup("fit")
        except UserError as error:
            failures.append(error)

    data.idle = idle  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFailure):
        trainer.fit(module, data)
    assert "a training run is at work in" in str(failures[0])


def test_the_folder_is_of_one_task(robot: Robot, tmp_path: Path) -> None:
    robot.close()
    Robot(tmp_path / "exchange", 3, LOW, HIGH, TOY_LIMIT).close()
    with pytest.raises(UserError, match="is of another task"):
        Robot(tmp_path / "exchange", 4, LOW, HIGH, TOY_LIMIT)


def episode(**changes: Any) -> dict[str, Any]:
    values = {
        "observations": np.zeros((3, 3)),
        "actions": np.zeros((2, 2)),
        "rewards": np.zeros(2),
        "terminated": False,
    }
    return values | changes


BAD = [
    (episode(observations=np.zeros((2, 3))), r"observations must be \[3, 3\], but are \[2, 3\]"),
    (episode(actions=np.zeros((2, 3))), r"actions must be \[2, 2\]"),
    (episode(rewards=np.zeros(0)), "has no steps: its rewards are empty"),
    (episode(rewards=[0, np.nan]), "rewards must be finite"),
    (episode(observations=np.full((3, 3), 1e300)), "observations must be finite in float32"),
    (episode(actions=[[0, 4], [0, 0]]), "actions must be between"),
    (episode(actions=[["up", "up"], [0, 0]]), "actions are no numbers"),
    (episode(terminated=2), "terminated must be true or false"),
    (episode(terminated=[True, False]), "terminated must be true or false"),
    (
        episode(observations=np.zeros((7, 3)), actions=np.zeros((6, 2)), rewards=np.zeros(6)),
        "has 6 steps, max_episode_steps is 5",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=range(len(BAD)))
def test_a_broken_episode_is_not_told(robot: Robot, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        robot.tell(**values)
    assert robot.exchange.episode_count() == robot.episodes == 0
    assert os.listdir(robot.exchange.episodes_folder) == [".lock"]


def test_actions_a_little_outside_are_clipped(robot: Robot) -> None:
    robot.tell(**episode(actions=[[1.0001, 0], [0, -3.0001]]))
    stored = robot.exchange.read_episode(0, robot.space)
    assert stored.actions.tolist() == [[1, 0], [0, -3]]


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_episode_ends_the_run_with_a_checkpoint(
    robot: Robot, tmp_path: Path, damage: str
) -> None:
    for _ in range(3):
        robot.tell(**episode())
    path = robot.exchange.episode_path(1)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    else:
        np.savez(path, **{k: v for k, v in episode().items() if k != "rewards"})
    trainer, module, data = start(tmp_path)
    with pytest.raises(EnvironmentFailure, match=r"000000001.npz (is damaged|has no 'rewards')"):
        trainer.fit(module, data)
    assert data.env_steps == 2
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def fit(tmp_path: Path, *words: str) -> list[str]:
    options = {
        "data.env_id": f"log:{tmp_path / 'exchange'}",
        "data.dataset": tmp_path / "log.hdf5",
        "data.reference_min": 0,
        "data.reference_max": 10,
        "data.batch_size": 8,
        "model.num_critics": 2,
        "model.hidden_sizes": "[8,8]",
        "schedule.offline_updates": 4,
        "schedule.online_env_steps": 10,
        "schedule.updates_per_env_step": 1,
        "trainer.default_root_dir": tmp_path / "run",
    }
    write_log(tmp_path / "log.hdf5", 3, 2)
    pairs = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["fit", "--config", "base", *pairs, *words]


def test_a_signal_ends_a_run_that_waits(robot: Robot, tmp_path: Path) -> None:
    robot.tell(**episode())
    command = [sys.executable, "-m", "adabc_lightning", *fit(tmp_path)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    publication = None
    deadline = time.monotonic() + 120
    while (publication is None or publication.episodes < 1) and time.monotonic() < deadline:
        assert run.poll() is None
        time.sleep(0.05)
        publication = robot.exchange.read_policy()
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, said
    assert "stopped by SIGTERM, saved; go on with" in said
    for _ in range(4):
        robot.tell(**episode())
    words = ["fit", "--trainer.default_root_dir", str(tmp_path / "run"), "--ckpt_path", "last"]
    done = subprocess.run([*command[:3], *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    publication = robot.exchange.read_policy()
    assert publication is not None
    assert (publication.finished, publication.env_steps) == (True, 10)


MISTAKES = [
    ("", "space.json is not there; start the process that acts first"),
    ("text", "space.json is damaged"),
    ('{"observation_size": 3}', "space.json is damaged"),
    (
        '{"observation_size": 3, "action_low": [1], "action_high": [0], "max_episode_steps": 5}',
        "finite action_low < action_high",
    ),
]


@pytest.mark.parametrize(("content", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_broken_folder_is_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exchange").mkdir()
    if content:
        (tmp_path / "exchange" / "space.json").write_text(content)
    with pytest.raises(UserError, match=message):
        ReplayDataModule(f"log:{tmp_path / 'exchange'}", None, Schedule(0, 5))
    assert Exchange(tmp_path / "exchange").read_policy() is None
    assert not (tmp_path / "run").exists()


def test_there_is_nothing_to_evaluate_in(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_beside(robot, tmp_path)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    words = [w for w in fit(tmp_path)[1:]]
    words[words.index("--model.num_critics") + 1] = "3"
    assert main(["validate", *words, "--ckpt_path", str(checkpoint)]) == 2
    assert "a log; there is no environment to evaluate in" in capsys.readouterr().err


def test_the_robot_needs_no_pytorch() -> None:
    code = "import sys, adabc_lightning; adabc_lightning.Robot; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_a_squashed_policy_is_sampled_by_the_robot(robot: Robot, tmp_path: Path) -> None:
    model = {"method": SAC(), "policy_delay": 1, "learning_rate": 0.0}
    _, module, data, _ = fit_beside(robot, tmp_path, model=model)
    rows = data.layout.unpack(data.replay.rows[-4:])  # of the last episode
    episode = robot.episodes - 1
    noise = np.random.default_rng([robot.seed, episode]).standard_normal((TOY_LIMIT, 2))
    told = robot.exchange.read_episode(episode, robot.space)
    expected = [module.explore(o, n) for o, n in zip(told.observations, noise, strict=False)]
    np.testing.assert_allclose(told.actions, expected[: len(told.actions)], atol=1e-5)
    assert rows["online"].all()


def tell_some(robot: Robot, count: int) -> None:
    rng = np.random.default_rng(robot.episodes)
    for _ in range(count):
        robot.tell(rng.normal(size=(6, 3)), rng.uniform(LOW, HIGH, (5, 2)), rng.normal(size=5), 0)


def test_no_episode_is_replaced(robot: Robot, tmp_path: Path) -> None:
    tell_some(robot, 4)
    whole = robot.exchange.episode_path(3).read_bytes()
    robot.exchange.episode_path(1).unlink()
    robot.close()
    with pytest.raises(UserError, match=r"000000001\.npz is missing, and 2 later ones are there"):
        Robot(tmp_path / "exchange", 3, LOW, HIGH, TOY_LIMIT)
    robot.episodes = 3
    with pytest.raises(UserError, match=r"000000003\.npz is there already; nothing replaces it"):
        tell_some(robot, 1)
    assert robot.exchange.episode_path(3).read_bytes() == whole


def go_on(tmp_path: Path, **options: Any) -> tuple:
    trainer, module, data = start(tmp_path, **options)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    return trainer, module, data


def test_a_run_goes_on_with_its_own_episodes_only(robot: Robot, tmp_path: Path) -> None:
    fit_beside(robot, tmp_path)  # 17 steps: three episodes, and two steps of a fourth
    robot.close()
    newest = robot.exchange.episode_path(3)
    there = newest.read_bytes()
    newest.unlink()
    with pytest.raises(UserError, match=r"has learnt from 4 episodes, .*exchange has 3; go on"):
        go_on(tmp_path)
    with Robot(tmp_path / "exchange", 3, LOW, HIGH, TOY_LIMIT) as again:
        tell_some(again, 1)
    with pytest.raises(UserError, match=r"3\.npz is another episode than the checkpoint has"):
        go_on(tmp_path)
    newest.write_bytes(there)
    go_on(tmp_path)


def test_a_policy_that_knows_more_than_the_folder(robot: Robot) -> None:
    tell_some(robot, 1)
    policy = StoredPolicy.of_actor(SquashedActor(3, LOW, HIGH, (4,)).state_dict())
    robot.exchange.write_policy(Publication(policy, 2, 10, 9, finished=False))
    with pytest.raises(UserError, match="has learnt from 2 episodes, and 1 are there; put the"):
        robot.ask(timeout=0)


def test_a_run_goes_on_where_its_folder_was_moved_to(robot: Robot, tmp_path: Path) -> None:
    fit_beside(robot, tmp_path)
    robot.close()
    (tmp_path / "exchange").rename(tmp_path / "moved")
    longer = Schedule(4, 23, 2, evaluation_every=6)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with Robot(tmp_path / "moved", 3, LOW, HIGH, TOY_LIMIT) as again:
        tell_some(again, 1)
        env_id, log = f"log:{tmp_path / 'moved'}", tmp_path / "log.hdf5"
        trainer, module, data = tiny_run(tmp_path / "run", env_id, log, schedule=longer)
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
        assert data.env_steps == 23
        content = torch.load(last, weights_only=True)
        del content["ReplayDataModule"]["collector"]["digest"]  # as earlier versions have it
        torch.save(content, tmp_path / "older.ckpt")
        env_id = f"log:{tmp_path / '.' / 'moved' / '..' / 'moved'}"
        trainer, module, data = tiny_run(tmp_path / "new", env_id, log, schedule=longer)
        with pytest.raises(UserError, match="was trained in 'log:"):
            trainer.fit(module, data, ckpt_path=tmp_path / "older.ckpt", weights_only=True)


def test_what_came_after_an_episode_was_written_costs_nothing(robot: Robot) -> None:
    told = {
        "observations": np.zeros((3, 3)),
        "actions": np.zeros((2, 2)),
        "rewards": np.zeros(2),
    }
    robot.tell(**told, terminated=False)
    robot.episodes = 0  # a Ctrl-C before it was counted
    robot.tell(**told, terminated=False)
    assert robot.episodes == 1
    robot.episodes = 0
    with pytest.raises(UserError, match="is there already"):
        robot.tell(**told, terminated=True)
    (robot.exchange.episodes_folder / "backup.npz").touch()
    robot.exchange.check_whole()
