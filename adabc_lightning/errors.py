"""The one exception type whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user gave is wrong: a key, a value, a file, an environment, a dataset.

    The message is one sentence that says what was wrong, where, and what would be right.
    The command line prints it as one line and exits with status 2; Python callers see a
    ``ValueError``.
    """


def nearest(word: str, choices: list[str]) -> str:
    """``"did you mean 'x'?"`` for a close match, else the list of choices.

    Args:
        word: what the user wrote.
        choices: what would have been right; may be empty.
    Returns: a clause to end an error message with.
    """
    import difflib

    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(choices)}" if choices else "nothing is known here"
