"""The short version of benchmarks/kill.py: processes that die at chosen moments lose nothing."""

import subprocess
import sys

import torch
from paths import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


def test_killed_anywhere_and_resumed_equals_uncut() -> None:
    moments = "checkpoint,row,hand-over,previous,evaluation,summary"
    words = ["--kills", "6", "--most", "1", "--methods", "balanced_replay,awac"]
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / "kill.py"), *words, "--moments", moments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 kills in 6 runs of 2 methods, " in result.stdout
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
