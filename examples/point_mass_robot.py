"""The process that acts, where the environment is a robot: ``python point_mass_robot.py FOLDER``.

Here the robot is simulated; yours reads its sensors where this one calls ``reset`` and ``step``.
"""

import sys

import numpy as np
from point_mass import PointMass

from adabc_lightning import Robot

LIMIT = 100  # steps


def main() -> None:
    """One episode after the other, each with the newest policy, until training is over."""
    body = PointMass()
    with Robot(sys.argv[1], 4, [-1, -1], [1, 1], max_episode_steps=LIMIT) as robot:
        while (policy := robot.ask()) is not None:
            observation, _ = body.reset(seed=robot.episodes)
            observations, actions, rewards, terminated = [observation], [], [], False
            while len(rewards) < LIMIT and not terminated:
                action = policy(observation)
                observation, reward, terminated, *_ = body.step(action)
                observations.append(observation)
                actions.append(action)
                rewards.append(reward)
            robot.tell(observations, actions, rewards, terminated)
            print(f"episode {robot.episodes}: return {np.sum(rewards):.1f}", flush=True)


if __name__ == "__main__":
    main()
