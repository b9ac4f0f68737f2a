"""The table of ``benchmarks/gpu.sh`` shows what is there, and says what is not."""

import json
import runpy
from pathlib import Path

from release import REPOSITORY


def test_a_run_that_was_cut_has_a_table_of_what_it_measured(tmp_path: Path) -> None:
    table = runpy.run_path(str(REPOSITORY / "benchmarks" / "gpu_table.py"))["table"]
    updates = {"eager": {"updates_per_s": [200.0, 240.0, 226.0]}, "flops_per_update": 1.0}
    content = {"machine": {"device": "Some Card"}, "updates": updates}
    (tmp_path / "float32.json").write_text(json.dumps(content))
    replicas = {"device": "Some Card", "engine": "cuda_graph", "replicas": {"5": [5991.0]}}
    (tmp_path / "replicas.json").write_text(json.dumps(replicas))
    (tmp_path / "replicas.done").write_text("12\n")
    folder = tmp_path / "learn" / "replica_1"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("phase,eval/score\noffline,17.24\nonline,\nonline,83.3\n")
    assert table(tmp_path).splitlines() == [
        "device Some Card",
        "",
        "| what | measured |",
        "| --- | --- |",
        "| float32, eager | 226 updates/s |",
        "| R = 5, cuda_graph | 5,991 updates/s in all |",
        "| learning, replica 1: scores | 17.2 → 83.3 |",
        "| tests took | not done |",
        "| bench took | not done |",
        "| replicas took | 12 s |",
        "| learn took | not done |",
    ]
