"""Runs whose terminal, pipe or disk of the output goes away; signals that come in pairs."""

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.run import stopping
from adabc_lightning.run.checkpoint_files import is_whole
from adabc_lightning.run.output import Lasting, lasting
from adabc_lightning.run.schedule import Schedule

RUN = shlex.split(
    "fit --config base --data.env_id InvertedPendulum-v5 --data.dataset log.hdf5"
    " --schedule.offline_updates 10 --schedule.online_env_steps 10 --schedule.evaluation_every 5"
    " --schedule.updates_per_env_step 1 --data.batch_size 8 --data.reference_min 0"
    " --data.reference_max 10 --downsampling.minimum 10 --model.hidden_sizes [8]"
    " --evaluation.episodes 1 --trainer.accelerator cpu --trainer.default_root_dir run"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with a log; a run that a signal ends keeps the signals."""
    monkeypatch.chdir(tmp_path)
    write_log(Path("log.hdf5"), 4, 1)
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Gone(io.StringIO):
    """A terminal that is gone once something is written: no more than a signal comes from it."""

    def __init__(self, number: signal.Signals, reason: int) -> None:
        super().__init__()
        self.number, self.reason = number, reason

    def write(self, text: str) -> int:
        if "updates" in text or "env steps" in text:
            os.kill(os.getpid(), self.number)
        raise OSError(self.reason, os.strerror(self.reason))


def assert_finished() -> None:
    assert json.loads(Path("run/summary.json").read_text())["finished"]
    assert Path("run/report.html").exists()
    assert is_whole(Path("run/checkpoints/last.ckpt"))


def test_a_terminal_that_closes_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGHUP)  # ignored below nohup
    monkeypatch.setattr(sys, "stderr", Gone(signal.SIGHUP, errno.EIO))
    assert main(RUN) == 0
    assert_finished()
    assert signal.getsignal(signal.SIGHUP) == before


def test_ctrl_c_that_ends_the_reader_as_well_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone(signal.SIGINT, errno.EPIPE))
    with pytest.raises(SystemExit) as ended:
        main(RUN)
    assert ended.value.code == 128 + signal.SIGINT
    assert is_whole(Path("run/checkpoints/last.ckpt"))


@pytest.mark.parametrize("where", ["> /dev/full 2>&-", ">&- 2> /dev/full", "2>&1 | true"])
def test_a_run_whose_output_goes_nowhere(where: str) -> None:
    """As a user starts it: with Weights & Biases, without an account."""
    line = shlex.join([sys.executable, "-m", "adabc_lightning", *RUN])
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} {where}"],
        env={**own, "HOME": os.getcwd()},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert_finished()
    assert list(Path("run/wandb").glob("offline-run-*/run-*.wandb"))


def test_a_stream_that_fails_leads_nowhere_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with lasting("stdout"):
            print("is lost", flush=True)
            print("is lost as well")
        assert sys.stdout is pipe
        assert os.fstat(writer).st_rdev == os.stat(os.devnull).st_rdev
    assert Lasting(pipe).write("closed") == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full disk")
@pytest.mark.parametrize(
    "line", ["--version", "fit --help", "fit --print_config", "inspect log.hdf5", "bench --help"]
)
def test_an_answer_that_cannot_be_written_is_said_in_one_line(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        try:
            status: Any = main(line.split())
        except SystemExit as ended:
            status = ended.code
        assert sys.stdout is full
    assert status == 2
    said = "error: standard output cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("line", ["--version", "fit --print_config"])
def test_a_reader_that_has_gone_is_said_by_the_status(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    own = os.dup(1)
    try:
        os.dup2(writer, 1)
        with open(writer, "w") as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert main(line.split()) == 128 + signal.SIGPIPE
            os.dup2(1, writer)  # what is left in it goes where the rest went
    finally:
        os.dup2(own, 1)
        os.close(own)
    assert capsys.readouterr().err == ""


class Asks(Callback):
    """Signals the process as often as is said, at one update, and once more when it is stopped."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.numbers = numbers

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if pl_module.gradient_updates == 3:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("seconds", "numbers", "saved"),
    [
        (60.0, (signal.SIGTERM, signal.SIGTERM), True),
        (60.0, (signal.SIGINT, signal.SIGINT, signal.SIGINT), True),
        (60.0, (signal.SIGINT, signal.SIGTERM), True),
        (0.0, (signal.SIGTERM,), True),
        (0.0, (signal.SIGTERM, signal.SIGTERM), False),
    ],
)
def test_a_second_signal_means_now_only_after_a_second(
    seconds: float,
    numbers: tuple[signal.Signals, ...],
    saved: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert stopping.AT_ONCE_SECONDS == 1.0
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", seconds)
    log = write_log(tmp_path / "toy.hdf5", 3, 2)
    schedule = Schedule(6, 0, evaluation_every=6, offline_chunk=1)
    folder = tmp_path / "run"
    parts = tiny_run(folder, register_toy(), log, schedule=schedule, callbacks=[Asks(*numbers)])
    with pytest.raises(SystemExit) as ended:
        parts[0].fit(parts[1], parts[2])
    assert ended.value.code == 128 + numbers[0]
    assert (folder / "checkpoints" / "last.ckpt").exists() == saved
    assert ("saved; go on with" in capsys.readouterr().err) == saved
    if saved and seconds:
        os.kill(os.getpid(), numbers[0])  # a late twin does no harm
