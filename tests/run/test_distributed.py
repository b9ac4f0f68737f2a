"""Runs on two devices: the same weights everywhere, the same run again, and one end for all."""

import copy
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from paths import REPOSITORY
from test_resume import assert_equal
from tiny import register_toy, tiny_run, told, write_log
from torch import Tensor

from adabc_lightning.__main__ import main
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import (
    AWAC,
    CQL,
    IQL,
    RLPD,
    SAC,
    SPOT,
    TD3BC,
    WSRL,
    CalQL,
    ReBRAC,
)
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import tensors
from adabc_lightning.callbacks import BalancedReplay
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.restoring import merged
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import Exchange
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import check_run
from adabc_lightning.run.ranks import Ranks, digest, follows
from adabc_lightning.run.schedule import Schedule

TESTS = REPOSITORY / "tests"
RUN = shlex.split(
    "fit --config method/steady --seed_everything 1"
    " --data.env_id InvertedPendulum-v5 --schedule.offline_updates 10 --data.batch_size 8"
    " --schedule.online_env_steps 40 --schedule.updates_per_env_step 2 --schedule.offline_chunk 5"
    " --schedule.evaluation_every 10 --data.replay_capacity 60 --data.reference_min 0"
    " --data.reference_max 10 --data.normalize_observations true"
    " --downsampling.minimum 10 --downsampling.keep 0.45 --alpha.kp 0.001"
    " --model.hidden_sizes [8] --model.num_critics 3 --evaluation.episodes 3 --metrics.every 4"
    " --trainer.accelerator cpu --trainer.enable_progress_bar false"
)
PROBE = ["--allow", "ranks_probe", "--trainer.callbacks+=ranks_probe.Probe"]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def environment() -> dict[str, str]:
    """One thread per process, the tests' own modules, and a fresh place for the ranks to meet."""
    kept = {name: value for name, value in os.environ.items() if name != "MASTER_PORT"}
    return {**kept, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}


def start(log: Path, folder: Path, *more: str, launcher: Sequence[str] = ()) -> subprocess.Popen:
    words = ["-m", "adabc_lightning", *RUN, "--data.dataset", str(log)]
    words += ["--trainer.default_root_dir", str(folder), *more]
    begin = launcher or [sys.executable]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*begin, *words], env=environment(), **pipes)  # type: ignore[call-overload]


def finished(process: subprocess.Popen) -> str:
    """What a run said on stderr, which must have gone well."""
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return said


def children(process: subprocess.Popen) -> list[int]:
    """Processes that run the command as further ranks."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = []
    for pid in map(int, path.read_text().split()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"fit" in words:
            found.append(pid)
    return found


def wait_for(condition: Callable[[], Any], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def load(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    content = torch.load(folder / "checkpoints" / name, weights_only=True)
    for state in content["callbacks"].values():
        for key in ("seconds", "evaluation_seconds", "commands", "revisions"):
            state.pop(key, None)  # clock time and the command line differ, and what it allows
    content.pop("loops")
    return content


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log.hdf5", 4, 1)


@pytest.fixture(scope="module")
def uncut(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run on two devices that nothing befalls, and what it said."""
    folder = tmp_path_factory.mktemp("uncut") / "run"
    return folder, finished(start(log, folder, *TWO, *PROBE))


def test_the_ranks_have_the_same_weights_and_rows_of_their_own(
    uncut: tuple[Path, str], log: Path
) -> None:
    folder, said = uncut
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["threads"] == second["threads"] == "OffToOnModule"  # no wrapper around it
    assert_equal(first["weights"], second["weights"])
    assert_equal(first["adams"], second["adams"])
    rows = load_dataset(str(log)).rows
    alone = Normalization.of_rows(rows[:, :4])  # as one process has them, to the bit
    assert_equal(tuple(first["weights"][f"actor.observation_{n}"] for n in ("mean", "scale")),
                 tuple(alone))  # fmt: skip
    assert not torch.equal(first["rows"], second["rows"])
    (line,) = told(said)  # the other rank says nothing
    assert line.startswith(f"{folder.parent.parent}") or "InvertedPendulum-v5, on cpu × 2" in line
    saved = load(folder)
    assert saved["callbacks"]["Trials"]["promotions"] > 0  # as one: incumbents are weights, too
    assert saved["agent"]["gradient_updates"] == 10 + 40 * 2
    data = saved["ReplayDataModule"]
    parts = [data, *data["ranks"]]
    assert [part["collector"]["env_steps"] for part in parts] == [40, 40]
    # 54 rows are kept and 20 steps made on each rank: 27 + 20 in a ring of 30.
    assert [len(part["replay"]["rows"]) for part in parts] == [30, 30]
    assert [part["replay"]["writer"]["_write_count"] for part in parts] == [47, 47]
    assert_equal(parts[1]["replay"]["rows"], second["rows"])
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("online,90,40,")


