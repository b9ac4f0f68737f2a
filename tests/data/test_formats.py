"""Each layout as people's tools write it: the same transitions, a sentence for what is wrong."""

import json
import os
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch
from minari.data_collector import EpisodeBuffer
from test_datasets import create_minari

from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.find import open_log
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.errors import UserError

LENGTHS = (3, 5, 4)


def episodes() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Observations ``[T + 1, 3]``, actions ``[T, 2]``, rewards ``[T]`` of each."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.normal(size=(n + 1, 3)).astype(np.float32),
            rng.uniform(-1, 1, (n, 2)).astype(np.float32),
            rng.normal(size=n).astype(np.float32),
        )
        for n in LENGTHS
    ]


def whole() -> tuple[np.ndarray, np.ndarray]:
    """Observation, action, reward, next observation of each step, ``[T, 9]``; the last ones."""
    parts = [np.column_stack([x[:-1], a, r, x[1:]]) for x, a, r in episodes()]
    last = np.concatenate([np.arange(len(r)) == len(r) - 1 for _, _, r in episodes()])
    return np.concatenate(parts), last


def check(dataset: OfflineDataset, next_known: bool, terminals: int = 0) -> None:
    """All steps, or all that have a next observation; every episode with its return."""
    rows, last = whole()
    kept = rows if next_known else rows[~last]
    assert torch.equal(dataset.rows[:, :9], torch.from_numpy(kept))
    assert dataset.episode_length_E.tolist() == list(LENGTHS)
    returns = [float(r.astype(np.float64).sum()) for _, _, r in episodes()]
    assert dataset.episode_return_E.tolist() == pytest.approx(returns)
    assert (dataset.terminals, dataset.timeouts) == (terminals, 3 - terminals)


def load(path: Path, **reading: Any) -> OfflineDataset:
    return load_dataset(str(path), reading=Reading(**reading))


def refused(path: Path, **reading: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **reading)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


# ---- OGBench and Stable-Baselines3: npz --------------------------------------------------------


def ogbench(**more: np.ndarray) -> dict[str, np.ndarray]:
    """T + 1 rows a trajectory; the last one's action and reward belong to nothing."""
    nothing = np.full((1, 2), 0.5, np.float32)
    return {
        "observations": np.concatenate([x for x, _, _ in episodes()]),
        "actions": np.concatenate([np.concatenate([a, nothing]) for _, a, _ in episodes()]),
        "terminals": np.concatenate([np.arange(n + 1) == n for n in LENGTHS]).astype(float),
    } | more


def task() -> dict[str, np.ndarray]:
    rewards = np.concatenate([np.append(r, 99) for _, _, r in episodes()])
    return ogbench(rewards=rewards, masks=np.ones(len(rewards)))


def test_ogbench_with_a_tasks_rewards(tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "a.npz", **task())
    check(load(tmp_path / "a.npz"), next_known=True)
    assert "read as OGBench's layout: 'terminals' is 1 in the last row" in capsys.readouterr().err
    done = task()
    done["masks"][2] = 0  # the last step of the first trajectory
    np.savez(tmp_path / "b.npz", **done)
    check(load(tmp_path / "b.npz"), next_known=True, terminals=1)
    np.savez(tmp_path / "c.npz", **task() | {"masks": np.ones(3)})
    assert "'masks' has" in refused(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", **task() | {"terminals": np.full(15, 0.5)})
    assert "'terminals' must be 0 or 1, but row 0 (counted from 0) is 0.5" in refused(
        tmp_path / "d.npz"
    )


def test_ogbench_without_rewards_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ogbench(qpos=np.zeros((15, 2))))
    assert "has no 'rewards'; it has: actions, observations, qpos" in refused(tmp_path / "a.npz")
    dataset = load(tmp_path / "a.npz", reward=f"{__name__}:third")
    assert dataset.episode_length_E.tolist() == list(LENGTHS)
    assert (len(dataset.rows), dataset.terminals) == (sum(LENGTHS), 0)
    columns = dataset.as_d4rl()
    assert (columns["rewards"] == columns["next_observations"][:, 2]).all()


def third(observation, action, following):
    return following[:, 2]


