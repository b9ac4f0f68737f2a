"""How an experiment goes, on stderr: lines, and in a terminal a live table of what runs where."""

import sys
from typing import Any, Self

from adabc_lightning.errors import printable

COLUMNS = ("run", "machine", "phase", "updates", "env steps", "score", "α", "attempt")


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(printable(text, keep="\n"), file=sys.stderr, flush=True)


class Progress:
    """A table below the lines, redrawn as the runs go on; in a terminal, not in a log file."""

    def __init__(self) -> None:
        self.live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), refresh_per_second=2, transient=True)
            self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.__exit__(None, None, None)

    def show(self, rows: dict[str, dict[str, Any]], waiting: int) -> None:
        """Takes the newest rows of the board.

        Args:
            rows: by the labels of the jobs at work.
            waiting: how many jobs wait for a worker.
        """
        if self.live is None:
            return
        from rich.table import Table

        caption = f"{len(rows)} at work, {waiting} waiting for a machine"
        table = Table(*COLUMNS, caption=caption, box=None)
        for cells in map(cells_of, rows, rows.values()):
            table.add_row(*cells)
        self.live.update(table)


def cells_of(label: str, row: dict[str, Any]) -> list[str]:
    """A job's cells; empty where nothing is known yet."""
    metrics = row.get("metrics", {})

    def number(name: str, form: str) -> str:
        return format(float(metrics[name]), form) if name in metrics else ""

    return [
        label,
        row["node"],
        metrics.get("phase", ""),
        number("gradient_updates", ",.0f"),
        number("env_steps", ",.0f"),
        number("eval/score", ".1f"),
        number("control/alpha", ".3f"),
        str(row["attempt"]),
    ]
