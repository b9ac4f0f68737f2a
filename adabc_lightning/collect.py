"""``python -m adabc_lightning collect``: rolls out policies and writes a dataset with a card."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adabc_lightning.errors import UserError
from adabc_lightning.options import Options

if TYPE_CHECKING:  # numpy and PyTorch take seconds, which a misspelt option need not wait for
    import gymnasium

    from adabc_lightning.data.rollout import Part, Weights
    from adabc_lightning.data.writer import PartialFile
    from adabc_lightning.envs import EnvironmentSpec

RANDOM = "random"
LIBRARIES = ("adabc_lightning", "gymnasium", "mujoco", "numpy")
_EXAMPLES = """\
examples:
  collect --policy random --env-id Ant-v5 --out ant-random.hdf5
  collect --policy runs/ant/checkpoints/best.ckpt --out ant-expert.hdf5
  collect --policy runs/ant --to 60000 --steps 60000 --out ant-medium-replay.hdf5
  collect --policy MEDIUM.ckpt --policy EXPERT.ckpt --out mine/ant-medium-expert-v0

A command that was interrupted goes on where it stopped when it is given again."""


def parse(words: list[str]) -> Namespace:
    """The options of a command line.

    Raises: UserError: an option is unknown, missing or out of its range.
    """
    parser = Options("collect", "Rolls out policies and writes a dataset with a card.", _EXAMPLES)
    add = parser.add_argument
    add("--policy", action="append", required=True, metavar="P",
        help="random, a checkpoint, or a run's folder for all its kept policies in order "
        "(fit --checkpoints.keep_policies true); several contribute equal parts")  # fmt: skip
    add("--from", dest="start", type=int, metavar="STEP",
        help="of a run's folder: the first policy, in environment steps of that run")  # fmt: skip
    add("--to", dest="stop", type=int, metavar="STEP", help="the last policy, inclusive")
    add("--out", required=True, help="FILE.hdf5 (D4RL's layout, v2) or a Minari id (NAME-v0)")
    add("--format", choices=("hdf5", "minari"), help="default: by the form of --out")
    add("--steps", type=int, default=100_000, help="transitions in all (default: %(default)s)")
    add("--noise", type=float, default=0.1,
        help="σ of the Gaussian noise on a policy's actions, in action limits; 0 for none "
        "(default: %(default)s, that of training; random actions get none)")  # fmt: skip
    add("--env-id", help="Gymnasium id (default: that of the checkpoints)")
    add("--max-episode-steps", type=int, help="time limit in steps (default: the environment's)")
    add("--seed", type=int, default=0, help="of starts and actions (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace what --out names, and start again")
    options = parser.parse_args(words)
    for name, value, low in (
        ("steps", options.steps, 1),
        ("seed", options.seed, 0),
        ("max-episode-steps", options.max_episode_steps, 1),
        ("noise", options.noise, 0),
    ):
        if value is not None and not low <= value < math.inf:  # also catches NaN
            raise UserError(f"--{name} is {value}; it must be {low} or more")
    return options


@dataclass(frozen=True)
class Source:
    """One ``--policy``.

    Args:
        name: as given.
        env_id: where it was trained; None for random actions.
        policies: weights of each policy, in order; None for random actions.
        counters: environment steps and gradient updates of the first and the last one.
    """

    name: str
    env_id: str | None = None
    policies: Sequence[Weights | None] = (None,)
    counters: dict[str, Any] = field(default_factory=dict)


def read_source(name: str, start: int | None, stop: int | None) -> Source:
    """What a ``--policy`` stands for.

    Raises: UserError: there is no such checkpoint or run, or no policy between start and stop.
    """
    if name == RANDOM:
        return Source(name)
    path = Path(name)
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"--policy {name} is neither random nor a checkpoint nor a run's folder"
            )
        files = [path]
    else:
        kept = sorted((path / "checkpoints" / "policies").glob("[0-9]*.ckpt"))
        if not kept:
            raise UserError(
                f"{name} keeps no policies; name one of its checkpoints, or make a run with "
                "--checkpoints.keep_policies true"
            )
        first, last = (int(file.stem) for file in (kept[0], kept[-1]))
        low, high = (first if start is None else start), (last if stop is None else stop)
        files = [file for file in kept if low <= int(file.stem) <= high]
        if not files:
            raise UserError(
                f"{name} has no policy from {low} to {high} environment steps; its {len(kept)} "
                f"are of {first} to {last}"
            )
    from adabc_lightning.run_folder import read_checkpoint

    env_ids, policies, counters = set(), [], []
    for file in files:
        checkpoint = read_checkpoint(file, policy_only=True)
        policies.append(_actor_weights(checkpoint, file))
        data = checkpoint["ReplayDataModule"]
        env_ids.add(data["env_id"])
        counters.append((data["collector"]["env_steps"], checkpoint["agent"]["gradient_updates"]))
    steps, updates = zip(*counters, strict=True)
    return Source(
        name,
        env_ids.pop(),
        policies,
        {
            "policies": len(files),
            "env_steps": [steps[0], steps[-1]],
            "gradient_updates": [updates[0], updates[-1]],
        },
    )


def _actor_weights(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Layer by layer, from the entries ``actor.net.LAYER.weight`` and ``.bias``."""
    state = checkpoint.get("state_dict", {})
    layers = sorted(
        int(m[1]) for key in state if (m := re.fullmatch(r"actor\.net\.(\d+)\.weight", key))
    )
    try:
        return tuple(
            state[f"actor.net.{layer}.{name}"].float().numpy()
            for layer in layers
            for name in ("weight", "bias")
        ) or _missing(path)
    except KeyError:
        return _missing(path)


