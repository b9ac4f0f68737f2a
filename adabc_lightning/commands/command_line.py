"""What files and options make: module, data module, callbacks and Trainer, by LightningCLI."""

import re
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, set_parsing_settings
from lightning import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.profilers import PassThroughProfiler
from yaml import YAMLError

from adabc_lightning import __version__
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.one_pass import LENGTHS, check_length
from adabc_lightning.callbacks import Checkpointing, Progress, Summary
from adabc_lightning.callbacks.folder import RunFolder
from adabc_lightning.commands.callbacks import PACKAGED, take_places
from adabc_lightning.commands.method_keys import (
    check_keys,
    check_one_method,
    check_same,
    class_of,
    overruled,
    pretrained_all_the_same,
)
from adabc_lightning.commands.parser import Parser, read_as_today
from adabc_lightning.commands.quiet import muted
from adabc_lightning.commands.replicating import replicate
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.same_run import check_env_id
from adabc_lightning.errors import UserError, one_line, warn
from adabc_lightning.replicas import Replicas
from adabc_lightning.replicas.saved import check_run
from adabc_lightning.run.allowed import allowed_packages
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.config_files import load, references_only
from adabc_lightning.run.folder import checkpoint_to_resume, commands_of, fresh_folder, goes_on
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.loggers import Logging, refuse_key
from adabc_lightning.run.moved import translated_word
from adabc_lightning.run.ranks import check_strategy, follows
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.threads import Neighbours, Threads, settle
from adabc_lightning.run.trainer import callbacks_of
from adabc_lightning.run.yaml_core import load_yaml

_REFUSED = re.compile(
    r"Errors:\n  - (?:Problem with given class_path '[\w.]+':\n)?(.+?)\n  - .*?Given value: (.+)",
    re.S,
)
"""What jsonargparse says of a class whose constructor fails, amid the other types of the key."""


