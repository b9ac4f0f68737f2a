"""How much of an environment's own stepping rate is left when `collect` makes a dataset of it.

    .venv/bin/python benchmarks/collect_speed.py [--steps 20000] [--rounds 5] [ENV_ID ...]

Raw: random actions drawn before, one environment as gymnasium.make gives it, resets included.
The policy is an untrained one of 2×256 units, with noise 0.1; its raw rate is that of the same
actions once more, because how long a physics step takes depends on what is done. Rounds alternate
raw and collected; medians. CPU seconds of the process, so that other processes disturb less.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gymnasium
import torch

from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.writer import PartialFile, write_hdf5
from adabc_lightning.env.make import make_env
from adabc_lightning.env.rollout import LANES, Part, Rollout, roll_out
from adabc_lightning.run.runtime import tune


def raw(env: gymnasium.Env, episodes: list[Rollout]) -> float:
    """Seconds of the same actions in one environment, nothing kept."""
    start = time.process_time()
    for episode in episodes:
        env.reset(seed=episode.seed)
        for action in episode.actions:
            env.step(action)
    return time.process_time() - start


def collected(
    part: Part, spec: EnvironmentSpec, envs: list[gymnasium.Env], folder: Path
) -> tuple[float, float, list[Rollout]]:
    """Seconds of collecting into a partial file, and of turning that into HDF5."""
    start = time.process_time()
    partial = PartialFile(folder / "part", {}, spec)
    episodes = []
    for episode in roll_out(part, spec, envs, seed=0, noise=0.1):
        partial.append(0, episode)
        episodes.append(episode)
    middle = time.process_time()
    write_hdf5(folder / "a.hdf5", partial.episodes(), part.transitions, spec, {})
    partial.close(delete=True)
    return middle - start, time.process_time() - middle, episodes


def main() -> None:
    """Prints a line per environment and policy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env_ids", nargs="*", default=["HalfCheetah-v5", "Hopper-v5"])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tune()
    torch.manual_seed(0)
    for env_id in options.env_ids:
        envs = [make_env(env_id) for _ in range(LANES)]
        spec = EnvironmentSpec.of(envs[0], env_id)
        actor = Actor(spec.observation_size, spec.action_low, spec.action_high, [256, 256])
        policy = StoredPolicy(tuple(p.detach().numpy() for p in actor.weights))
        for name, chosen in (("random", None), ("policy", policy)):
            part = Part(0, chosen, options.steps)
            rounds = []
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(options.rounds):
                    collecting, writing, episodes = collected(part, spec, envs, Path(folder))
                    rounds.append((raw(envs[0], episodes), collecting, writing))
            rates = [
                options.steps / statistics.median(times) for times in zip(*rounds, strict=True)
            ]
            share = statistics.median(a / b for a, b, _ in rounds)
            whole = statistics.median(a / (b + c) for a, b, c in rounds)
            print(
                f"{env_id:<16} {name}  raw {rates[0]:>7,.0f} steps/s  collect {rates[1]:>7,.0f}  "
                f"{share:.0%}, with the writing of the HDF5 file {whole:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