def test_a_killed_rank_zero_is_said_by_the_next(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(log, folder, *TWO)
    last = folder / "checkpoints" / "last.ckpt"
    wait_for(lambda: last.exists() and len(children(process)) == 1, process)
    process.kill()
    _, said = process.communicate(timeout=60)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: rank 0 (process {process.pid} on ")
    assert line.endswith(f"go on with --trainer.default_root_dir {folder} --ckpt_path last")


def test_killed_rank_ends_all_and_the_run_goes_on_exactly(
    uncut: tuple[Path, str], log: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(log, folder, *TWO)
    best = folder / "checkpoints" / "best.ckpt"
    wait_for(lambda: best.exists() and len(children(process)) == 1, process)
    (child,) = children(process)
    began = time.monotonic()
    os.kill(child, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 1, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: rank 1 (process {child} on ")
    assert "ended without a word, killed or out of memory; every rank has stopped; " in line
    assert line.endswith(f"--trainer.default_root_dir {folder} --ckpt_path last")
    assert "Traceback" not in said
    finished(start(log, folder, *TWO, "--ckpt_path", "last"))
    assert_equal(load(folder), load(uncut[0]))
    assert (folder / "metrics.csv").read_text() == (uncut[0] / "metrics.csv").read_text()


def test_two_machines_through_torchrun_equal_two_devices(
    uncut: tuple[Path, str], log: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    torchrun += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    nodes = [
        start(
            log,
            folder,
            *("--trainer.num_nodes", "2"),
            launcher=[*torchrun, "--node-rank", str(rank)],
        )
        for rank in (0, 1)
    ]
    for node in nodes:
        finished(node)
    assert_equal(load(folder), load(uncut[0]))
    assert (folder / "metrics.csv").read_text() == (uncut[0] / "metrics.csv").read_text()


def test_an_error_in_one_rank_is_one_line_and_the_end_of_all(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stuck = ["--allow", "ranks_probe", "--data.env_id", "ranks_probe:Stuck-v0"]
    process = start(log, folder, *TWO, *stuck, "--schedule.online_env_steps", "400")
    _, said = process.communicate(timeout=180)
    assert process.returncode == 2, said
    started, error = told(said)
    assert "ranks_probe:Stuck-v0, on cpu × 2" in started
    assert error.startswith("error: rank 1: environment 'Stuck-v0' raised ValueError: the arm is ")
    assert "stuck in step 3 of an episode" in error
    assert "; every rank has stopped; the last good checkpoint is " in error


def test_another_number_of_devices_goes_on_inexactly(
    uncut: tuple[Path, str], log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    last = uncut[0] / "checkpoints" / "last.ckpt"
    folder = tmp_path / "one"
    words = [*RUN, "--data.dataset", str(log), "--schedule.online_env_steps", "60"]
    words += ["--ckpt_path", str(last), "--trainer.default_root_dir"]
    assert main([*words, str(folder)]) == 0
    said = capsys.readouterr().err
    assert "warning: the checkpoint is of 2 devices, this run is on 1 device: it goes on " in said
    one = load(folder)["ReplayDataModule"]
    assert "ranks" not in one
    assert one["collector"]["env_steps"] == 60
    saved = load(uncut[0])["ReplayDataModule"]
    before = merged([saved["replay"], saved["ranks"][0]["replay"]])
    assert len(before) == len(one["replay"]["rows"]) == one["replay"]["capacity"] == 60
    assert torch.equal(merged([one["replay"]])[:40], before[20:])  # the oldest 20 are overwritten
    # And to two again, with a signal to rank zero alone, after which both save and stop.
    words = ["--schedule.online_env_steps", "4000", "--ckpt_path", "last"]
    process = start(log, folder, *TWO, *words)
    metrics = folder / "metrics.csv"
    size = metrics.stat().st_size
    wait_for(lambda: metrics.stat().st_size > size, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "warning: the checkpoint is of 1 device, this run is on 2 devices: it goes on" in said
    assert said.splitlines()[-1].startswith("stopped by SIGTERM, saved; go on with ")
    two = load(folder)["ReplayDataModule"]
    assert len(two["ranks"]) == 1
    assert two["replay"]["capacity"] == two["ranks"][0]["replay"]["capacity"] == 30


class Together:
    """Two ranks as threads of this process."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._given: list[Sequence[Tensor]] = [()] * count

    def average(self, rank: int, given: Sequence[Tensor]) -> list[Tensor]:
        self._given[rank] = [tensor.detach().clone() for tensor in given]
        self._barrier.wait()
        means = [sum(parts) / len(parts) for parts in zip(*self._given, strict=True)]
        self._barrier.wait()
        return means  # type: ignore[return-value]


class OneOf(Ranks):
    """A rank among threads."""

    def __init__(self, rank: int, count: int, together: Together) -> None:
        super().__init__(rank, count)
        self._together = together

    def average(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return self._together.average(self.rank, tensors)


SPEC = EnvironmentSpec("test", 5, (-1.0, -0.5), (2.0, 0.25), 100)


class Standalone(OffToOnModule):
    """In float64, without a trainer."""

    def __init__(self, method: Method) -> None:
        delay = 1 if isinstance(method, (AWAC, IQL, SAC)) else 2
        super().__init__(SPEC, 4, 2, (12, 9), method=method, policy_delay=delay)
        self.double()
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams


METHODS = [
    TD3BC(normalizer="policy"),
    TD3BC(normalizer="data"),
    IQL(dropout=0.25),
    SPOT(vae_updates=2, vae_width=9),
    ReBRAC(),
    AWAC(beta=0.5),
    CQL(samples=3, max_target_backup=True, target_gap=1.0),
    CalQL(samples=3),
    RLPD(),
    WSRL(samples=3, heads=2),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_two_halves_of_a_batch_are_one_update(method: Method) -> None:
    layout = Layout(5, 2, tuple(method.columns))
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(6, 8, layout.width, generator=generator, dtype=torch.float64)
    rows[..., layout.columns["terminated"]] = 0
    whole = Standalone(method)
    whole.training_step(layout.unpack(rows), 0)
    together, halves = Together(2), [Standalone(method), Standalone(method)]

    def work(rank: int) -> None:
        halves[rank]._ranks = OneOf(rank, 2, together)
        halves[rank].training_step(layout.unpack(rows[:, 4 * rank : 4 * rank + 4]), 0)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = tensors(whole.agent_state())
    for half in halves:
        for a, b in zip(tensors(half.agent_state()), expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-7)
    metrics = whole.take_metrics()
    for half in halves:
        assert half.take_metrics() == pytest.approx(metrics, rel=1e-6)


def ring(capacity: int, values: Sequence[int], added: Sequence[int] = ()) -> dict[str, Any]:
    layout = Layout(1, 1)
    rows = torch.tensor([float(value) for value in values]).unsqueeze(1).expand(-1, layout.width)
    made = ReplayRing(layout, rows, capacity, torch.Generator())
    for value in added:
        made.add(torch.full((layout.width,), float(value)))
    return made.state_dict()


def test_merged_rings_are_in_the_order_they_came() -> None:
    # Dealt out in turn: 0, 2, 4 and 1, 3; then steps 5 and 6, 7 and 8, which overwrite 0 and 1.
    rings = [ring(4, [0, 2, 4], [5, 7]), ring(4, [1, 3], [6, 8])]
    assert merged(rings)[:, 0].tolist() == [2, 1, 4, 3, 5, 6, 7, 8]
    assert merged([ring(9, [3, 1, 2])])[:, 0].tolist() == [3, 1, 2]
    # Dealt out anew, the shards are those of the same order.
    whole = merged([ring(4, [0, 2, 4, 6]), ring(4, [1, 3, 5, 7])])
    assert whole[:, 0].tolist() == list(range(8))


def test_shares_add_up() -> None:
    for total in range(12):
        for count in range(1, 5):
            shares = [Ranks(rank, count).share(total) for rank in range(count)]
            assert sum(shares) == total
            assert max(shares) - min(shares) <= 1
            assert shares == [len(range(total)[rank::count]) for rank in range(count)]


def test_alone_nothing_is_exchanged() -> None:
    ranks, tensor = Ranks(), torch.ones(2)
    assert ranks.average([tensor])[0] is tensor
    assert ranks.gather(3) == ranks.gather_on_zero(3) == [3]
    assert ranks.broadcast("a") == "a"
    ranks.fail(ValueError())
    ranks.close()


def test_digest_tells_bits_and_names_apart() -> None:
    tensor = torch.tensor([0.0])
    assert digest({"a": tensor}) == digest({"a": tensor.clone()})
    assert digest({"a": tensor}) != digest({"a": -tensor})
    assert digest({"a": tensor}) != digest({"b": tensor})


@contextmanager
def variables(**values: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
            patch.delenv(name, raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def test_who_follows_is_told_by_the_environment() -> None:
    with variables():
        assert not follows(2, 1)
    with variables(LOCAL_RANK="1"):
        assert follows(2, 1)
    with variables(LOCAL_RANK="0", NODE_RANK="1"):
        assert follows(1, 2)
    with variables(RANK="0", LOCAL_RANK="0", GROUP_RANK="0"):
        assert not follows("auto", 2)
    with variables(SLURM_PROCID="3"):  # a job array's fourth run, on a device of its own
        assert not follows(1, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--trainer.devices 3", "data.batch_size is 8, for all devices together; on 3 devices it"),
        (
            "--trainer.devices 4 --schedule.evaluation_every 10",
            "schedule.evaluation_every is 10, for all devices together; on 4 devices it must be a "
            "multiple of 4",
        ),
        (
            "--trainer.devices 4 --schedule.evaluation_every 8 --schedule.online_env_steps 40"
            " --schedule.frozen_env_steps 6",
            "schedule.frozen_env_steps is 6, for all devices together; on 4 devices it must be a "
            "multiple of 4",
        ),
        ("--trainer.devices 2 --trainer.strategy ddp_spawn", "on 2 devices set it to ddp"),
        ("--trainer.devices 3 --dry-run", "data.batch_size is 8, for all devices together"),
    ],
)
def test_what_several_devices_cannot_do_is_said_before_they_start(
    words: str, sentence: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*RUN, "--data.dataset", str(log), *folder, *shlex.split(words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said
    assert not (tmp_path / "run").exists()


def test_what_belongs_to_one_process_is_refused_on_several(log: Path, tmp_path: Path) -> None:
    data = ReplayDataModule("InvertedPendulum-v5", str(log), Schedule(6, 0, evaluation_every=3))
    trainer = SimpleNamespace(datamodule=data, world_size=2)
    with pytest.raises(UserError, match="one ring with priorities of its own, on one device"):
        BalancedReplay().setup(trainer, None, "fit")  # type: ignore[arg-type]
    data.log = Exchange(str(tmp_path / "robot"))
    with pytest.raises(UserError, match="a log that one process follows"):
        data.check_devices(2)


def test_offline_alone_counts_no_environment_steps(log: Path) -> None:
    data = ReplayDataModule(
        "InvertedPendulum-v5", str(log), Schedule(6, 0, evaluation_every=3), batch_size=8
    )
    data.check_devices(4)
    with pytest.raises(UserError, match=r"data\.batch_size is 8, .* must be a multiple of 3"):
        data.check_devices(3)


def test_checkpoints_of_several_ranks_are_checked(uncut: tuple[Path, str]) -> None:
    content = torch.load(uncut[0] / "checkpoints" / "last.ckpt", weights_only=True)
    check_run(content)
    for change, sentence in (
        (lambda rank: rank.pop("replay"), "ranks/0/replay is missing"),
        (lambda rank: rank["collector"].update(env_steps=38), "must be 40"),
        (lambda rank: rank["collector"].update(noise=3), "ranks/0/collector/noise is 3"),
        (lambda rank: rank["replay"].update(capacity=3), "room for 3"),
        (lambda rank: rank["replay"].update(rows=torch.zeros(30, 2)), "as wide as rank zero's"),
        (lambda rank: rank["replay"].update(generator=None), "ranks/0/replay/generator is None"),
    ):
        damaged = copy.deepcopy(content)
        change(damaged["ReplayDataModule"]["ranks"][0])
        with pytest.raises(UserError, match=sentence):
            check_run(damaged)
    damaged = copy.deepcopy(content)
    damaged["ReplayDataModule"]["ranks"] = 3
    with pytest.raises(UserError, match="ranks is 3; it must be a list"):
        check_run(damaged)


def test_all_episodes_of_a_step_move_alpha(tmp_path: Path) -> None:
    """In the order of the ranks, each of them once."""
    from adabc_lightning.callbacks import AlphaController
    from adabc_lightning.data.collector import Episode

    env_id = register_toy()
    trainer, module, data = tiny_run(tmp_path, env_id, None, schedule=Schedule(0, 5))
    trainer.fit(module, data)
    (controller,) = (c for c in trainer.callbacks if isinstance(c, AlphaController))
    both, one = copy.copy(controller), copy.copy(controller)
    episodes = [Episode(3.0, 5), Episode(-2.0, 4)]
    data.finished_episodes = episodes
    both.on_train_batch_end(trainer, module, None, None, 0)
    for episode in episodes:
        data.finished_episodes = [episode]
        one.on_train_batch_end(trainer, module, None, None, 0)
    assert (both.alpha, both.return_average) == (one.alpha, one.return_average)
    assert both.return_average != controller.return_average
