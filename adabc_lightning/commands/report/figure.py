"""Learning curves as in the paper: mean ± standard deviation over seeds, α below."""

from math import ceil
from pathlib import Path
from textwrap import wrap

import matplotlib as mpl
import numpy as np

from adabc_lightning.commands.figures import STYLE, save
from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.runs import Run

mpl.use("Agg")  # needs no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import EngFormatter

mpl.rcParams.update(STYLE)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMNS = 4  # panels beside each other
TITLE_SIZE = 7.5  # points
LONGEST = 1_000  # letters of a title
plain_texts = mpl.rc_context({"text.parse_math": False})
"""Names are shown letter by letter: a variant called ``$x$`` is no formula, ``$$`` no mistake."""
Points = list[tuple[float, float]]


def style_of(index: int) -> tuple[str, object, str]:
    """Color, line and marker of a curve; no two of the first 49 have both line and color alike."""
    round_, place = divmod(index, len(COLORS))
    line, marker = ((place + shift * round_) % len(LINES) for shift in (1, 2))
    return COLORS[place], LINES[line], MARKERS[marker]


@plain_texts
def draw(panels: list[Panel], path: Path) -> None:
    """One panel per task and dataset: pre-training over updates, then fine-tuning over steps.

    Args:
        panels: not empty.
        path: ``.svg`` or ``.png``.
    """
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    styles = {label: style_of(index) for index, label in enumerate(labels)}
    columns = min(COLUMNS, len(panels))
    height = ceil(len(panels) / columns)
    width = max(6.0, 3.6 * columns)
    figure = plt.figure(figsize=(width, 3.2 * height + 0.5), layout="constrained")
    parts = figure.subfigures(height, columns, squeeze=False).flatten()
    titles = [_title(panel, 72 * width / columns - 8) for panel in panels]
    for place, (part, panel) in enumerate(zip(parts, panels, strict=False)):
        row = titles[place - place % columns :][:columns]  # as tall, so that its axes are as high
        lines = titles[place] + [""] * (max(map(len, row)) - len(titles[place]))
        part.suptitle("\n".join(lines), fontsize=TITLE_SIZE)
        axes = part.subplots(
            2, 2, sharey="row", sharex="col", width_ratios=(1, 2), height_ratios=(2, 1)
        )
        _panel(panel, axes, styles)
    handles = {
        line.get_label(): line
        for part in parts[: len(panels)]
        for line in part.axes[1].get_lines()
        if line.get_label() in labels
    }
    longest = max(map(len, labels))
    fitting = max(1, int(72 * width / (4.8 * longest + 42)))  # points: letters, then handle and gap
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(fitting, len(labels)),
    )
    save(figure, path)
    plt.close(figure)


def _title(panel: Panel, points: float) -> list[str]:
    """Its lines, none of which is wider; of many datasets the first."""
    title = panel.title if len(panel.title) <= LONGEST else f"{panel.title[:LONGEST]}…"
    whole = title.replace(": ", "\n", 1).splitlines()
    for letters in range(120, 0, -1):
        lines = [line for each in whole for line in wrap(each, letters, break_on_hyphens=False)]
        if max(_points_wide(line) for line in lines) <= points:
            break
    return lines


def _points_wide(line: str) -> float:
    font = FontProperties(size=TITLE_SIZE)
    return text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]


def _panel(panel: Panel, axes: np.ndarray, styles: dict) -> None:
    (offline, online), (below, alpha) = axes
    for curve in panel.curves:
        color, line, marker = styles[curve.label]
        style = {"color": color, "linestyle": line, "marker": marker}
        key = f"eval/{panel.unit}"
        before, after = zip(*(_phases(run, key) for run in curve.runs), strict=True)
        if any(len(points) > 1 for points in before):
            _mean(offline, before, style, "")
        _mean(online, after, style, curve.label)
        if any(weights := [_alphas(run) for run in curve.runs]):
            _mean(alpha, weights, style, "")
    for axis in (offline, online, alpha):
        axis.grid(alpha=0.3)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_xlim(left=0)
    online.axvline(0, color="black", linewidth=1.5)  # the hand-over
    alpha.axvline(0, color="black", linewidth=1.5)
    alpha.set_ylim(bottom=0)
    below.set_axis_off()
    offline.tick_params(labelbottom=True)
    offline.xaxis.set_in_layout(False)  # there is room below
    offline.set_ylabel(panel.unit_name)
    offline.set_xlabel("updates")
    alpha.set_ylabel("α")
    alpha.tick_params(labelleft=True)
    alpha.set_xlabel("environment steps")
    offline.set_title("pre-training")
    online.set_title("hand-over | fine-tuning", loc="left")


def _phases(run: Run, key: str) -> tuple[Points, Points]:
    """(updates, value) before and (environment steps, value) after the hand-over.

    Fine-tuning starts with the evaluation at the hand-over, if there was one.
    """
    rows = [row for row in run.evaluations(key) if key in row]
    before = [(row["gradient_updates"], row[key]) for row in rows if not row["env_steps"]]
    after = [(row["env_steps"], row[key]) for row in rows if row["env_steps"]]
    return before, [(0.0, value) for _, value in before[-1:]] + after


def _alphas(run: Run) -> Points:
    """(environment steps, α) at the hand-over and at every evaluation; none of a method without."""
    rows = [row for row in run.evaluations("control/alpha") if "control/alpha" in row]
    online = [(row["env_steps"], row["control/alpha"]) for row in rows if row["env_steps"]]
    return [(0.0, run.initial_alpha), *online] if rows else []


def _mean(axis: Axes, runs: list[Points] | tuple[Points, ...], style: dict, label: str) -> None:
    """Mean ± standard deviation where every run has a value; longer runs go on as thin lines."""
    values: dict[float, list[float]] = {}
    for points in runs:
        for x, y in points:
            values.setdefault(x, []).append(y)
    shared = [x for x in sorted(values) if len(values[x]) == len(runs)]
    mean = np.array([np.mean(values[x]) for x in shared])
    every = max(1, len(shared) // 6)
    axis.plot(shared, mean, **style, label=label, markevery=every, markersize=3, linewidth=1.2)
    if len(runs) > 1:
        deviation = np.array([np.std(values[x], ddof=1) for x in shared])
        axis.fill_between(
            shared, mean - deviation, mean + deviation, color=style["color"], alpha=0.15, lw=0
        )
    last = shared[-1] if shared else -1.0
    for points in runs:
        rest = [(x, y) for x, y in points if x >= last]
        if len(rest) > 1:
            thin = {"color": style["color"], "linestyle": style["linestyle"]}
            axis.plot(*zip(*rest, strict=True), **thin, linewidth=0.5, label="")
