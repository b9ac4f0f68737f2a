"""``inspect``: numbers by hand, what is suspicious, what it converts, one line for each mistake."""

import ast
import os
import re
import shlex
import subprocess
import sys
from inspect import signature
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from paths import SHARED
from tiny import TOY_LIMIT, register_toy, write_log
from tiny import Toy as Base

import adabc_lightning
from adabc_lightning.__main__ import main
from adabc_lightning.commands.inspect.card import (
    coverage,
    data_card,
    directions,
    file_card,
    to_lines,
)
from adabc_lightning.commands.inspect.environment import EPISODES, try_out
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import key_of, name_options

LOGS = SHARED / "data"
TOY = register_toy()


class Degrees(Base):
    """The toy in other units, of bounded observations."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(-5000.0, 5000.0, (3,), np.float64)

    def reset(self, **options):
        observation, info = super().reset(**options)
        return 57.3 * observation, info

    def step(self, action):
        observation, *rest = super().step(action)
        return 57.3 * observation, *rest


if "AdabcDegrees-v0" not in gymnasium.registry:
    gymnasium.register("AdabcDegrees-v0", Degrees, max_episode_steps=TOY_LIMIT)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def episodes(count: int = 300, steps: int = TOY_LIMIT, seed: int = 0) -> dict[str, np.ndarray]:
    """A log of the toy with random actions, in D4RL's v2 layout."""
    env, rng = Base(), np.random.default_rng(seed)
    rows: dict[str, list] = {
        key: []
        for key in (
            "observations",
            "actions",
            "rewards",
            "terminals",
            "timeouts",
            "next_observations",
        )
    }
    for episode in range(count):
        observation, _ = env.reset(seed=1000 * seed + episode)
        for step in range(steps):
            action = rng.uniform((-1, -3), (1, 3)).astype(np.float32)
            following, reward, *_ = env.step(action)
            row = (observation, action, reward, False, step == steps - 1, following)
            for key, value in zip(rows, row, strict=True):
                rows[key].append(value)
            observation = following
    return {key: np.array(values) for key, values in rows.items()}


def write(name: str, data: dict[str, np.ndarray], **attributes: object) -> str:
    with h5py.File(name, "w") as file:
        for key, array in data.items():
            file[key] = array
        file.attrs.update(attributes)
    return name


