"""The library of float32 products: exact first, then fast; its speed is kept, and so by a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent import float32
from adabc_lightning.agent.engines.rounding import unit_roundoff
from adabc_lightning.agent.float32 import Choice, choose, chosen, measured
from adabc_lightning.run.schedule import Schedule

CPU = torch.device("cpu")
FASTER, ROUNDED = Choice("medium", 2.4, 1.5), Choice("highest", 3.5, 3000.0)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known yet, and nothing is after it."""
    before = torch.get_float32_matmul_precision()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    measured.cache_clear()
    yield
    measured.cache_clear()
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("speed", "error", "precision"),
    [
        (2.4, 1.5, "medium"),  # exact, and MKL has no fast path
        (3.5, 3000.0, "highest"),  # Intel with AMX: bfloat16
        (1.2, 1.0, "highest"),  # noise
        (0.8, 1.0, "highest"),
        (float("nan"), 1.0, "highest"),
        (2.4, float("nan"), "highest"),
    ],
)
def test_exact_first_then_fast(speed: float, error: float, precision: str) -> None:
    assert chosen(speed, error).precision == precision


def test_what_is_chosen_here_is_exact() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(4, 64, 256), torch.randn(4, 256, 64)
    torch.set_float32_matmul_precision(choose(CPU))
    error = (torch.bmm(a, b) - torch.bmm(a.double(), b.double())).abs().max()
    assert error < 1e-3  # 256 terms near 1 of 24 bits give 3e-5, of 8 bits 0.05


def test_the_speed_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision()
    first = measured()
    assert torch.get_float32_matmul_precision() == before
    (file,) = (tmp_path / "cache" / "adabc_lightning").iterdir()

    def never() -> float:
        raise AssertionError

    monkeypatch.setattr(float32, "_speed", never)
    measured.cache_clear()
    assert measured() == first
    monkeypatch.setattr(float32, "_speed", lambda: 2.0)
    file.write_text("much")
    measured.cache_clear()
    assert measured().speed == 2.0


def test_of_two_runs_that_start_at_once_the_first_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speed_of_the_second() -> float:
        monkeypatch.setattr(float32, "_speed", lambda: 2.0)
        measured.cache_clear()
        assert measured().speed == 2.0  # another process, while this one measures
        return 1.0

    monkeypatch.setattr(float32, "_speed", speed_of_the_second)
    assert float32._kept_speed() == 2.0
    assert len(list((tmp_path / "cache" / "adabc_lightning").iterdir())) == 1


def test_the_error_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONEDNN_MAX_CPU_ISA decides about it, for one."""
    monkeypatch.setattr(float32, "_speed", lambda: 2.0)
    for error, precision in ((3000.0, "highest"), (1.0, "medium")):
        monkeypatch.setattr(float32, "error", lambda error=error: error)
        measured.cache_clear()
        assert choose(CPU) == precision


def test_a_cache_that_cannot_be_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(float32, "_speed", lambda: 2.0)
    assert measured().speed == 2.0


@pytest.mark.parametrize(
    ("here", "before", "precision"),
    [
        (FASTER, None, "medium"),
        (FASTER, "highest", "highest"),
        (FASTER, "high", "highest"),
        (chosen(1.0, 1.0), "medium", "medium"),
        (ROUNDED, "medium", "highest"),  # a run of another machine
        (ROUNDED, None, "highest"),
    ],
)
def test_a_run_keeps_what_it_had_where_that_is_exact(
    here: Choice, before: str | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float32, "measured", lambda: here)
    monkeypatch.setattr(float32, "error", lambda: here.error)
    assert choose(CPU, before) == precision
    assert choose(torch.device("cuda"), before) == "highest"


@pytest.mark.parametrize(("error", "bits"), [(1.0, 25), (3000.0, 9)])
def test_an_engine_is_proved_by_what_is_multiplied(
    error: float, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float32, "error", lambda: error)
    torch.set_float32_matmul_precision("medium")
    assert unit_roundoff(torch.float32, CPU) == 2**-bits
    assert unit_roundoff(torch.float32, torch.device("cuda")) == 2**-9


def test_a_resumed_run_takes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, env = write_log(tmp_path / "log.hdf5", 3, 2), register_toy()
    monkeypatch.setattr(float32, "error", lambda: 1.0)

    def train(folder: str, updates: int, checkpoint: Path | None = None) -> str:
        schedule = Schedule(updates, 0, 1, evaluation_every=2)
        trainer, module, data = tiny_run(tmp_path / folder, env, log, schedule=schedule)
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
        return torch.get_float32_matmul_precision()

    monkeypatch.setattr(float32, "measured", lambda: FASTER)
    assert train("run", 4) == "medium"
    monkeypatch.setattr(float32, "measured", lambda: chosen(1.0, 1.0))
    last = next((tmp_path / "run").rglob("last.ckpt"))
    assert train("run", 6, last) == "medium"
    assert train("other", 6, last) == "highest"  # another run from this one's weights
