"""What the charts of the page show: every column of ``metrics.csv``, thinned, over its phases."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from adabc_lightning.commands.report.panels import Curve, Panel
from adabc_lightning.commands.report.runs import Run
from adabc_lightning.errors import printable

REPETITIONS = 1_000  # bootstrap resamples of a band
EVALUATIONS = 400  # points of a learning curve at most
VALUES = 120_000  # of all other curves of a page together, roughly
Q_GAP = "q/policy − q/mean"  # in no file: made of two columns
OFFLINE, STEPS, EPISODES = "offline", "steps", "episodes"
AT_EVALUATIONS = ("eval/", "diagnostics/", "trial/")  # exact points; the others are traces
COUNTERS = {OFFLINE: "gradient_updates", STEPS: "env_steps", EPISODES: "online/episodes"}


@dataclass(frozen=True)
class Chart:
    """What one chart shows.

    Args:
        title: its heading.
        columns: of ``metrics.csv``; several are drawn into one chart.
        names: of the columns, where there are several.
        note: what the numbers are.
    """

    title: str
    columns: tuple[str, ...]
    names: tuple[str, ...] = ()
    note: str = ""


SCORE = Chart("D4RL score", ("eval/score",), note="evaluations without noise")
RETURN = Chart("Return", ("eval/return",), note="evaluations without noise")
CHARTS = (
    Chart("Success rate", ("eval/success_rate",), note="evaluations without noise"),
    Chart("α", ("control/alpha",), note="weight of behaviour cloning"),
    Chart(
        "What moves α",
        ("control/proportional", "control/derivative"),
        ("K_P term", "K_D term"),
        "change of α after the newest episode",
    ),
    Chart("Average return", ("control/return_average",), note="the controller's R_avg, a fraction"),
    Chart(
        "Trials",
        ("trial/candidate", "trial/incumbent"),
        ("candidate", "incumbent"),
        "mean return from the same starts, before an evaluation",
    ),
    Chart(
        "What trials decided",
        ("trial/promotions", "trial/holds", "trial/retreats"),
        ("won", "lost", "went back"),
        "how often so far",
    ),
    Chart("Training return", ("online/episode_return",), note="with exploration noise"),
    Chart("Q", ("q/policy", "q/mean"), ("policy's actions", "data's actions")),
    Chart("Q gap", (Q_GAP,), note="Q of the policy's actions minus Q of the data's"),
    Chart("Critics' target", ("q/target",)),
    Chart("Online fraction", ("online/fraction",), note="fresh rows in the batches"),
    Chart("Critic loss", ("loss/critic",)),
    Chart("Actor loss", ("loss/actor",)),
    Chart(
        "Behaviour cloning",
        ("loss/behavior_cloning",),
        note="squared distance from the data's actions",
    ),
    Chart("Value loss", ("loss/value",)),
    Chart("VAE loss", ("loss/vae",), note="before the critics learn"),
    Chart("Support", ("loss/support",), note="improbability of the policy's actions"),
    Chart("Density ratio loss", ("loss/density_ratio",)),
    Chart(
        "Episode length",
        ("online/episode_length", "eval/episode_length"),
        ("training", "evaluation"),
        "environment steps",
    ),
    Chart(
        "Hand-over: Q gap",
        ("diagnostics/q_gap",),
        note="at evaluations, the policy's actions minus the data's",
    ),
    Chart("Hand-over: action distance", ("diagnostics/action_distance",), note="policy to data"),
    Chart(
        "Hand-over: ensemble disagreement",
        tuple(f"diagnostics/disagreement_{name}" for name in ("data", "policy", "online")),
        ("data", "policy", "fresh states"),
    ),
    Chart("Hand-over: saturated actions", ("diagnostics/saturated",), note="share"),
    Chart("Spread", ("eval/return_std",), note="standard deviation within an evaluation, return"),
)
KNOWN = {*COUNTERS.values(), *SCORE.columns, *RETURN.columns} | {
    column for chart in CHARTS for column in chart.columns
}


def section(panel: Panel, points: int) -> dict[str, Any]:
    """The charts of one panel, for the page's script.

    Args:
        panel: its curves are shown in their order.
        points: of a trace and phase at most.
    Returns: ``charts``, each with a curve's lines per phase: mean over seeds ``m``, its bootstrap
        interval ``lo`` and ``hi``, the seeds ``s``; ``grids`` of each curve, their x values.
    """
    found = list(dict.fromkeys(name for c in panel.curves for r in c.runs for name in r.metrics))
    unknown = [(name, printable(name)) for name in found if name not in KNOWN]
    others = [Chart(shown, (name,), (shown,)) for name, shown in unknown]
    curves = [_Lines(curve, points) for curve in panel.curves]
    charts = []
    evaluations = SCORE if panel.unit == "score" else RETURN
    if evaluations is SCORE and panel.unit_name == "score":  # of other reference returns
        evaluations = replace(SCORE, title="Score")
    for chart in (evaluations, *CHARTS, *others):
        lines = [
            {"name": name, "curves": shown}
            for column, name in zip(chart.columns, chart.names or chart.columns, strict=True)
            if any(shown := [curve.of(column) for curve in curves])
        ]
        if lines:
            charts.append({"title": chart.title, "note": chart.note, "lines": lines})
    return {
        "curves": [
            {"label": c.label, "seeds": [r.summary["seed"] for r in c.runs]} for c in panel.curves
        ],
        "charts": charts,
        "grids": [curve.grids for curve in curves],
    }


def points_for(runs: int) -> int:
    """Points of a trace and phase, so that the page of many runs stays small."""
    return int(np.clip(VALUES / (16 * max(1, runs)), 24, 240))


class _Lines:
    """A curve's runs on grids of their own; evaluations keep their exact points."""

    def __init__(self, curve: Curve, points: int) -> None:
        self.runs = curve.runs
        generator = np.random.default_rng(0)
        drawn = generator.integers(len(self.runs), size=(REPETITIONS, len(self.runs)))
        self._weights = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(self.runs))
        self._grids: dict[str, np.ndarray] = {}
        for phase in COUNTERS:
            for kind, most in (("eval", EVALUATIONS), ("trace", points)):
                column = "eval/return" if kind == "eval" else COUNTERS[phase]
                x = np.concatenate([_points(run, column, phase)[0] for run in self.runs])
                self._grids[f"{kind} {phase}"] = _grid(x, most)

    @property
    def grids(self) -> dict[str, list[float | None]]:
        """The x values by kind and phase."""
        return {name: _short(grid) for name, grid in self._grids.items()}

    def of(self, column: str) -> dict[str, Any]:
        """The lines of a column, by phase; empty where no run has a value."""
        kind = "eval" if column.startswith(AT_EVALUATIONS) else "trace"
        lines = {}
        for phase in COUNTERS:
            grid = self._grids[f"{kind} {phase}"]
            # A trace that is not in every row keeps its newest value.
            hold = kind == "trace" or phase == EPISODES
            values_RX = np.array(
                [_on_grid(*_points(run, column, phase), grid, hold) for run in self.runs]
            )
            if not np.isnan(values_RX).all():
                lines[phase] = {"g": f"{kind} {phase}", **self._summary(values_RX)}
        return lines

    def _summary(self, values_RX: np.ndarray) -> dict[str, Any]:
        """Mean and 95 % bootstrap interval where every run has a value, and the runs."""
        mean_X = values_RX.mean(0)  # NaN unless all are known
        if len(values_RX) == 1:
            return {"m": _short(mean_X)}
        drawn_means = self._weights @ values_RX / len(values_RX)
        low_X, high_X = np.percentile(drawn_means, (2.5, 97.5), axis=0)
        return {
            "m": _short(mean_X),
            "lo": _short(low_X),
            "hi": _short(high_X),
            "s": [_short(values_X) for values_X in values_RX],
        }


