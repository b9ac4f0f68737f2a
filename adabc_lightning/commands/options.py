"""The argument parser of the small commands: one line about what is wrong, never usage lines."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from adabc_lightning.env.options import read_env_kwargs
from adabc_lightning.errors import UserError, name_options, nearest
from adabc_lightning.run.words import as_whole


class _EnvKwargs(argparse.Action):
    """Reads a mapping; argparse would put words of its own around an error of a type."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, read_env_kwargs(values))


class _Number(argparse.Action):
    """Reads a number within limits; see :class:`_EnvKwargs` for why not by a type."""

    def __init__(
        self,
        *args: Any,
        read: Callable[[str], float],
        allowed: Callable[[float], bool],
        wanted: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._read, self._allowed, self._wanted = read, allowed, wanted

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        try:
            value = self._read(values)
            allowed = "_" not in values and math.isfinite(value) and self._allowed(value)
        except (ValueError, OverflowError):
            allowed = False
        if not allowed:
            raise UserError(f"{option} is {values:.100}; it must be {self._wanted}")
        setattr(namespace, self.dest, value)


_ALLOW = "--allow PACKAGE (every command): a package that configs and environments may import."


class Options(argparse.ArgumentParser):
    """Raises :class:`UserError` where argparse would print its usage and exit."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"python -m adabc_lightning {command}",
            description=description,
            epilog=f"{epilog.rstrip()}\n\n{_ALLOW}".lstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # argparse takes -1e3 for an option.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

    def add_count(self, option: str, *, low: int = 1, high: int | None = None, **more: Any) -> None:
        """An option whose value is a whole number, ``low`` to ``high`` or more; 1e6 is one."""
        most = math.inf if high is None else high
        more |= {"read": as_whole, "allowed": lambda value: low <= value <= most}
        wanted = f"a whole number, {low} or more"
        more |= {"wanted": wanted if high is None else f"a whole number from {low} to {high:,}"}
        self.add_argument(option, action=_Number, **more)

    def add_number(
        self,
        option: str,
        allowed: Callable[[float], bool] = lambda value: True,
        wanted: str = "a number",
        **more: Any,
    ) -> None:
        """An option whose value is a finite number.

        Args:
            option: its name.
            allowed: whether a value is within its limits.
            wanted: those, as the end of a sentence.
            more: see ``argparse.ArgumentParser.add_argument``.
        """
        more |= {"read": float, "allowed": allowed, "wanted": wanted}
        self.add_argument(option, action=_Number, **more)

    def add_env_kwargs(self, default: str) -> None:
        """The option ``--env-kwargs``.

        Args:
            default: what is given to the environment without it.
        """
        self.add_argument(
            "--env-kwargs",
            action=_EnvKwargs,
            metavar="MAPPING",
            help="what the environment's constructor is given, such as '{reward_type: dense}' "
            f"(default: {default})",
        )

    def add_observation_keys(self, about: str) -> None:
        """The option ``--observation-keys``, a tuple of names or None.

        Args:
            about: what it does where it is not given.
        """
        self.add_argument(
            "--observation-keys",
            type=lambda text: tuple(text.split(",")),
            metavar="KEY,KEY",
            help=f"parts of observations, in this order, where they have parts (default: {about})",
        )

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """What was given. Errors about a key of fit name this command's option from here on.

        Raises: UserError: an option is unknown, missing or out of its range.
        """
        name_options(action.dest for action in self._actions if action.option_strings)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One sentence, with the nearest option for an unknown one."""
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            known = [option for action in self._actions for option in action.option_strings]
            word = unknown[1].partition("=")[0]
            if word.startswith("-"):
                raise UserError(f"there is no option {word}; {nearest(word, known)}")
            raise UserError(f"{self.prog.split()[-1]} takes no argument {word!r}; see --help")
        raise UserError(f"{self.prog.split()[-1]}: {message.removeprefix('argument ')}")
