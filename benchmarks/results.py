"""Table and figure of several runs, from ``metrics.csv``, ``config.yaml`` and ``summary.json``.

    .venv/bin/python benchmarks/results.py runs/demo0 runs/demo1 runs/demo2 --figure docs/demo.svg

One row per run and the mean, in Markdown; the figure shows score and α over both phases, one thin
line per run and their mean, with the hand-over marked.
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import mean

import matplotlib as mpl
import yaml

from adabc_lightning.callbacks.summary import outcomes

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "adabc", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

FIELDS = ("pretrained", "final", "best", "dip", "online_mean")


def table(folders: list[Path]) -> str:
    """Markdown: scores of each run, and their means."""
    lines = [
        "| run | seed | after pre-training | final | best | dip | mean online | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    columns: list[list[float]] = []
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        schedule = yaml.safe_load((folder / "config.yaml").read_text())["schedule"]
        history = [
            {"gradient_updates": updates, "env_steps": steps, "eval/score": score}
            for updates, steps, score in points(folder, "eval/score")
        ]
        lengths = schedule["offline_updates"], schedule["online_env_steps"]
        score = outcomes(history, *lengths)["score"]
        values = [score[field] for field in FIELDS]
        values.append(sum(summary["seconds"].values()) / 60)
        columns.append(values)
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {folder.name} | {summary['seed']} | {cells} |")
    means = " | ".join(f"{mean(column):.1f}" for column in zip(*columns, strict=True))
    return "\n".join([*lines, f"| **mean** | | {means} |"])


def points(folder: Path, name: str) -> list[tuple[float, float, float]]:
    """(gradient updates, environment steps, value) of a column, where it is not empty."""
    with open(folder / "metrics.csv", newline="") as file:
        return [
            (float(row["gradient_updates"]), float(row["env_steps"]), float(row[name]))
            for row in csv.DictReader(file)
            if row[name]
        ]


def figure(folders: list[Path], path: Path) -> None:
    """Score and α: pre-training over updates on the left, fine-tuning over steps on the right."""
    fig, axes = plt.subplots(
        2, 2, figsize=(7.2, 4.2), sharey="row", width_ratios=(1, 2), height_ratios=(2, 1)
    )
    for row, (name, label) in enumerate((("eval/score", "score"), ("control/alpha", "α"))):
        for column, unit in enumerate(("offline updates", "environment steps")):
            axis = axes[row][column]
            curves: dict[float, list[float]] = {}
            for folder in folders:
                data = points(folder, name)
                offline = [(u, v) for u, steps, v in data if not steps]
                online = offline[-1:] and [(0.0, offline[-1][1])]
                online = online + [(steps, v) for _, steps, v in data if steps]
                curve = online if column else offline
                axis.plot(*zip(*curve, strict=True), color="C0", alpha=0.35, linewidth=0.8)
                for x, value in curve:
                    curves.setdefault(x, []).append(value)
            whole = {x: v for x, v in sorted(curves.items()) if len(v) == len(folders)}
            if row == 0:
                axis.plot(whole.keys(), [mean(v) for v in whole.values()], color="C0")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
            if row == 1:
                axis.set_xlabel(unit)
            axis.set_xlim(left=0)
    axes[0][0].set_title("pre-training")
    axes[0][1].set_title("fine-tuning")
    fig.tight_layout()
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    print(table(options.runs))
    if options.figure:
        figure(options.runs, options.figure)


if __name__ == "__main__":
    main()