class CommandLine(LightningCLI):
    """One module, one data module and one set of callbacks, made from files and options.

    Without Lightning's subcommands: they would build every parser for each command, and nest
    the config one level deeper than the ``${…}`` in it.

    Args:
        command: ``"fit"`` or ``"validate"``.
        files: config files in the order in which they are applied.
        options: the command line's words, which win over the files.
        lock: for the run's folder.
        line: the command line as it was given, for ``summary.json``.
        dry: only plan; nothing is locked, fetched or written.
        neighbours: who tells how many cores are free; None leaves the threads as they are.
    Raises: UserError: anything wrong with what the user gave.
    """

    resumes = False  # whether the folder's own run goes on
    replicas: Replicas | None = None  # where several agents are trained
    follows = False  # whether this process is a rank other than zero
    planned_devices = 1  # of a dry run
    threads: Threads | None = None  # where they were chosen here
    _had_threads: int | None = None  # those of the run that goes on
    _counters = 0, 0  # gradient updates and environment steps of its checkpoint
    _saved_data: dict[str, Any] | None = None  # what that has of its data module

    def __init__(
        self,
        command: str,
        files: list[Path],
        options: list[str],
        lock: FolderLock,
        line: str = "",
        *,
        dry: bool = False,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.neighbours = neighbours
        self.command, self.files, self.lock, self.line, self.dry = command, files, lock, line, dry
        # Before a class is imported, whatever part of the config names it.
        set_parsing_settings(
            import_path_denylist=["*"],
            import_path_allowlist=allowed_packages(),
            instantiate_subclass_spec_in_any=False,  # data.env_kwargs are data
        )
        read_as_today()
        references_only()
        super().__init__(
            OffToOnModule,
            ReplayDataModule,
            run=False,
            args=[translated_word(word) for word in options],
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                # The one mode in which ${model.gamma} follows overrides across files.
                "parser_mode": "omegaconf+",
                "dump_header": [f"adabc_lightning {__version__}"],
                "allow_abbrev": False,
                "default_env": False,
            },
            trainer_defaults={
                "devices": 1,  # Lightning's "auto" takes every GPU
                "max_epochs": 1,
                "logger": False,
                "enable_model_summary": False,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """A seed is a number here; Lightning would also take true and false."""
        parser.add_argument("--seed_everything", type=int, default=0)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Every callback and the schedule get keys of their own, always on."""
        parser.add_class_arguments(Schedule, "schedule")
        parser.add_class_arguments(Logging, "logging")
        for key, kind in PACKAGED.items():
            parser.add_lightning_class_args(kind, key)
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        # Resolved by now; a file may still hold it.
        parser.add_argument("--inherit", type=str | list[str] | None, help=SUPPRESS)
        parser.link_arguments("schedule", "data.schedule", apply_on="instantiate")
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Names are checked first, file by file, so that a message can say where."""
        assert isinstance(parser, Parser)
        check_one_method(self.files)
        contents = {path: load(path) for path in self.files}
        for path, content in contents.items():
            parser.check_names(content, str(path))
            parser.method = class_of(content) or parser.method
            check_keys(content, parser.method, f"config {path}")
        for sentence in overruled(contents):
            warn(sentence)
        parser.check_options(args)
        of_files = parser.method
        for option, value in zip(args, [*args[1:], ""], strict=False):
            key, given, inline = option.partition("=")
            if key in ("--model.method", "--model.method.class_path"):
                method = {"model": {"method": _yaml(inline if given else value)}}
                chosen = class_of(method)
                check_same(of_files, chosen, key)
                parser.method = chosen
                check_keys(method, chosen, key)
        # jsonargparse takes no file without a key in it; what is inherited is among the files.
        saying = [path for path, content in contents.items() if content.keys() - {"inherit"}]
        self.config = parser.parse_args([*(f"--config={path}" for path in saying), *args])
        if pretrained := pretrained_all_the_same(contents, args):
            warn(pretrained)
        largest = 2**32 - max(1, self.config.model.replicas)  # of the first replica
        if not 0 <= self.config.seed_everything <= largest:
            raise UserError(
                f"seed_everything is {self.config.seed_everything}; "
                f"it must be between 0 and {largest}"
            )

    def before_instantiate_classes(self) -> None:
        """Gives a run a folder of its own unless it was told one."""
        if self.command != "fit":
            return
        options = self.config.trainer
        for name in LENGTHS:
            if (value := getattr(options, name)) is not None:
                check_length(name, value)
        if options.precision not in (None, 32, "32", "32-true"):  # Lightning renames some on CPUs
            raise UserError(f"trainer.precision is {options.precision}; only 32-true is supported")
        if self.dry:  # the plan is that of all devices together, which need not start
            options.logger = False  # some make their folder as soon as they are made
            self.planned_devices = _count_devices(options)
            options.devices, options.num_nodes, options.strategy = 1, 1, "auto"
        self.follows = follows(options.devices, options.num_nodes)
        if options.default_root_dir == "":
            raise UserError("trainer.default_root_dir is empty; give the folder of the run")
        if options.default_root_dir is None:
            if self.config.ckpt_path == "last":
                raise UserError(
                    "--ckpt_path last needs --trainer.default_root_dir, the folder of the run"
                )
            folder = fresh_folder(self.config.data.env_id, self.config.seed_everything)
            options.default_root_dir = str(folder)
        self.folder = Path(options.default_root_dir)
        self.resumes = goes_on(self.folder, self.config.ckpt_path)
        # Before what another process may still replace.
        if self.resumes and self.folder.is_dir() and not self.dry and not self.follows:
            self.lock.take(self.folder)
        count = self.config.model.replicas
        with muted(self.follows):
            self.checkpoint = checkpoint_to_resume(
                self.folder, self.config.ckpt_path, self._check, count
            )
            if self._saved_data is not None:
                check_env_id(self.config.data.env_id, self._saved_data)
            if self.neighbours is not None:
                self._settle(self.neighbours)

    def _check(self, content: Any) -> None:
        """See :func:`check_run`; takes note of the threads that its numbers may depend on."""
        check_run(content)
        first = content.get("replicas", [content])[0]
        self._had_threads = (first["agent"].get("engine") or {}).get("threads")
        self._saved_data = first["ReplayDataModule"]
        self._counters = (
            first["agent"]["gradient_updates"],
            self._saved_data["collector"]["env_steps"],
        )

    def _settle(self, neighbours: Neighbours) -> None:
        """Chooses the threads; a run that goes on keeps those that it had."""
        had = self._had_threads if self.resumes else None
        self.threads = settle(neighbours, had)
        if not had or self.threads.count == had:
            return
        if not Schedule(**self.config.schedule.as_dict()).finished(*self._counters):
            warn(
                f"this run had {had} threads and goes on with {self.threads}: the last bits of its "
                "numbers may differ from those of an uncut run"
            )

    def instantiate_classes(self) -> None:
        """A class named in the config may refuse its arguments; jsonargparse wraps that."""
        try:
            super().instantiate_classes()
            if self.command == "fit" and self.config.model.replicas > 1:
                self._replicate()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__
            if cause is not None:
                raise cause from None
            if refused := _REFUSED.search(str(error)):  # by a class of the user's choice
                names = re.findall(r"\(class_path='([\w.]+)'", refused[2])
                raise UserError(f"{' or '.join(names)}: {one_line(refused[1])}") from error
            raise

    def _replicate(self) -> None:
        """Puts several agents in the place of one."""
        of_all = (RunFolder, Progress)
        callbacks = callbacks_of(self.trainer)
        own = [c for c in callbacks if not isinstance(c, of_all)]
        whole, *progress = [c for c in callbacks if isinstance(c, of_all)]
        first = self.model, self.datamodule, own
        self.replicas = replicate(self.parser, self.config, first, self._summary, self.resumes)
        self.model, self.datamodule = self.replicas.module, self.replicas.data
        # Progress shows what the replicas have evaluated.
        callbacks[:] = [whole, self.replicas.callback, *progress, Checkpointing()]

    def _summary(self, below: str) -> Summary:
        """With the command of a run that was killed before it had saved anything, if one was."""
        if not self.resumes or self.checkpoint is not None:
            return Summary(self.line)
        return Summary(self.line, commands_of(self.folder / below))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer with this project's callbacks, checkpoint writer and loggers."""
        options = self.config_init.trainer
        text = self.parser.dump(self.config, skip_unset=False)
        refuse_key(text)
        one = self.config.model.replicas == 1
        extra: list[Callback] = [self._summary("." if one else "replica_0")]
        self.run_folder = RunFolder(
            text, self.config_init.logging, self.lock, self.resumes, self.threads
        )
        if self.command == "fit":
            extra.append(self.run_folder)
        if options.enable_progress_bar is not False:
            extra.append(Progress())
        self.trainer_defaults = {"callbacks": extra}
        self.checkpoint_io = AtomicCheckpointIO()
        plugins = options.plugins or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        try:
            trainer = super().instantiate_trainer(plugins=[*plugins, self.checkpoint_io], **kwargs)
        except Exception as error:  # all of it comes from the user's trainer.* keys
            raise UserError(f"trainer: {error}") from error
        profiler = trainer.profiler  # type: ignore[attr-defined]
        for key, own in take_places(callbacks_of(trainer)):
            warn(
                f"{type(own).__module__}.{type(own).__qualname__}, of trainer.callbacks, takes the "
                f"place of the callback that the keys {key}.* are for; none of them counts"
            )
        writes = self.command == "fit" and not self.dry
        if writes and not isinstance(profiler, PassThroughProfiler):
            # Without a file it would tell a log that is silent here.
            profiler.dirpath = profiler.dirpath or self.folder
            profiler.filename = profiler.filename or "profile"
        # The folder is locked and cleared before anyone writes into it.
        callbacks_of(trainer).sort(key=lambda callback: not isinstance(callback, RunFolder))
        return trainer


def _yaml(text: str) -> Any:
    """An option's value; as it stands where it is no YAML, which the parser refuses."""
    try:
        return load_yaml(text)
    except (YAMLError, ValueError):
        return text


def _count_devices(options: Namespace) -> int:
    """How many devices a run would have; none of them is started.

    Raises: UserError: Lightning does not take them, or a run does not.
    """
    names = ("accelerator", "devices", "num_nodes", "strategy")
    asked = {name: getattr(options, name) for name in names}
    if not isinstance(options.strategy, str):  # a class: what it makes of them shows at its start
        asked["strategy"] = "auto"
    try:
        trainer = Trainer(**asked, logger=False, enable_checkpointing=False)
    except Exception as error:
        raise UserError(f"trainer: {error}") from error
    check_strategy(trainer)
    return trainer.world_size
