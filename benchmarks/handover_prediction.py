"""Do the hand-over diagnostics foretell a collapse? Correlations over finished runs, and a figure.

python benchmarks/handover_prediction.py runs/small runs/fig3 [--figure diagnostics.svg]

Run it where the runs were started: their configs name checkpoints and datasets. It reads what
``experiment`` leaves behind, runs that were made before the diagnostics included:

* at the hand-over: the diagnostics of the pre-trained checkpoint, on the rows that the run keeps;
* at each evaluation: the Q gap and the action distance of the updates just before it, which
  metrics.csv has had all along (q/policy − q/mean, √ loss/behavior_cloning).

A run counts as collapsed when its dip is over 0.3 of its score after pre-training.
"""

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from adabc_lightning.agent.methods import AWAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks.downsampling import Downsampling
from adabc_lightning.callbacks.handover import measure
from adabc_lightning.data.datasets import OfflineDataset, load_dataset
from adabc_lightning.env.make import evaluate, make_env
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run.seeding import stream_seed, torch_generator

ROWS, EPISODES = 1024, 5
COLLAPSE = 0.3
OUTCOMES = ("dip", "mean")


@cache
def dataset(name: str, steps: int | None) -> OfflineDataset:
    return load_dataset(name, max_episode_steps=steps)


@cache
def agent(checkpoint: Path, seed: int) -> tuple[OffToOnModule, torch.Tensor]:
    """A pre-trained agent and states that its policy visits."""
    config = yaml.safe_load((checkpoint.parent.parent / "config.yaml").read_text())
    env_id, model = config["data"]["env_id"], config["model"]
    envs = [make_env(env_id) for _ in range(EPISODES)]
    names = "num_critics", "subset_size", "hidden_sizes", "actor_hidden_sizes"
    module = OffToOnModule(
        EnvironmentSpec.of(envs[0], env_id),
        **{name: model[name] for name in names},
        method=AWAC() if model["method"] else None,
    )
    module.load_state_dict(read_run(checkpoint)["state_dict"])
    visited: list[np.ndarray] = []

    def act(observation: np.ndarray) -> np.ndarray:
        visited.append(observation)
        return module.act(observation)

    evaluate(act, envs, EPISODES, stream_seed(seed, "evaluation") % 2**31)
    states = np.concatenate(visited).astype(np.float32)
    index = np.linspace(0, len(states) - 1, min(ROWS, len(states))).astype(int)
    return module, torch.from_numpy(states[index])


def at_hand_over(config: dict[str, Any]) -> dict[str, float]:
    seed, checkpoint = config["seed_everything"], Path(config["ckpt_path"])
    module, visited = agent(checkpoint, seed)
    data = dataset(config["data"]["dataset"], module.spec.max_episode_steps)
    kept = torch.arange(len(data.rows))
    if not config["trainer"].get("callbacks"):  # Balanced Replay keeps everything
        kept = Downsampling(**config["downsampling"]).select(
            data, torch_generator(seed, "hand-over")
        )
    index = torch.randint(len(kept), (ROWS,), generator=torch_generator(seed, "diagnostics"))
    values = measure(module, data.layout.unpack(data.rows[kept[index]]), visited)
    start = config["alpha"]["initial"]
    alpha = config["alpha"]["ceiling"] if start is None else start
    return {name.removeprefix("diagnostics/"): value for name, value in values.items()} | {
        "alpha": alpha
    }


def evaluations(metrics: pd.DataFrame, before: dict[str, float]) -> pd.DataFrame:
    """Score, Q gap, action distance and its ratio to the smallest one before, per evaluation."""
    online = metrics[metrics.env_steps > 0]
    updates = online.dropna(subset=["q/policy", "q/mean"])
    points, smallest = [], before["action_distance"]
    for _, point in online.dropna(subset=["eval/score"]).iterrows():
        newest = updates[updates.env_steps <= point.env_steps].iloc[-1]
        distance = np.sqrt(newest["loss/behavior_cloning"])
        gap = newest["q/policy"] - newest["q/mean"]
        points.append((point["eval/score"], gap, distance, distance / smallest))
        smallest = min(smallest, distance)
    return pd.DataFrame(points, columns=["score", "q_gap", "action_distance", "ratio"])


