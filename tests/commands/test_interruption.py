"""Whole runs whose disk is full, whose folder is taken, whose newest checkpoint is damaged."""

import errno
import os
import resource
import shlex
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny import register_toy, told, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks import folder as folders
from adabc_lightning.run.checkpoint_files import is_whole, newest
from adabc_lightning.run.folder import how_to_go_on
from adabc_lightning.run.lock import FolderLock

RUN = shlex.split(
    "fit --config method/redq_adaptive_bc --data.env_id InvertedPendulum-v5"
    " --schedule.offline_updates 10 --schedule.online_env_steps 10 --schedule.evaluation_every 5"
    " --schedule.updates_per_env_step 1 --schedule.offline_chunk 5 --data.batch_size 8"
    " --data.replay_capacity 30 --data.reference_min 0 --data.reference_max 10"
    " --downsampling.minimum 10 --model.hidden_sizes [8] --model.num_critics 3"
    " --evaluation.episodes 1 --metrics.every 2 --trainer.enable_progress_bar false"
    " --trainer.accelerator cpu"
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of the pendulum."""
    return write_log(tmp_path_factory.mktemp("log") / "log.hdf5", 4, 1)


@pytest.fixture(scope="module")
def uncut(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of the run that nothing befalls, and how often it synced a file or folder."""
    folder, count, fsync = tmp_path_factory.mktemp("uncut") / "run", 0, os.fsync

    def counted(handle: int) -> None:
        nonlocal count
        count += 1
        fsync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted)
        assert fit(folder, log) == 0
    return folder, count


def fit(folder: Path, log: Path, *more: str) -> int:
    words = ["--data.dataset", str(log), "--trainer.default_root_dir", str(folder), *more]
    return main([*RUN, *words])


