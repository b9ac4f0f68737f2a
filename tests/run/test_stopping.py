"""Signals where nothing else listens: while libraries are imported, before the first update."""

import importlib
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from test_interruption import RUN
from tiny import write_log

from adabc_lightning import __main__
from adabc_lightning.callbacks import Metrics
from adabc_lightning.commands import fit
from adabc_lightning.run import stopping
from adabc_lightning.run.allowed import VARIABLE
from adabc_lightning.run.stopping import SIGNALS, Stop


def test_before_there_is_a_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        __main__, "resolve", lambda *given: os.kill(os.getpid(), signal.SIGINT) or ([], [])
    )
    before = signal.default_int_handler  # which a process behind `&` has not
    signal.signal(signal.SIGINT, before)
    with pytest.raises(SystemExit) as stopped:
        __main__.main(["fit", "--config", "hopper"])
    assert stopped.value.code == 130
    assert capfd.readouterr().err == "stopped by SIGINT\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("begun", [False, True])
def test_before_the_first_update(
    begun: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, log = tmp_path / "my run", write_log(tmp_path / "log.hdf5", 4, 1)
    words = ["--data.dataset", str(log), "--trainer.default_root_dir", str(folder)]
    source = "from lightning.pytorch.callbacks import Callback\nclass Mine(Callback): ...\n"
    (tmp_path / "mine_to_stop.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "theirs")
    words += ["--trainer.callbacks+=mine_to_stop.Mine", "--allow=mine_to_stop"]
    with monkeypatch.context() as patch:
        signalled = lambda *given: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        if begun:
            patch.setattr(Metrics, "on_train_start", signalled)
        else:
            patch.setattr(fit, "start", signalled)
        with pytest.raises(SystemExit) as stopped:
            __main__.main([*RUN, *words])
    assert stopped.value.code == 143
    said = capfd.readouterr().err.splitlines()[-1]
    if begun:
        go_on = f"--trainer.default_root_dir '{folder}' --ckpt_path last --allow mine_to_stop"
        assert said == f"stopped by SIGTERM, nothing to save yet; go on with {go_on}"
        monkeypatch.setenv(VARIABLE, "theirs")  # typed in a terminal, where nothing else is allowed
        assert __main__.main(["fit", *shlex.split(go_on)]) == 0
    else:
        assert said == "stopped by SIGTERM, nothing to save yet; the same command starts anew"
        assert __main__.main([*RUN, *words]) == 0
    assert (folder / "summary.json").is_file()


def test_the_twin_of_a_signal_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Supervisors signal a process, then its group: the run that was saved has ended by then.

    In a notebook what comes later is for the notebook.
    """
    folder, log = tmp_path / "run", write_log(tmp_path / "log.hdf5", 4, 1)
    words = ["--data.dataset", str(log), "--trainer.default_root_dir", str(folder)]
    before = signal.default_int_handler  # which a process behind `&` has not
    signal.signal(signal.SIGINT, before)
    with monkeypatch.context() as patch:
        patch.setattr(
            Metrics, "on_train_batch_end", lambda *given: os.kill(os.getpid(), signal.SIGTERM)
        )
        with pytest.raises(SystemExit) as stopped:
            __main__.main([*RUN, *words])
    assert stopped.value.code == 143
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("stopped by") == 1


def test_whoever_catches_a_run_s_end_has_the_signals_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook a later Ctrl-C is not for a run that is over."""
    before = signal.default_int_handler  # which a process behind `&` has not
    signal.signal(signal.SIGINT, before)
    stop = Stop()
    stop.listen()
    signal.raise_signal(signal.SIGINT)
    assert stop.asked == signal.SIGINT
    with pytest.raises(SystemExit):
        stop.end(stop.asked)
    signal.raise_signal(signal.SIGINT)  # a late twin
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    stop.listen()  # the same callback in another run
    assert stop.asked is None
    stop.release()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is not stop._heard


def test_runs_that_are_over_do_not_pass_a_signal_round_and_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning puts back what it found, which may be the handler of a run that has ended."""
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 0.0)
    one, other = Stop(), Stop()
    for stop in (one, other, one):  # each finds the other's
        stop.listen()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit):
            stop.end(signal.SIGINT)
    for handler in (one._heard, other._heard):
        signal.signal(signal.SIGINT, handler)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_within_an_import_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Many modules catch whatever comes up while they try an optional import."""
    (tmp_path / "signalled_at_import.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "except BaseException:\n"
        "    raise SystemExit('it came within the import')\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        with stopping.stopping(lambda: ", as asked"):
            assert importlib.import_module("signalled_at_import").whole
            time.sleep(60)  # which the signal ends

    start = time.monotonic()
    with pytest.raises(stopping.Stopped) as stopped:
        work()
    assert time.monotonic() - start < 30
    assert stopped.value.code == 143
    assert capfd.readouterr().err == "stopped by SIGTERM, as asked\n"


def test_a_second_signal_ends_an_import_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And who is imported itself can be stopped."""
    (tmp_path / "hangs_at_import.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(0.3)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "launches_at_import.py").write_text(
        "import os, signal\n"
        "from adabc_lightning.run.stopping import stopping\n"
        "with stopping():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    raise AssertionError('it was not stopped')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 0.2)

    def work(name: str) -> None:
        with stopping.stopping():
            importlib.import_module(name)

    for name in ("hangs_at_import", "launches_at_import"):
        with pytest.raises(stopping.Stopped) as stopped:
            work(name)
        assert stopped.value.code == 130
        assert capfd.readouterr().err == "stopped by SIGINT\n"


def test_what_slurm_sends_saves_and_does_not_requeue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NAME", "adabc")
    monkeypatch.setenv("SLURM_NODEID", "0")
    folder, log = tmp_path / "run", write_log(tmp_path / "log.hdf5", 4, 1)
    words = ["--data.dataset", str(log), "--trainer.default_root_dir", str(folder)]
    with monkeypatch.context() as patch:
        signalled = lambda *given: os.kill(os.getpid(), signal.SIGUSR1)  # noqa: E731
        patch.setattr(Metrics, "on_train_batch_end", signalled)
        with pytest.raises(SystemExit) as stopped:
            __main__.main([*RUN, *words])
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1, saved; go on with" in capfd.readouterr().err
    assert not list(folder.glob("**/hpc_ckpt*"))  # Lightning's
    assert __main__.main([*RUN, *words, "--ckpt_path", "last"]) == 0
