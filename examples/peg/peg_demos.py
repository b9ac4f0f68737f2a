"""Demonstrations as robomimic stores them: ``python peg_demos.py [EPISODES]``, ``peg_demos.hdf5``.

``data/demo_N`` has ``actions``, ``rewards``, ``dones``, ``states``, ``obs`` and ``next_obs``; the
lists of names below ``mask`` split them.
"""

import json
import sys
from typing import Any

import gymnasium
import h5py
import numpy as np
import peg

FILE = "peg_demos.hdf5"


def operator(env: Any, generator: np.random.Generator, squint: float) -> np.ndarray:
    """Goes over the hole as the eye has it, then down; an unsteady hand is what helps, if any."""
    seen = env.hole[0] - env.position[0] + squint + generator.normal(0, 0.005)
    down = abs(seen) < 0.015 or env.position[1] < 0
    wanted = np.array([0.5 * seen, -0.01 if down else 0.2 * (0.04 - env.position[1])])
    return np.clip(wanted / peg.FASTEST + generator.normal(0, 0.2, 2), -1, 1).astype(np.float32)


def demonstrate(env: Any, seed: int, generator: np.random.Generator) -> dict[str, list]:
    """One attempt: until the peg is in, or the time is over."""
    env.reset(seed=seed)
    inner, squint, ended = env.unwrapped, generator.normal(0, 0.02), False
    rows: dict[str, list] = {k: [] for k in ("obs", "actions", "rewards", "dones", "states")}
    while not ended:
        rows["obs"].append(inner.parts())
        rows["states"].append(np.concatenate([inner.position, inner.velocity, inner.hole]))
        action = operator(inner, generator, squint)
        _, reward, terminated, truncated, _ = env.step(action)
        for name, value in {"actions": action, "rewards": reward, "dones": terminated}.items():
            rows[name].append(value)
        ended = terminated or truncated
    rows["obs"].append(inner.parts())
    return rows


def main() -> None:
    """The file, all of it."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    env, generator = gymnasium.make("Peg-v0"), np.random.default_rng(0)
    with h5py.File(FILE, "w") as file:
        data, total = file.create_group("data"), 0
        for number in range(episodes):
            rows = demonstrate(env, number, generator)
            steps = len(rows["actions"])
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], total = steps, total + steps
            for name in ("actions", "rewards", "states"):
                demo[name] = np.array(rows[name])
            demo["dones"] = np.array(rows["dones"], np.int64)  # done_mode 0: 1 at success
            for key in rows["obs"][0]:
                values = np.array([obs[key] for obs in rows["obs"]])
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:-1], values[1:]
            demo["obs/agentview_image"] = np.zeros((steps, 16, 16, 3), np.uint8)
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps({"env_name": "Peg", "type": 1, "env_kwargs": {}})
        names = np.array([f"demo_{number}" for number in range(episodes)], "S8")
        held_out = np.arange(episodes) % 10 == 9
        file["mask/train"], file["mask/valid"] = names[~held_out], names[held_out]


if __name__ == "__main__":
    main()
