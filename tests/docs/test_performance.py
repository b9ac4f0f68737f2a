"""The numbers of docs/performance.md that a committed file has are those of the file."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from release import REPOSITORY

PAGE = (REPOSITORY / "docs" / "performance.md").read_text()
RUNS = REPOSITORY / "docs" / "runs" / "gpu"
NAMES = {"float32": "", "tf32": "", "bf16": ", bf16"}


def content(name: str) -> dict[str, Any]:
    path: Path = RUNS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def row(label: str) -> list[str]:
    """The numbers behind a label in the section of the GPU."""
    section = PAGE.split("## On a GPU")[1].split("\n## ")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


@pytest.mark.parametrize(
    "engine", ["compiled_graph", "cuda_graph", "eager", "authors' style", "separate MLPs in a loop"]
)
def test_updates_on_a_gpu(engine: str) -> None:
    label = f"`{engine}`" if "_" in engine or engine == "eager" else engine
    for cell, (name, suffix) in zip(row(label), NAMES.items(), strict=True):
        measured = content(name)["updates"].get(engine + suffix)
        expected = f"{statistics.median(measured['updates_per_s']):,.0f}" if measured else ""
        assert cell == expected


@pytest.mark.parametrize("count", [5, 20])
def test_replicas_on_a_gpu(count: int) -> None:
    cells = row(f"`compiled_graph`, R = {count}, all together")
    for cell, name in zip(cells[:2], NAMES, strict=False):
        rates = content(f"replicas_{name}")["replicas"][str(count)]
        assert cell == f"{statistics.median(rates):,.0f}"


METHODS = {
    "AWAC": "awac",
    "TD3+BC": "td3_bc",
    "IQL": "iql",
    "REDQ+AdaptiveBC": "redq_adaptive_bc",
    "Cal-QL": "cal_ql",
    "CQL": "cql",
    "SPOT": "spot",
    "ReBRAC": "rebrac",
    "RLPD": "rlpd",
    "WSRL": "wsrl",
}


def test_methods_beside_their_products() -> None:
    section = PAGE.split("### Other methods")[1].split("\n### ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == list(METHODS)
    for name, *cells in rows[2:]:
        path = REPOSITORY / "docs" / "runs" / "bench" / f"{METHODS[name]}.json"
        measured = json.loads(path.read_text())["updates"]
        compiled, eager = measured["compiled"], measured["eager"]
        assert cells == [
            f"{measured['flops_per_update'] / 1e9:.3g}",
            f"{statistics.median(compiled['updates_per_s']):.1f}",
            f"{compiled['times_its_products']:.2f}",
            f"{100 * compiled['share_of_peak']:.0f} %",
            f"{statistics.median(eager['updates_per_s']):.1f}",
            f"{eager['times_its_products']:.2f}",
        ]


def test_words_on_a_gpu() -> None:
    rate = statistics.median(content("replicas_tf32")["replicas"]["1"])
    updates = content("float32")["updates"]
    ours, theirs = updates["compiled_graph"], updates["authors' style"]
    pairs = zip(ours["updates_per_s"], theirs["updates_per_s"], strict=True)
    loops = content("loops_float32")["loop"]
    seconds = 1e6 / loops["offline"]["updates_per_s"]
    seconds += 250_000 / loops["online, G = 10"]["env_steps_per_s"]
    for words in (
        f"with R = 1, {rate:,.0f})",
        f"{statistics.median(a / b for a, b in pairs):.0f} × the authors' style",
        f"**{seconds / 60:.1f} minutes**",
    ):
        assert words in " ".join(PAGE.split())


def test_loops_on_a_gpu() -> None:
    labels = {
        "offline": "pre-training, updates/s",
        "online, G = 10": "fine-tuning, G = 10, env steps/s",
        "online, G = 10, 5 agents": "five replicas, G = 10, env steps/s each",
        "online, G = 1": "fine-tuning, G = 1, env steps/s",
        "online, G = 0": "collecting only, G = 0, env steps/s",
    }
    for name, label in labels.items():
        for cell, precision in zip(row(label), NAMES, strict=False):
            values = content(f"loops_{precision}")["loop"][name]
            assert cell == f"{next(iter(values.values())):,.0f}"
