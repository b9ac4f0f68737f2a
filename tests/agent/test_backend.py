"""The library of float32 products: exact first, then fast; measured once, and kept by a run."""

import json
from pathlib import Path

import pytest
import torch
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent import backend
from adabc_lightning.agent.backend import Choice, choose, chosen, measured
from adabc_lightning.run.processor import fingerprint, processor
from adabc_lightning.run.schedule import Schedule

CPU = torch.device("cpu")
FASTER, ROUNDED = Choice("medium", 2.4, 1.5), Choice("highest", 3.5, 3000.0)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    measured.cache_clear()
    yield
    measured.cache_clear()
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("speed", "error", "precision"),
    [
        (2.4, 1.5, "medium"),  # AMD: 230 for 96 GFLOP/s, 5.6e-5 for 3.7e-5
        (3.5, 3000.0, "highest"),  # Intel with AMX: bfloat16
        (1.05, 1.0, "highest"),  # noise
        (0.8, 1.0, "highest"),
    ],
)
def test_exact_first_then_fast(speed: float, error: float, precision: str) -> None:
    assert chosen(speed, error) == (precision, speed, error)


def test_what_is_chosen_here_is_exact() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(4, 64, 256), torch.randn(4, 256, 64)
    torch.set_float32_matmul_precision(choose(CPU))
    error = (torch.bmm(a, b) - torch.bmm(a.double(), b.double())).abs().max()
    assert error < 1e-3 * 2**-4  # 256 terms near 1 that are rounded to 24 bits; 8 bits give 0.05
    assert torch.get_float32_matmul_precision() in backend.LIBRARIES


def test_measured_once_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cache" / "adabc_lightning" / "products.json"
    before = torch.get_float32_matmul_precision()
    first = measured()
    assert torch.get_float32_matmul_precision() == before
    (key,) = json.loads(file.read_text())
    assert key.startswith(f"{processor()} ({fingerprint()}), {torch.get_num_threads()} threads")

    def never() -> Choice:
        raise AssertionError

    monkeypatch.setattr(backend, "_measure", never)
    measured.cache_clear()
    assert measured() == first
    monkeypatch.setattr(backend, "_measure", lambda: FASTER)
    for broken in ("", "[1]", "{}", json.dumps({key: 1}), json.dumps({key: ["hihg", 1, 1]})):
        file.write_text(broken)
        measured.cache_clear()
        assert measured() == FASTER
        assert json.loads(file.read_text())[key] == list(FASTER)
    other = {"another machine": list(ROUNDED)}
    file.write_text(json.dumps(other))
    measured.cache_clear()
    measured()
    assert json.loads(file.read_text()) == other | {key: list(FASTER)}


def test_a_cache_that_cannot_be_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(backend, "_measure", lambda: FASTER)
    assert measured() == FASTER


@pytest.mark.parametrize(
    ("here", "before", "precision"),
    [
        (FASTER, None, "medium"),
        (FASTER, "highest", "highest"),
        (chosen(1.0, 1.0), "medium", "medium"),
        (ROUNDED, "medium", "highest"),  # a run of another machine
        (ROUNDED, None, "highest"),
    ],
)
def test_a_run_keeps_what_it_had_where_that_is_exact(
    here: Choice, before: str | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "measured", lambda: here)
    assert choose(CPU, before) == precision
    assert choose(torch.device("cuda"), before) == "highest"


def test_a_resumed_run_takes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, schedule = write_log(tmp_path / "log.hdf5", 3, 2), Schedule(4, 0, 1, evaluation_every=2)
    env = register_toy()
    monkeypatch.setattr(backend, "measured", lambda: FASTER)

    def train(folder: str, updates: int, checkpoint: Path | None = None) -> str:
        schedule = Schedule(updates, 0, 1, evaluation_every=2)
        trainer, module, data = tiny_run(tmp_path / folder, env, log, schedule=schedule)
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
        return torch.get_float32_matmul_precision()

    assert train("run", schedule.offline_updates) == "medium"
    monkeypatch.setattr(backend, "measured", lambda: chosen(1.0, 1.0))
    last = next((tmp_path / "run").rglob("last.ckpt"))
    assert train("run", 6, last) == "medium"
    assert train("other", 6, last) == "highest"  # another run from this one's weights
