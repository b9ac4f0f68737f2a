"""From an experiment's declaration to the exact ``fit`` commands. Imports no PyTorch."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from adabc_lightning.commands.experiment.declaration import (
    Declaration,
    Variant,
    slug,
    task_names,
)
from adabc_lightning.commands.experiment.groups import groups, name_of
from adabc_lightning.errors import UserError
from adabc_lightning.run.allowed import check_environment
from adabc_lightning.run.config_files import (
    load,
    merged,
    packaged_configs,
    packaged_folder,
    resolve,
)
from adabc_lightning.run.interaction import TRIALS
from adabc_lightning.run.moved import named_as_before
from adabc_lightning.run.nested import at, dotted

HAND_OVER = (  # the hand-over and what comes after it
    "schedule.online_env_steps",  # 0 in the pre-training itself
    "schedule.updates_per_env_step",
    "schedule.frozen_env_steps",
    "data.replay_capacity",  # of the ring that opens at the hand-over
    "data.offline_fraction",  # of the batches that it gives
    "data.exploration_noise",  # of the collector
    "data.frozen_actions",
    "data.reward_online",  # of its steps
    "downsampling.",
    "alpha.",  # the controller of α_online; α_offline is the model's
)
# What pre-training never reads, so that variants which differ in nothing else share one. Whatever
# is not listed counts as an ingredient: a key forgotten here costs time, never correctness.
AFTER_PRETRAINING = (
    "seed_everything",  # in the folder's name instead
    "ckpt_path",
    *HAND_OVER,
    "data.download",  # how a dataset gets here, not what is in it
    "logging.",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
)
# Callbacks that do nothing before the hand-over.
IDLE_OFFLINE = (TRIALS,)
SCALED = ("offline_updates", "online_env_steps", "evaluation_every")
"""Keys of ``schedule`` that ``--scale`` multiplies."""
LENGTHS = (*SCALED, "updates_per_env_step", "frozen_env_steps")
"""Keys of ``schedule`` that are computed with here."""


@dataclass(frozen=True)
class Choice:
    """What the command line asks of an experiment.

    Args:
        out: folder of all runs.
        scale: factor of the schedule's lengths and of the evaluation interval.
        overlays: configs between the tasks' and the methods'.
        data_dir: folder of datasets of one's own, ``hopper_medium.hdf5`` for ``hopper-medium``.
        replicas: whether the seeds of a task and variant that have not begun yet train in one
            process, where they can.
        stored: files of a run store, as if they lay in ``out``.
    """

    out: Path
    scale: float = 1.0
    overlays: list[str] = field(default_factory=list)
    data_dir: Path | None = None
    replicas: bool = False
    stored: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Job:
    """One ``fit``: a pre-training or a run, of one seed or of several replicas.

    Args:
        label: for people.
        folder: the run's folder.
        words: the command line after ``fit`` that starts it.
        record: what it is, for ``experiment.json``; two jobs are the same if theirs are equal.
        updates: gradient updates it makes.
        env_steps: environment steps it makes.
        needs: the pre-training it continues.
        replicas: the records of the replicas; empty where it is of one seed.
    """

    label: str
    folder: Path
    words: list[str]
    record: dict[str, Any]
    updates: int
    env_steps: int = 0
    needs: "Job | None" = None
    replicas: tuple[dict[str, Any], ...] = ()

    @property
    def records(self) -> dict[Path, dict[str, Any]]:
        """The record of each seed by its folder, which is like that of a single run."""
        if not self.replicas:
            return {self.folder: self.record}
        return {self.folder / f"replica_{i}": record for i, record in enumerate(self.replicas)}


@cache
def defaults() -> dict[str, Any]:
    """The values of ``base.yaml`` by their dotted keys: all there are but ``trainer``'s."""
    return dict(dotted(load(packaged_folder() / "base.yaml")))


