"""The short version of benchmarks/kill.py: processes that die at chosen moments lose nothing."""

import subprocess
import sys

import torch
from paths import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


def test_killed_anywhere_and_resumed_equals_uncut() -> None:
    moments = "checkpoint,row,hand-over,previous,gradient step,evaluation,summary"
    methods = "balanced_replay,iql,cql,cal_ql,spot,rebrac,rlpd,wsrl"  # each dies once
    words = ["--kills", "8", "--most", "1", "--methods", methods]
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / "kill.py"), *words, "--moments", moments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 kills in 8 runs of 8 methods, " in result.stdout
    assert ", 0 differ; " in result.stdout


def test_the_comparison_finds_differences() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from kill import differences
    finally:
        sys.path.remove(str(BENCHMARKS))
    a = {"x": [torch.zeros(3), 1.0], "y": "text"}
    assert differences(a, {"x": [torch.zeros(3), 1.0], "y": "text"}) == []
    assert differences(a, {"x": [torch.tensor([0, 0, 1e-9]), 1.0], "y": "text"})
    assert differences(a, {"x": [torch.zeros(3), 2.0], "y": "text"})
    assert differences(a, {"x": [torch.zeros(3)], "y": "text"})
    assert differences(a, {"x": [torch.zeros(3), 1.0]})
    assert differences(a, {"x": (torch.zeros(3), 1.0), "y": "text"})
