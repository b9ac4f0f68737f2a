"""``python -m adabc_lightning experiment``: its options, and what it prints."""

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from yaml import YAMLError

from adabc_lightning.commands.experiment.cluster import Cluster, Resources, need_ray, probe
from adabc_lightning.commands.experiment.declaration import (
    MOST_SEEDS,
    OWN_KEYS,
    Declaration,
    find_experiment,
    override,
    packaged_experiments,
    read,
    slug,
)
from adabc_lightning.commands.experiment.duration import in_words
from adabc_lightning.commands.experiment.folders import check, command_line, unfinished
from adabc_lightning.commands.experiment.plan import Choice, Job, defaults, plan
from adabc_lightning.commands.experiment.processes import Processes
from adabc_lightning.commands.experiment.rehearsal import rehearse
from adabc_lightning.commands.experiment.runner import Engine, run_all
from adabc_lightning.commands.experiment.store import MARK, Store
from adabc_lightning.commands.options import Options
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.allowed import allowing
from adabc_lightning.run.checkpoint_files import newest
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.threads import cores
from adabc_lightning.run.yaml_core import load_yaml

STAGES = ("pretrainings", "runs")
EPILOG = """\
Configs stack in this order: the task, --config overlays, the method, the variant's options; so a
smaller protocol never overrides what defines a method. A key of fit (--model.precision float32) is
an option of every variant, and wins over all configs. Each pre-training is made once per task, seed
and recipe (all keys that it can depend on) and shared by the variants.

The same command again skips what is finished and goes on with the rest. Ctrl-C lets the runs save
before it ends them. Children run with OMP_NUM_THREADS = cores // jobs (ray: the cores of a run) and
WANDB_MODE=disabled unless you set these variables; their output stands in
OUT/TASK/VARIANT/seedS.log, OUT/results.csv has a row per run, and
`python -m adabc_lightning report OUT` makes the table and the figure. What you ran by hand with a
command of --dry-run counts, too; let it end first. A run that finds its configs changed since the
experiment was planned counts as failed.

experiments (a file of your own works, too; look at experiments/fig1.yaml):
"""


def parser() -> Options:
    """The command's options."""
    listing = "".join(f"  {name}  {about}\n" for name, about in packaged_experiments().items())
    options = Options(
        "experiment", "Runs an experiment: tasks × variants × seeds.", EPILOG + listing
    )
    add = options.add_argument
    add("name", metavar="NAME", help="a packaged experiment, listed below, or a file")
    add("--dry-run", action="store_true", help="print the commands that would be run, and about "
        "how long they take where others of OUT have run")  # fmt: skip
    positive: Any = {"allowed": lambda value: value > 0, "wanted": "a number above 0"}
    options.add_number(
        "--scale",
        **positive,
        default=1.0,
        metavar="S",
        help="multiply schedule.offline_updates, online_env_steps and evaluation_every by S; "
        "nothing else is scaled: not G, the ring, the rows kept, nor the controller's gains",
    )
    options.add_count(
        "--seeds", high=MOST_SEEDS, metavar="N", help="seeds 0 … N-1 (default: the experiment's)"
    )
    add("--tasks", metavar="A,B", help="these tasks (any task config) instead of its own")
    add("--variants", metavar="A,B", help="only these variants")
    add(
        "--config",
        action="append",
        default=[],
        metavar="OVERLAY",
        help="a config between task and method; may be given several times",
    )
    add(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="take DIR/hopper_medium.hdf5 for hopper-medium, and so on, where it exists",
    )
    add("--out", type=Path, metavar="OUT", help="folder of all runs (default: runs/NAME)")
    options.add_count(
        "--jobs",
        metavar="J",
        help=f"runs at the same time (default: the number of cores, {cores()}; with --engine ray "
        "as many as the cluster takes)",
    )
    add(
        "--replicas",
        action="store_true",
        help="train those seeds of a task and variant that have not begun yet in one process "
        "(model.replicas), where small networks make that faster; in folders "
        "OUT/TASK/VARIANT/seeds/replica_0, …",
    )
    add("--only", choices=STAGES, help="only the pre-trainings, or only the runs")
    options.add_count(
        "--index",
        low=0,
        metavar="I",
        help="only one of these, from 0; for array jobs, which may share OUT",
    )
    add("--engine", choices=("local", "ray"), default="local", help="default: %(default)s")
    add(
        "--address",
        metavar="HOST:PORT",
        help="ray: of a cluster, or auto for the one that this machine belongs to (default: "
        "RAY_ADDRESS, else Ray is started here for the experiment)",
    )
    options.add_number(
        "--cpus-per-run", **positive, metavar="C", help="ray: cores of a run (default: 1)"
    )
    options.add_number(
        "--gpus-per-run",
        **positive,
        metavar="G",
        help="ray: GPUs of a run, 0.25 for four on each (default: none)",
    )
    add(
        "--store",
        metavar="URL",
        help="ray: where the workers keep the runs if they do not see OUT, any URL that fsspec "
        "knows (s3://bucket/fig2); OUT then gets everything but the checkpoints",
    )
    return options


