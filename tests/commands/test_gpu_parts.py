"""The table of ``benchmarks/gpu.sh`` shows what is there, and says what is not."""

import json
import runpy
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from release import REPOSITORY


def test_a_run_that_was_cut_has_a_table_of_what_it_measured(tmp_path: Path) -> None:
    table = runpy.run_path(str(REPOSITORY / "benchmarks" / "gpu_parts.py"))["table"]
    updates = {"eager": {"updates_per_s": [200.0, 240.0, 226.0]}, "flops_per_update": 1.0}
    content = {"machine": {"device": "Some Card"}, "updates": updates}
    (tmp_path / "float32.json").write_text(json.dumps(content))
    replicas = {"device": "Some Card", "engine": "cuda_graph", "replicas": {"5": [5991.0]}}
    (tmp_path / "replicas_float32.json").write_text(json.dumps(replicas))
    (tmp_path / "bench.done").write_text("12\n")
    loop = {"online, G = 10": {"env_steps_per_s": 222.2, "outside": 0.44}}
    (tmp_path / "loops_tf32.json").write_text(json.dumps({"loop": loop}))
    folder = tmp_path / "learn" / "replica_1"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("phase,eval/score\noffline,17.24\nonline,\nonline,83.3\n")
    assert table(tmp_path).splitlines() == [
        "device Some Card",
        "",
        "| what | measured |",
        "| --- | --- |",
        "| float32, eager | 226 updates/s |",
        "| TF32, online, G = 10 | 222 env steps/s, 44% not updates |",
        "| float32, R = 5, cuda_graph | 5,991 updates/s in all |",
        "| learning, replica 1: scores | 17.2 → 83.3 |",
        "| bench took | 12 s |",
        "| tests took | not done |",
        "| learn took | not done |",
    ]


def test_the_wheels_that_it_brings_are_all_that_a_bare_machine_lacks() -> None:
    """Every library that the package needs is in the script's list, or in the image of torch."""
    script = (REPOSITORY / "benchmarks" / "gpu.sh").read_text()
    brought = {_plain(name) for name in script.split('MISSING="')[1].split('"')[0].split()}
    there = set(THERE.split())
    missing = {name for name in needed("adabc_lightning") if name not in brought | there}
    assert not missing
    assert not brought & there


THERE = """torch numpy h5py pyyaml tqdm fsspec packaging typing-extensions torchmetrics cloudpickle
    networkx sympy mpmath jinja2 markupsafe filelock setuptools requests aiohttp zipp typer rich
    pillow wandb mujoco-studio"""
"""With PyTorch; and what is for logs and a viewer, which nothing imports there."""


def needed(name: str, seen: set[str] | None = None, extras: tuple[str, ...] = ()) -> set[str]:
    """The names of what a distribution needs, and of what that needs, but for what is there."""
    seen = set() if seen is None else seen
    for text in requires(name) or []:
        requirement = Requirement(text)
        places = [{"extra": extra} for extra in ("", *extras)]
        marker, plain = requirement.marker, _plain(requirement.name)
        if marker is not None and not any(marker.evaluate(place) for place in places):
            continue
        new = plain not in seen
        seen.add(plain)
        if plain not in THERE.split() and (new or requirement.extras):
            with suppress(PackageNotFoundError):
                needed(requirement.name, seen, tuple(requirement.extras))
    return seen


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