def assert_same(folder: Path, other: Path) -> None:
    """Final weights, ring and metrics of two runs are equal."""
    a, b = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)
        for path in (folder, other)
    )
    for name, tensor in b["state_dict"].items():
        assert torch.equal(a["state_dict"][name], tensor), name
    assert torch.equal(*(c["ReplayDataModule"]["replay"]["rows"] for c in (a, b)))
    assert (folder / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()


def assert_clean(folder: Path, said: str, reason: str) -> None:
    """One line that says what to do; what is there is whole."""
    (line,) = [line for line in told(said) if "transitions) → " not in line]
    assert line.startswith(f"error: {folder}/")
    assert f" cannot be written: {reason}; " in line
    assert line.endswith(f"on with --trainer.default_root_dir {folder} --ckpt_path last") or (
        line.endswith(f"again with --trainer.default_root_dir {folder} --ckpt_path last")
    )
    assert not list(folder.rglob(".*.tmp"))
    found = newest(folder)
    assert ("the last good checkpoint is " in line) == bool(found)
    assert all(f"{found[0]}; " in line and is_whole(path) for path in found)
    if (folder / "metrics.csv").exists():
        text = (folder / "metrics.csv").read_text()
        assert text.endswith("\n")
        assert len({line.count(",") for line in text.splitlines()}) == 1


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_a_full_disk_is_one_line_and_costs_nothing(
    share: float,
    log: Path,
    uncut: tuple[Path, int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, left, fsync = tmp_path / "run", int(share * uncut[1]), os.fsync

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert fit(folder, log) == 2
    assert_clean(folder, capfd.readouterr().err, "No space left on device")
    monkeypatch.setattr(os, "fsync", fsync)
    assert fit(folder, log, "--ckpt_path", "last") == 0
    assert_same(folder, uncut[0])


def test_a_disk_that_was_full_after_pre_training_leaves_that(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where its end is the first evaluation, there is no other checkpoint yet."""
    folder, more = tmp_path / "run", ("--schedule.evaluation_every", "10")
    assert fit(tmp_path / "whole", log, *more) == 0
    shutil.copytree(tmp_path / "whole", folder)
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        (folder / "checkpoints" / name).unlink()
    assert f"is {folder / 'checkpoints' / 'pretrained.ckpt'}; once it" in how_to_go_on(folder)
    assert fit(folder, log, *more, "--ckpt_path", "last") == 0
    assert_same(folder, tmp_path / "whole")


@contextmanager
def files_of(size: int) -> Iterator[None]:
    """No file may be longer; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_may_not_grow(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first checkpoints fit, the online ones, with their ring, do not."""
    folder = tmp_path / "run"
    first = (uncut[0] / "checkpoints" / "pretrained.ckpt").stat().st_size
    last = (uncut[0] / "checkpoints" / "last.ckpt").stat().st_size
    assert first + 100 < last
    with files_of(first + 100):
        assert fit(folder, log) == 2
    assert_clean(folder, capfd.readouterr().err, "File too large")
    assert (folder / "checkpoints" / "pretrained.ckpt").exists()
    assert fit(folder, log, "--ckpt_path", "last") == 0
    assert_same(folder, uncut[0])


def test_tensorboard_s_files_may_not_grow(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Larger than all others of a run with many rows, they are given up, and nothing else is."""
    folder = tmp_path / "run"
    tensorboard = ["--logging.tensorboard", "true", "--schedule.online_env_steps", "120"]
    size = 3 * (uncut[0] / "checkpoints" / "last.ckpt").stat().st_size // 2
    with files_of(size), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert fit(folder, log, *tensorboard, "--metrics.every", "1") == 0
    printed = capfd.readouterr().err
    lines = [*map(str, (warning.message for warning in said)), *printed.splitlines()]
    # In a row, or at the end: TensorBoard writes in a thread of its own.
    assert sum("TensorBoard" in line and "[Errno 27] File too large" in line for line in lines) == 1
    assert "Traceback" not in printed
    assert all(is_whole(path) for path in (folder / "checkpoints").iterdir())
    assert '"finished": true' in (folder / "summary.json").read_text()


def test_a_damaged_checkpoint_costs_one_interval(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert fit(folder, log) == 0
    before = (folder / "summary.json").read_text()
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1])
    capfd.readouterr()
    assert fit(folder, log, "--ckpt_path", "last") == 0
    said = capfd.readouterr().err
    assert said.count("warning: ") == 1, said
    assert f"warning: {last} is damaged or cut off: going on from " in said
    assert_same(folder, uncut[0])
    assert is_whole(last)
    assert '"finished": true' in before
    assert '"finished": true' in (folder / "summary.json").read_text()


def test_a_second_run_in_a_folder_is_refused(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, more in ((uncut[0], ("--ckpt_path", "last")), (tmp_path / "new", ())):
        capfd.readouterr()
        with FolderLock("a run", "") as lock:
            lock.take(folder)
            before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
            assert fit(folder, log, *more) == 2
            after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        (said,) = told(capfd.readouterr().err)
        assert f"error: a run is at work in {folder} (process {os.getpid()} on " in said
        assert said.endswith("wait for it, or choose another --trainer.default_root_dir")
        assert before == after


def test_killed_before_the_first_checkpoint_it_starts_again(
    log: Path, uncut: tuple[Path, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text((uncut[0] / "config.yaml").read_text())
    (folder / "metrics.csv").write_text("phase,gradient_updates\noffline,2\noff")
    (folder / "summary.json").write_text("{}")
    (folder / "checkpoints" / ".last.ckpt.tmp").write_bytes(b"half")
    assert fit(folder, log, "--ckpt_path", "last") == 0
    assert f"no checkpoint in {folder} yet: starting from the beginning" in capfd.readouterr().err
    assert_same(folder, uncut[0])
    assert not list(folder.rglob(".*.tmp"))


def test_a_kill_at_the_start_of_a_resume_leaves_what_can_be_reported(
    uncut: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here an exception after the folder was cleared; what was evaluated is still told."""
    folder = tmp_path / "run"
    shutil.copytree(uncut[0], folder)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "make_loggers", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"])
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0


def test_what_a_resume_changes_is_said(
    uncut: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uncut[0], folder)
    config = (folder / "config.yaml").read_text()
    go_on = ["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]
    assert main([*go_on, "--alpha.target", "0.5"]) == 2
    said = capsys.readouterr().err
    assert "is finished, and nothing is left to do with alpha.target 0.5 (was 1.05); more" in said
    assert (folder / "config.yaml").read_text() == config
    assert main(go_on) == 0
    said = capsys.readouterr().err
    assert f"warning: the run in {folder} is finished, there is nothing to do\n" in said
    more = ["--schedule.online_env_steps", "12", "--alpha.target", "0.5"]
    assert main([*go_on, *more]) == 0
    said = capsys.readouterr().err
    changed = "schedule.online_env_steps 12 (was 10), alpha.target 0.5 (was 1.05)"
    assert f"warning: the run in {folder} goes on with {changed}\n" in said
    assert "target: 0.5" in (folder / "config.yaml").read_text()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_finished_run_says_in_one_sentence_that_nothing_is_left(
    replicas: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the environment's state cannot be saved, and on other cores than before."""
    folder = tmp_path / "run"
    words = ["--data.env_id", register_toy(), "--data.dataset", "null", "--evaluation.episodes=1"]
    words += ["--schedule.offline_updates", "0", "--model.replicas", str(replicas)]
    assert main([*RUN, *words, "--trainer.default_root_dir", str(folder)]) == 0
    last = folder / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    for each in content.get("replicas", [content]):
        each["agent"]["engine"]["threads"] = 1000
    torch.save(content, last)
    closing = [line for line in capsys.readouterr().out.splitlines() if "report" not in line]
    go_on = ["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]
    assert main(go_on) == 0
    said = capsys.readouterr()
    finished, start = said.err.splitlines()
    assert finished == f"warning: the run in {folder} is finished, there is nothing to do"
    assert start.startswith("no dataset (10 kept and collected transitions) → ")
    assert said.out.splitlines()[: len(closing)] == closing
    with pytest.warns(UserWarning, match="state of AdabcToy-v0 cannot be saved") as caught:
        assert main([*go_on, "--schedule.online_env_steps", "12"]) == 0
    assert "warning: this run had 1000 threads and goes on with" in capsys.readouterr().err
    one = caught[0]
    line = warnings.formatwarning(one.message, one.category, one.filename, one.lineno)
    assert line.startswith("warning: the state of AdabcToy-v0 cannot be saved, so")
    assert line.endswith("starts\n")
