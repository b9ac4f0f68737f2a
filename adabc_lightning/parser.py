"""The argument parser: whatever is wrong with a key or a value becomes one sentence."""

import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from lightning.pytorch.cli import LightningArgumentParser
from omegaconf.errors import OmegaConfBaseException

from adabc_lightning.errors import UserError, nearest

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


class Parser(LightningArgumentParser):
    """Raises :class:`UserError` where argparse would print fifty lines of usage and exit."""

    def keys(self) -> list[str]:
        """The keys a user may set, nested with dots, in the parser's order."""
        kinds = ("ActionTypeHint",)  # not groups, not links, not --help
        return [
            action.dest
            for action in self._actions
            if type(action).__name__ in kinds and action.dest != "inherit"
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
            key = f"{group}.{name}" if group else str(name).removesuffix("+")
            if any(known.startswith(f"{key}.") for known in keys):
                if not isinstance(value, Mapping):
                    raise UserError(f"config {where}: {self._not_a_group(key, value)}")
                self.check_names(value, where, key)
            elif key not in keys and key != "inherit":
                raise UserError(f"config {where}: {self.unknown(key)}")

    def check_options(self, options: Iterable[str]) -> None:
        """The same for the options of a command line."""
        keys = self.keys()
        for option in options:
            key, _, value = option.removeprefix("--").partition("=")
            key = key.removesuffix("+")
            if not option.startswith("--"):
                continue
            if any(known.startswith(f"{key}.") for known in keys):
                raise UserError(self._not_a_group(key, value or None))
            # A callback or plugin of Lightning's has keys of its own below trainer.
            if key not in (*keys, "print_config") and not key.startswith("trainer."):
                raise UserError(self.unknown(key))

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse, with one sentence for a ``${…}`` that leads nowhere."""
        try:
            return super().parse_args(*args, **kwargs)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            missing = re.match(r"Interpolation key '([\w.]+)' not found", reason)
            hint = f"; {self.unknown(missing[1])}" if missing else ""
            raise UserError(f"{error.full_key}: {reason}{hint}") from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """Boils a message of argparse or jsonargparse down to key, value and what is expected."""
        text = " ".join(str(message).split())
        types = {a.dest: getattr(a, "_typehint", None) for a in self._actions}
        wrong = re.match(r'Parser key "([\w.]+)".*?(?:Got value|Given value): (.*)', text)
        if wrong and types.get(wrong[1]) is not None:
            value = "null" if wrong[2] == "None" else wrong[2]
            raise UserError(f"{wrong[1]} is {value}; it must be {in_words(types[wrong[1]])}")
        if no_value := re.match(r"argument (?:-c/)?(--[\w.]+): expected one argument", text):
            raise UserError(f"{no_value[1]} needs a value")
        if linked := re.match(r'Linked "([\w.]+)" must be given via "([\w.]+)"', text):
            raise UserError(f"{linked[1]} follows from {linked[2]}; set that")
        if unknown := re.match(r"unrecognized arguments: (\S+)", text):
            raise UserError(self.unknown(unknown[1]))
        raise UserError(text)

    def unknown(self, word: str) -> str:
        """That there is no such key, and the one that is probably meant."""
        key = word.lstrip("-").partition("=")[0]
        keys = self.keys()
        if key in keys:
            return f"{word!r} has no meaning here; keys start with two dashes: --{key}"
        group, _, name = key.rpartition(".")
        same_name = [known for known in keys if known.split(".")[-1] == name]
        siblings = {known.split(".")[-1]: known for known in keys if known.startswith(f"{group}.")}
        if same_name:
            hint = f"did you mean {same_name[0]!r}?"
        elif siblings:
            hint = nearest(name, siblings).replace("mean '", f"mean '{group}.")
        else:
            tops = dict.fromkeys(known.split(".")[0] for known in keys)
            hint = nearest(key.split(".")[0], tops)
        return f"there is no key {key!r}; {hint}"

    def _not_a_group(self, key: str, value: Any) -> str:
        names = [
            known.removeprefix(f"{key}.") for known in self.keys() if known.startswith(f"{key}.")
        ]
        shown = "null" if value is None else value
        return f"{key} is {shown}; it must hold keys: {', '.join(names)}"


def in_words(kind: Any) -> str:
    """What a type annotation accepts: ``"a whole number or null"``."""
    if kind in (None, NoneType):
        return "null"
    if kind in _WORDS:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _either(map(str, arguments))
    if origin in (Union, UnionType):
        return _either(sorted(map(in_words, arguments), key="null".__eq__))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list of {_PLURALS.get(arguments[0], getattr(arguments[0], '__name__', 'items'))}"
    return f"a {getattr(kind, '__name__', kind)}"


def _either(options: Iterable[str]) -> str:
    *most, last = dict.fromkeys(options)
    return f"{', '.join(most)} or {last}" if most else last
