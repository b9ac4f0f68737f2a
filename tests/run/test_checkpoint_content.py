"""Checkpoints without foreign objects that are nonsense: one line, status 2, no file."""

import copy
import io
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_log

from adabc_lightning.__main__ import main
from adabc_lightning.env.policy_checkpoint import read_policy
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run.checkpoint_files import load_whole

RUN = shlex.split(
    "fit --data.env_id InvertedPendulum-v5 --schedule.offline_updates 4 --data.batch_size 4"
    " --schedule.online_env_steps 4 --schedule.updates_per_env_step 2 --schedule.offline_chunk 2"
    " --schedule.evaluation_every 2 --evaluation.episodes 1 --metrics.every 2 --model.num_critics 2"
    " --model.hidden_sizes [4] --downsampling.minimum 10 --downsampling.keep 0.1"
    " --data.replay_capacity 20 --data.reference_min 0 --data.reference_max 10"
    " --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words of a finished run without its folder, and the folder."""
    folder = tmp_path_factory.mktemp("run")
    words = [*RUN, "--data.dataset", str(write_log(folder / "log.hdf5", 4, 1))]
    assert main([*words, "--trainer.default_root_dir", str(folder / "run")]) == 0
    return words, folder / "run"


def changed(content: Any, place: str, value: Any) -> Any:
    """A copy with another value at ``a/b/0``; without it where the value is MISSING."""
    content = copy.deepcopy(content)
    inner = content
    *names, last = [int(name) if name.isdigit() else name for name in place.split("/")]
    for name in names:
        inner = inner[name]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value(inner[last]) if callable(value) else value
    return content


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


MISSING = object()
RING, COLLECTOR = "ReplayDataModule/replay", "ReplayDataModule/collector"
HUGE = torch.zeros(1).expand(10**12)  # four bytes in the file
# entry, what is there instead, what is said
WRONG: list[tuple[str, Any, str]] = [
    ("agent", MISSING, "is no checkpoint of adabc_lightning"),
    ("agent", [], "agent is a list of 0; it must be a mapping"),
    ("agent/gradient_updates", MISSING, "agent/gradient_updates is missing"),
    ("agent/gradient_updates", "6", "agent/gradient_updates is '6'; it must be a whole number"),
    ("agent/gradient_updates", -1, "agent/gradient_updates is -1; it must be a whole number"),
    ("agent/gradient_updates", True, "agent/gradient_updates is True; it must be a whole number"),
    ("agent/gradient_updates", 10**400, "agent/gradient_updates is a number of many digits;"),
    ("agent/gradient_updates", 10**5000, "last.ckpt is no readable checkpoint"),
    ("agent/seed", 0.5, "agent/seed is 0.5; it must be a whole number"),
    ("agent/generator", torch.zeros(3, dtype=torch.uint8), "last.ckpt cannot be taken up: "),
    ("agent/generator", torch.zeros(3), "agent/generator is a tensor [3] of torch.float32;"),
    ("agent/counts", {"x": 1}, "agent/sums and agent/counts disagree"),
    ("agent/sums", {"x": 3.0}, "agent/sums/x is 3.0; it must be a dense tensor"),
    ("state_dict", MISSING, "state_dict is missing"),
    ("state_dict", nested(90), "state_dict is a list of 1; it must be a mapping from names"),
    (
        "state_dict/alpha",
        MISSING,
        "the checkpoint has no alpha, which this configuration's agent has",
    ),
    ("state_dict/alpha", None, "state_dict/alpha is None; it must be a dense tensor"),
    ("state_dict/actor.net.0.bias", lambda t: t.to_sparse(), "actor.net.0.bias is a tensor [4] of"),
    ("state_dict/actor.net.0.bias", lambda t: t.to("meta"), "it must be a dense tensor"),
    ("state_dict/actor.net.0.bias", lambda t: t.long(), "of torch.int64; it must be a tensor of"),
    ("state_dict/actor.net.0.bias", lambda t: t[:3], "has shape [3], this configuration's [4]"),
    ("state_dict/actor.net.0.bias", HUGE, "it must be a tensor whose numbers are all in the file"),
    ("state_dict/more", torch.zeros(1), "more is not part of this configuration's agent"),
    ("optimizer_states", {}, "optimizer_states is a dict of 0; it must be a list"),
    ("optimizer_states", [], "the checkpoint has 0 optimizers, this configuration's agent 2"),
    ("optimizer_states/0/state/0/exp_avg", MISSING, "state/0/exp_avg is missing"),
    ("optimizer_states/1/state/0/exp_avg", torch.ones(2), "it must be of shape [2, 4, 5]"),
    ("optimizer_states/1/state/0", MISSING, "optimizer_states/1/state is not of 4 parameters"),
    ("optimizer_states/1/param_groups", [], "is not one group of 4 parameters"),
    ("optimizer_states/1/param_groups/0/params/0", 7, "is not one group of 4 parameters"),
    ("ReplayDataModule", MISSING, "ReplayDataModule is missing"),
    ("ReplayDataModule/env_id", 3, "ReplayDataModule/env_id is 3; it must be a text"),
    ("ReplayDataModule/env_id", "é" * 10**4, "the checkpoint was trained in 'éééé"),
    ("ReplayDataModule/batches", 2**63, "batches is a number of many digits;"),
    (f"{COLLECTOR}/env_steps", None, "collector/env_steps is None; it must be a whole number"),
    (f"{COLLECTOR}/noise", {}, "collector/noise/bit_generator is missing"),
    (f"{COLLECTOR}/noise/bit_generator", "os", "last.ckpt cannot be taken up: "),
    (f"{COLLECTOR}/noise/state/state", -1, "last.ckpt cannot be taken up: "),
    (f"{COLLECTOR}/observation", torch.zeros(5), "the checkpoint's observation has shape [5]"),
    (f"{COLLECTOR}/return", float("nan"), "collector/return is nan; it must be a finite number"),
    (f"{COLLECTOR}/env", 3, "collector/env is 3; it must be a mapping"),
    (f"{COLLECTOR}/env/physics", lambda t: t[1:], "the checkpoint's simulator state has"),
    (f"{COLLECTOR}/env/elapsed_steps", [], "the checkpoint's environment has 0 time limits"),
    (f"{COLLECTOR}/env/elapsed_steps", [[]], "elapsed_steps/0 is a list of 0; it must be a whole"),
    (f"{RING}/rows", torch.zeros(0, 12), "has 0 rows and room for 20, but 16 were written"),
    (
        f"{RING}/rows",
        lambda t: t[:, 1:],
        "the checkpoint's ring has rows of 11 numbers, this run's",
    ),
    (f"{RING}/rows", torch.zeros(1, 1).expand(10**12, 12), "whose numbers are all in the file"),
    (f"{RING}/capacity", 2**52, "data.replay_capacity is 20, the checkpoint's ring has 4503"),
    (f"{RING}/capacity", 0, "has 16 rows and room for 0, but 16 were written"),
    (f"{RING}/writer/_cursor", 3, "_cursor is 3; after 16 rows in a ring of 20 it must be 16"),
    (f"{RING}/writer", [], "writer is a list of 0; it must be a mapping"),
    (f"{RING}/sampler/priorities", torch.ones(3).double(), "it must be 16 numbers, 0 or more"),
    ("callbacks", [], "callbacks is a list of 0; it must be a mapping"),
    ("callbacks/AlphaController/alpha", "x", "alpha is 'x'; it must be a finite number"),
    ("callbacks/Evaluation/history", 3, "history is 3; it must be a list"),
    ("callbacks/Evaluation/history", [{}], "history/0/gradient_updates is missing"),
    ("callbacks/Evaluation/history", [{1: 2}], "history/0/gradient_updates is missing"),
    ("callbacks/Metrics/latest", {3: 3}, "latest is a dict of 1; it must be a mapping from names"),
    ("callbacks/Metrics/size", -5, "size is -5; it must be a whole number"),
    ("callbacks/Summary/seconds", {}, "seconds/offline is missing"),
    ("callbacks/Guard/warnings", [1], "warnings/0 is 1; it must be a text"),
    ("loops", {}, "loops/fit_loop is missing"),
    ("loops/fit_loop/epoch_loop.batch_progress", MISSING, "last.ckpt cannot be taken up: "),
    ("loops/fit_loop/epoch_progress/total/ready", "1", "total/ready is '1'; it must be a whole"),
    ("loops/fit_loop/epoch_progress/total", nested(50), "total is a list of 1; it must be a whole"),
    ("pytorch-lightning_version", "?", "last.ckpt cannot be taken up: Invalid version: '?'"),
]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch 2.11 loads such a tensor
@pytest.mark.parametrize(("place", "value", "message"), WRONG, ids=[case[0] for case in WRONG])
def test_one_line_and_nothing_written(
    place: str,
    value: Any,
    message: str,
    run: tuple[list[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, folder = run
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    evil = tmp_path / "last.ckpt"
    torch.save(changed(content, place, value), evil)
    out = [
        "--config",
        "base",
        "--ckpt_path",
        str(evil),
        "--trainer.default_root_dir",
        str(tmp_path / "out"),
    ]
    assert main([*words, *out]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert len(said) < 700
    assert list(tmp_path.iterdir()) == [evil]


@pytest.mark.parametrize("content", [None, 3, [], "agent", nested(90), torch.zeros(3), {1: 2}])
def test_no_mapping(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    for read in (read_policy, read_run):
        with pytest.raises(UserError, match=r"x.ckpt is no checkpoint of adabc_lightning"):
            read(tmp_path / "x.ckpt")


def test_a_compressed_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    plain, bomb = io.BytesIO(), tmp_path / "bomb.ckpt"
    torch.save({"agent": torch.zeros(10**6)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 10_000
    assert torch.load(bomb, weights_only=True)["agent"].shape == (10**6,)  # PyTorch would
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_whole(bomb)


POLICY: list[tuple[str, Any, str]] = [
    ("state_dict/actor.net.0.weight", lambda t: t[0], "x.ckpt holds no actor"),
    ("state_dict/actor.net.0.bias", lambda t: t[1:], "x.ckpt holds no actor"),
    ("state_dict/actor.net.0.bias", MISSING, "x.ckpt holds no actor"),
    ("state_dict/actor.net.2.weight", lambda t: t[:, :2], "x.ckpt holds no actor"),
    ("state_dict/actor.net.0.bias", "x", "state_dict/actor.net.0.bias is 'x'"),
    ("state_dict", 3, "state_dict is 3; it must be a mapping from names"),
    ("ReplayDataModule", MISSING, "ReplayDataModule is missing"),
    ("ReplayDataModule/env_id", None, "ReplayDataModule/env_id is None; it must be a text"),
    ("ReplayDataModule/env_id", "x" * 5000, "is not registered"),
    ("ReplayDataModule/max_episode_steps", -1, "max_episode_steps is -1; it must be a whole"),
    (f"{COLLECTOR}/env_steps", "x", "collector/env_steps is 'x'; it must be a whole number"),
    ("agent", {}, "agent/gradient_updates is missing"),
]


@pytest.mark.parametrize(("place", "value", "message"), POLICY, ids=[case[0] for case in POLICY])
def test_collect(
    place: str,
    value: Any,
    message: str,
    run: tuple[list[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = torch.load(run[1] / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save(changed(content, place, value), tmp_path / "x.ckpt")
    words = ["collect", "--policy", str(tmp_path / "x.ckpt"), "--out", str(tmp_path / "o.hdf5")]
    assert main([*words, "--steps", "5"]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


NAME = "x" * 300
LONG: list[Callable[[list[str], Path], list[str]]] = [
    lambda words, run: [*words, "--trainer.default_root_dir", NAME],
    lambda words, run: [*words, "--trainer.default_root_dir", NAME, "--ckpt_path", "last"],
    lambda words, run: [*words, "--trainer.default_root_dir", "out", "--ckpt_path", NAME],
    lambda words, run: [*words, "--trainer.default_root_dir", "out", "--data.dataset", NAME],
    lambda words, run: [*words, "--trainer.default_root_dir", "out", "--config", NAME],
    lambda words, run: ["fit", "--trainer.default_root_dir", NAME, "--ckpt_path", "last"],
    lambda words, run: ["fit", "--ckpt_path", NAME],
    lambda words, run: ["fit", "--ckpt_path", f"{NAME}/a/b.ckpt"],
    lambda words, run: ["validate", "--ckpt_path", NAME],
    lambda words, run: ["validate", "--config", "hopper", "--ckpt_path", NAME],
    lambda words, run: ["collect", "--policy", NAME, "--out", "o.hdf5"],
    lambda words, run: ["collect", "--policy", str(run / "checkpoints/best.ckpt"), "--out", NAME],
    lambda words, run: ["experiment", NAME, "--dry-run"],
    lambda words, run: ["experiment", "fig1", "--dry-run", "--out", NAME],
    lambda words, run: ["experiment", "fig1", "--dry-run", "--data-dir", NAME],
    lambda words, run: ["experiment", "fig1", "--dry-run", "--config", NAME],
    lambda words, run: ["report", NAME],
    lambda words, run: ["report", str(run), "--out", NAME],
]


@pytest.mark.parametrize("command", LONG)
def test_names_that_no_file_can_have(
    command: Callable[[list[str], Path], list[str]],
    run: tuple[list[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(*run)) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
