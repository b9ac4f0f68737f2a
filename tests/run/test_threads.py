"""How many threads a run takes, how they wait, and that a run that goes on keeps them."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import write_log

from adabc_lightning.__main__ import main
from adabc_lightning.run import threads
from adabc_lightning.run.threads import Neighbours, Threads, choose, cores, settle, spin_less

RUN = (
    "fit --config base --data.env_id InvertedPendulum-v5 --data.dataset log.hdf5"
    " --schedule.offline_updates 10 --schedule.online_env_steps 0 --schedule.evaluation_every 5"
    " --data.batch_size 8 --data.reference_min 0 --data.reference_max 10 --downsampling.minimum 10"
    " --model.hidden_sizes [8] --evaluation.episodes 1 --trainer.accelerator cpu"
    " --logging.wandb disabled --trainer.default_root_dir run"
)


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a user starts it; afterwards the tests have one thread again."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", *threads._SPIN):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("allowed", "machine", "busy", "count", "why"),
    [
        (2, 2, 0.0, 2, "2 cores"),
        (2, 2, 0.2, 2, "2 cores, 0.2 in use by others"),
        (2, 2, 0.5, 1, "2 cores, 0.5 in use by others"),
        (2, 2, 1.0, 1, "2 cores, 1.0 in use by others"),
        (2, 2, 7.0, 1, "2 cores, 7.0 in use by others"),
        (1, 1, 0.0, 1, "1 core"),
        (16, 16, 3.1, 13, "16 cores, 3.1 in use by others"),
        (4, 64, 50.0, 4, "4 cores, 50.0 in use by others"),  # a container's share
        (4, 64, 62.0, 2, "4 cores, 62.0 in use by others"),
    ],
)
def test_a_thread_for_each_core_that_nobody_uses(
    allowed: int, machine: int, busy: float, count: int, why: str
) -> None:
    assert choose(allowed, machine, busy) == Threads(count, why)
    assert str(Threads(1, "x")) == "1 thread (x)"
    assert str(Threads(2, "x")) == "2 threads (x)"


def test_neighbours_are_what_the_machine_did_without_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = iter([(10.0, 100.0, 5.0), (14.0, 107.0, 8.0)])
    monkeypatch.setattr(threads, "_seconds", lambda: next(seen))
    monkeypatch.setattr(threads.time, "monotonic", lambda: 14.0)
    assert Neighbours().busy() == 1.0  # seven seconds of work in four, three of them our own


def test_neighbours_of_this_machine() -> None:
    assert 0 <= Neighbours().busy() < cores() + 1


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, 4.0),
        ("0::/outside/of/it\n", {"cpu.max": "200000 100000\n"}, 2.0),
        (
            "3:cpu,cpuacct:/a\n2:memory:/b\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpuset:/\n", {"cpu.max": "100000 100000\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_a_container_s_share_of_the_time(
    groups: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    (own := tmp_path / "own").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert threads._quota(tmp_path / "mounted", own) == quota


def test_what_the_user_has_set_about_waiting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> dict[str, str | None]:
        return {name: threads.os.environ.get(name) for name in threads._SPIN}

    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    spin_less()
    assert names() == dict.fromkeys(threads._SPIN)
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("KMP_BLOCKTIME", "")  # so that it is taken back
    monkeypatch.delenv("KMP_BLOCKTIME")
    spin_less()
    assert names() == {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "1"}


def test_what_the_user_has_set_about_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        with monkeypatch.context() as given:
            given.setenv(name, "3")
            assert settle(Neighbours(), had=2) == Threads(3, name)
    assert torch.get_num_threads() == 3
    with monkeypatch.context() as here:
        here.setattr(threads, "cores", lambda: 2)
        assert settle(Neighbours(), had=2) == Threads(2, "as before")
        assert torch.get_num_threads() == 2
        assert settle(Neighbours(), had=64).count <= 2  # of a larger machine
    chosen = settle(Neighbours())
    assert torch.get_num_threads() == chosen.count <= cores()


def test_a_run_that_goes_on_keeps_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(Path("log.hdf5"), 4, 1)
    line = shlex.split(RUN)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "choose", lambda *_: Threads(2, "2 cores"))
    assert main(line) == 0
    assert "on cpu, 2 threads (2 cores); run" in capsys.readouterr().err
    agent = torch.load("run/checkpoints/last.ckpt", weights_only=True)["agent"]
    assert agent["engine"]["threads"] == 2

    monkeypatch.setattr(threads, "choose", lambda *_: Threads(1, "busy"))
    longer = [*line, "--ckpt_path", "last", "--schedule.offline_updates", "15"]
    assert main(longer) == 0
    assert "on cpu, 2 threads (as before); run" in capsys.readouterr().err
    other = [*line[:-1], "other", "--ckpt_path", "run"]  # a run of its own
    assert main([*other, "--schedule.offline_updates", "20"]) == 0
    assert "on cpu, 1 thread (busy); other" in capsys.readouterr().err

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # as that would have made it
    assert main([*longer[:-1], "20"]) == 0
    said = capsys.readouterr().err
    assert "warning: this run had 2 threads and goes on with 1 thread (OMP_NUM_THREADS)" in said
