"""From sources to a dataset: fills the partial file, goes on with it, turns it into the target."""

import hashlib
import json
import os
import sys
from argparse import Namespace
from typing import Any

import gymnasium
from tqdm import tqdm

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.collect.card import LIBRARIES, make_card
from adabc_lightning.commands.collect.sources import Source
from adabc_lightning.commands.collect.target import Target
from adabc_lightning.data.writer import PartialFile, write_hdf5, write_minari
from adabc_lightning.env.make import make_env
from adabc_lightning.env.rollout import NOISE, Part, num_lanes, roll_out
from adabc_lightning.errors import UserError, printable
from adabc_lightning.run.stopping import stopping
from adabc_lightning.run.versions import version


def shares(total: int, count: int) -> list[int]:
    """``total`` in ``count`` parts that differ by one at most."""
    return [total * (k + 1) // count - total * k // count for k in range(count)]


def make_dataset(
    options: Namespace,
    target: Target,
    sources: list[Source],
    spec: EnvironmentSpec,
    envs: list[gymnasium.Env],
) -> None:
    """Fills the partial file, turns it into the dataset and says what became of it.

    Args:
        options: of the command line.
        target: where the dataset goes.
        sources: what acts.
        spec: sizes, bounds, time limit.
        envs: at least one environment; more are added as they are needed.
    Raises: UserError: the environment fails, or something cannot be written.
    """
    parts: list[Part] = []
    for source, share in zip(sources, shares(options.steps, len(sources)), strict=True):
        for policy, steps in zip(source.policies, shares(share, len(source.policies)), strict=True):
            parts.append(Part(len(parts), policy, steps))
    if not all(part.transitions for part in parts):
        raise UserError(f"--steps is {options.steps}, but there are {len(parts)} policies")
    noise = options.noise
    if noise is None and not any(source.gaussian for source in sources):
        noise = NOISE
    digest = hashlib.sha256()
    for part in parts:
        if part.policy is not None:
            for array in part.policy.arrays().values():
                digest.update(array.tobytes())
    settings = {
        "--policy": [source.name for source in sources],
        "--from": options.start,
        "--to": options.stop,
        "--env-id": spec.env_id,
        "--max-episode-steps": spec.max_episode_steps,
        "--env-kwargs": json.dumps(options.env_kwargs) if options.env_kwargs else None,
        "--observation-keys": ",".join(options.observation_keys or ()) or None,
        "--noise": noise,
        "--steps": options.steps,
        "--seed": options.seed,
    }
    same = {
        "policies of SHA-256": digest.hexdigest()[:16],
        "sizes": [spec.observation_size, spec.action_size],
        **{f"version of {library}": version(library) for library in LIBRARIES},
    }
    partial = PartialFile(target.partial, settings | same, spec, anew=options.overwrite)
    finished = False
    try:

        def account() -> str:  # finished episodes are on disk already
            collected = sum(length for _, length, _ in partial.index)
            return (
                f" at {collected:,} of {options.steps:,} transitions; the same command goes on "
                "from there"
            )

        with stopping(account):
            most = max(num_lanes(part.transitions, spec.max_episode_steps) for part in parts)
            _add_copies(envs, most, options)
            _fill(partial, parts, spec, envs, settings)
            card = make_card(partial, sources, settings, spec, target.name)
            if target.minari:
                write_minari(target.path, target.name, partial.episodes(), envs[0], card)
            else:
                write_hdf5(target.path, partial.episodes(), options.steps, spec, card)
            finished = True
    finally:
        partial.close(delete=finished)
    line = (
        f"{target.name}: {options.steps:,} transitions, {card['episodes']:,} episodes, return "
        f"{card['return_mean']:.2f} ± {card['return_std']:.2f}, {card['terminals']:,} terminals, "
        f"{card['timeouts']:,} timeouts"
    )
    print(printable(line))


def _fill(
    partial: PartialFile,
    parts: list[Part],
    spec: EnvironmentSpec,
    envs: list[gymnasium.Env],
    settings: dict[str, Any],
) -> None:
    """Adds the episodes that are missing, with a bar on a terminal."""
    done = [[length for index, length, _ in partial.index if index == part.index] for part in parts]
    steps = settings["--steps"]
    collected = sum(map(sum, done))
    if collected:
        print(f"going on at {collected:,} of {steps:,} transitions", file=sys.stderr)
    sum_of_returns = sum(episode_return for *_, episode_return in partial.index)
    bar = tqdm(total=steps, initial=collected, unit=" steps", disable=None)
    with bar:
        for part, lengths in zip(parts, done, strict=True):
            episodes = roll_out(
                part,
                spec,
                envs,
                seed=settings["--seed"],
                noise=settings["--noise"],
                first=len(lengths),
                collected=sum(lengths),
            )
            for episode in episodes:
                partial.append(part.index, episode)
                sum_of_returns += partial.index[-1][2]
                mean = sum_of_returns / len(partial.index)
                bar.set_postfix_str(f"mean return {mean:.1f}", refresh=False)
                bar.update(len(episode.rewards))


def _add_copies(envs: list[gymnasium.Env], count: int, options: Namespace) -> None:
    """Copies of the first environment, silent: MuJoCo repeats its warnings about the model."""
    spec = envs[0].spec
    assert spec is not None  # gymnasium.make gives one
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        while len(envs) < count:
            made = {"kwargs": options.env_kwargs, "observation_keys": options.observation_keys}
            envs.append(make_env(spec.id, spec.max_episode_steps, **made))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
