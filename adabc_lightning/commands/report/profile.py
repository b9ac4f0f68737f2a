"""Variants over all tasks of a benchmark, drawn as rliable's authors ask (Agarwal et al. 2021)."""

from pathlib import Path

import numpy as np

from adabc_lightning.commands.figures import save
from adabc_lightning.commands.report.across import Comparison
from adabc_lightning.commands.report.figure import plain_texts, plt, style_of
from adabc_lightning.commands.report.table import Interval, bootstrapped

THRESHOLDS = 101  # of a profile


@plain_texts
def draw_profiles(comparisons: list[Comparison], path: Path) -> None:
    """A row per comparison: interquartile mean, performance profile, probability of improvement.

    Args:
        comparisons: not empty.
        path: ``.svg`` or ``.png``.
    """
    tallest = max(len(comparison.scores) for comparison in comparisons)
    size = (10.0, (1.2 + 0.22 * tallest) * len(comparisons) + 0.6)
    figure = plt.figure(figsize=size, layout="constrained")
    for part, comparison in zip(
        figure.subfigures(len(comparisons), 1, squeeze=False).flatten(), comparisons, strict=True
    ):
        part.suptitle(f"mean of fine-tuning {comparison.title}")
        means, profiles, better = part.subplots(1, 3)
        labels = list(comparison.scores)
        scores = list(comparison.scores.values())
        _bars(means, labels, list(comparison.means.values()))
        means.set_xlabel("IQM of the score")
        _profiles(profiles, scores)
        _bars(better, labels, list(comparison.chances.values()))
        better.set_yticklabels([])
        better.axvline(0.5, color="black", linewidth=1)
        better.set_xlim(0, 1)
        better.set_xlabel(comparison.columns[-1])
    save(figure, path)
    plt.close(figure)


def _bars(axis: plt.Axes, labels: list[str], intervals: list[Interval | None]) -> None:
    """A line with a mark per variant, the first on top."""
    for place, interval in enumerate(intervals):
        if interval is not None:
            color, _, marker = style_of(place)
            value, low, high = interval
            if low is not None and high is not None:
                axis.plot((low, high), (place, place), color=color, linewidth=3, alpha=0.5)
            axis.plot(value, place, color=color, marker=marker, markersize=5)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)


def _profiles(axis: plt.Axes, scores: list[np.ndarray]) -> None:
    """Share of the runs of all tasks above each score, with its 95 % interval."""
    top = max(values.max() for values in scores)
    levels = np.linspace(min(0.0, *(values.min() for values in scores)), top, THRESHOLDS)
    for place, values in enumerate(scores):
        color, line, _ = style_of(place)
        share, low, high = bootstrapped(
            values, lambda drawn: (drawn[..., None] > levels).mean((0, 1))
        )
        axis.plot(levels, share, color=color, linestyle=line)
        axis.fill_between(levels, low, high, color=color, alpha=0.12, lw=0)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("score τ")
    axis.set_ylabel("share of runs above τ")
    axis.grid(alpha=0.3)