def sb3(environments: int = 2) -> dict[str, np.ndarray]:
    """``[T, n_envs, …]``: every environment makes the steps of ``episodes``."""
    steps, last = whole()
    columns = {
        "observations": steps[:, :3],
        "actions": steps[:, 3:5],
        "rewards": steps[:, 5],
        "next_observations": steps[:, 6:9],
        "dones": last,
        "timeouts": last & (np.arange(len(last)) > 3),
    }
    return {key: np.stack([v] * environments, axis=1) for key, v in columns.items()}


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_stable_baselines_buffers(block: int, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("adabc_lightning.data.datasets.BLOCK_ROWS", block)
    np.savez_compressed(tmp_path / "a.npz", **sb3(1))
    check(load(tmp_path / "a.npz"), next_known=True, terminals=1)
    np.savez(tmp_path / "b.npz", **sb3())
    one, two = load(tmp_path / "a.npz"), load(tmp_path / "b.npz")
    assert torch.equal(two.rows, torch.cat([one.rows, one.rows]))
    assert two.episode_length_E.tolist() == [*LENGTHS, *LENGTHS]
    assert capsys.readouterr().err == ""
    np.savez(tmp_path / "c.npz", **sb3() | {"rewards": np.zeros((12, 3))})
    assert "'rewards' must be [12, 2, …]" in refused(tmp_path / "c.npz")


def stacked(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Three episodes of four steps, ``[episodes, steps, …]``."""
    steps, _ = whole()
    columns = {
        "observations": steps[:, :3],
        "actions": steps[:, 3:5],
        "rewards": steps[:, 5],
        "terminals": np.zeros(12),
    }
    return {key: v.reshape(3, 4, *v.shape[1:]) for key, v in columns.items()} | more


@pytest.mark.parametrize("flags", ["timeouts", "terminals"])
def test_episodes_side_by_side(flags: str, tmp_path: Path, capsys) -> None:
    """``[episodes, steps, …]`` looks like steps of environments; only the last steps end."""
    ends = np.zeros((3, 4))
    ends[:, -1] = 1
    np.savez(tmp_path / "a.npz", **stacked(**{flags: ends}))
    dataset = load(tmp_path / "a.npz")
    assert dataset.episode_length_E.tolist() == [4, 4, 4]
    steps, _ = whole()
    kept = np.arange(12) % 4 != 3 if flags == "timeouts" else np.ones(12, bool)
    assert torch.equal(dataset.rows[:, :6], torch.from_numpy(steps[kept, :6]))
    assert "a.npz: read as 3 episodes of 4 steps" in capsys.readouterr().err


def test_what_may_be_either_is_said(tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "a.npz", **stacked())
    assert load(tmp_path / "a.npz").episode_length_E.tolist() == [3] * 4
    said = capsys.readouterr().err
    assert "a.npz: read as Stable-Baselines3's layout, 3 steps of 4 environments; of 3" in said
    assert "episodes of 4 steps flag the ends as timeouts" in said


# ---- HDF5: robomimic and d3rlpy ----------------------------------------------------------------


def robomimic(path: Path, next_obs: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        for i, (x, a, r) in enumerate(episodes()):
            demo = file.create_group(f"data/demo_{(2, 10, 1)[i]}")
            demo["actions"], demo["rewards"] = a, r
            demo["dones"] = (np.arange(len(r)) == len(r) - 1).astype(int)
            for group, rows in {"obs": x[:-1], "next_obs": x[1:]}.items():
                if group == "obs" or next_obs:
                    demo[f"{group}/b_rest"], demo[f"{group}/a_first"] = rows[:, 1:], rows[:, :1]
                    demo[f"{group}/image"] = np.zeros((len(rows), 2, 2, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_2", b"demo_10"])
        file["mask/broken"] = np.array([b"demo_7"])
    return path


def test_robomimic(tmp_path: Path, capsys) -> None:
    path = robomimic(tmp_path / "a.hdf5")
    dataset = load(path)  # demo_1, demo_2, demo_10
    assert dataset.episode_length_E.tolist() == [4, 3, 5]
    rows, _ = whole()
    assert torch.equal(dataset.rows[:, :9], torch.from_numpy(np.roll(rows, 4, 0)))
    assert (dataset.terminals, dataset.timeouts) == (0, 3)
    assert "so that no episode ends in a terminal; data.done_means" in capsys.readouterr().err
    assert load(path, done_means="terminal").terminals == 3
    assert load(path, mask="train").episode_length_E.tolist() == [3, 5]
    assert load(path, observation_keys=("b_rest",)).layout.observation_size == 2
    swapped = load(path, observation_keys=("b_rest", "a_first"))
    assert torch.equal(swapped.rows[:, 2], dataset.rows[:, 0])
    assert len(load(robomimic(tmp_path / "b.hdf5", next_obs=False)).rows) == 9


def test_files_of_a_folder_share_no_episode(tmp_path: Path, capsys) -> None:
    """Readers number the episodes of each file from 0."""
    (tmp_path / "demos").mkdir()
    for name in ("one", "two"):
        robomimic(tmp_path / "demos" / f"{name}.hdf5", next_obs=False)
        with h5py.File(tmp_path / "demos" / f"{name}.hdf5", "a") as file:
            del file["data/demo_2"], file["data/demo_10"]
    dataset = load(tmp_path / "demos")
    assert dataset.episode_length_E.tolist() == [4, 4]
    assert dataset.episode_T.tolist() == [0] * 3 + [1] * 3  # what follows the last row is unknown
    (tmp_path / "buffers").mkdir()
    for name in ("one", "two"):
        np.savez(tmp_path / "buffers" / f"{name}.npz", **sb3())
    capsys.readouterr()
    assert load(tmp_path / "buffers").episode_length_E.tolist() == [*LENGTHS] * 4
    assert capsys.readouterr().err == ""


def broken(name: str, value: Any) -> Any:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value

    return change


ROBOMIMIC = {
    "one action too many": ("data/demo_2/actions", np.zeros((4, 2)), "of demo_2 has 3 rows, but"),
    "one observation too few": (
        "data/demo_10/obs/a_first", np.zeros((4, 1)), "parts of 'observations' in demo_10 differ",
    ),
    "no actions": ("data/demo_2/actions", None, "demo_2 has no 'actions'; it has: "),
    "no rewards in one": ("data/demo_2/rewards", None, "demo_2 has no 'rewards', others have"),
    "another width": ("data/demo_10/actions", np.zeros((5, 3)), "'actions' has 3 columns in demo"),
    "texts": ("data/demo_2/actions", [b"x"] * 3, "'actions' of demo_2 must be numeric"),
    "no obs": ("data/demo_2/obs", None, "demo_2 has no 'obs'; it has: actions, dones"),
    "a part missing": ("data/demo_2/obs/a_first", None, "demo_2 has no 'a_first' in"),
    "infinite": (
        "data/demo_10/actions", np.full((5, 2), np.inf),
        "but row 0 (counted from 0) of demo_10 is inf in column 0",
    ),
    "an external link": (
        "data/demo_2/actions", h5py.ExternalLink("other.hdf5", "x"), "must be an array in this",
    ),
    "a link to a demo": ("data/demo_2", h5py.SoftLink("/data/demo_1"), "must be an array in this"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROBOMIMIC)
def test_a_broken_demo_is_one_sentence(case: str, tmp_path: Path) -> None:
    name, value, sentence = ROBOMIMIC[case]
    path = robomimic(tmp_path / "a.hdf5")
    broken(name, value)(path)
    message = refused(path)
    assert sentence in message
    assert str(path) in message


def test_a_choice_that_robomimic_does_not_have(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "a.hdf5")
    assert "has no mask 'test'; it has: broken, train" in refused(path, mask="test")
    assert "mask 'broken' has demo_7, data has not" in refused(path, mask="broken")
    message = refused(path, observation_keys=("image",))
    assert "'image' of data.observation_keys is no array of one dimension" in message
    message = refused(path, observation_keys=("joints",))
    assert "is not there; known: a_first, b_rest, image" in message


def d3rlpy(path: Path, **changes: Any) -> Path:
    with h5py.File(path, "w") as file:
        content: dict[str, Any] = {"columns": [b"observations"], "num_episodes": 3}
        for i, (x, a, r) in enumerate(episodes()):
            content |= {f"observations_{i}": x[:-1], f"actions_{i}": a}
            content |= {f"rewards_{i}": r[:, None], f"terminated_{i}": i == 1}
        for key, value in (content | {"version": "2.1"} | changes).items():
            if value is not None:
                file[key] = value
    return path


def test_d3rlpy(tmp_path: Path) -> None:
    dataset = load(d3rlpy(tmp_path / "a.h5"))
    assert dataset.episode_length_E.tolist() == list(LENGTHS)
    assert (dataset.terminals, dataset.timeouts, len(dataset.rows)) == (1, 2, 10)
    with h5py.File(tmp_path / "v1.h5", "w") as file:  # MDPDataset.dump
        rows, last = whole()
        file["observations"], file["actions"] = rows[:, :3], rows[:, 3:5]
        file["rewards"], file["terminals"] = rows[:, 5], last & (np.arange(12) == 7)
        file["episode_terminals"], file["version"] = last.astype(np.float32), "1.0"
        file["discrete_action"] = False
    older = load(tmp_path / "v1.h5")
    assert torch.equal(older.rows, dataset.rows)
    assert (older.terminals, older.timeouts) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observations_1": np.zeros((6, 3))}, "'observations' of episode 1 has 6 rows"),
        ({"actions_2": None}, "has no 'actions_2'"),
        ({"observations_0": None, "observations_0_0": [1]}, "of several arrays are not read"),
        ({"num_episodes": 10**9}, "must be a number that the file can hold"),
        ({"num_episodes": None, "total_size": 3}, "is a dump of d3rlpy 2.0"),
        ({"terminated_0": 2}, "'terminated_0' must be true or false"),
        ({"actions_0": h5py.SoftLink("/actions_1")}, "must be an array in this file"),
    ],
)
def test_a_broken_dump_is_one_sentence(changes: dict, sentence: str, tmp_path: Path) -> None:
    assert sentence in refused(d3rlpy(tmp_path / "a.h5", **changes))


# ---- folders -----------------------------------------------------------------------------------


def tables() -> dict[str, Any]:
    rows, last = whole()
    return {
        "observation.state": list(rows[:, :2]),
        "observation.zone": rows[:, 2],
        "action": list(rows[:, 3:5]),
        "next.reward": rows[:, 5],
        "next.done": last,
        "episode_index": np.repeat([0, 1, 2], LENGTHS),
        "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
        "timestamp": np.concatenate([np.arange(n) / 10 for n in LENGTHS]),
        "task_index": np.zeros(12, int),
    }


def lerobot(folder: Path, cuts: tuple[int, ...] = (0, 5, 12), **info: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (folder / "meta").mkdir(parents=True)
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    content = {"codebase_version": "v3.0", "total_frames": 12, "total_tasks": 1, **info}
    (folder / "meta" / "info.json").write_text(json.dumps(content))
    table = pyarrow.table(tables())
    parquet.write_table(table, folder / "meta" / "episodes.parquet")  # not to be read
    for i, (start, end) in enumerate(pairwise(cuts)):
        parquet.write_table(table.slice(start, end - start), data / f"file-{9 + i}.parquet")
    return folder


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot(version: str, tmp_path: Path, capsys) -> None:
    # an episode that lies in two files is one episode
    folder = lerobot(tmp_path / "a", (0, 5, 12), codebase_version=version, total_tasks=3)
    check(load(folder), next_known=False)
    said = capsys.readouterr().err
    assert "holds 3 tasks, which are learnt as one" in said
    assert "'dones' looks like ends of episodes" in said
    check(load(folder, done_means="timeout"), next_known=False)
    assert load(folder, done_means="terminal").terminals == 3
    assert load(folder, observation_keys=("zone",)).layout.observation_size == 1


def test_a_broken_lerobot_folder_is_one_sentence(tmp_path: Path) -> None:
    assert "says that there are 13 frames, but data has 12" in refused(
        lerobot(tmp_path / "a", total_frames=13)
    )
    assert "must be of LeRobot's version 2 or 3, but says v1.6" in refused(
        lerobot(tmp_path / "b", codebase_version="v1.6")
    )
    for i, (key, value) in enumerate(
        [("total_frames", True), ("total_frames", "12"), ("total_tasks", 10**400)]
    ):
        message = refused(lerobot(tmp_path / f"count{i}", **{key: value}))
        assert f"info.json: {key!r} must be a whole number that" in message
        assert message.endswith("kB of data can hold")
    folder = lerobot(tmp_path / "c")
    file = folder / "data" / "chunk-000" / "file-10.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    assert "file-10.parquet is no readable Parquet file" in refused(folder)
    folder = lerobot(tmp_path / "d")
    (folder / "meta" / "info.json").write_text("[" * 100_000)
    assert "info.json cannot be read" in refused(folder)
    folder = lerobot(tmp_path / "e")
    for path in (folder / "data" / "chunk-000").iterdir():
        path.unlink()
    assert "no Parquet file below data" in refused(folder)


def csv(path: Path, start: int, end: int, names: tuple[str, ...] = ("a", "b", "c")) -> None:
    rows, _ = whole()
    ids = np.repeat(names, LENGTHS)
    header = "observation_0,observation_1,observation_2,action_0,action_1,reward,terminal,episode"
    lines = [
        ",".join([*(repr(float(v)) for v in rows[i, :6]), "0", ids[i]]) for i in range(start, end)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")


def test_a_folder_of_shards(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    (folder / "more").mkdir(parents=True)
    csv(folder / "part-2.csv", 0, 4)
    csv(folder / "part-10.csv", 4, 9)
    (folder / "README.md").write_text("not a log")
    (folder / "state.json").write_text("{}")
    csv(folder / "z.csv", 9, 12)
    check(load(folder), next_known=False)
    csv(folder / "z.csv", 9, 12, ("a", "b", "d"))
    assert load(folder).episode_length_E.tolist() == [3, 5, 1, 3]
    csv(folder / "z.csv", 9, 12, ("a", "b", "a"))
    assert "comes back in line 2 of z.csv" in refused(folder)
    csv(folder / "z.csv", 9, 12)
    text = (folder / "z.csv").read_text()
    (folder / "z.csv").write_text(text.replace("observation_2", "x"))
    assert "z.csv: 'observations' has 2 columns, but 3 in" in refused(folder)
    (folder / "z.csv").write_text(text.replace("episode", "x"))
    assert "z.csv has no 'episode', but" in refused(folder)
    (folder / "z.csv").write_text(text.replace("\n", "\nnan,", 1).replace("0,c\n", "0\n", 1))
    assert "z.csv: line 2 has" in refused(folder) or "z.csv" in refused(folder)
    (folder / "z.csv").unlink()
    (folder / "x.parquet").write_bytes(b"PAR1")
    assert "must hold files of one format, but has " in refused(folder)


def test_a_file_is_an_episode_where_nothing_else_says_so(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for name, start, end in (("a", 0, 3), ("b", 3, 8), ("c", 8, 12)):
        csv(folder / f"{name}.csv", start, end)
        lines = (folder / f"{name}.csv").read_text().splitlines()
        lines = [line.rpartition(",")[0] for line in lines]  # without the episode
        (folder / f"{name}.csv").write_text("\n".join([*lines, ""]))
    dataset = load(folder)
    assert dataset.episode_length_E.tolist() == [3, 5, 4]
    assert len(dataset.rows) == 9  # what follows the last one of each is unknown
    said = capsys.readouterr().err
    assert "log: no column says where episodes end (timeouts, episode, step); each of its" in said
    assert "its 3 files ends one, too, 2 of them before a time limit or a terminal" in said
    limited = load_dataset(str(folder), max_episode_steps=4)
    assert limited.episode_length_E.tolist() == [3, 4, 1, 4]
    (folder / "b.csv").unlink()
    (folder / "a.csv").write_text((folder / "a.csv").read_text().splitlines()[0] + "\n")
    assert load(folder).episode_length_E.tolist() == [4]  # a file without rows is none


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    csv(tmp_path / "secret.csv", 0, 12)
    os.symlink(tmp_path / "secret.csv", folder / "a.csv")
    assert "a.csv is a link out of its folder, which is not followed" in refused(folder)
    (folder / "a.csv").unlink()
    csv(folder / "b.csv", 0, 12)
    os.symlink(folder / "b.csv", folder / "loop.txt")
    os.symlink(folder, folder / "again")
    check(load(folder), next_known=False)


# ---- Minari ------------------------------------------------------------------------------------


def box(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-10, 10, (size,), np.float32)


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_minari_with_dict_spaces_and_by_path(minari_root: Path) -> None:
    buffers = [
        EpisodeBuffer(
            observations={"b": x[:, 1:], "a": x[:, :1]},
            actions=a,
            rewards=r,
            terminations=np.zeros(len(r), bool),
            truncations=np.arange(len(r)) == len(r) - 1,
        )
        for x, a, r in episodes()
    ]
    space = gym.spaces.Dict({"a": box(1), "b": box(2)})
    create_minari("dict-v0", buffers, observation_space=space)
    check(load_dataset("dict-v0"), next_known=True)
    check(load(minari_root / "dict-v0"), next_known=True)
    check(load(minari_root / "dict-v0" / "data" / "main_data.hdf5"), next_known=True)
    chosen = load(minari_root / "dict-v0", observation_keys=("b",))
    assert chosen.layout.observation_size == 2


@pytest.mark.parametrize(
    ("rows", "name"), [(4, "observations"), (6, "observations"), (6, "rewards")]
)
def test_a_minari_episode_of_another_length_is_refused(rows, name, minari_root: Path) -> None:
    buffers = [
        EpisodeBuffer(
            observations=x, actions=a, rewards=r,
            terminations=np.zeros(len(r), bool), truncations=np.zeros(len(r), bool),
        )
        for x, a, r in episodes()
    ]  # fmt: skip
    create_minari("short-v0", buffers, observation_space=box(3))
    with h5py.File(minari_root / "short-v0/data/main_data.hdf5", "a") as file:
        del file[f"episode_2/{name}"]
        file[f"episode_2/{name}"] = (
            np.zeros((rows, 3)) if name == "observations" else np.zeros(rows)
        )
    message = refused(minari_root / "short-v0")
    wanted = "5, one more than its actions" if name == "observations" else "4, as many as its"
    assert f"{name!r} of episode_2 has {rows} rows, but must have {wanted}" in message


# ---- text and Parquet --------------------------------------------------------------------------


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    import gzip

    line = b"0" * 4088 + b",0,0,0\n"
    header = b"observation_0,action_0,reward,terminal\n"
    with gzip.open(tmp_path / "a.csv.gz", "wb", compresslevel=9) as file:
        file.write(header)
        for _ in range(17):
            file.write(line * 1024)
    assert "it was made to fill your memory" in refused(tmp_path / "a.csv.gz")
    with gzip.open(tmp_path / "b.csv.gz", "wb") as file:
        file.write(b"x" * (2 << 20))
    assert "has a line of more than" in refused(tmp_path / "b.csv.gz")
    whole = (tmp_path / "a.csv.gz").read_bytes()
    (tmp_path / "c.csv.gz").write_bytes(whole[:1000])
    assert "c.csv.gz cannot be unpacked" in refused(tmp_path / "c.csv.gz")
    (tmp_path / "d.csv.gz").write_bytes(b"\x1f\x8b" + b"\xff" * 50)
    assert "d.csv.gz cannot be unpacked" in refused(tmp_path / "d.csv.gz")


def test_zstd(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    csv(tmp_path / "a.csv", 0, 12)
    with pyarrow.output_stream(str(tmp_path / "a.csv.zst"), compression="zstd") as file:
        file.write((tmp_path / "a.csv").read_bytes())
    check(load(tmp_path / "a.csv.zst"), next_known=False)


ROW = '{"observation": [1, 2], "action": [0.5], "reward": 1, "terminal": false, "step": %d}\n'
JSON_LINES = {
    "no JSON": (ROW % 0 + "{\n", "line 2 is no JSON"),
    "no object": (ROW % 0 + "3\n", "line 2 must be a JSON object"),
    "an array": ("[1]", "is one JSON array; write an object a line"),
    "a text": (ROW % 0 + (ROW % 1).replace("1,", '"up",', 1), "must be numeric, but line 2 is not"),
    "a missing one": (ROW % 0 + (ROW % 1).replace('"reward": 1,', ""), "'rewards' must be finite"),
    "another width": (
        ROW % 0 + (ROW % 1).replace("[1, ", "["),
        "column observation has 2 numbers in",
    ),
    "null": (ROW % 0 + (ROW % 1).replace("0.5", "null"), "but line 2 is nan in column 0"),
    "too large": (ROW % 0 + (ROW % 1).replace("0.5", "1" * 400), "number that is too large"),
    "deep": (ROW % 0 + "{" + '"a":{' * 5000, "line 2 is no JSON"),
    "nested lists": (ROW.replace("[1, 2]", "[[1], [2]]") % 0, "column observation must be numeric"),
}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.5", "null", "'actions' must be finite in float32, but line 5 is nan"),
        ("0.5", '"up"', "must be numeric, but line 5 is not"),
        ("[1, 2]", "[1]", "but in line 5 is [1]"),
        ("{", "", "line 5 is no JSON"),
    ],
)
def test_a_line_counts_the_empty_ones_before_it(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(
        ROW % 0 + " \n" + ROW % 1 + "\n" + (ROW % 2).replace(old, new)
    )
    assert said in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize("case", JSON_LINES)
def test_broken_json_lines_are_one_sentence(case: str, tmp_path: Path) -> None:
    content, sentence = JSON_LINES[case]
    (tmp_path / "a.jsonl").write_text(content)
    assert sentence in refused(tmp_path / "a.jsonl")


def test_json_lines_with_parts(tmp_path: Path) -> None:
    rows = [
        {"obs": {"b": [i, i], "a": i}, "action": [0.5], "reward": 1, "done": i == 2, "step": i}
        for i in range(3)
    ]
    (tmp_path / "a.log").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="nor of another format"):
        load(tmp_path / "a.log")
    path = (tmp_path / "a.log").rename(tmp_path / "a.ndjson")
    dataset = load(path, done_means="terminal")
    assert dataset.rows[:, :3].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_parquet_of_other_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(**changes: Any) -> Path:
        columns = {
            "observation": [[1.0, 2.0]] * 4,
            "action": [[0.5]] * 4,
            "reward": [1.0] * 4,
            "terminal": [False] * 4,
            "episode": ["a", "a", "b", "b"],
        }
        parquet.write_table(pyarrow.table(columns | changes), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    assert load(write()).episode_length_E.tolist() == [2, 2]
    for changes, sentence in (
        (
            {"terminal": [False, None, True, False]},
            "'terminals' must be 0 or 1, but row 1 (counted from 0) is nan",
        ),
        (
            {"episode": ["a", None, "b", "b"]},
            "column episode has no value in row 1 (counted from 0)",
        ),
        (
            {"observation": [[1.0, 2.0], [1.0]] * 2},
            "has 2 numbers in the first row, but 1 in row 1 (counted from 0)",
        ),
        (
            {"observation": [[1.0, 2.0], None] * 2},
            "has 2 numbers in the first row, but 0 in row 1 (counted from 0)",
        ),
        ({"observation": [[1.0, None]] * 4}, "but row 0 (counted from 0) is nan in column 1"),
        ({"observation": [[[1.0]]] * 4}, "column observation must be numeric, but is list"),
        ({"reward": [[1.0]] * 4}, "column reward must be a number in each row"),
    ):
        assert sentence in refused(write(**changes))
    nullable = pyarrow.array([False, True, False, False], pyarrow.bool_())
    assert load(write(terminal=nullable)).terminals == 1


def test_a_clock_in_an_observation_is_named(tmp_path: Path, capsys) -> None:
    rows = 100
    clock = 1.7e9 + np.arange(rows) * 0.1
    np.savez(
        tmp_path / "a.npz",
        observations=np.column_stack([np.linspace(0, 1, rows), clock]),
        actions=np.zeros((rows, 1)), rewards=np.zeros(rows), terminals=np.zeros(rows),
    )  # fmt: skip
    dataset = load(tmp_path / "a.npz")
    assert dataset.unresolved == ("observation_1",)
    said = capsys.readouterr().err
    assert "cannot tell the values of observation_1 apart: subtract the first value" in said


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pkl", b"\x80\x04.", "is a pickle, which would run code"),
        ("a.zip", None, "is a zip file, but no npz file"),
        ("a.bin", b"\x00\x01", "is not a readable HDF5 file, nor of another format: Parquet, npz"),
        ("a.tsv", b"", "a.tsv is empty"),
        ("a.jsonl", b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_what_is_no_log_is_one_sentence(name, content, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "text")
    else:
        path.write_bytes(content)
    assert sentence in refused(path)


def test_the_suffix_is_not_what_counts(tmp_path: Path) -> None:
    rows, last = whole()
    np.savez(
        tmp_path / "a.npz", observations=rows[:, :3], actions=rows[:, 3:5], rewards=rows[:, 5],
        terminals=np.zeros(12), timeouts=last,
    )  # fmt: skip
    path = (tmp_path / "a.npz").rename(tmp_path / "a.data")
    check(load(path), next_known=False)
    with open_log(path, Reading()) as source:
        assert (source.rows, source.widths) == (12, {"observations": 3, "actions": 2})
