"""Tables of the results pages, computed once more from the committed runs.

A comment before a table says where its rows come from: ``<!-- variants: FOLDER -->``, a row per
variant of an experiment; ``<!-- seeds: FOLDER FOLDER ... -->``, a row per run and their mean; or
``<!-- tasks: FOLDER FOLDER ... -->``, the mean of fine-tuning of each variant (rows) on each task,
or another column's value, ``<!-- tasks drawdown: ... -->``.
Nothing of the package is used here: the numbers come from ``metrics.csv`` alone.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("results*.md"))
TABLE = re.compile(r"<!-- (variants|seeds|tasks(?: \w+)?): (.+?) -->\n\n((?:\|.*\n)+)")
RECORD = "experiment.json"
NOT_MEASURED_BY_METRICS = ("minutes", "G", "updates")


def curve_of(folder: Path) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Score after pre-training; steps, scores and α of the evaluations of fine-tuning."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/score"]]
    offline = [float(row["eval/score"]) for row in rows if row["phase"] == "offline"]
    online = [row for row in rows if row["phase"] == "online"]
    names = ("env_steps", "eval/score", "control/alpha")
    columns = [np.array([float(row.get(name) or "nan") for row in online]) for name in names]
    return (offline[-1] if offline else float("nan"), *columns)


def value(folder: Path, name: str) -> float:
    """One run's number of the column ``name``."""
    pretrained, steps, scores, _ = curve_of(folder)
    every = np.append(pretrained, scores)
    if name == "after pre-training":
        return pretrained
    if name == "final":
        return scores[-1]
    if name == "best":
        return scores.max()
    if name == "dip":
        early = scores[steps <= steps[-1] / 5]
        return pretrained - (early if early.size else scores[:1]).min()
    if name == "drawdown":
        return np.nanmax(np.fmax.accumulate(every) - every)
    if name == "swing":
        start = int(np.argmax(every >= 0.8 * np.nanmax(every)))
        return np.abs(np.diff(every[start:])).mean() if start + 1 < every.size else float("nan")
    if name.startswith("mean"):
        return scores.mean()
    if found := re.fullmatch(r"first ([\d,]+) steps", name):
        return scores[steps <= whole(found[1])].mean()
    if found := re.fullmatch(r"last ([\d,]+)", name):
        return scores[steps > steps[-1] - whole(found[1])].mean()
    if re.fullmatch(r"[\d,]+", name):
        return scores[steps == whole(name)].item()
    raise AssertionError(f"no test knows the column {name!r}")


def whole(text: str) -> int:
    return int(text.replace(",", ""))


def shown(values: list[float], error: bool) -> str:
    def number(x: float) -> str:
        return f"{round(x, 1) + 0.0:.1f}".replace("-", "−")

    text = number(float(np.mean(values)))
    if error and len(values) > 1:
        text += f" ± {number(float(np.std(values, ddof=1) / np.sqrt(len(values))))}"
    return text


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


def on_task(folders: list[Path], task: str, label: str) -> list[Path]:
    """Folders of a variant's runs on one task."""
    return [
        run
        for folder in folders
        for run in variants(folder).get(label, [])
        if json.loads((run / "experiment.json").read_text(encoding="utf-8"))["task"] == task
    ]


def variants(folder: Path) -> dict[str, list[Path]]:
    """Folders of the runs of every variant, in the order of the seeds."""
    found: dict[str, list[Path]] = {}
    for record in sorted(folder.rglob("experiment.json")):
        label = json.loads(record.read_text(encoding="utf-8"))["variant"]
        found.setdefault(label, []).append(record.parent)
    return found


TABLES = [
    pytest.param(*found.groups(), id=f"{page.stem}-{number}")
    for page in PAGES
    for number, found in enumerate(TABLE.finditer(page.read_text(encoding="utf-8")))
]


def test_every_table_of_scores_says_where_it_comes_from() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        headings = re.findall(r"^\|.*(?:pre-training|final|best).*\|\n\|[ -]+\|", text, re.M)
        marked = [kind for kind, _, _ in TABLE.findall(text) if not kind.startswith("tasks")]
        assert len(headings) == len(marked), page.name