def _points(run: Run, column: str, phase: str) -> tuple[np.ndarray, np.ndarray]:
    """Points x, y of a column in a phase.

    The row of the hand-over, where α is that of fine-tuning and only the rows that are kept are
    measured, is none of pre-training. An evaluation's fine-tuning starts with it, or with the last
    value of pre-training.
    """
    columns = column.split(" − ")
    if any(name not in run.metrics for name in (*columns, COUNTERS[phase])):
        return np.zeros(0), np.zeros(0)
    y, x = run.column(columns[0]), run.column(COUNTERS[phase])
    if len(columns) > 1:
        y = y - run.column(columns[1])
    online = run.column("env_steps") > 0
    known = ~np.isnan(y) & ~np.isnan(x)
    inside = known & (online if phase != OFFLINE else ~online & ~_hand_over(run))
    x, y, before = x[inside], y[inside], y[~np.isnan(y) & ~online]
    if column.startswith(AT_EVALUATIONS) and phase != OFFLINE and len(before) and len(x):
        x, y = np.concatenate([[0.0], x]), np.concatenate([before[-1:], y])
    return x, y


def _hand_over(run: Run) -> np.ndarray:
    """Which rows are that of the hand-over: after as many updates as the row before it."""
    updates, offline = run.column("gradient_updates"), run.column("env_steps") == 0
    return offline & (np.diff(updates, prepend=-1) == 0)


def _grid(x: np.ndarray, most: int) -> np.ndarray:
    """Every x there is, or the right ends of equal bins where these are too many."""
    distinct = np.unique(x)
    return distinct if len(distinct) <= most else np.linspace(0, distinct[-1], most + 1)[1:]


def _on_grid(x: np.ndarray, y: np.ndarray, grid: np.ndarray, hold: bool) -> np.ndarray:
    """Mean within each bin (the one before, its end], NaN where a run has none.

    Args:
        hold: whether an empty bin before the run's end takes the value before.
    """
    if not (len(x) and len(grid)):  # a phase may have one row, that of the hand-over
        return np.full(len(grid), np.nan)
    place = np.searchsorted(grid, x).clip(max=len(grid) - 1)
    counts = np.bincount(place, minlength=len(grid))
    sums = np.bincount(place, weights=y, minlength=len(grid))
    values = np.divide(sums, counts, out=np.full(len(grid), np.nan), where=counts > 0)
    if hold:
        latest = np.maximum.accumulate(np.where(counts > 0, np.arange(len(grid)), -1))
        values = np.where(latest >= 0, values[latest], np.nan)
        values[place.max() + 1 :] = np.nan
    return values


def _short(values: Iterable[float]) -> list[float | None]:
    """Six digits are enough to draw and to read."""
    return [float(f"{value:.6g}") if isfinite(value) else None for value in map(float, values)]
