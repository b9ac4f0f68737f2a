"""The one exception type whose message is meant for the person at the keyboard."""

import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LISTED = 40  # names in one message
_options: set[str] = set()


class UserError(ValueError):
    """Something the user gave is wrong: a key, a value, a file, an environment, a dataset.

    The message is one sentence that says what was wrong, where, and what would be right.
    The command line prints it as one line and exits with status 2; Python callers see a
    ``ValueError``.
    """


class _Stop(UserError):
    """Ends a run that was going on; whoever knows more of it adds to the sentence."""

    def add(self, text: str) -> None:
        """Puts more at the end of the sentence."""
        self.args = (f"{self}{text}",)


class NotFinite(_Stop):
    """A number of the agent is NaN or infinite."""


class EnvironmentFailure(_Stop):
    """An environment, or its reward function, raised, hung, or returned what it must not."""

    undone = False
    """Whether the training environment's state is that from before the step that failed."""


def printable(text: str, keep: str = "") -> str:
    """For a terminal or a page: what comes from files and environments cannot steer it.

    Args:
        text: control characters, reversed writing and halves of characters are escaped in it.
        keep: characters that stay what they are, such as a line break.
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """:func:`printable`, without line breaks."""
    return printable(" ".join(text.split()))


def warn(sentence: str) -> None:
    """One line on stderr about what goes on, but is probably not meant so."""
    print(f"warning: {one_line(sentence)}", file=sys.stderr)


def name_options(names: Iterable[str]) -> None:
    """Tells :func:`key_of` which options the command at hand has beside config keys.

    Args:
        names: as Python has them: ``done_means`` for ``--done-means``.
    """
    _options.clear()
    _options.update(names)


def key_of(name: str) -> str:
    """What the user calls a key of ``data``, for a sentence about it.

    Args:
        name: the part behind ``data.``.
    Returns: ``--done-means`` where the command at hand has such an option (``inspect``, ``collect``
        and others), else ``data.done_means``.
    """
    return f"--{name.replace('_', '-')}" if name in _options else f"data.{name}"


def reason(error: BaseException) -> str:
    """What an exception says, on one line; its type's name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_cause(error: BaseException) -> str:
    """What began a chain of exceptions, on one line; libraries wrap it in guesses of their own."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return reason(error)


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a misspelt word probably stands for, None if none is close."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.65)
    return by_lower_case[close[0]] if close else None


def nearest(word: str, choices: Collection[str]) -> str:
    """``"did you mean 'x'?"`` for a close match, else the list of choices.

    Args:
        word: what the user wrote.
        choices: what would have been right; may be empty.
    Returns: a clause to end an error message with.
    """
    if close := closest(word, choices):
        return f"did you mean {close!r}?"
    names = list(choices)
    if len(names) > _LISTED:
        return f"known: {', '.join(names[:_LISTED])}, … ({len(names)} in all)"
    return f"known: {', '.join(names)}" if names else "nothing is known here"
