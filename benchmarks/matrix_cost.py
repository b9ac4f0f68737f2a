"""What the paper's whole matrix would take: 16 tasks × ten methods × five seeds, by a cost model.

An update takes a + FLOP / b; both are fitted to the measurements of ``bench grow``. Its matrix
products are counted from the configs as ``fit`` resolves them. Pre-trainings that methods have in
common are made once. ``python benchmarks/matrix_cost.py docs/growth.json``
"""

import argparse
import csv
import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adabc_lightning.run.config_files import merged, resolve

SEEDS = 5
SIZES = {  # observation and action sizes of the environments
    "hopper": (11, 3),
    "halfcheetah": (17, 6),
    "walker2d": (17, 6),
    "pen": (45, 24),
    "hammer": (46, 26),
    "door": (39, 28),
    "relocate": (39, 30),
}
DATASETS = ("random", "medium", "medium-replay", "medium-expert")
TASKS = [f"{name}-{data}" for name in ("hopper", "halfcheetah", "walker2d") for data in DATASETS]
TASKS += [f"{name}-expert" for name in ("pen", "hammer", "door", "relocate")]


class Cost(NamedTuple):
    """Of one run."""

    pretraining: str
    """What it starts from, the same text for the same pre-training; empty for none."""
    offline: tuple[int, float]
    """Updates and seconds."""
    online: tuple[int, float]
    """Updates and seconds."""


def flop(sizes: tuple[int, int], model: dict[str, Any], batch: int) -> float:
    """Floating-point operations of an update's matrix products, mean over the policy delay."""
    hidden = model["hidden_sizes"]
    actor_hidden = model.get("actor_hidden_sizes") or hidden
    n, m, delay = model["num_critics"], model["subset_size"], model["policy_delay"]

    def products(widths: list[int]) -> int:
        return sum(a * b for a, b in pairwise(widths))

    observation, action = sizes
    critic = products([observation + action, *hidden, 1])
    actor = products([observation, *actor_hidden, action])
    first = (observation + action) * hidden[0]
    critics = n * (6 * critic - 2 * first) + 2 * m * critic + 2 * actor
    policy = 6 * actor - 2 * observation * actor_hidden[0] + n * 4 * critic
    return float(batch * (critics + policy / delay))


def fit(growth: dict[str, dict[str, list[float]]]) -> tuple[float, float, float]:
    """Seconds per update, seconds per FLOP, and the largest relative error of the fit.

    Args:
        growth: of ``bench grow``: axis → value → milliseconds.
    """
    base: dict[str, Any] = {"num_critics": 10, "subset_size": 2, "policy_delay": 2}
    counts, seconds = [], []
    for axis in ("num_critics", "batch_size", "hidden"):
        for value, each in growth[axis].items():
            model = base | {"hidden_sizes": [256, 256]}
            if axis == "hidden":
                model["hidden_sizes"] = [int(value)] * 2
            elif axis == "num_critics":
                model["num_critics"] = int(value)
            batch = int(value) if axis == "batch_size" else 256
            counts.append(flop(SIZES["hopper"], model, batch))
            seconds.append(statistics.median(each) / 1000)
    # Relative errors count: a small update is as often made as a large one.
    design = np.stack([np.ones(len(counts)), np.array(counts)], 1) / np.array(seconds)[:, None]
    (a, b), *_ = np.linalg.lstsq(design, np.ones(len(counts)), rcond=None)
    errors = [abs((a + b * count) / took - 1) for count, took in zip(counts, seconds, strict=True)]
    return float(a), float(b), max(errors)


def cost(task: str, method: str, a: float, b: float, options: argparse.Namespace) -> Cost:
    """Of a run by the paper's protocol, evaluations included."""
    names = ["--config", task, "--config", f"method/{method}"]
    config = merged(resolve("fit", names)[0], {})
    schedule, model, data = config["schedule"], config["model"], config["data"]
    update = a + b * flop(SIZES[task.split("-")[0]], model, data["batch_size"])
    offline, steps = schedule["offline_updates"], schedule["online_env_steps"]
    online = steps * schedule["updates_per_env_step"]
    evaluation = config["evaluation"]["episodes"] * 1000 * options.evaluation_ms / 1000
    each = schedule["evaluation_every"]
    shared = {"model": model, "batch": data["batch_size"], "task": task}
    return Cost(
        json.dumps(shared, sort_keys=True) if offline else "",
        (offline, offline * update + offline / each * evaluation),
        (online, online * update + steps * options.env_ms / 1000 + steps / each * evaluation),
    )


def evaluation_ms(runs: list[Path]) -> float:
    """Milliseconds of an evaluation's step, mean over finished runs with 10 episodes side by side.

    Args:
        runs: folders with ``summary.json`` and ``metrics.csv``.
    """
    each = []
    for run in runs:
        with open(run / "metrics.csv", newline="") as file:
            lengths = [row["eval/episode_length"] for row in csv.DictReader(file)]
        steps = 10 * sum(float(length) for length in lengths if length)
        seconds = json.loads((run / "summary.json").read_text())["seconds"]["evaluation"]
        each.append(1000 * seconds / steps)
    return statistics.mean(each)


def main() -> None:
    """Prints the fit and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("growth", type=Path, help="what bench grow --json wrote")
    parser.add_argument("--env-ms", type=float, default=0.9, help="a loop's step without updates")
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=[Path(f"docs/runs/demo{seed}") for seed in range(3)],
        help="whose evaluations say what a step of one takes",
    )
    parser.add_argument("--update-ms", type=float, help="of every update, instead of the fit")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()
    options.evaluation_ms = evaluation_ms(options.runs)
    print(f"a step of an evaluation: {options.evaluation_ms:.2f} ms")
    a, b, error = fit(json.loads(options.growth.read_text())["grow"]["milliseconds"])
    if options.update_ms is None:
        print(f"an update: {1000 * a:.2f} ms + FLOP / {1e-9 / b:.0f} GFLOP/s, within {error:.0%}")
    else:
        a, b = options.update_ms / 1000, 0.0
    methods = sorted(path.stem for path in Path("configs/method").glob("*.yaml"))
    runs = [cost(task, method, a, b, options) for task in TASKS for method in methods]
    pretrainings = {run.pretraining: run.offline for run in runs if run.pretraining}
    parts = [*pretrainings.values(), *(run.online for run in runs)]
    updates = SEEDS * sum(count for count, _ in parts)
    hours = SEEDS * sum(seconds for _, seconds in parts) / 3600
    longest = max(run.offline[1] + run.online[1] for run in runs) / 3600
    print(
        f"{SEEDS * len(runs)} runs on {SEEDS * len(pretrainings)} pre-trainings, {updates:.3g} "
        f"updates: {hours:,.0f} hours of one device, the longest run {longest:.1f} hours"
    )
    for count in options.devices:
        print(f"{count:>4} devices: at least {max(hours / count, longest) / 24:,.1f} days")


if __name__ == "__main__":
    main()
