"""Three logs without rewards: ``python tanks_logs.py [EPISODES]``, the second tenth of each.

``controller.csv`` from the plant's own controller, ``operator.jsonl`` from people at the valves,
``trials.npz`` from a day on which an engineer tried things out. Nobody wrote a reward down.
"""

import csv
import json
import sys
from collections.abc import Callable

import gymnasium
import numpy as np
import tanks  # noqa: F401 - registers the environment

Policy = Callable[[np.ndarray], np.ndarray]


def controller(generator: np.random.Generator) -> Policy:
    """Proportional, and timid: the same gains for eighty seconds and for a flood."""
    return lambda x: np.clip(1.5 * (x[2:4] - x[:2]) + generator.normal(0, 0.1, 2), -1, 1)


def operator(generator: np.random.Generator) -> Policy:
    """Opens and shuts by turns, with an eye on one tank at a time."""
    gain = generator.uniform(2, 8, 2)
    return lambda x: np.clip(gain * (x[2:4] - x[:2]) + generator.normal(0, 0.5, 2), -1, 1)


def trials(generator: np.random.Generator) -> Policy:
    """Whatever comes to mind, for a while."""
    action = generator.uniform(-1, 1, 2)

    def act(observation: np.ndarray) -> np.ndarray:
        if generator.uniform() < 0.15:
            action[:] = generator.uniform(-1, 1, 2)
        return action.copy()

    return act


def record(make: Callable[[np.random.Generator], Policy], episodes: int, seed: int) -> list[dict]:
    """A row a step, with the observation that followed."""
    env, generator, rows = gymnasium.make("Tanks-v0"), np.random.default_rng(seed), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=1000 * seed + episode)
        policy, step, ended = make(generator), 0, False
        while not ended:
            action = policy(observation).astype(np.float32)
            following, _, terminated, truncated, _ = env.step(action)
            rows.append({"episode": episode, "step": step, "observation": observation,
                         "action": action, "next_observation": following})  # fmt: skip
            observation, step, ended = following, step + 1, terminated or truncated
    return rows


def main() -> None:
    """The three files."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with open("controller.csv", "w", newline="", encoding="utf-8") as file:
        log = csv.writer(file)
        vectors = {"observation": 6, "action": 2, "next_observation": 6}
        names = [f"{name}_{i}" for name, size in vectors.items() for i in range(size)]
        log.writerow(["episode", "step", *names, "terminal"])
        for row in record(controller, episodes, 1):
            numbers = np.concatenate([row[name] for name in vectors])
            log.writerow([row["episode"], row["step"], *numbers, 0])
    with open("operator.jsonl", "w", encoding="utf-8") as file:
        for row in record(operator, episodes, 2):
            line = {name: value.tolist() if isinstance(value, np.ndarray) else value
                    for name, value in row.items()}  # fmt: skip
            file.write(json.dumps({**line, "terminal": False}) + "\n")
    rows = record(trials, episodes, 3)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns |= {"terminal": np.zeros(len(rows), bool)}
    np.savez("trials.npz", **columns)


if __name__ == "__main__":
    main()