def settings(config: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of a resolved config that differ from ``base.yaml``.

    The difference, so that a key which a later version adds changes no old run.

    Args:
        without: keys, and groups ending in a dot, to leave out.
    """
    base = defaults()
    return {
        key: value
        for key, value in sorted(dotted(config))
        if not among(key, without) and (key not in base or base[key] != value)
    }


def offline(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the callbacks that do nothing in a pre-training."""
    trainer = dict(config.get("trainer") or {})
    for key in ("callbacks", "callbacks+"):
        given = trainer.get(key)
        if given and isinstance(given, list):  # whatever else it is, fit says
            busy = [each for each in given if class_of(each) not in IDLE_OFFLINE]
            if busy:
                trainer[key] = busy
            else:
                del trainer[key]
    return {**config, "trainer": trainer}


def class_of(callback: Any) -> Any:
    """What a callback of a config is: ``class_path`` alone, or a mapping with it."""
    return callback.get("class_path") if isinstance(callback, Mapping) else callback


def among(key: str, names: tuple[str, ...]) -> bool:
    """Whether a key is one of some keys and groups, which end in a dot."""
    return any(key == name or (name[-1] == "." and key.startswith(name)) for name in names)


def plan(declaration: Declaration, choice: Choice) -> list[Job]:
    """Every job in an order in which each can start once those before it are done.

    Seed by seed, so that an experiment cut short has whole comparisons; with replicas task by task.

    Raises: UserError: a config is missing or broken, two tasks have one name, or what has run
        does not go with it.
    """
    cells = [
        _Cell(declaration, f"{task}.yaml", name, variant, choice)
        for task, name in zip(declaration.tasks, task_names(declaration.tasks), strict=True)
        for variant in declaration.variants
    ]
    for key in declaration.keys:
        _check_common(key, cells)
    order = [(group, cell) for cell in cells for group in cell.processes(declaration.seeds)]
    if not choice.replicas:
        order.sort(key=lambda each: each[0].start)
    jobs: dict[Path, Job] = {}
    for seeds, cell in order:
        pretraining = cell.pretraining(seeds)
        if pretraining is not None:  # the first variant's command stands for all that share it
            pretraining = jobs.setdefault(pretraining.folder, pretraining)
        run = cell.run(seeds, pretraining)
        jobs[run.folder] = run
    return list(jobs.values())


class _Cell:
    """One variant on one task: its command line and what that resolves to."""

    def __init__(
        self, declaration: Declaration, file: str, task: str, variant: Variant, choice: Choice
    ) -> None:
        self.experiment, self.task, self.variant = declaration.name, task, variant
        self.out = choice.out
        self.together, self.stored = choice.replicas, choice.stored
        names = [file, *choice.overlays]
        if variant.method is not None:
            names.append(_overlay(variant.method))
        self.words = [word for name in names for word in ("--config", name)]
        files, _ = resolve("fit", self.words)
        self._check_groups(merged(files, {}))
        options = {**declaration.options, **variant.options_of(task)}
        self.declared = merged(files, options)
        options |= declaration.keys
        config = merged(files, options)
        self._check_lengths(config["schedule"])
        given = "data.dataset" in options  # then the variant is about other data than the task's
        if choice.data_dir is not None and config["data"]["dataset"] is not None and not given:
            own = choice.data_dir / f"{task.replace('-', '_')}.hdf5"
            if own.is_file():
                options["data.dataset"] = str(own)
        if choice.scale != 1:
            for key in SCALED:
                value = config["schedule"][key]
                options[f"schedule.{key}"] = max(1, round(value * choice.scale)) if value else 0
        self.config = merged(files, options)
        check_environment(str(self.config["data"]["env_id"]))  # not in every pre-training alone
        if (replicas := self.config["model"]["replicas"]) != 1:
            raise UserError(
                f"{variant.name} on {task}: model.replicas is {replicas}; an experiment makes a "
                "run for each of its seeds, leave it 1"
            )
        # The first variant's pre-training is that of others, too: nothing that concerns its own
        # fine-tuning may be refused there, such as more rows to keep than the ring has.
        shared = {key: value for key, value in options.items() if not among(key, HAND_OVER)}
        shared |= {"data.replay_capacity": None, "schedule.online_env_steps": 0}
        self.pretraining_words = [*self.words, *_words(shared)]
        self.words += _words(options)

        self.settings = settings(self.config)
        self.recipe = settings(offline(self.config), AFTER_PRETRAINING)
        recipe = json.dumps(named_as_before(self.recipe), sort_keys=True)
        self.digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]

    def _check_groups(self, config: Mapping[str, Any]) -> None:
        """What is read here, before ``fit`` reads it.

        Raises: UserError: a group of the config files is no mapping.
        """
        for group in ("data", "model", "schedule", "trainer"):
            given = config.get(group)
            if not isinstance(given, Mapping) and (given is not None or group != "trainer"):
                where = f"{self.variant.name} on {self.task}"
                raise UserError(f"{where}: {group} must map keys to values")

    def _check_lengths(self, schedule: Mapping[str, Any]) -> None:
        """What is computed with here, before ``fit`` reads it.

        Raises: UserError: one is no number.
        """
        where = f"{self.variant.name} on {self.task}"
        for key in LENGTHS:
            value = schedule[key]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise UserError(
                    f"{where}: schedule.{key} is {value!r:.40}; it must be a whole number, 0 or "
                    "more"
                )

    @property
    def replicable(self) -> bool:
        """Whether its seeds can train in one process: on one device, and not for a robot's log."""
        trainer = self.config.get("trainer") or {}
        devices = (trainer.get("devices", 1), trainer.get("num_nodes", 1))
        log = str(self.config["data"]["env_id"]).startswith("log:")
        return not log and all(str(count) == "1" for count in devices)

    def processes(self, seeds: int) -> list[range]:
        """Which seeds share a process; what shares a pre-training with others does as they."""
        places = [(self.pretrainings, f"{self.digest}-"), (self.runs, "")]
        return groups(places, seeds, self.together and self.replicable, self.stored)

    @property
    def pretrainings(self) -> Path:
        """Where those of its task lie."""
        return self.out / "pretrained" / self.task

    @property
    def runs(self) -> Path:
        """Where its own lie."""
        return self.out / self.task / slug(self.variant.name)

    def pretraining(self, seeds: range) -> Job | None:
        """None where the method starts from nothing."""
        updates = self.config["schedule"]["offline_updates"]
        if not updates:
            return None
        folder = self.pretrainings / f"{self.digest}-{name_of(seeds)}"
        record = {"kind": "pretraining", "task": self.task, "settings": self.recipe}
        label = f"{self.task} pre-training {self.digest}"
        return _job(label, folder, self.pretraining_words, record, (updates, 0), seeds)

    def run(self, seeds: range, pretraining: Job | None) -> Job:
        """The fine-tuning, or the whole run where there is no pre-training."""
        folder = self.runs / name_of(seeds)
        words = self.words
        if pretraining is not None:
            words = [*words, "--ckpt_path", str(checkpoint(pretraining))]
        record = {
            "kind": "run",
            "experiment": self.experiment,
            "task": self.task,
            "variant": self.variant.name,
            "settings": self.settings,
        }
        schedule = self.config["schedule"]
        learning = max(0, schedule["online_env_steps"] - schedule["frozen_env_steps"])
        updates = learning * schedule["updates_per_env_step"]
        label = f"{self.task} {self.variant.name}"
        env_steps = schedule["online_env_steps"]
        return _job(label, folder, words, record, (updates, env_steps), seeds, pretraining)