def _missing(path: Path) -> Any:
    raise UserError(f"{path} holds no actor; give a checkpoint of a run of this package")


def check_fit(source: Source, spec: EnvironmentSpec) -> None:
    """Refuses networks of other sizes than the environment's.

    Raises: UserError: observations or actions have other sizes.
    """
    for weights in source.policies:
        if weights is None:
            continue
        sizes = weights[0].shape[1], len(weights[-1])
        if sizes != (spec.observation_size, spec.action_size):
            raise UserError(
                f"the policy of {source.name} is for observations of {sizes[0]} and actions of "
                f"{sizes[1]} numbers, environment {spec.env_id!r} has {spec.observation_size} and "
                f"{spec.action_size}; give the environment it was trained in by --env-id"
            )


@dataclass(frozen=True)
class Target:
    """Where the dataset goes.

    Args:
        name: as given.
        path: the file, or the folder of the Minari dataset.
        partial: the file of episodes beside it.
        minari: whether it is Minari's.
    """

    name: str
    path: Path
    partial: Path
    minari: bool


def find_target(options: Namespace) -> Target:
    """What ``--out`` stands for.

    Raises: UserError: it is neither a file's name nor a Minari id, or it exists.
    """
    from adabc_lightning.data.datasets import D4RL_NAME, MINARI_ID

    name, kind = options.out, options.format
    if kind is None:
        if Path(name).suffix in (".hdf5", ".h5"):
            kind = "hdf5"
        elif MINARI_ID.fullmatch(name):
            kind = "minari"
        else:
            raise UserError(f"--out {name} is neither FILE.hdf5 nor a Minari id such as mine/x-v0")
    if kind == "minari":
        if not MINARI_ID.fullmatch(name):
            raise UserError(f"--out {name} is no Minari id; it must be like mine/hopper-v0")
        if D4RL_NAME.fullmatch(name):
            raise UserError(
                f"--out {name} is a dataset of D4RL's; choose another, like mine/{name}"
            )
        from minari.storage.datasets_root_dir import get_dataset_path

        path = get_dataset_path(name)
        partial = get_dataset_path() / f".{name.replace('/', '-')}.part"
    else:
        path = Path(name)
        partial = path.with_name(f".{path.name}.part")
        if path.is_dir():
            raise UserError(f"--out {name} is a folder; give the name of a file")
    if path.exists() and not options.overwrite:
        raise UserError(f"{path} exists; choose another --out, or replace it with --overwrite")
    return Target(name, path, partial, kind == "minari")