def read(folders: list[Path]) -> tuple[pd.DataFrame, list[tuple[float, pd.DataFrame]]]:
    """A row per run; and per run the score before and its evaluations."""
    rows, courses = [], []
    for path in sorted(
        path for folder in folders for path in folder.glob("*/*/seed*/summary.json")
    ):
        summary = json.loads(path.read_text())
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        if not summary["finished"] or config["ckpt_path"] is None:  # REDQ from scratch
            continue
        before, score = at_hand_over(config), summary["score"]
        course = evaluations(pd.read_csv(path.parent / "metrics.csv"), before)
        first = {f"first_{name}": value for name, value in course.iloc[0].items()}
        rows.append(
            {
                "task": path.parts[-4],
                "variant": path.parts[-3],
                "awac": config["model"]["method"] is not None,
                "dip": score["dip"] / score["pretrained"],
                "mean": score["online_mean"] / score["pretrained"],
                **before,
                **first,
            }
        )
        courses.append((score["pretrained"], course))
    return pd.DataFrame(rows), courses


def auc(values: pd.Series, positive: pd.Series) -> float:
    """Probability that a collapsed run has the larger value."""
    yes, no = values[positive].to_numpy()[:, None], values[~positive].to_numpy()[None]
    return float(((yes > no) + 0.5 * (yes == no)).mean())


def late(runs: pd.DataFrame, courses: list[tuple[float, pd.DataFrame]], ratio: float) -> str:
    """Lasting falls after the first evaluation, and how many had a warning at an earlier one.

    A lasting fall is below half the best score so far, as are the next three evaluations.
    """
    falls: list[tuple[str, bool]] = []
    for variant, (pretrained, course) in zip(runs.variant, courses, strict=True):
        scores = [pretrained, *course.score]
        half = np.maximum.accumulate(scores) / 2
        for k in range(2, len(scores)):
            if max(scores[k : k + 4]) < half[k]:
                falls.append((variant, bool((course.ratio[: k - 1] > ratio).any())))
                break
    counts = pd.DataFrame(falls, columns=["variant", "warned"]).groupby("variant").warned
    return (
        f"{sum(w for _, w in falls)} of {len(falls)} lasting falls\n{counts.agg(['sum', 'size'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--ratio", type=float, default=1.1)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    runs, courses = read(options.folders)
    collapsed = runs.dip > COLLAPSE
    print(f"{len(runs)} runs, {collapsed.sum()} collapsed")
    names = [n for n in runs if n not in ("task", "variant", "awac", *OUTCOMES, "first_score")]
    most = runs.task.mode()[0]
    groups = {"all": runs, most: runs[runs.task == most], "α > 0": runs[runs.alpha > 0]}
    table = pd.DataFrame(
        {
            (group, outcome): part[names].corrwith(part[outcome], method="spearman")
            for group, part in groups.items()
            for outcome in OUTCOMES
        }
    )
    table["AUC"] = [auc(runs[name], collapsed) for name in names]
    print(table.round(2).to_string())
    for text, rule in (
        ("α = 0 at the hand-over, TD3BC", (runs.alpha == 0) & ~runs.awac),
        (
            f"distance ratio > {options.ratio:g} at the first evaluation",
            runs.first_ratio > options.ratio,
        ),
        ("either", ((runs.alpha == 0) & ~runs.awac) | (runs.first_ratio > options.ratio)),
    ):
        right, wrong = (rule & collapsed).sum(), (rule & ~collapsed).sum()
        missed = (~rule & collapsed).sum()
        print(f"{text}: {right} collapses foretold, {missed} missed, {wrong} false alarms")
        print("   false:", runs[rule & ~collapsed].groupby(["task", "variant"]).size().to_dict())
    print(f"warned before: {late(runs, courses, options.ratio)}")
    if options.figure:
        draw(runs, options.ratio, options.figure)


def draw(runs: pd.DataFrame, ratio: float, target: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "adabc"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(7.2, 2.9), sharey=True, layout="constrained")
    kinds = {
        "α > 0": (runs.alpha > 0, "o", "#0072b2"),
        "α = 0": ((runs.alpha == 0) & ~runs.awac, "x", "#d55e00"),
        "AWAC": (runs.awac, "^", "#555555"),
    }
    shown = {"action_distance": "at the hand-over: action distance",
             "first_ratio": "at the first evaluation: its ratio"}  # fmt: skip
    for panel, (name, title) in zip(panels, shown.items(), strict=True):
        for label, (which, marker, color) in kinds.items():
            part = runs[which]
            panel.scatter(
                part[name], part.dip.clip(-1.5), 18, color, marker, label=label, alpha=0.7
            )
        panel.axhline(COLLAPSE, color="#999999", linewidth=0.8, linestyle=":")
        panel.set_xlabel(title)
    panels[1].axvline(ratio, color="#999999", linewidth=0.8, linestyle="--")
    panels[0].set_ylabel("dip / score after pre-training")
    panels[1].legend(frameon=False, fontsize=8)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
