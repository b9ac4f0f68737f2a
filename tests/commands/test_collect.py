"""``collect``: what it writes, that it goes on where it was stopped, one line for each mistake."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from paths import REPOSITORY
from test_interruption import files_of
from tiny import TOY_LIMIT, Toy, register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks.checkpointing import Checkpointing
from adabc_lightning.commands.collect.dataset import shares
from adabc_lightning.commands.collect.sources import read_source
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.env.make import make_env
from adabc_lightning.env.policy_checkpoint import read_policy
from adabc_lightning.env.rollout import LANES, Part, num_lanes, roll_out
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import episode_streams

PENDULUM = "InvertedPendulum-v5"


class Fragile(Toy):
    """Ends by itself, at a step that depends on the start; can raise or lose its numbers."""

    def __init__(self, mishap: str = "") -> None:
        super().__init__()
        self.mishap = mishap

    def reset(self, **options):
        self.left = 0
        observation, info = super().reset(**options)
        self.left = 2 + int(abs(observation[0]) * 10)
        return observation, info

    def step(self, action):
        self.left -= 1
        if self.mishap == "raises" and self.left == 1:
            raise RuntimeError("the motor\nburnt")
        observation, reward, *_ = super().step(action)
        reward = np.nan if self.mishap == "nan" else reward
        return observation, reward, self.left <= 0, False, {}


for name, mishap in (("Fragile", ""), ("Raising", "raises"), ("Nan", "nan")):
    if f"Adabc{name}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"Adabc{name}-v0", Fragile, max_episode_steps=12, kwargs={"mishap": mishap}
        )


if "AdabcLongToy-v0" not in gymnasium.registry:
    gymnasium.register("AdabcLongToy-v0", Toy, max_episode_steps=6)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def collect(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints."""
    status = main(["collect", *shlex.split(line)])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def columns(path: str | Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {key: file[key][()].tobytes() for key in file}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run in the toy environment that kept its policies."""
    folder = tmp_path_factory.mktemp("kept")
    log = write_log(folder / "log.hdf5", 3, 2)
    schedule = Schedule(6, 12, 1, evaluation_every=4)
    trainer, module, data = tiny_run(folder, register_toy(), log, schedule=schedule)
    (callback,) = (c for c in trainer.callbacks if isinstance(c, Checkpointing))
    callback.keep_policies = True
    trainer.fit(module, data)
    return folder


def test_a_run_keeps_the_policy_of_each_evaluation(run: Path) -> None:
    kept = sorted((run / "checkpoints" / "policies").iterdir())
    assert [path.name for path in kept] == [f"{steps:09d}.ckpt" for steps in (0, 4, 8, 12)]
    last = read_run(run / "checkpoints" / "last.ckpt")
    newest = read_policy(kept[-1])
    assert newest["agent"]["gradient_updates"] == 18
    assert set(newest["state_dict"]) == {n for n in last["state_dict"] if n.startswith("actor.")}
    for key, tensor in newest["state_dict"].items():
        assert torch.equal(tensor, last["state_dict"][key])
    assert kept[-1].stat().st_size < 10_000


def test_a_kept_policy_is_nothing_to_train_from(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = run / "checkpoints" / "policies" / "000000004.ckpt"
    assert main(["fit", "--config", "hopper", "--ckpt_path", str(kept)]) == 2
    assert "holds a policy and nothing else" in capsys.readouterr().err


def test_random_actions_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    said = collect("--policy random --env-id AdabcFragile-v0 --steps 100 --out a.hdf5", capsys)
    data = h5py.File("a.hdf5")
    assert os.listdir() == ["a.hdf5"] or set(os.listdir()) == {"a.hdf5", "minari"}
    row, returns, terminals = 0, [], 0
    env = make_env("AdabcFragile-v0")
    low, high = env.action_space.low, env.action_space.high
    episode = 0
    while row < 100:
        reset_seed, generator = episode_streams(0, 0, episode)
        observation, _ = env.reset(seed=reset_seed)
        returns.append(0.0)
        ended = False
        while not ended and row < 100:
            action = generator.uniform(low, high).astype(np.float32)
            np.testing.assert_array_equal(data["actions"][row], action)
            np.testing.assert_array_equal(data["observations"][row], np.float32(observation))
            observation, reward, terminated, truncated, _ = env.step(action)
            np.testing.assert_array_equal(data["next_observations"][row], np.float32(observation))
            assert data["rewards"][row] == np.float32(reward)
            ended = terminated or truncated
            assert data["terminals"][row] == terminated
            assert data["timeouts"][row] == (not terminated and (truncated or row == 99))
            returns[-1] += float(np.float32(reward))
            terminals += terminated
            row += 1
        episode += 1
    card = dict(data.attrs)
    assert (card["episodes"], card["terminals"]) == (len(returns), terminals)
    assert card["timeouts"] == len(returns) - terminals
    for statistic in ("mean", "std", "min", "max"):
        assert card[f"return_{statistic}"] == pytest.approx(getattr(np, statistic)(returns))
    assert (card["env_id"], card["seed"], card["noise"]) == ("AdabcFragile-v0", 0, 0.1)
    assert json.loads(card["policy"]) == [{"policy": "random"}]
    assert card["command"].endswith(
        "--max-episode-steps 12 --noise 0.1 --steps 100 --seed 0 --out a.hdf5"
    )
    mean, std = np.mean(returns), np.std(returns)
    assert said == (
        f"a.hdf5: 100 transitions, {len(returns)} episodes, return {mean:.2f} ± {std:.2f}, "
        f"{terminals} terminals, {len(returns) - terminals} timeouts\n"
    )


def test_the_command_in_the_card_has_what_it_was_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADABC_ALLOW", "")
    line = "--policy random --env-id AdabcFragile-v0 --steps 20 --allow own_env --out a.hdf5"
    collect(line, capsys)
    with h5py.File("a.hdf5") as file:
        assert file.attrs["command"].endswith(" --seed 0 --allow own_env --out a.hdf5")


def test_hdf5_and_minari_hold_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"--policy {run}/checkpoints/last.ckpt --env-id AdabcFragile-v0 --steps 60 --out"
    collect(f"{line} a.hdf5", capsys)
    collect(f"{line} mine/toy-v0", capsys)
    a, b = load_dataset("a.hdf5"), load_dataset("mine/toy-v0")
    assert torch.equal(a.rows, b.rows)
    assert torch.equal(a.episode_length_E, b.episode_length_E)
    assert (a.terminals, a.timeouts) == (b.terminals, b.timeouts)
    assert len(a.rows) == 60
    import minari

    metadata = minari.load_dataset("mine/toy-v0").storage.metadata
    with h5py.File("a.hdf5") as file:
        assert metadata["return_mean"] == file.attrs["return_mean"]
        assert metadata["policy"] == file.attrs["policy"]
    assert list(minari.list_local_datasets()) == ["mine/toy-v0"]
    assert {path.name for path in Path("minari").iterdir()} == {"mine"}


def test_a_policy_acts_as_the_agent_does_plus_noise(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "checkpoints" / "last.ckpt"
    collect(f"--policy {path} --noise 0 --steps 40 --out calm.hdf5", capsys)
    collect(f"--policy {path} --noise 0.5 --steps 4000 --out noisy.hdf5", capsys)
    actor = Actor(3, [-1, -3], [1, 3], [8, 8])
    state = read_run(path)["state_dict"]
    actor.load_state_dict(
        {k.removeprefix("actor."): v for k, v in state.items() if k.startswith("actor.")}
    )
    calm, noisy = load_dataset("calm.hdf5"), load_dataset("noisy.hdf5")
    assert set(calm.episode_length_E.tolist()) == {TOY_LIMIT}
    for data in (calm, noisy):
        batch = data.layout.unpack(data.rows)
        difference = batch["action"] - actor(batch["observation"]).detach()
        if data is calm:
            torch.testing.assert_close(difference, torch.zeros_like(difference))
            continue
        inside = batch["action"].abs() < torch.tensor([1.0, 3.0])
        assert inside.float().mean() < 1  # clipped
        assert 0.3 < difference[:, 0][inside[:, 0]].std() < 0.55
        assert 0.9 < difference[:, 1][inside[:, 1]].std() < 1.65


def kept(name: str, limit: int | None, log_std: list[float] | None = None) -> None:
    """A checkpoint as a run in the toy environment keeps them, with a mean of 0."""
    actor = Actor(3, [-1, -3], [1, 3], [4], None if log_std is None else (-10.0, 2.0))
    state = {f"actor.{key}": torch.zeros_like(t) for key, t in actor.state_dict().items()}
    if log_std is not None:
        state["actor.log_std"] = torch.tensor(log_std)
        state["actor.log_std_range"] = actor.log_std_range
    data = {"env_id": register_toy(), "collector": {"env_steps": 0}, "max_episode_steps": limit}
    torch.save(
        {"agent": {"gradient_updates": 0}, "ReplayDataModule": data, "state_dict": state}, name
    )


def test_a_gaussian_policy_has_its_own_noise(capsys: pytest.CaptureFixture[str]) -> None:
    """σ = exp(clip(log_std, −10, 2)) of the half range, which is 1 and 3."""
    kept("awac.ckpt", None, [-12.0, -2.0])
    kept("td3.ckpt", None)

    def collected(options: str) -> tuple[np.ndarray, dict]:
        collect(f"{options} --steps 4000 --overwrite --out a.hdf5", capsys)
        with h5py.File("a.hdf5") as file:
            return file["actions"][()], dict(file.attrs)

    actions, card = collected("--policy awac.ckpt")
    np.testing.assert_allclose(actions.std(0), [np.exp(-10), 3 * np.exp(-2)], rtol=0.05)
    assert (card["noise"], "--noise" in card["command"]) == (-1, False)
    (policy,) = json.loads(card["policy"])
    np.testing.assert_allclose(policy["std"], [[np.exp(-10), np.exp(-2)]] * 2, rtol=1e-6)

    actions, card = collected("--policy awac.ckpt --policy td3.ckpt")
    np.testing.assert_allclose(actions[:2000].std(0), [np.exp(-10), 3 * np.exp(-2)], rtol=0.1)
    np.testing.assert_allclose(actions[2000:].std(0), [0.1, 0.3], rtol=0.1)
    assert (card["noise"], "--noise" in card["command"]) == (0.1, False)
    assert ["std" in policy for policy in json.loads(card["policy"])] == [True, False]

    actions, card = collected("--policy awac.ckpt --noise 0.2")
    np.testing.assert_allclose(actions.std(0), [0.2, 0.6], rtol=0.05)
    assert (card["noise"], "--noise 0.2" in card["command"]) == (0.2, True)
    assert "std" not in card["policy"]


def test_the_time_limit_is_the_run_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limited = {"max_episode_steps": 3}
    schedule = Schedule(0, 4, 1, evaluation_every=4)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), None, schedule=schedule, data=limited
    )
    (callback,) = (c for c in trainer.callbacks if isinstance(c, Checkpointing))
    callback.keep_policies = True
    trainer.fit(module, data)

    def lengths(options: str) -> tuple[set[int], str]:
        collect(f"{options} --steps 30 --overwrite --out a.hdf5", capsys)
        with h5py.File("a.hdf5") as file:
            command, limit = file.attrs["command"], file.attrs["max_episode_steps"]
        found = set(load_dataset("a.hdf5").episode_length_E.tolist())
        assert found == {limit}
        return found, command

    for source in ("run", "run/checkpoints/last.ckpt"):
        found, command = lengths(f"--policy {source}")
        assert found == {3}
        assert "--max-episode-steps 3 " in command
    assert lengths("--policy random --policy run")[0] == {3}
    assert lengths("--policy run --max-episode-steps 2")[0] == {2}
    assert lengths("--policy run --env-id AdabcLongToy-v0")[0] == {6}  # another task
    kept("own.ckpt", None)
    assert lengths("--policy own.ckpt")[0] == {TOY_LIMIT}
    assert main(shlex.split("collect --policy run --policy own.ckpt --out b.hdf5")) == 2
    error = capsys.readouterr().err
    assert "different time limits (3 steps and the environment's own); choose one" in error


def test_a_run_s_policies_in_order_and_mixtures(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"--policy {run} --from 1 --to 8 --policy random --steps 41 --noise 0 --out a.hdf5"
    collect(line, capsys)
    parts = [10, 10, 21]
    with h5py.File("a.hdf5") as file:
        ends = np.cumsum(parts) - 1
        assert (file["timeouts"][()] | file["terminals"][()])[ends].all()
        policy = json.loads(file.attrs["policy"])
        actions, observations = file["actions"][()], file["observations"][()]
    assert policy[0]["env_steps"] == [4, 8]
    assert policy[0]["policies"] == 2
    assert policy[1] == {"policy": "random"}
    for index, steps in enumerate((4, 8)):
        source = read_source(str(run), steps, steps)
        (policy,) = source.policies
        actor = Actor(3, [-1, -3], [1, 3], [8, 8])
        with torch.no_grad():
            for parameter, value in zip(actor.weights, policy.layers, strict=True):
                parameter.copy_(torch.from_numpy(value))
            rows = slice(10 * index, 10 * index + 10)
            expected = actor(torch.from_numpy(observations[rows])).numpy()
        np.testing.assert_allclose(actions[rows], expected, rtol=1e-5, atol=1e-6)


def test_shares_and_lanes() -> None:
    assert shares(10, 3) == [3, 3, 4]
    assert num_lanes(100_000, None) == 1
    assert num_lanes(500, 1000) == 1
    for transitions in (1_000, 2_500, 10_000, 100_000):
        assert 1 <= num_lanes(transitions, 1000) <= LANES
    assert num_lanes(9_000, 1000) == 5  # two rounds, as even as can be


@pytest.mark.parametrize("env_id", ["AdabcFragile-v0", "Hopper-v5"])
def test_wherever_it_starts_the_episodes_are_the_same(env_id: str) -> None:
    torch.manual_seed(0)
    envs = [make_env(env_id) for _ in range(LANES)]
    spec = EnvironmentSpec.of(envs[0], env_id)
    actor = Actor(spec.observation_size, spec.action_low, spec.action_high, [64, 64])
    policy = StoredPolicy(tuple(parameter.detach().numpy() for parameter in actor.weights))
    total = LANES * spec.max_episode_steps if env_id != "Hopper-v5" else 2500
    part = Part(3, policy, total)

    def episodes(first: int, collected: int) -> list:
        options = {"seed": 1, "noise": 0.3, "first": first, "collected": collected}
        return list(roll_out(part, spec, envs, **options))

    whole = episodes(0, 0)
    assert sum(len(episode.rewards) for episode in whole) == total
    for first in (1, len(whole) // 2, len(whole) - 1):
        rest = episodes(first, sum(len(episode.rewards) for episode in whole[:first]))
        assert len(rest) == len(whole) - first
        for ours, theirs in zip(rest, whole[first:], strict=True):
            assert ours.seed == theirs.seed
            for a, b in zip(ours[1:], theirs[1:], strict=True):
                np.testing.assert_array_equal(a, b)


def test_killed_or_stopped_it_goes_on_and_the_file_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"--policy random --env-id {PENDULUM} --steps 30000 --out"
    said = collect(f"{line} whole.hdf5", capsys)
    assert said.startswith("whole.hdf5: 30,000 transitions")
    partial = tmp_path / ".cut.hdf5.part"
    size = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-m", "adabc_lightning", "collect", *line.split(), "cut.hdf5"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if partial.exists() and partial.stat().st_size > size + 50_000:
                break
            time.sleep(0.002)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert process.returncode == -9
            with open(partial, "ab") as file:
                file.write(b"torn")
        else:
            assert process.returncode == 128 + number, error
            assert b"the same command goes on from there" in error
            assert error.count(b"\n") == 2  # where it went on, where it stopped
        size = partial.stat().st_size
        assert not Path("cut.hdf5").exists()
    assert main(["collect", *line.split(), "cut.hdf5", "--noise", "0.2"]) == 2
    error = capsys.readouterr().err
    assert ".cut.hdf5.part was begun with --noise 0.1, not 0.2; go on with" in error
    assert main(["collect", *line.split(), "cut.hdf5"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("going on at ")
    assert printed.out == said.replace("whole", "cut")
    assert not partial.exists()
    assert columns("cut.hdf5") == columns("whole.hdf5")
    with h5py.File("cut.hdf5") as a, h5py.File("whole.hdf5") as b:
        assert {k: v for k, v in a.attrs.items() if k != "command"} == {
            k: v for k, v in b.attrs.items() if k != "command"
        }


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.hdf5").write_text("precious")
    words = shlex.split("collect --policy random --env-id AdabcFragile-v0 --steps 9 --out a.hdf5")
    assert main(words) == 2
    assert "a.hdf5 exists; choose another --out, or replace it" in capsys.readouterr().err
    assert Path("a.hdf5").read_text() == "precious"
    assert main([*words, "--overwrite"]) == 0
    assert len(load_dataset("a.hdf5").rows) == 9
    assert main([*words, "--overwrite", "--seed", "1"]) == 0
    minari = [*words[:-1], "mine/a-v0"]
    assert main(minari) == 0
    capsys.readouterr()
    assert main(minari) == 2
    assert "mine/a-v0 exists; choose another" in capsys.readouterr().err
    assert main([*minari, "--overwrite", "--seed", "1"]) == 0
    assert torch.equal(load_dataset("mine/a-v0").rows, load_dataset("a.hdf5").rows)


MISTAKES = [
    ("--out a.hdf5", "the following arguments are required: --policy"),
    ("--policy random --out a.hdf5", "--policy random needs --env-id"),
    ("--policy random --env-id Hoper-v5 --out a.hdf5", "did you mean 'Hopper-v5'?"),
    ("--policy random --env-id CartPole-v1 --out a.hdf5", "only a Box of one dimension"),
    ("--policy random --env-id AdabcToy-v0 --out a.txt", "neither FILE.hdf5 nor a Minari id"),
    ("--policy random --env-id AdabcToy-v0 --out hopper-medium-v0", "dataset of D4RL's"),
    ("--policy random --env-id AdabcToy-v0 --out x --format minari", "is no Minari id"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --steps 0", "--steps is 0; it must be a"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --noise -1", "--noise is -1; it must"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --noise nan", "--noise is nan; it must"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --step 3", "did you mean '--steps'?"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --steps x", "--steps is x; it must be"),
    ("--policy random --env-id AdabcToy-v0 --out a.hdf5 --from 3", "--from and --to choose among"),
    ("--policy nowhere --out a.hdf5", "nowhere is neither random nor a checkpoint nor a run's"),
    ("--policy garbage.ckpt --out a.hdf5", "garbage.ckpt is no readable checkpoint"),
    ("--policy . --out a.hdf5", ". keeps no policies; name one of its checkpoints"),
    ("--policy RUN --from 5 --to 7 --out a.hdf5", "no policy from 5 to 7 environment steps; its 4"),
    ("--policy RUN --steps 3 --out a.hdf5", "--steps is 3, but there are 4 policies"),
    ("--policy RUN --env-id Hopper-v5 --out a.hdf5", "observations of 3 and actions of 2 numbers"),
    ("--policy random --env-id AdabcToy-v0 --out garbage.ckpt/a.hdf5", "cannot be written: "),
    ("--policy random --env-id AdabcToy-v0 --out /dev/full/a.hdf5", "cannot be written: "),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    line: str, message: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("garbage.ckpt").write_text("garbage")
    assert main(["collect", *line.replace("RUN", str(run)).split()]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert set(os.listdir()) - {"minari"} == {"garbage.ckpt"}


def test_an_environment_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--policy random --steps 50 --out a.hdf5 --env-id"
    assert main(["collect", *line.split(), "AdabcRaising-v0"]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"the motor burnt in step \d+ of an episode \(after reset\(seed=\d+\)\)\n", error
    )
    Path(".a.hdf5.part").unlink()
    assert main(["collect", *line.split(), "AdabcNan-v0"]) == 2
    assert "gave the reward nan, which is not a finite float32 in step 1" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "where"), [(600, ".a.hdf5.part"), (3_000, "a.hdf5")])
def test_a_full_disk_is_one_line(size: int, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """While episodes come, and at the end."""
    words = shlex.split("collect --policy random --env-id AdabcFragile-v0 --steps 50 --out a.hdf5")
    with files_of(size):
        assert main(words) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"error: {where} cannot be written: File too large\n")
    assert said.count("error") == 1
    assert os.listdir() == [".a.hdf5.part"]  # nothing is lost
    assert main(words) == 0
    at = "\\d+" if size < 1_000 else "50"
    assert re.fullmatch(rf"going on at {at} of 50 transitions\n", capsys.readouterr().err)
    assert load_dataset("a.hdf5").rows.shape[0] == 50


def test_minari_is_not_begun_where_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """HDF5 would crash the process."""
    words = shlex.split("collect --policy random --env-id AdabcFragile-v0 --steps 50 --out a-v0")
    with files_of(10_000):
        assert main(words) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"(?s).*error: \S*a-v0\S* cannot be written: File too large\n", said)


def test_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/collect.md: one run, five datasets, at a size of seconds."""
    text = (REPOSITORY / "docs" / "collect.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    prefix = "python -m adabc_lightning "
    lines = [ln for b in blocks for ln in b.replace("\\\n", " ").splitlines() if ln]
    assert all(line.startswith(prefix) for line in lines)
    for line in lines:
        words = shlex.split(line.removeprefix(prefix))
        if words[0] == "fit" and "method/redq_scratch" in words:
            words += shlex.split(
                "--schedule.online_env_steps 60 --schedule.evaluation_every 10"
                " --schedule.updates_per_env_step 1 --model.hidden_sizes [8] --data.batch_size 8"
                " --evaluation.episodes 1 --trainer.enable_progress_bar false"
            )
        elif words[0] == "fit":
            words += shlex.split(
                "--schedule.offline_updates 4 --schedule.online_env_steps 3"
                " --schedule.updates_per_env_step 1 --model.hidden_sizes [8] --data.batch_size 8"
                " --evaluation.episodes 1 --trainer.enable_progress_bar false"
            )
        else:
            words = [re.sub(r"0000(?=\.ckpt|$)", "0", word) for word in words]
            words = [
                re.sub(r"policies/(\d+)", lambda m: f"policies/{int(m[1]):09d}", w) for w in words
            ]
            words += ["--steps", "60"]
        assert main(words) == 0, (line, capsys.readouterr().err)
    made = {path.name for path in tmp_path.glob("*.hdf5")}
    assert made == {
        f"pendulum-{kind}.hdf5"
        for kind in ("random", "medium", "medium-replay", "medium-expert", "expert")
    }


def test_an_exported_policy_is_named_as_one(tmp_path: Path, capsys) -> None:
    (tmp_path / "policy.json").write_text("{}")
    assert main(["collect", "--policy", str(tmp_path), "--out", str(tmp_path / "a.hdf5")]) == 2
    assert "is a policy that export wrote, which knows no noise" in capsys.readouterr().err
