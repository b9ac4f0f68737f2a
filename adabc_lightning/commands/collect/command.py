"""``python -m adabc_lightning collect``: its options, and the environment that they choose."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adabc_lightning.commands.options import Options
from adabc_lightning.errors import UserError

if TYPE_CHECKING:  # with NumPy and Gymnasium, which a misspelt option need not wait for
    from adabc_lightning.commands.collect.sources import Source

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
    add, count = parser.add_argument, parser.add_count
    add("--policy", action="append", required=True, metavar="P",
        help="random, a checkpoint, or a run's folder for all its kept policies in order "
        "(fit --checkpoints.keep_policies true); several contribute equal parts")  # fmt: skip
    count("--from", low=0, dest="start", metavar="STEP",
        help="of a run's folder: the first policy, in environment steps of that run")  # fmt: skip
    count("--to", low=0, dest="stop", metavar="STEP", help="the last policy, inclusive")
    add("--out", required=True, help="FILE.hdf5 (D4RL's layout, v2) or a Minari id (NAME-v0)")
    add("--format", choices=("hdf5", "minari"), help="default: by the form of --out")
    count("--steps", default=100_000, help="transitions in all (default: %(default)s)")
    parser.add_number("--noise", lambda noise: noise >= 0, "a number, 0 or more",
        help="σ of the Gaussian noise on a policy's actions, in action limits; 0 for none "
        "(default: a Gaussian policy's own σ, for the others that of data.exploration_noise's "
        "default, 0.1; random actions get none)")  # fmt: skip
    add("--env-id", help="Gymnasium id (default: that of the checkpoints)")
    count("--max-episode-steps",
        help="time limit in steps (default: the run's, or else the environment's)")  # fmt: skip
    parser.add_env_kwargs("those of the run")
    parser.add_observation_keys("those of the run, or else all, by name")
    count("--seed", low=0, default=0, help="of starts and actions (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace what --out names, and start again")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: the command line after ``collect``.
    Raises: UserError: anything wrong with what the user gave.
    """
    options = parse(words)
    from adabc_lightning.run.runtime import tune

    tune()
    from adabc_lightning.agent.spec import EnvironmentSpec
    from adabc_lightning.commands.collect.dataset import make_dataset
    from adabc_lightning.commands.collect.sources import check_fit, read_source
    from adabc_lightning.commands.collect.target import find_target
    from adabc_lightning.env.make import make_env
    from adabc_lightning.env.stepping import close

    target = find_target(options)
    sources = [read_source(name, options.start, options.stop) for name in options.policy]
    if (options.start, options.stop) != (None, None) and not any(
        Path(source.name).is_dir() for source in sources
    ):
        raise UserError(
            "--from and --to choose among a run's policies; give its folder as --policy"
        )
    env_id = options.env_id or _env_id(sources)
    limit = options.max_episode_steps or _time_limit(sources, env_id)
    options.env_kwargs, options.observation_keys = _made(options, sources, env_id)
    made = {"kwargs": options.env_kwargs, "observation_keys": options.observation_keys}
    envs = [make_env(env_id, limit, **made)]
    try:
        spec = EnvironmentSpec.of(envs[0], env_id)
        if options.observation_keys and not spec.observation_parts:
            raise UserError(
                f"--observation-keys is {','.join(options.observation_keys)}, but the observations "
                f"of {env_id!r} have no parts; leave it out"
            )
        for source in sources:
            check_fit(source, spec)
        make_dataset(options, target, sources, spec, envs)
    finally:
        for env in envs:
            close(env)


def _env_id(sources: Sequence[Source]) -> str:
    """That of the policies."""
    env_ids = list(dict.fromkeys(source.env_id for source in sources if source.env_id))
    if not env_ids:
        raise UserError("--policy random needs --env-id, the Gymnasium id of an environment")
    if len(env_ids) > 1:
        raise UserError(f"the policies are of {' and '.join(env_ids)}; choose one by --env-id")
    return env_ids[0]


def _made(
    options: Namespace, sources: Sequence[Source], env_id: str
) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
    """Constructor's arguments and parts of observations: as given, or those of the policies.

    Raises: UserError: the policies' own are not the same.
    """
    kwargs, keys = options.env_kwargs, options.observation_keys
    own = [source for source in sources if source.env_id == env_id]
    if kwargs is None and own:
        kwargs = own[0].env_kwargs
        if any(source.env_kwargs != kwargs for source in own):
            raise UserError(
                f"the policies were trained in {env_id} with different arguments; choose by "
                "--env-kwargs"
            )
    if keys is None and own:
        parts = own[0].observation_parts
        keys = tuple(name for name, _ in parts) if parts else None
    return kwargs or None, keys


def _time_limit(sources: Sequence[Source], env_id: str) -> int | None:
    """That of the policies that were trained in this environment; None for its own."""
    limits = {source.max_episode_steps for source in sources if source.env_id == env_id}
    if len(limits) > 1:
        known = sorted(f"{limit} steps" if limit else "the environment's own" for limit in limits)
        raise UserError(
            f"the policies were trained in {env_id} with different time limits "
            f"({' and '.join(known)}); choose one by --max-episode-steps"
        )
    return limits.pop() if limits else None
