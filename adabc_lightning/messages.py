"""What a command prints at its end."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adabc_lightning.schedule import Schedule
from adabc_lightning.scores import Reference


def closing_line(history: list[dict[str, float]], schedule: Schedule, folder: Path) -> str:
    """What became of a run: scores, or returns where no references are known, and its folder.

    Args:
        history: evaluations in order, as :func:`~adabc_lightning.callbacks.summary.outcomes`.
        schedule: the run's timeline.
        folder: the run's folder.
    """
    from adabc_lightning.callbacks.summary import outcomes  # Lightning, which rollout does not need

    unit = "score" if any("eval/score" in point for point in history) else "return"
    summary = outcomes(history, schedule.offline_updates, schedule.online_env_steps)[unit]
    values = {name: summary[name] for name in ("pretrained", "final", "best", "dip")}
    shown = [
        f"{name} {round(value, 1) + 0.0}" for name, value in values.items() if value is not None
    ]
    return f"{unit}: {', '.join(shown) or 'not evaluated'}; {folder}"


def episode_table(
    returns: Sequence[float], lengths: Sequence[int], reference: Reference | None
) -> str:
    """A row per episode, then mean ± standard deviation over the episodes.

    Args:
        returns: raw return of each episode.
        lengths: its environment steps.
        reference: what scores are made with; None for no scores.
    """
    scores = None if reference is None else [reference.score(value) for value in returns]
    lines = ["episode      return   score   steps"]
    for i, (value, steps) in enumerate(zip(returns, lengths, strict=True)):
        score = "      –" if scores is None else f"{scores[i]:7.2f}"
        lines.append(f"{i:7d} {value:11.2f} {score} {steps:7d}")
    lines.append(f"return {np.mean(returns):.2f} ± {np.std(returns):.2f}")
    if scores is not None:
        lines.append(f"score {np.mean(scores):.2f} ± {np.std(scores):.2f}")
    return "\n".join(lines)
