"""``python -m adabc_lightning inspect``: its options, and what it prints and writes."""

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from adabc_lightning.commands.figures import check_plot
from adabc_lightning.commands.options import Options
from adabc_lightning.errors import UserError, printable
from adabc_lightning.run.output import lasting

_EXAMPLES = """\
examples:
  inspect log.csv
  inspect log.parquet --env-id my_pkg.envs:MyEnv-v0 --allow my_pkg --plot card.svg
  inspect log.npz --env-id Hopper-v5 --convert log.hdf5
  inspect teleop.npz script.csv
  inspect log.csv --reward my_pkg.rewards:near_goal --allow my_pkg --convert relabelled.hdf5
  inspect demos.hdf5 --mask train --observation-keys object,robot0_eef_pos

DATA is what data.dataset of fit takes: a file or folder in one of the layouts of
docs/data_formats.md, a Minari id, a D4RL or packaged name. docs/your_own.md says which columns a
log needs."""


def parse(words: list[str]) -> Namespace:
    """The options of a command line.

    Raises: UserError: an option is unknown, missing or out of its range.
    """
    parser = Options("inspect", "Checks a dataset and prints its data card.", _EXAMPLES)
    add = parser.add_argument
    add("data", metavar="DATA", nargs="+",
        help="file or folder, Minari id or dataset's name; of several a card each")  # fmt: skip
    add("--env-id", help="Gymnasium id; checks that environment and data fit together")
    parser.add_count("--max-episode-steps", metavar="T",
        help="time limit in steps (default: the environment's)")  # fmt: skip
    add("--terminals-at-limit", choices=("terminal", "timeout"), default="terminal",
        help="timeout: the data flag the time limit as a terminal")  # fmt: skip
    parser.add_env_kwargs("nothing")
    parser.add_observation_keys("all, by name")
    add("--done-means", choices=("terminal", "timeout"), help="what an array dones flags")
    add("--success-terminates", action="store_true", help="a step flagged as success is a terminal")
    parser.add_number(
        "--max-time-gap",
        metavar="PERIODS",
        help="steps further apart by their times are of two episodes",
    )
    add("--mask", metavar="NAME", help="one of a robomimic file's masks")
    add("--reward", metavar="REWARD", help="module:function, success or logged: data.reward of fit")
    parser.add_number("--action-scale", default=1.0, metavar="FACTOR",
        help="what logged actions are multiplied with")  # fmt: skip
    add("--plot", type=Path, metavar="FILE", help="draw the card (.svg, .png or .pdf)")
    add("--convert", type=Path, metavar="TARGET", help="write the data as FILE.hdf5, as D4RL has "
        "it (v2), or as a Minari dataset such as mine/x-v0 (with --env-id)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace what --convert names")
    options = parser.parse_args(words)
    if options.env_kwargs is not None and options.env_id is None:
        raise UserError("--env-kwargs is for an environment; give --env-id, too")
    if options.plot is not None:
        check_plot(options.plot)
    several = len(options.data) > 1
    if several and (options.plot or options.convert):
        name = "--plot" if options.plot else "--convert"
        raise UserError(f"{name} is of one dataset, but {len(options.data)} are given; give one")
    if options.convert is not None:
        _check_target(options)
    return options


def _check_target(options: Namespace) -> None:
    from adabc_lightning.data.datasets import D4RL_NAME, MINARI_ID

    target = options.convert
    path = target
    if target.suffix not in (".hdf5", ".h5"):
        if not MINARI_ID.fullmatch(str(target)) or D4RL_NAME.fullmatch(str(target)):
            raise UserError(
                f"--convert {target} must end in .hdf5 or .h5, or be a Minari id such as mine/x-v0"
            )
        if options.env_id is None:
            raise UserError(f"--convert {target}: Minari stores an environment; give --env-id")
        from minari.storage.datasets_root_dir import get_dataset_path  # slow

        path = get_dataset_path(str(target))
    if path.exists() and not options.overwrite:
        raise UserError(f"{path} exists; choose another --convert, or replace it with --overwrite")


def main(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: the command line after ``inspect``.
    Raises: UserError: anything wrong with what the user gave.
    """
    options = parse(words)
    # Files are written whether or not anybody reads what is printed (`| head`).
    with lasting("stdout") if options.convert or options.plot else nullcontext():
        _inspect(options)


def _inspect(options: Namespace) -> None:
    from adabc_lightning.commands.inspect.card import data_card, file_card, to_lines
    from adabc_lightning.commands.inspect.environment import try_out
    from adabc_lightning.commands.inspect.findings import findings
    from adabc_lightning.data.actions import check_task
    from adabc_lightning.data.datasets import load_dataset
    from adabc_lightning.data.formats.source import Reading
    from adabc_lightning.data.offline import OfflineDataset

    trial = None
    if options.env_id is not None:
        trial = try_out(
            options.env_id, options.max_episode_steps, options.env_kwargs, options.observation_keys
        )
    limit = trial.spec.max_episode_steps if trial else options.max_episode_steps
    reading = Reading(
        options.observation_keys,
        options.done_means,
        options.success_terminates,
        options.max_time_gap,
        options.mask,
        options.reward,
        options.action_scale,
    )
    datasets: list[OfflineDataset] = []
    for name in options.data:
        dataset = load_dataset(
            name,
            max_episode_steps=limit,
            terminals_at_limit=options.terminals_at_limit,
            reading=reading,
        )
        if trial is not None:
            check_task(dataset, trial.spec)
        theirs = trial.spec.observation_parts if trial else None
        if options.observation_keys and not dataset.observation_parts and not theirs:
            raise UserError(
                f"--observation-keys is {','.join(options.observation_keys)}, but no observations "
                "here have parts; leave it out"
            )
        card = data_card(dataset, limit, trial)
        print("\n" * bool(datasets) + "\n".join(map(printable, to_lines(card))))
        found = findings(dataset, card, limit, trial)
        print(f"\n{len(found) or 'no'} finding{'s' * (len(found) != 1)}" + ":" * bool(found))
        for sentence in found:
            print(printable(f"  - {sentence}"))
        datasets.append(dataset)
    if len(datasets) > 1:
        from adabc_lightning.commands.inspect import together

        print("\n" + "\n".join(map(printable, together.to_lines(datasets))))
    if options.plot is not None:
        from adabc_lightning.commands.inspect.figure import draw  # matplotlib takes a second

        draw(dataset, card, limit, options.plot)
        print(f"\nfigure: {options.plot}")
    if options.convert is not None:
        from adabc_lightning.commands.inspect.convert import convert

        made = {"kwargs": options.env_kwargs, "observation_keys": options.observation_keys}
        about = file_card(card)
        convert(dataset, options.convert, options.env_id, limit, about, made)
        print(f"\n{options.convert}: {len(dataset.rows):,} transitions")