@pytest.mark.parametrize(("kind", "folders", "table"), TABLES)
def test_a_table_holds_what_its_runs_measured(kind: str, folders: str, table: str) -> None:
    heading, _, *lines = table.splitlines()
    assert lines
    names = cells(heading)[1:]
    runs = [DOCS / folder for folder in folders.split()]
    if kind.startswith("tasks"):
        column = kind.removeprefix("tasks").strip() or "mean"
        for line in lines:
            label, *told = cells(line)
            for task, cell in zip(names, told, strict=True):
                values = [value(run, column) for run in on_task(runs, task, label)]
                values = [known for known in values if not np.isnan(known)]
                assert cell == (shown(values, error=True) if values else ""), (label, task)
        return
    for index, line in enumerate(lines):
        label, *told = cells(line)
        if kind == "variants":
            members = variants(runs[0])[label]
        else:
            members = runs if label == "mean" else [runs[index]] if index < len(runs) else runs
        for name, cell in zip(names, told, strict=True):
            if name in NOT_MEASURED_BY_METRICS or not cell:
                continue
            if name.startswith("α"):
                ends = [f"{curve_of(run)[3][-1]:.2f}" for run in members]
                assert cell == " to ".join(sorted({min(ends), max(ends)})), (label, name)
            elif label.startswith("α"):
                at = [curve_of(run) for run in members]
                mean = np.mean([alpha[steps == whole(name)] for _, steps, _, alpha in at])
                assert cell == f"{mean:.2f}", (label, name)
            else:
                values = [value(run, name) for run in members]
                assert cell == shown(values, kind == "variants"), (label, name)


def test_the_full_protocol_s_pre_training() -> None:
    """What the page says of it in words."""
    with (DOCS / "runs" / "full" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/score"]]
    scores = np.array([float(row["eval/score"]) for row in rows if row["phase"] == "offline"])
    means = [f"{mean:.0f}" for mean in scores.reshape(10, 20).mean(1)]
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert f"are {', '.join(means[:-1])} and {means[-1]}, single ones" in text
    assert f"{scores.min():.0f} to {scores.max():.0f}, and" in " ".join(text.split())
    assert f"{np.abs(np.diff(scores)).mean():.0f} points apart on average" in text
    online = [float(row["eval/score"]) for row in rows if row["phase"] == "online"]
    assert f"here {scores[-1]:.1f}; then {online[0]:.1f} (5,000" in text
    assert f"and {online[1]:.1f} (10,000" in text
    assert f"({min(online[:9]):.1f} at 15,000 steps)" in text
    late = sorted(online[8:])  # from 45,000 steps on
    assert f"every evaluation but one is between\n  {late[1]:.0f} and {late[-1]:.0f}, and" in text
    assert np.median(np.abs(np.diff(online[8:]))) < 1.5
    assert f"are {min(online[25:]):.0f} to {max(online[25:]):.0f}, the best" in text
    assert f"The one fall, to {online[24]:.1f}," in text
    with (DOCS / "runs" / "full" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "online"]
    alphas = [(int(row["env_steps"]), float(row["control/alpha"])) for row in rows]
    first = next(step for step, alpha in alphas if alpha == 0)
    most = max(alpha for step, alpha in alphas if step >= first)
    assert f"α first is 0 at {first:,} steps, is at most {most:.3f} later" in text


def test_how_many_of_steady_s_runs_fell() -> None:
    """What three pages say of the 75 runs, from their ``metrics.csv``."""
    runs = [
        f
        for f in (DOCS / "runs" / "falls").glob("*/steady*/seed*")
        if (f / "metrics.csv").is_file()
    ]
    lost = sorted(fall for f in runs if (fall := value(f, "drawdown")) > 0)
    assert len(runs) == 75
    assert [round(fall, 1) for fall in lost[-4:]] == [4.6, 8.1, 10.9, 16.4]
    assert max(lost[:-4]) < 0.55
    text = (DOCS / "results.md").read_text()
    assert f"In {75 - len(lost)} of Steady's 75 runs no evaluation is below" in text
    assert "In six it is by 0.55 points or less" in text
    assert (len(lost), sum(fall > 0.5 for fall in lost)) == (10, 5)
    said = "ten lost something, five of them more than half a point: 0.5 to 16"
    assert said in " ".join((DOCS / "your_own.md").read_text().split())
    said = "five fell by more than half a point (0.5 to 16)"
    assert said in " ".join((REPOSITORY / "README.md").read_text().split())


def test_the_interquartile_means_over_the_five_data_sets() -> None:
    """The mean of the middle half of all runs, as rliable has it."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    folders = next(where for kind, where, _ in TABLE.findall(text) if kind == "tasks").split()
    scores: dict[str, list[float]] = {}
    for record in sorted(path for each in folders for path in (DOCS / each).rglob(RECORD)):
        run = json.loads(record.read_text(encoding="utf-8"))
        scores.setdefault(run["variant"], []).append(value(record.parent, "mean"))
    said = text.partition("**Over the five data sets**")[2].partition("\n")[0]
    for name, number in {
        "Steady": "38.2", "REDQ+AdaptiveBC": "35.5", "TD3+AdaptiveBC": "34.6",
        "minimum of 10": "34.0", "fixed alpha": "20.2", "IQL": "17.3", "RLPD": "17.3",
    }.items():  # fmt: skip
        assert len(scores[name]) == 15
        assert shown([float(np.mean(sorted(scores[name])[3:-3]))], error=False) == number
        assert number in said
