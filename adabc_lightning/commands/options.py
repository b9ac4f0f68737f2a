"""The argument parser of the small commands: one line about what is wrong, never usage lines."""

import argparse
import re
from typing import NoReturn

from adabc_lightning.errors import UserError, nearest


class Options(argparse.ArgumentParser):
    """Raises :class:`UserError` where argparse would print its usage and exit."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"python -m adabc_lightning {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """One sentence, with the nearest option for an unknown one."""
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            known = [option for action in self._actions for option in action.option_strings]
            word = unknown[1].partition("=")[0]
            if word.startswith("-"):
                raise UserError(f"there is no option {word}; {nearest(word, known)}")
            raise UserError(f"{self.prog.split()[-1]} takes no argument {word!r}; see --help")
        raise UserError(f"{self.prog.split()[-1]}: {message.removeprefix('argument ')}")
