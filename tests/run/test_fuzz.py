"""``make fuzz`` itself: it starts, and a few of its seeds on the keys below ``data``."""

import io
import random
import subprocess
import sys
from pathlib import Path

import fuzz_targets
import pytest
from paths import REPOSITORY


def test_it_starts_outside_of_pytest() -> None:
    script = [sys.executable, "-c", "import sys; sys.path[0] = 'tests'; import fuzz"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")


def test_random_keys_end_well_or_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = fuzz_targets.prepare_data(tmp_path)
    for seed in range(8):
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.StringIO())
        fuzz_targets.data(random.Random(seed), tmp_path, prepared)
