"""What ``inspect --convert`` writes of each layout trains to the same bits as the log itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from minari.data_collector import EpisodeBuffer
from test_datasets import create_minari
from test_formats import (
    box,
    csv,
    d3rlpy,
    episodes,
    lerobot,
    robomimic,
    sb3,
    tables,
    task,
    whole,
)
from tiny import TOY_LIMIT, register_toy, tiny_run

from adabc_lightning.__main__ import main
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()


def arrays() -> dict[str, np.ndarray]:
    """D4RL's, the first episode with a true terminal, the second one a success."""
    rows, last = whole()
    index = np.arange(len(rows))
    return {
        "observations": rows[:, :3], "actions": rows[:, 3:5], "rewards": rows[:, 5],
        "next_observations": rows[:, 6:], "terminals": index == 2, "timeouts": last & (index != 2),
        "success": index == 5,
    }  # fmt: skip


def of_hdf5(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "a.hdf5", "w") as file:
        for key, values in arrays().items():
            file[key] = values
    return "a.hdf5"


def of_npz(content: Callable[[], dict[str, np.ndarray]]) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        np.savez(folder / "a.npz", **content())
        return "a.npz"

    return made


def of_csv(folder: Path) -> str:
    csv(folder / "a.csv", 0, 12)
    return "a.csv"


def of_shards(folder: Path) -> str:
    (folder / "shards").mkdir()
    csv(folder / "shards" / "part-2.csv", 0, 4)
    csv(folder / "shards" / "part-10.csv", 4, 12)
    return "shards"


def of_json_lines(folder: Path) -> str:
    lines = [
        {
            "observation": row[:3].tolist(), "action": row[3:5].tolist(), "reward": float(row[5]),
            "terminal": False, "episode": int(episode),
        }
        for row, episode in zip(whole()[0], tables()["episode_index"], strict=True)
    ]  # fmt: skip
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "a.jsonl"


def of_parquet(folder: Path) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(tables()), folder / "a.parquet")
    return "a.parquet"


def of_minari(folder: Path) -> str:
    buffers = [
        EpisodeBuffer(
            observations={"b": x[:, 1:], "a": x[:, :1]}, actions=a, rewards=r,
            terminations=np.zeros(len(r), bool), truncations=np.arange(len(r)) == len(r) - 1,
        )
        for x, a, r in episodes()
    ]  # fmt: skip
    space = gymnasium.spaces.Dict({"a": box(1), "b": box(2)})
    create_minari("dict-v0", buffers, observation_space=space)
    return "dict-v0"


LAYOUTS: dict[str, Callable[[Path], str]] = {
    "D4RL": of_hdf5,
    "npz": of_npz(arrays),
    "OGBench": of_npz(task),
    "Stable-Baselines3": of_npz(sb3),
    "CSV": of_csv,
    "shards": of_shards,
    "JSON Lines": of_json_lines,
    "Parquet": of_parquet,
    "LeRobot": lambda folder: lerobot(folder / "a").name,
    "robomimic": lambda folder: robomimic(folder / "a.hdf5").name,
    "d3rlpy": lambda folder: d3rlpy(folder / "a.h5").name,
    "Minari": of_minari,
}
DONES = ("Parquet", "LeRobot", "robomimic")  # where dones can mean either


def trained(
    folder: Path, dataset: str, means: Any, reward: str | None = None
) -> tuple[str, list[torch.Tensor]]:
    """The metrics and the weights of a run through both phases."""
    trainer, module, data = tiny_run(
        folder, TOY, Path(dataset), schedule=Schedule(4, 6, 1, evaluation_every=2),
        data={"done_means": means, "reward": reward}, downsampling={"minimum": 3},
    )  # fmt: skip
    trainer.fit(module, data)
    return (folder / "metrics.csv").read_text(), list(module.state_dict().values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_converted_trains_to_the_same_bits(
    layout: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "minari").mkdir()
    name = LAYOUTS[layout](tmp_path)
    means = "terminal" if layout in DONES else None
    words = ["inspect", name, "--env-id", TOY, *(["--done-means", means] if means else [])]
    before = load_dataset(name, max_episode_steps=TOY_LIMIT, reading=Reading(done_means=means))
    expected = trained(tmp_path / "run", name, means)
    for target in ("b.hdf5", "mine/b-v0"):
        assert main([*words, "--convert", target]) == 0, capsys.readouterr().err
        after = load_dataset(target, max_episode_steps=TOY_LIMIT)
        assert torch.equal(after.rows, before.rows)
        assert torch.equal(after.episode_T, before.episode_T)
        assert (after.terminals, after.timeouts) == (before.terminals, before.timeouts)
        metrics, weights = trained(tmp_path / f"run-{target[0]}", target, None)
        assert metrics == expected[0]
        assert all(map(torch.equal, weights, expected[1]))
        if before.success_E is not None and target.endswith(".hdf5"):
            assert torch.equal(after.success_E, before.success_E)


def test_success_is_kept_step_by_step(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "minari").mkdir()
    rng, step = np.random.default_rng(0), np.arange(4 * TOY_LIMIT) % TOY_LIMIT
    episode = np.arange(4 * TOY_LIMIT) // TOY_LIMIT
    # In the midst of one, in all of one, at the end of one, which is left out, and never.
    success = (episode == 0) & (step == 1) | (episode == 1) | (episode == 2) & (step == 4)
    np.savez(
        "a.npz", observations=rng.normal(size=(20, 3)), actions=rng.uniform(-1, 1, (20, 2)),
        rewards=rng.normal(size=20), terminals=step < 0, timeouts=step == 4, success=success,
    )  # fmt: skip
    before = load_dataset("a.npz")
    kept = step < 4
    assert before.success_T.tolist() == success[kept].tolist()
    assert before.success_E.tolist() == [True, True, True, False]
    expected = trained(tmp_path / "run", "a.npz", None, "success")
    for target, later in (("b.hdf5", True), ("mine/b-v0", False)):
        words = ["inspect", "a.npz", "--env-id", TOY, "--convert", target]
        assert main(words) == 0, capsys.readouterr().err
        after = load_dataset(target)
        assert torch.equal(after.success_T, before.success_T)
        assert after.success_E.tolist() == [True, True, later, False]
        again = trained(tmp_path / f"run-{target[0]}", target, None, "success")
        assert again[0] == expected[0]
        assert all(map(torch.equal, again[1], expected[1]))
        # And what is converted once more is the same.
        assert main(["inspect", target, "--convert", "c.hdf5", "--overwrite"]) == 0
        twice = load_dataset("c.hdf5")
        assert torch.equal(twice.success_T, before.success_T)
        assert torch.equal(twice.success_E, after.success_E)
    assert "looks like ends of episodes" not in capsys.readouterr().err


def test_every_reader_has_a_layout_here() -> None:
    from adabc_lightning.data import formats

    readers = {path.stem for path in Path(formats.__path__[0]).glob("*.py")}
    helpers = {"__init__", "columns", "episodic", "find", "packed", "source", "tables"}
    ours = {"hdf5", "npz", "separated", "folder", "json_lines", "parquet", "lerobot"}
    assert readers - helpers == ours | {"robomimic", "d3rlpy", "minari"}
