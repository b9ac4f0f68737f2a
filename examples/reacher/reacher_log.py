"""Teleoperation of the arm as LeRobot stores it: ``python reacher_log.py [EPISODES]``.

Writes the folder ``reacher_teleop`` in the layout of LeRobotDataset v3 (without videos), as its
recorder would: ``meta/info.json``, ``meta/stats.json``, ``meta/tasks.parquet``,
``meta/episodes/…`` and ``data/…``.
"""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pyarrow
import reacher
from pyarrow import parquet

FOLDER, TASK = Path("reacher_teleop"), "Move the tip to the target."
FEATURES = {
    "observation.environment_state": ["target.x", "target.y"],
    "observation.state": ["shoulder.pos", "elbow.pos", "shoulder.vel", "elbow.vel"],
    "action": ["shoulder.vel", "elbow.vel"],
}
SCALARS = {"next.reward": "float32", "next.done": "bool", "next.success": "bool",
           "timestamp": "float32", "frame_index": "int64", "episode_index": "int64",
           "index": "int64", "task_index": "int64"}  # fmt: skip


def operator(observation: np.ndarray, generator: np.random.Generator, skill: float) -> np.ndarray:
    """A person at two sticks: the right direction, too slow, and unsteady."""
    aim, angles = observation[:2], observation[2:4]
    step = 1e-5
    columns = [
        (reacher.tip(angles + step * unit) - reacher.tip(angles)) / step for unit in np.eye(2)
    ]
    return np.clip(skill * np.array(columns) @ aim + generator.normal(0, 0.25, 2), -1, 1)


def main() -> None:
    """Each episode to the time limit, by an operator of other skill."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    env, generator = gymnasium.make("TwoLinks-v0"), np.random.default_rng(0)
    rows: dict[str, list] = {name: [] for name in (*FEATURES, *SCALARS)}
    lengths = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        skill, frame, ended = generator.uniform(0.8, 2.5), 0, False
        while not ended:
            action = operator(observation, generator, skill).astype(np.float32)
            following, reward, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
            values = (observation[:2], observation[2:], action, reward, ended, info["is_success"],
                      frame * reacher.PERIOD, frame, episode, len(rows["index"]), 0)  # fmt: skip
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
            observation, frame = following, frame + 1
        lengths.append(frame)
    write(rows, lengths)


def write(rows: dict[str, list], lengths: list[int]) -> None:
    """The folder, all of it."""
    ends = np.cumsum(lengths)
    info = {
        "codebase_version": "v3.0", "robot_type": "two_links", "fps": round(1 / reacher.PERIOD),
        "total_episodes": len(lengths), "total_frames": int(ends[-1]), "total_tasks": 1,
        "chunks_size": 1000, "data_files_size_in_mb": 100, "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {name: {"dtype": "float32", "shape": [len(names)], "names": names}
                     for name, names in FEATURES.items()}
        | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in SCALARS.items()},
    }  # fmt: skip
    stats = {}
    for name in FEATURES:
        values = np.array(rows[name])
        stats[name] = {s: getattr(values, s)(0).tolist() for s in ("min", "max", "mean", "std")}
    columns = {
        **{name: pyarrow.FixedSizeListArray.from_arrays(np.ravel(rows[name]).astype("f4"), len(of))
           for name, of in FEATURES.items()},
        **{name: np.array(rows[name], kind) for name, kind in SCALARS.items()},
    }  # fmt: skip
    frames = pyarrow.table(columns)
    whole = {
        "data/chunk-000/file-000.parquet": frames,
        "meta/tasks.parquet": pyarrow.table({"task_index": [0], "task": [TASK]}),
        "meta/episodes/chunk-000/file-000.parquet": pyarrow.table({
            "episode_index": np.arange(len(lengths)),
            "tasks": [[TASK]] * len(lengths),
            "length": lengths,
            "dataset_from_index": ends - lengths,
            "dataset_to_index": ends,
        }),
    }  # fmt: skip
    for path, table in whole.items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, FOLDER / path)
    for name, content in {"info": info, "stats": stats}.items():
        (FOLDER / "meta" / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
