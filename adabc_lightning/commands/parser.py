"""The argument parser: whatever is wrong with a key or a value becomes one sentence."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import DefaultHelpFormatter, _loaders_dumpers, set_dumper, set_loader
from jsonargparse._optionals import get_omegaconf_loader
from lightning.pytorch.cli import LightningArgumentParser
from omegaconf.errors import OmegaConfBaseException

from adabc_lightning.commands.method_keys import keys_of, unknown_key
from adabc_lightning.errors import UserError, closest, nearest
from adabc_lightning.run.allowed import refusal
from adabc_lightning.run.moved import translated
from adabc_lightning.run.words import in_words, is_function, wrong_value
from adabc_lightning.run.yaml_core import Loader, dump_yaml

ELSEWHERE = {
    "seed": "seed_everything",
    "device": "trainer.accelerator",
    "env": "data.env_id",
    "checkpoints_path": "trainer.default_root_dir",
    **dict.fromkeys(("lr", "critic_lr", "qf_lr"), "model.learning_rate"),
    "discount": "model.gamma",
    **dict.fromkeys(("num_qs", "n_critics", "ensemble_size"), "model.num_critics"),
    "num_min_qs": "model.subset_size",
    "policy_freq": "model.policy_delay",
    "policy_noise": "model.target_noise",
    "noise_clip": "model.target_noise_clip",
    "expl_noise": "data.exploration_noise",
    **dict.fromkeys(("normalize", "normalize_states"), "data.normalize_observations"),
    **dict.fromkeys(("buffer_size", "replay_buffer_size"), "data.replay_capacity"),
    "mixing_ratio": "data.offline_fraction",
    **dict.fromkeys(("utd", "utd_ratio", "gradient_steps"), "schedule.updates_per_env_step"),
    **dict.fromkeys(("offline_iterations", "pretrain_steps"), "schedule.offline_updates"),
    **dict.fromkeys(("online_iterations", "total_timesteps"), "schedule.online_env_steps"),
    **dict.fromkeys(("eval_freq", "eval_interval", "eval_period"), "schedule.evaluation_every"),
    **dict.fromkeys(("n_episodes", "eval_episodes", "eval_n_trajs"), "evaluation.episodes"),
}
"""What people write elsewhere (CORL, Stable-Baselines3, rlpd), and what it is called here."""


def read_as_today() -> None:
    """Lets jsonargparse read files and values as :func:`~adabc_lightning.run.config_files.load`.

    That is with YAML 1.2's numbers and today's paths of what they name; it writes what reads back.
    There is no public way to either loader: one is for whole values, one for text in their place.
    """
    _loaders_dumpers.yaml_default_loader = Loader  # type: ignore[assignment]
    load = get_omegaconf_loader("omegaconf+")
    set_loader("omegaconf+", lambda text: translated(load(text)), (yaml.YAMLError, ValueError))
    set_dumper("yaml", dump_yaml)


class Help(DefaultHelpFormatter):
    """Says in words what a key takes, of which validators are no part."""

    def _get_type_str(self, action: Any) -> str | None:
        kind = getattr(action, "_typehint", None)
        said = super()._get_type_str(action)
        return in_words(kind) if said and "Annotated[" in said else said


class Parser(LightningArgumentParser):
    """Raises :class:`UserError` where argparse would print fifty lines of usage and exit."""

    method: str | None = None
    """Dotted path of the class that the config files choose."""
    _own_key = ""  # of the class alone whose arguments it parses, where that is declared
    _refused: ClassVar[list[UserError]] = []
    """By parsers of such classes: jsonargparse hides them among the types that a key may have."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **options})

    def add_class_arguments(self, class_type: Any, nested_key: Any = None, **options: Any) -> Any:
        """As jsonargparse; a parser of one class, such as a callback, has the class's key."""
        if nested_key is None:
            self._own_key = getattr(class_type, "declared_key", "")
        return super().add_class_arguments(class_type, nested_key, **options)

    def keys(self) -> list[str]:
        """The keys a user may set, nested with dots, in the parser's order."""
        return [
            action.dest
            for action in self._actions
            if type(action).__name__ == "ActionTypeHint"  # no group, no link, no --help
            and action.dest != "inherit"
        ]

    def check_names(self, content: Mapping[str, Any], where: str, group: str = "") -> None:
        """Refuses keys of a config file that do not exist, and a value for a group of keys.

        jsonargparse would put all of a group's defaults in the place of ``model: 3``.

        Args:
            content: the file's mapping, or a group's below it.
            where: the file's name, for the message.
            group: the group's key.
        """
        keys = self.keys()
        for name, value in content.items():
            key = (f"{group}." if group else "") + str(name).removesuffix("+")
            if any(known.startswith(f"{key}.") for known in keys):
                if not isinstance(value, Mapping):
                    raise UserError(f"config {where}: {self._no_value(key)}")
                self.check_names(value, where, key)
            elif key not in keys and key != "inherit":
                raise UserError(f"config {where}: {self.unknown(key)}")

    def check_options(self, options: Iterable[str]) -> None:
        """The same for the options of a command line."""
        self._refused.clear()
        keys = self.keys()
        for option in options:
            if not option.startswith("--"):
                continue
            key = option.removeprefix("--").partition("=")[0].removesuffix("+")
            if any(known.startswith(f"{key}.") for known in keys):
                raise UserError(self._no_value(key))
            # A class that is named, such as a callback or a method, has keys of its own.
            named = key.startswith(("trainer.", "model.method."))
            if key not in (*keys, "print_config") and not named:
                raise UserError(self.unknown(key))

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse, with one sentence for a ``${…}`` that leads nowhere."""
        try:
            return super().parse_args(*args, **kwargs)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            missing = re.match(r"Interpolation key '([\w.]+)' not found", reason)
            why = self.unknown(missing[1]) if missing else reason
            raise UserError(f"{error.full_key} cannot be resolved: {why}") from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Boils a message of argparse or jsonargparse down to key, value and what is expected."""
        text = " ".join(str(message).split())
        types = {a.dest: getattr(a, "_typehint", None) for a in self._actions}
        if denied := re.search(r"Importing '([\w.]+)' is not allowed, denied by", text):
            key = re.match(r'Parser key "([\w.]+)"', text)
            raise UserError(refusal(denied[1], key[1] if key else "the config"))
        for refused in self._refused:
            if " ".join(str(refused).split()) in text:
                raise refused
        required = r'Parser key "([\w.]+)".*- the following arguments are required: (\S+) - '
        if missing := re.match(required, text):
            name = missing[2].rstrip(",").removeprefix("--")
            raise UserError(
                f"{missing[1]} needs {missing[1]}.init_args.{name}, which has no default"
            )
        wrong = re.match(r'Parser key "([\w.]+)".*?(?:Got value|Given value): (.*)', text)
        if wrong and (nested := re.match(r"NestedArg\(key='([\w.]+)'", wrong[2])):
            name = nested[1].removeprefix("init_args.")
            known = keys_of(self.method)
            if wrong[1] == "model.method" and known is not None and name not in known:
                raise UserError(unknown_key(name, self.method))
            if said := re.search(rf"- ({re.escape(name)} is .*?; it must be .*?) - ", text):
                raise UserError(f"{wrong[1]}.{said[1]}")
            raise UserError(f"{wrong[1]} has no key {name!r}, or it takes another kind of value")
        if wrong and types.get(wrong[1]) is not None:
            value = wrong[2]  # of a part of it, and then of the whole, where it has parts
            if "Given value type: " in value:
                value = value.rpartition("Given value: ")[2]
            if not self._own_key:
                raise wrong_value(wrong[1], value, types[wrong[1]])
            refused = wrong_value(f"{self._own_key}.{wrong[1]}", value, types[wrong[1]])
            self._refused.append(refused)
            raise refused
        if (path := re.match(r'Parser key "([\w.]+)"', text)) and is_function(types.get(path[1])):
            raise UserError(
                f"{path[1]} must be {in_words(types[path[1]])}; {text.split(' - ')[-1]}"
            )
        if no_value := re.match(r"argument (?:-c/)?(--[\w.]+): expected one argument", text):
            raise UserError(f"{no_value[1]} needs a value")
        if linked := re.match(r'Linked "([\w.]+)" must be given via "([\w.]+)"', text):
            raise UserError(f"{linked[1]} follows from {linked[2]}; set that")
        if unknown := re.match(r"unrecognized arguments: (\S+)", text):
            raise UserError(self.unknown(unknown[1]))
        raise UserError(re.sub(r'^Parser key "([\w.]+)":', r"\1:", text))

    def unknown(self, word: str) -> str:
        """That there is no such key, and the one that is probably meant."""
        key = word.lstrip("-").partition("=")[0]
        keys = self.keys()
        if key in keys:
            return f"{word!r} has no meaning here; write --{word.lstrip('-')}"
        group, _, name = key.rpartition(".")
        meant = ELSEWHERE.get(name, "")
        if meant and (not group or "." in meant):
            return f"there is no key {key!r}; did you mean {meant!r}?"
        short = {known.rpartition(".")[2]: known for known in keys}
        siblings = {n: known for n, known in short.items() if known == f"{group}.{n}"}
        tops = dict.fromkeys(known.partition(".")[0] for known in keys)
        if guess := closest(name, siblings):
            hint = f"did you mean {siblings[guess]!r}?"
        elif name in short:
            hint = f"did you mean {short[name]!r}?"
        elif siblings:
            hint = f"{group} has: {', '.join(siblings)}"
        elif group in keys:
            hint = f"did you mean {group!r}?"
        elif "." in group:
            return self.unknown(group)
        elif group or closest(name, tops) or not (guess := closest(name, short)):
            hint = nearest(key.partition(".")[0], tops)
        else:
            hint = f"did you mean {short[guess]!r}?"
        return f"there is no key {key!r}; {hint}"

    def _no_value(self, group: str) -> str:
        below = f"{group}."
        names = [known.removeprefix(below) for known in self.keys() if known.startswith(below)]
        return f"{group} takes no value; it has keys: {', '.join(names)}"
