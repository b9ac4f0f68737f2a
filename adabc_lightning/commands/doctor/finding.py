"""One line of the doctor's report."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was looked at and what was found.

    Args:
        about: one word or two.
        found: what is there, in a few words.
        state: ``"problem"`` where something that a run needs is broken; ``"note"`` where
            something is slower or less than it could be.
        remedy: one sentence; there is one unless all is well.
    """

    about: str
    found: str
    state: State = "ok"
    remedy: str | None = None

    def line(self) -> str:
        """For people."""
        remedy = f"\n{'':10}→ {self.remedy}" if self.remedy else ""
        return f"{self.state:<8}{self.about:<14}{self.found}{remedy}"