def main(words: list[str]) -> None:
    """Plans an experiment and prints or runs it.

    Args:
        words: the command line after ``experiment``.

    Raises:
        UserError: something the user gave is wrong.
        SystemExit: 1 when a run failed, 128 + the signal's number when one ended it.
    """
    words, keys = keys_of_fit(words)
    options = parser().parse_args(words)
    declared = read(find_experiment(options.name), defaults())
    chosen = select(declared, options.tasks, options.variants, options.seeds)
    chosen = override(chosen, keys, defaults())
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise UserError(f"--data-dir: there is no folder {options.data_dir}")
    out = options.out or Path("runs", declared.name)
    if not next(path for path in (out, *out.parents) if path.exists()).is_dir():
        raise UserError(f"--out: {out} is no folder, nor can one be made there")
    check_options(options)
    stored: frozenset[Path] = frozenset()
    if options.store is not None:  # where other machines may have begun more than OUT knows of
        stored = frozenset(out / name for name in Store(options.store).names())
    more = {"replicas": options.replicas, "stored": stored}
    choice = Choice(out, options.scale, options.config, options.data_dir, **more)
    jobs = plan(chosen, choice)
    picked = pick(jobs, options.only, options.index)
    if options.dry_run:
        check(jobs)
        folders = {job.folder for job in picked}
        ahead = [job for job in unfinished(jobs) if job.folder in folders]
        for job in ahead:
            print("python -m adabc_lightning", shlex.join([*command_line(job), *allowing()]))
        parallel = options.jobs or (cores() if options.engine == "local" else None)
        print(f"# {describe(jobs, ahead)}, {in_words(jobs, ahead, out, parallel)}")
        return
    if options.store is None:
        refuse_stored(jobs)
    # The jobs of an array would each say the same, and workers may have what this machine lacks.
    if options.index is None and options.engine == "local":
        check(picked)
        rehearse(unfinished(jobs))
    tasks = [Path(task).name for task in (*declared.tasks, *chosen.tasks)]
    order = tasks, [variant.name for variant in declared.variants]
    run_all(jobs, picked, out, engine(options, jobs, out), order, alone=options.index is None)


def keys_of_fit(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The experiment's own words, and what else is given as dotted keys, as ``fit`` takes them.

    Raises: UserError: a key has no value, or one that is no YAML.
    """
    own, keys = [], {}
    rest = iter(words)
    for word in rest:
        key, sign, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or ("." not in key and key not in OWN_KEYS):
            own.append(word)
            continue
        value = text if sign else next(rest, "--")
        if not sign and value.startswith("--"):
            raise UserError(f"{word} has no value; write --{key} VALUE")
        try:
            keys[key] = load_yaml(value)
        except (YAMLError, ValueError, OverflowError, RecursionError) as error:
            raise UserError(f"--{key} is {value!r:.100}, which is no YAML") from error
    return own, keys


def check_options(options: argparse.Namespace) -> None:
    """Raises: UserError: two options do not go together, or Ray is not installed."""
    if options.index is not None and options.only is None:
        raise UserError("--index needs --only pretrainings or --only runs")
    if options.engine == "ray":
        if options.index is not None:
            raise UserError("--index is for array jobs; with --engine ray leave it out")
        need_ray()
        return
    for name in ("address", "cpus_per_run", "gpus_per_run", "store"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} needs --engine ray")


def refuse_stored(jobs: list[Job]) -> None:
    """Raises: UserError: what a job goes on from is in a run store, and not here."""
    away = [job for job in jobs if (job.folder / MARK).is_file() and not newest(job.folder)]
    left = unfinished(jobs) if away else []
    for job in away:
        if job in left or any(other.needs == job for other in left):
            where = (job.folder / MARK).read_text(encoding="utf-8").strip()
            raise UserError(f"{job.folder}: its checkpoints are at {where}; give that --store")


def pick(jobs: list[Job], only: str | None, index: int | None) -> list[Job]:
    """Those jobs that the user wants to be run.

    Raises: UserError: the index is too large.
    """
    if only is None:
        return jobs
    picked = [job for job in jobs if job.record["kind"] == only.removesuffix("s")]
    if index is None:
        return picked
    if index >= len(picked):
        raise UserError(f"--index is {index}, but there are {len(picked)} {only}, 0 the first")
    return [picked[index]]


def engine(
    options: argparse.Namespace, jobs: list[Job], out: Path
) -> Callable[[FolderLock | None], Engine]:
    """Makes the chosen engine, once the folder is locked.

    Raises: UserError: there is no such store, or no cluster at the address.
    """
    if options.engine == "local":
        parallel = options.jobs or cores()
        return partial(Processes, parallel, max(1, cores() // parallel))
    store = None if options.store is None else Store(options.store)
    address = options.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        probe(address)
    resources = Resources(options.cpus_per_run or 1.0, options.gpus_per_run or 0.0)
    # Whatever ends this process ends its tasks: they need no part in the lock.
    return lambda _: Cluster(jobs, out, address, resources, options.jobs, store)


def select(
    declared: Declaration, tasks: str | None, variants: str | None, seeds: int | None
) -> Declaration:
    """The part of an experiment that the user names, or its variants on other tasks.

    Raises: UserError: it has no such variant.
    """
    by_name = {variant.name: variant for variant in declared.variants}
    by_slug = {slug(variant.name): variant for variant in declared.variants}
    known = list(by_name)
    chosen_tasks = _tasks(tasks) if tasks else declared.tasks
    names = _names(variants) if variants else known
    for name in names:
        if name not in by_name and name not in by_slug:
            raise UserError(f"{name!r} is no variant of {declared.name}; {nearest(name, known)}")
    picked = [by_name.get(name) or by_slug[name] for name in names]
    return replace(declared, tasks=chosen_tasks, variants=picked, seeds=seeds or declared.seeds)


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _tasks(text: str) -> list[str]:
    return list(dict.fromkeys(name.removesuffix(".yaml") for name in _names(text)))


def describe(jobs: list[Job], ahead: list[Job]) -> str:
    """How many jobs there are, and how many of them are to be run."""
    kinds = [record["kind"] for job in jobs for record in job.records.values()]
    return (
        f"{kinds.count('pretraining')} pre-trainings, {kinds.count('run')} runs; "
        f"{sum(len(job.records) for job in ahead)} of them left"
    )