def _check_common(key: str, cells: Sequence[_Cell]) -> None:
    """Whether a key of the command line may be of every run.

    Raises: UserError: it is a variant's own, or its variants differ in it.
    """
    first: dict[str, tuple[str, Any]] = {}
    for cell in cells:
        variant, task, value = cell.variant, cell.task, at(cell.declared, key)
        own = variant.options_of(task)
        known, before = first.setdefault(task, (variant.name, value))
        if any(f"{a}.".startswith(f"{b}.") for o in own for a, b in ((key, o), (o, key))):
            what = f"variant {variant.name!r} has its own"
        elif before != value:
            what = f"variants {known!r} and {variant.name!r} differ in it"
        else:
            continue
        raise UserError(
            f"--{key} would be of every run, but {what}; leave the option out, or change a copy of "
            "the experiment's file"
        )


def _overlay(method: str) -> str:
    """The config of a variant's method: a packaged one by its name, or a file of the user's."""
    packaged = f"method/{method.removesuffix('.yaml')}.yaml"
    own = "/" in method or (packaged not in packaged_configs() and Path(method).is_file())
    return method if own else packaged


def _job(
    label: str,
    folder: Path,
    words: list[str],
    record: dict[str, Any],
    work: tuple[int, int],
    seeds: range,
    needs: Job | None = None,
) -> Job:
    """A job of one seed, or of as many replicas.

    Args:
        label, words, record: without the seeds.
        work: gradient updates and environment steps of one seed.
    """
    own = ["--seed_everything", str(seeds[0]), "--trainer.default_root_dir", str(folder)]
    records = [{**record, "seed": seed} for seed in seeds]
    if len(seeds) == 1:
        return Job(f"{label} seed {seeds[0]}", folder, [*words, *own], records[0], *work, needs)
    count, (updates, env_steps) = len(seeds), work
    settings = dict(sorted({**record["settings"], "model.replicas": count}.items()))
    return Job(
        f"{label} seeds {seeds[0]} to {seeds[-1]}",
        folder,
        [*words, "--model.replicas", str(count), *own],
        {**records[0], "settings": settings},
        updates * count,
        env_steps * count,
        needs,
        tuple(records),
    )


def checkpoint(pretraining: Job) -> Path:
    """What a pre-training leaves for the runs that continue it."""
    return pretraining.folder / "checkpoints" / "pretrained.ckpt"


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    return [
        word
        for key, value in options.items()
        for word in (f"--{key}", value if isinstance(value, str) else json.dumps(value))
    ]