def inspect(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    status = main(["inspect", *shlex.split(line)])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def test_the_card_by_hand() -> None:
    """Two episodes: 0 → 1 → 2 terminal, 10 → 11 at the limit; the action is at its bound twice."""
    observations = np.array([[0.0, 5], [1, 5], [10, 5], [11, 5]])
    data = {
        "observations": observations,
        "actions": np.array([[-1.0, 0], [0, 0], [0.5, 0], [1, 0]]),
        "rewards": np.array([1.0, 2, 3, -4]),
        "terminals": np.array([0, 1, 0, 0]),
        "timeouts": np.array([0, 0, 0, 1]),
        "next_observations": observations + np.array([1, 0]),
    }
    card = data_card(load_dataset(write("a.hdf5", data)), None, None)
    assert (card["transitions"], card["episodes"]) == (4, 2)
    assert (card["terminals"], card["timeouts"]) == (1, 1)
    assert (card["return_mean"], card["return_std"]) == (1, 2)
    assert (card["return_min"], card["return_max"], card["return_median"]) == (-1, 3, 1)
    assert (card["reward_min"], card["reward_mean"], card["reward_max"]) == (-4, 0.5, 3)
    assert (card["steps_min"], card["steps_median"], card["steps_max"]) == (2, 2, 2)
    assert card["observation_mean"] == [5.5, 5]
    assert card["observation_std"] == pytest.approx([np.std([0, 1, 10, 11]), 0])
    assert card["action_at_bound"] == [0.5, 0]
    assert (card["action_directions"], card["observation_directions"]) == (1, 1)
    assert (card["reference_min"], card["reference_max"]) == (-1, 6)  # r_max 3, T 2
    for references, best, far in (((-1, 6), 2, True), ((-1, 6), 3, False), ((-9, -9), -9, False)):
        names = ("reference_min", "reference_max", "return_max")
        lines = to_lines(card | dict(zip(names, (*references, best), strict=True)))
        assert any("no episode came near that" in line for line in lines) is far
    assert card["env_id"] is None
    assert file_card(card)["max_episode_steps"] == -1


def test_directions_and_coverage() -> None:
    rng = np.random.default_rng(0)
    square = rng.uniform(size=(50_000, 2))
    assert directions(square) == pytest.approx(2, abs=0.01)
    assert directions(np.hstack([square, square])) == pytest.approx(2, abs=0.01)
    assert directions(np.hstack([square[:, :1]] * 3)) == pytest.approx(1)
    assert directions(np.ones((5, 3))) == 0
    assert coverage(np.hstack([square, square])) > 0.45  # of the square around a rotated square
    line = np.linspace(0, 1, 1000)[:, None]
    assert coverage(line) == 1
    assert coverage(np.where(line < 0.5, 0, 1)) == pytest.approx(0.1)  # two cells of 20
    assert coverage(np.ones((5, 3))) == 1  # the one cell there is


def test_a_trial_is_what_random_actions_do() -> None:
    trial = try_out(TOY, None)
    assert len(trial.rewards) == EPISODES * TOY_LIMIT
    assert len(trial.observations) == EPISODES * (TOY_LIMIT + 1)
    env, rng = Base(), np.random.default_rng(0)
    env.reset(seed=0)
    total = sum(env.step(rng.uniform((-1, -3), (1, 3)).astype(np.float32))[1] for _ in range(5))
    assert trial.returns[0] == pytest.approx(total)
    assert len(try_out(TOY, 2).rewards) == EPISODES * 2


def test_a_sound_log_has_no_findings(capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect(f"{write('a.hdf5', episodes())} --env-id {TOY}", capsys)
    assert "a.hdf5: 1,500 transitions, 300 episodes\n" in said
    assert "0 end in a terminal, 300 at a time limit, 0 unfinished\n" in said
    assert re.search(r"time limit 5; random actions return -?\d", said)
    assert said.endswith("\nno findings\n")


def test_what_is_not_read_and_what_is_assumed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    log = episodes() | {"battery": np.zeros(300 * TOY_LIMIT)}
    del log["timeouts"]
    said = inspect(f"{write('a.hdf5', log)} --env-id {TOY}", capsys)
    assert "not read      battery\n" in said
    assert f"(timeouts, episode): cut every {TOY_LIMIT} steps, the time limit" in said
    said = inspect(f"{write('b.hdf5', episodes())} --env-id {TOY}", capsys)
    assert "not read" not in said
    assert "cut every" not in said


@pytest.mark.parametrize("low", [-1, 0])
def test_actions_that_are_probably_normalised_are_named(
    low: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log = episodes()
    unit = log["actions"] / np.array([1, 3], np.float32)
    log["actions"] = low + (1 - low) * (unit + 1) / 2
    said = inspect(f"{write('a.hdf5', log)} --env-id {TOY}", capsys)
    assert "its bounds are -3 and 3: if the log has it normalised" in said
    assert "its bounds are -1 and 1" not in said


def changed(**changes) -> dict[str, np.ndarray]:
    data = episodes()
    for key, change in changes.items():
        data[key] = change(data[key])
    return data


def without(*names: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in episodes().items() if key not in names}


def at_limit() -> dict[str, np.ndarray]:
    data = episodes()
    data["terminals"], data["timeouts"] = data["timeouts"], data["terminals"]
    return data


SUSPICIONS = {
    "limit as terminal": (at_limit, "", "300 of 300 episodes of exactly 5 steps end flagged as"),
    "the same, env": (at_limit, f"--env-id {TOY}", "give --terminals-at-limit timeout"),
    "no ends": (
        lambda: changed(timeouts=np.zeros_like),
        "",
        "no end of an episode is flagged: 1 episode, 1,500 steps in all",
    ),
    "longer than the limit": (episodes, "--max-episode-steps 4", "300 episodes are longer than"),
    "cut early": (episodes, "--max-episode-steps 6", "299 of 300 episodes were cut off before"),
    "seams": (
        lambda: changed(timeouts=lambda t: t & (np.arange(len(t)) % 10 == 9)),
        "",
        "150 next observations inside episodes are not the next row's observation (the first at "
        "step 4 of episode 0, counted from 0)",
    ),
    "twice": (
        lambda: {k: np.concatenate([v, v]) for k, v in episodes().items()},
        "",
        "1,500 of 3,000 rows repeat the observation and action",
    ),
    "constant reward": (
        lambda: changed(rewards=lambda r: np.ones_like(r)),
        "",
        "every reward is 1",
    ),
    "saturated": (
        lambda: changed(actions=lambda a: np.sign(a) * (1, 3)),
        f"--env-id {TOY}",
        "action_1 is at a bound in 100 % of the rows",
    ),
    "unused": (
        lambda: changed(actions=lambda a: a * (1, 0.01)),
        f"--env-id {TOY}",
        "action_1 stays within 1.0 % of its range; it may be logged in other units than the envi",
    ),
    "percent": (
        lambda: changed(actions=lambda a: a * 0.01),
        f"--env-id {TOY}",
        "environment's; times 100, which --action-scale does, all would fit",
    ),
    "stuck": (lambda: changed(actions=lambda a: a * (1, 0)), "", "action_1 is always 0"),
    "constant": (
        lambda: changed(
            observations=lambda o: o * (1, 0, 1), next_observations=lambda o: o * (1, 0, 1)
        ),
        "",
        "observation_1 never changes",
    ),
    "large": (
        lambda: changed(
            observations=lambda o: o * (1, 1, 900), next_observations=lambda o: o * (1, 1, 900)
        ),
        "",
        "is far from order one, where networks learn: set data.normalize_observations to true",
    ),
    "other units": (
        episodes,
        "--env-id AdabcDegrees-v0",
        "observation_0, observation_1, observation_2 of the log is unlike what random actions",
    ),
    "other rewards": (
        lambda: changed(rewards=lambda r: r * 5000 - 50000),
        f"--env-id {TOY}",
        "where random actions act in the environment: units or an offset may differ",
    ),
    "worse than random": (
        lambda: changed(rewards=lambda r: r - 4, terminals=lambda t: np.arange(len(t)) % 10 == 4),
        f"--env-id {TOY}",
        "more than the log's mean of",
    ),
    "outside": (
        lambda: changed(observations=lambda o: o + 6000),
        "--env-id AdabcDegrees-v0",
        "1,500 rows are outside the environment's observation space, in observation_0, obs",
    ),
    "few": (lambda: episodes(3), "", "15 transitions are few"),
    "lost": (
        lambda: without("next_observations"),
        "",
        "300 steps at the end of episodes have no next observation",
    ),
}


@pytest.mark.parametrize(("data", "options", "finding"), SUSPICIONS.values(), ids=SUSPICIONS)
def test_what_is_suspicious_is_said(
    data, options: str, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = inspect(f"{write('a.hdf5', data())} {options}", capsys)
    assert finding in said.partition(" finding")[2]


@pytest.mark.parametrize("left_out", [(), ("next_observations",)], ids=["v2", "mixed"])
def test_what_it_converts_is_the_same_dataset(
    left_out: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data = {key: array for key, array in episodes().items() if key not in left_out}
    data["terminals"][9] = True
    np.savez("a.npz", **data)
    said = inspect(f"a.npz --env-id {TOY} --convert new/a.hdf5", capsys)
    assert said.endswith(f"\nnew/a.hdf5: {1500 if not left_out else 1201:,} transitions\n")
    before, after = load_dataset("a.npz"), load_dataset("new/a.hdf5")
    assert torch.equal(before.rows, after.rows)
    assert torch.equal(before.episode_T, after.episode_T)
    assert (before.terminals, before.timeouts) == (after.terminals, after.timeouts)
    with h5py.File("new/a.hdf5") as file:
        assert set(file) == set(episodes())
        assert (file.attrs["env_id"], file.attrs["max_episode_steps"]) == (TOY, TOY_LIMIT)
        assert file.attrs["return_mean"] == pytest.approx(before.episode_return_E.mean().item())
    assert main(["inspect", "a.npz", "--convert", "new/a.hdf5"]) == 2
    assert "new/a.hdf5 exists; choose another --convert" in capsys.readouterr().err
    inspect("new/a.hdf5 --convert new/a.hdf5 --overwrite", capsys)
    assert torch.equal(load_dataset("new/a.hdf5").rows, after.rows)
    assert os.listdir("new") == ["a.hdf5"]


@pytest.mark.parametrize("left_out", [(), ("next_observations",)], ids=["v2", "mixed"])
def test_what_it_converts_to_minari_has_the_same_rows(
    left_out: tuple[str, ...], tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    data = {key: array for key, array in episodes(20).items() if key not in left_out}
    data["terminals"][9] = True
    np.savez("a.npz", **data)
    said = inspect(f"a.npz --env-id {TOY} --convert mine/toy-v0", capsys)
    assert said.endswith(f"\nmine/toy-v0: {100 if not left_out else 81} transitions\n")
    before, after = load_dataset("a.npz"), load_dataset("mine/toy-v0")
    assert torch.equal(before.rows, after.rows)
    assert torch.equal(before.episode_T, after.episode_T)
    assert (before.terminals, before.timeouts) == (after.terminals, after.timeouts)
    assert main(["inspect", "a.npz", "--env-id", TOY, "--convert", "mine/toy-v0"]) == 2
    assert "exists; choose another --convert" in capsys.readouterr().err
    if not left_out:
        np.savez("torn.npz", **data | {"next_observations": data["observations"] + 1})
        assert main(["inspect", "torn.npz", "--env-id", TOY, "--convert", "mine/torn-v0"]) == 2
        assert "in episode 0 next observations are not the next row's" in capsys.readouterr().err
        assert not (tmp_path / "minari" / "mine" / "torn-v0").exists()


def test_several_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.hdf5", episodes(200))
    np.savez("b.npz", **episodes(100, seed=1))
    said = inspect("a.hdf5 b.npz", capsys)
    assert "a.hdf5: 1,000 transitions, 200 episodes\n" in said
    assert "b.npz: 500 transitions, 100 episodes\n" in said
    means = [load_dataset(name).episode_return_E for name in ("a.hdf5", "b.npz")]
    lines = said.split("\ntogether: ")[1].splitlines()
    assert lines == [
        "1,500 transitions, 300 episodes",
        *(
            f"   {share} % of {name}, return {r.mean():.2f} ± {r.std(correction=0):.2f}"
            for share, name, r in zip((66.7, 33.3), ("a.hdf5", "b.npz"), means, strict=True)
        ),
    ]
    millimetres = episodes(100, seed=1)
    for key in ("observations", "next_observations"):
        millimetres[key][:, 1] *= 1000
    np.savez("c.npz", **millimetres)
    said = inspect("a.hdf5 c.npz", capsys)
    assert said.endswith(
        "\n  - observation_1 of c.npz is unlike that of a.hdf5; units or order of the columns may "
        "differ\n"
    )
    narrow = {key: v[:, :2] if "obs" in key else v for key, v in episodes(100).items()}
    np.savez("d.npz", **narrow)
    assert main(["inspect", "a.hdf5", "d.npz"]) == 2
    printed = capsys.readouterr()
    assert "d.npz: 500 transitions" in printed.out
    assert printed.err == (
        "error: observations of 3 numbers ('a.hdf5') and of 2 ('d.npz') do not mix; the datasets "
        "must be of the same task\n"
    )


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_figure(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    write("a.hdf5", episodes())
    said = inspect(f"a.hdf5 --env-id {TOY} --plot a{suffix}", capsys)
    assert said.endswith(f"\nfigure: a{suffix}\n")
    first = Path(f"a{suffix}").read_bytes()
    assert len(first) > 10_000
    if suffix == ".svg":
        for title in ("returns", "lengths of episodes", "actions", "time limit"):
            assert f"<!-- {title} -->" in first.decode()
        inspect(f"a.hdf5 --env-id {TOY} --plot b.svg", capsys)
        assert Path("b.svg").read_bytes() == first
        write("$x_{$.hdf5", episodes())  # a name, no formula
        inspect(f"$x_{{$.hdf5 --env-id {TOY} --plot b.svg", capsys)
        assert "<!-- $x_{$.hdf5: " in Path("b.svg").read_text()


MISTAKES = [
    ("nowhere.csv", "dataset 'nowhere.csv' is no file"),
    ("a.hdf5 --env-id Hopper-v5", "they must be of the same task"),
    ("a.hdf5 --env-id Hoper-v5", "did you mean 'Hopper-v5'?"),
    ("a.hdf5 --env-id CartPole-v1", "only a Box of one dimension"),
    ("a.hdf5 --env-id own_envs:Own-v0", "if you trust own_envs, add --allow own_envs"),
    (
        "a.hdf5 --max-episode-steps 0",
        "--max-episode-steps is 0; it must be a whole number, 1 or more",
    ),
    ("a.hdf5 --plot a.txt", "--plot is a.txt; it must end in .svg, .png or .pdf"),
    ("a.hdf5 --convert a.csv", "--convert a.csv must end in .hdf5 or .h5"),
    ("a.hdf5 --convert mine/x-v0", "Minari stores an environment; give --env-id"),
    (
        "a.hdf5 --done-means timeout",
        "error: --done-means is timeout, but a.hdf5 has no 'dones'; leave it out",
    ),
    ("a.hdf5 --done-means end", "--done-means: invalid choice: 'end'"),
    ("a.hdf5 --max-time-gap 0", "--max-time-gap is 0.0; it must be 1 period or more\n"),
    ("a.hdf5 --success-terminates", "error: --success-terminates is set, but a.hdf5 has no"),
    ("a.hdf5 --observation-keys a,a", "error: --observation-keys has 'a' twice; name it once"),
    ("a.hdf5 --action-scale 100 --env-id TOY", "multiply --action-scale (1 by default) by it"),
    ("a.hdf5 --reward a", "error: --reward 'a' must be a function as module:name"),
    ("bare.csv", "has no column reward; it has: observation_0, action_0, terminal; set --reward"),
    ("a.hdf5 --convert a.hdf5/b.hdf5", "cannot be written: "),
    ("a.hdf5 a.hdf5 --convert b.hdf5", "--convert is of one dataset, but 2 are given; give one"),
    ("a.hdf5 a.hdf5 --plot b.svg", "--plot is of one dataset, but 2 are given; give one"),
    ("a.hdf5 --envid X", "did you mean '--env-id'?"),
    ("", "the following arguments are required: DATA"),
    ("broken.csv", "broken.csv has no column observation_0; it has: x, y"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.hdf5", episodes(2))
    Path("broken.csv").write_text("x,y\n1,2\n")
    Path("bare.csv").write_text("observation_0,action_0,terminal\n1,1,0\n")
    assert main(["inspect", *line.replace("TOY", TOY).split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(os.listdir()) == ["a.hdf5", "bare.csv", "broken.csv"]


def test_only_a_command_with_that_option_names_it() -> None:
    assert key_of("done_means") == "data.done_means"
    name_options(["done_means", "action_scale"])
    try:
        names = [key_of(name) for name in ("done_means", "action_scale", "seed")]
        assert names == ["--done-means", "--action-scale", "data.seed"]
    finally:
        name_options(())


# Nothing but fit has their sentences.
OF_FIT = (
    "acting",
    "checks",
    "loading",
    "log",
    "module",
    "restoring",
    "returns",
    "same_run",
    "state",
)


def test_no_sentence_but_those_of_fit_spells_out_a_key_that_is_an_option_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: set[str] = set()
    monkeypatch.setattr("adabc_lightning.commands.options.name_options", options.update)
    for command in ("inspect", "collect", "rollout", "export"):
        main([command, "--no-such-option"])
    names = options & signature(ReplayDataModule).parameters.keys()
    assert {"done_means", "env_kwargs", "observation_keys"} <= names
    spelt = re.compile(rf"\bdata\.({'|'.join(names)})\b")
    package = Path(adabc_lightning.__file__).parent
    found = []
    for path in (*package.glob("data/**/*.py"), *package.glob("env/*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
        for node in nodes:
            sentence = isinstance(node, ast.Constant) and node not in docstrings
            if sentence and path.stem not in OF_FIT and spelt.search(str(node.value)):
                found.append(f"{path.name}: {node.value}")
    assert found == []


@pytest.mark.skipif(not LOGS.exists(), reason="no shared datasets")
def test_hopper_medium_replay(capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect(f"{LOGS / 'hopper_medium_replay.hdf5'} --env-id Hopper-v5", capsys)
    assert "99,970 transitions, 1,500 episodes" in said
    assert "1,470 end in a terminal, 30 at a time limit, 0 unfinished" in said
    assert "150.22 ± 419.10; worst 2.24, median 16.50, best 2879.89" in said
    assert said.endswith("\nno findings\n")


def test_nobody_reads_and_the_files_are_written_all_the_same(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    command = f"{sys.executable} -m adabc_lightning inspect {log} --convert {tmp_path / 'new.hdf5'}"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(command.split(), stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (tmp_path / "new.hdf5").is_file()


JOINED = """observation_0,action_0,reward,terminal
1,0,1,0
2,1,-1,1
1,0,1,0
2,0,1,0
1,1,-1,0
2,0,-1,1
"""


@pytest.mark.parametrize(
    ("more", "joins"), [("", True), (",timeout", False), (",episode", False)], ids=str
)
def test_where_a_cut_episode_would_go_on_in_the_next_it_is_said(
    more: str, joins: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    value = {"": [""] * 6, ",timeout": [",0"] * 6, ",episode": [",0"] * 2 + [",1"] * 4}[more]
    head, *rows = JOINED.splitlines()
    lines = [head + more, *(row + end for row, end in zip(rows, value, strict=True))]
    Path("a.csv").write_text("\n".join(lines) + "\n")
    said = inspect("a.csv", capsys)
    assert ("one that was cut off is joined to the next; log timeout" in said) == joins


def test_a_reference_is_no_less_than_the_best_episode(capsys: pytest.CaptureFixture[str]) -> None:
    rows = changed(rewards=lambda r: np.where(np.arange(len(r)) % 5 == 4, -1.0, -9.0))
    rows["terminals"][2], rows["timeouts"][2] = True, False  # −27, where r_max · T is −5
    rows["rewards"][:3] = -1.0, -1.0, -1.0
    said = inspect(f"{write('a.hdf5', rows)}", capsys)
    assert "--data.reference_max -3 (best episode)" in said
