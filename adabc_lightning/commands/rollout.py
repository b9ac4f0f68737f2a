"""``python -m adabc_lightning rollout``: episodes of a policy, their returns, and a video."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from adabc_lightning.commands.options import Options
from adabc_lightning.errors import UserError

_MOST_FRAMES = 30  # a second; environments give up to 125, which take long to render
_STARTS = "evaluation"

_EXAMPLES = """\
examples:
  rollout --ckpt_path runs/demo1
  rollout --ckpt_path runs/demo1/checkpoints/best.ckpt --video hopper.mp4 --episodes 3
  rollout --ckpt_path hopper-policy --seed 7

Without --seed the start states are those of the run's own evaluations. Without a display MuJoCo
renders through EGL; MUJOCO_GL=osmesa chooses its other way."""


def parse(words: list[str]) -> Namespace:
    """The options of a command line.

    Raises: UserError: an option is unknown, missing or out of its range.
    """
    about = "Runs episodes of a policy without noise, prints the returns, records a video."
    parser = Options("rollout", about, _EXAMPLES)
    add, count = parser.add_argument, parser.add_count
    add("--ckpt_path", required=True, metavar="PATH",
        help="a checkpoint, a run's folder (its best.ckpt, or else last.ckpt), or one that export "
        "wrote")  # fmt: skip
    add("--video", metavar="FILE.mp4", help="record all episodes, one after the other")
    count("--episodes", default=3, help="default: %(default)s")
    count("--seed", low=0, help="of the start states (default: those of the run's evaluations)")
    add("--env-id", help="Gymnasium id (default: the policy's own)")
    count("--max-episode-steps",
        help="time limit in steps (default: the run's, or else the environment's)")  # fmt: skip
    parser.add_env_kwargs("those of the run")
    parser.add_observation_keys("those of the run")
    options = parser.parse_args(words)
    if options.video is not None and Path(options.video).suffix != ".mp4":
        raise UserError(f"--video is {options.video}; it must end in .mp4")
    return options


def main(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: the command line after ``rollout``.
    Raises: UserError: anything wrong with what the user gave, or no pictures can be made here.
    """
    options = parse(words)
    if options.video is not None:
        _choose_renderer()
    from adabc_lightning.env.policy import check_parts, load_policy

    policy = load_policy(options.ckpt_path)
    from adabc_lightning.agent.spec import EnvironmentSpec
    from adabc_lightning.commands.messages import episode_table
    from adabc_lightning.env.make import evaluate, make_env
    from adabc_lightning.env.scores import Reference, reference_for
    from adabc_lightning.env.state import is_mujoco
    from adabc_lightning.env.stepping import close
    from adabc_lightning.run.seeding import stream_seed

    env_id = options.env_id or policy.card["env_id"]
    limit = options.max_episode_steps
    if limit is None and env_id == policy.card["env_id"]:
        limit = policy.card["max_episode_steps"]
    made = {"kwargs": options.env_kwargs, "observation_keys": options.observation_keys}
    if options.env_kwargs is None and env_id == policy.card["env_id"]:
        made["kwargs"] = policy.card.get("env_kwargs")
    if options.observation_keys is None and policy.parts:
        made["observation_keys"] = tuple(name for name, _ in policy.parts)
    try:
        env = make_env(env_id, limit, None if options.video is None else "rgb_array", **made)
    except UserError as error:
        if options.video is None:
            raise
        env = make_env(env_id, limit, **made)  # or this is what is wrong
        renders, renderer = is_mujoco(env), os.environ.get("MUJOCO_GL")
        close(env)
        remedy = "leave --video out, as it gives no pictures"
        if renders:
            remedy = f"MUJOCO_GL is {renderer or 'not set'}, it may be egl or osmesa"
        raise UserError(f"{error}; {remedy}") from error
    try:
        spec = EnvironmentSpec.of(env, env_id)
        sizes = policy.observation_size, policy.action_size
        if sizes != (spec.observation_size, spec.action_size):
            raise UserError(
                f"the policy is for observations of {sizes[0]} and actions of {sizes[1]} numbers, "
                f"environment {env_id!r} has {spec.observation_size} and {spec.action_size}"
            )
        check_parts(policy.parts, spec, "the policy")
        seed = options.seed
        if seed is None:
            seed = stream_seed(policy.card["seed"] or 0, _STARTS) % 2**31
        if options.video is None:
            found = evaluate(policy, [env], options.episodes, seed)
        else:
            from adabc_lightning.env.video import recording

            with recording(env, Path(options.video), _MOST_FRAMES) as recorder:
                found = evaluate(policy, [recorder], options.episodes, seed)
    finally:
        close(env)
    own = policy.card["reference"] if env_id == policy.card["env_id"] else None
    reference = Reference(**own) if own else reference_for(env_id)
    print(episode_table(found, reference))
    if options.video is not None:
        print(f"{options.video}: {recorder.frames} frames, {recorder.seconds:.1f} s")


def _choose_renderer() -> None:
    """MuJoCo decides when it is imported: without a display, EGL instead of a window."""
    displayless = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if sys.platform == "linux" and displayless:
        os.environ.setdefault("MUJOCO_GL", "egl")
