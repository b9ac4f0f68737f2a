"""A log of the controller that you have: ``python point_mass_log.py [EPISODES]``, a CSV file."""

import csv
import sys

import gymnasium
import numpy as np
import point_mass  # noqa: F401 - registers the environment

COLUMNS = [
    *("episode", "observation_0", "observation_1", "observation_2", "observation_3"),
    *("action_0", "action_1", "reward", "terminal", "timeout"),
    *(f"next_observation_{i}" for i in range(4)),
]


def main() -> None:
    """Pulls towards the origin and hardly brakes, so that it swings about it."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    env, generator = gymnasium.make("PointMass-v0"), np.random.default_rng(0)
    with open("point_mass.csv", "w", newline="", encoding="utf-8") as file:
        log = csv.writer(file)
        log.writerow(COLUMNS)
        for episode in range(episodes):
            observation, _ = env.reset(seed=episode)
            ended = False
            while not ended:
                position, velocity = observation[:2], observation[2:]
                force = -0.5 * position - 0.05 * velocity + generator.normal(0, 0.3, 2)
                action = np.clip(force, -1, 1)
                following, reward, terminated, truncated, _ = env.step(action)
                numbers = (*observation, *action, reward, int(terminated), int(truncated))
                log.writerow([episode, *numbers, *following])
                observation, ended = following, terminated or truncated


if __name__ == "__main__":
    main()