def shares(total: int, count: int) -> list[int]:
    """``total`` in ``count`` parts that differ by one at most."""
    return [total * (k + 1) // count - total * k // count for k in range(count)]


def main(words: list[str]) -> None:
    """Runs the command.

    Raises: UserError: anything wrong with what the user gave.
    """
    options = parse(words)
    # The matrices are small: threads cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from adabc_lightning.runtime import tune

    tune()
    from adabc_lightning.envs import EnvironmentSpec, make_env

    target = find_target(options)
    sources = [read_source(name, options.start, options.stop) for name in options.policy]
    if (options.start, options.stop) != (None, None) and not any(
        Path(source.name).is_dir() for source in sources
    ):
        raise UserError(
            "--from and --to choose among a run's policies; give its folder as --policy"
        )
    env_id = options.env_id or _env_id(sources)
    envs = [make_env(env_id, options.max_episode_steps)]
    with ExitStack() as stack:
        stack.callback(_close, envs)
        spec = EnvironmentSpec.of(envs[0], env_id)
        for source in sources:
            check_fit(source, spec)
        collect(options, target, sources, spec, envs)


def _close(envs: list[gymnasium.Env]) -> None:
    for env in envs:
        env.close()


def _env_id(sources: list[Source]) -> str:
    env_ids = list(dict.fromkeys(source.env_id for source in sources if source.env_id))
    if not env_ids:
        raise UserError("--policy random needs --env-id, the Gymnasium id of an environment")
    if len(env_ids) > 1:
        raise UserError(f"the policies are of {' and '.join(env_ids)}; choose one by --env-id")
    return env_ids[0]


def collect(
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
    from adabc_lightning.data.rollout import Part, num_lanes
    from adabc_lightning.data.writer import PartialFile, write_hdf5, write_minari

    parts: list[Part] = []
    for source, share in zip(sources, shares(options.steps, len(sources)), strict=True):
        for weights, steps in zip(
            source.policies, shares(share, len(source.policies)), strict=True
        ):
            parts.append(Part(len(parts), weights, steps))
    if not all(part.transitions for part in parts):
        raise UserError(f"--steps is {options.steps}, but there are {len(parts)} policies")
    digest = hashlib.sha256()
    for part in parts:
        for array in part.weights or ():
            digest.update(array.tobytes())
    settings = {
        "--policy": [source.name for source in sources],
        "--from": options.start,
        "--to": options.stop,
        "--env-id": spec.env_id,
        "--max-episode-steps": options.max_episode_steps,
        "--noise": options.noise,
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
        with _stopped_politely(partial, options.steps):
            most = max(num_lanes(part.transitions, spec.max_episode_steps) for part in parts)
            _add_copies(envs, most, options.max_episode_steps)
            _fill(partial, parts, spec, envs, options)
            card = _card(partial, sources, settings, spec, target)
            if target.minari:
                write_minari(target.path, target.name, partial.episodes(), envs[0], card)
            else:
                write_hdf5(target.path, partial.episodes(), options.steps, spec, card)
            finished = True
    finally:
        partial.close(delete=finished)
    print(
        f"{target.name}: {options.steps:,} transitions, {card['episodes']:,} episodes, return "
        f"{card['return_mean']:.2f} ± {card['return_std']:.2f}, {card['terminals']:,} terminals, "
        f"{card['timeouts']:,} timeouts"
    )


def _fill(
    partial: PartialFile,
    parts: list[Part],
    spec: EnvironmentSpec,
    envs: list[gymnasium.Env],
    options: Namespace,
) -> None:
    """Adds the episodes that are missing, with a bar on a terminal."""
    from tqdm import tqdm

    from adabc_lightning.data.rollout import roll_out

    done = [[steps for index, steps, _ in partial.index if index == part.index] for part in parts]
    collected = sum(map(sum, done))
    if collected:
        print(f"going on at {collected:,} of {options.steps:,} transitions", file=sys.stderr)
    sum_of_returns = sum(episode_return for *_, episode_return in partial.index)
    bar = tqdm(total=options.steps, initial=collected, unit=" steps", disable=None)
    with bar:
        for part, lengths in zip(parts, done, strict=True):
            episodes = roll_out(
                part,
                spec,
                envs,
                seed=options.seed,
                noise=options.noise,
                first=len(lengths),
                collected=sum(lengths),
            )
            for episode in episodes:
                partial.append(part.index, episode)
                sum_of_returns += partial.index[-1][2]
                mean = sum_of_returns / len(partial.index)
                bar.set_postfix_str(f"mean return {mean:.1f}", refresh=False)
                bar.update(len(episode.rewards))


def _add_copies(envs: list[gymnasium.Env], count: int, max_episode_steps: int | None) -> None:
    """Copies of the first environment, silent: MuJoCo repeats its warnings about the model."""
    from adabc_lightning.envs import make_env

    spec = envs[0].spec
    assert spec is not None  # gymnasium.make gives one
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        while len(envs) < count:
            envs.append(make_env(spec.id, max_episode_steps))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextmanager
def _stopped_politely(partial: PartialFile, steps: int) -> Iterator[None]:
    """SIGINT and SIGTERM end the command with one line; finished episodes are on disk already."""

    def stop(number: int, frame: Any) -> None:
        collected = sum(length for _, length, _ in partial.index)
        print(
            "\n"
            * sys.stderr.isatty()  # below the bar
            + f"stopped by {signal.Signals(number).name} at {collected:,} of {steps:,} "
            "transitions; the same command goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(128 + number)

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _card(
    partial: PartialFile,
    sources: list[Source],
    settings: dict[str, Any],
    spec: EnvironmentSpec,
    target: Target,
) -> dict[str, Any]:
    """What a dataset says about itself; it depends on nothing but the options.

    Returns: name → number or text: environment, seed, noise, policies, versions, command, counts
        of transitions, episodes (``episodes_cut`` by the budget of transitions), terminals and
        timeouts, and mean, standard deviation, minimum and maximum of the episodes' returns.
    """
    import numpy as np

    returns = np.array([episode_return for *_, episode_return in partial.index])
    terminals = cut = 0
    limit = spec.max_episode_steps
    for episode in partial.episodes():
        terminals += episode.terminated
        cut += not (episode.terminated or episode.truncated)
    policies = [{"policy": source.name, **source.counters} for source in sources]
    words = ["python", "-m", "adabc_lightning", "collect"]
    for option, value in settings.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [option, str(one)]
    names = " and ".join(dict.fromkeys(source.name for source in sources))
    return {
        "description": f"{spec.env_id}, {names}, by adabc_lightning collect",
        "env_id": spec.env_id,
        "max_episode_steps": -1 if limit is None else limit,
        "policy": json.dumps(policies),
        "noise": settings["--noise"],
        "seed": settings["--seed"],
        "command": shlex.join([*words, "--out", target.name]),
        "transitions": sum(steps for _, steps, _ in partial.index),
        "episodes": len(returns),
        "episodes_cut": cut,
        "terminals": terminals,
        "timeouts": len(returns) - terminals,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        **{f"{library}_version": version(library) for library in LIBRARIES},
    }
