"""Several agents in one process: each as if it were alone, and all of them saved and resumed."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from test_resume import Cut, assert_equal
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.agent.losses import minimum_of_group_means
from adabc_lightning.agent.methods import AWAC, IQL, TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import (
    BalancedReplay,
    Checkpointing,
    Trials,
    episode_envs,
    evaluation,
    summary,
)
from adabc_lightning.env import make
from adabc_lightning.env.exchange import Exchange
from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.replicas import Replicas
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.loggers import TensorBoard
from adabc_lightning.run.schedule import Schedule

SCHEDULE = Schedule(10, 20, 2, evaluation_every=5, offline_chunk=3)
COUNT = 3


class Peculiar(TD3BC):
    """Of which nobody knows whether it works on a stack."""


def group_of(
    folder: Path, log: Path, callbacks: Callable[[], list[Callback]] = list, **options: Any
) -> tuple[Trainer, Replicas]:
    """A trainer and its replicas, seeds from 0 on, not yet fitted."""
    parts = []
    for seed in range(COUNT):
        trainer, module, data = tiny_run(
            folder,
            options.get("env_id", register_toy()),
            log,
            schedule=SCHEDULE,
            callbacks=callbacks(),
            seed=seed,
            model=options.get("model"),
            data=options.get("data"),
        )
        own = [c for c in trainer.callbacks if type(c).__module__.startswith("adabc")]  # type: ignore[attr-defined]
        parts.append((module, data, own))
    group = Replicas(parts)
    return trainer_of(folder, [group.callback, Checkpointing()]), group


def trainer_of(folder: Path, callbacks: list[Callback]) -> Trainer:
    """One as the command line makes it."""
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=[AtomicCheckpointIO()],
        callbacks=callbacks,
    )


def assert_rows_close(ours: Path, theirs: Path) -> None:
    """Two files of metrics whose numbers agree within float error."""
    with open(ours) as one, open(theirs) as other:
        for row, expected in zip(csv.reader(one), csv.reader(other), strict=True):
            for value, wanted in zip(row, expected, strict=True):
                try:
                    assert float(value) == pytest.approx(float(wanted), rel=1e-4, abs=1e-5)
                except ValueError:
                    assert value == wanted


@pytest.mark.filterwarnings("ignore:the replicas are updated one after the other")
@pytest.mark.parametrize(
    ("model", "exact"),
    [
        ({}, False),
        ({"num_critics": 4, "subset_size": 4, "target_rule": minimum_of_group_means}, False),
        ({"num_critics": 2, "method": AWAC(), "policy_delay": 1}, False),
        ({"num_critics": 2, "method": IQL(dropout=0.5), "policy_delay": 1}, False),
        ({"method": Peculiar()}, True),
        ({"method": Peculiar(), "precision": "bf16"}, True),
    ],
    ids=["TD3BC", "groups", "AWAC", "IQL", "one after the other", "bf16 one after the other"],
)
def test_each_equals_a_single_run(model: dict[str, Any], exact: bool, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path / "group", log, model=model)
    trainer.fit(group.module, group.data)
    for replica in group.replicas:
        folder = tmp_path / f"single{replica.index}"
        single, module, data = tiny_run(
            folder, register_toy(), log, schedule=SCHEDULE, seed=replica.index, model=model
        )
        single.fit(module, data)
        own = Path(replica.default_root_dir)
        if exact:
            assert (own / "metrics.csv").read_text() == (folder / "metrics.csv").read_text()
        assert_rows_close(own / "metrics.csv", folder / "metrics.csv")
        ours = replica.lightning_module.state_dict()
        for name, expected in module.state_dict().items():
            torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-6)
        ours, theirs = (json.loads((at / "summary.json").read_text()) for at in (own, folder))
        assert ours["seed"] == theirs["seed"] == replica.index
        assert sorted(path.name for path in (own / "checkpoints").iterdir()) == sorted(
            path.name for path in (folder / "checkpoints").iterdir()
        )


def test_each_has_trials_of_its_own(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trials = lambda: [Trials(episodes=2, steps=1, horizon=10)]  # noqa: E731
    trainer, group = group_of(tmp_path / "group", log, trials)
    trainer.fit(group.module, group.data)
    for replica in group.replicas:
        (alone,) = trials()
        single, module, data = tiny_run(
            tmp_path / f"single{replica.index}",
            register_toy(),
            log,
            schedule=SCHEDULE,
            seed=replica.index,
            callbacks=[alone],
        )
        single.fit(module, data)
        (own,) = (callback for callback in replica.callbacks if isinstance(callback, Trials))
        assert own.counts == alone.counts
        ours = replica.lightning_module.state_dict()
        for name, expected in module.state_dict().items():
            torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-6)
    trials_of = [c for r in group.replicas for c in r.callbacks if isinstance(c, Trials)]
    for name in ("promotions", "holds", "retreats"):  # of all, in the line of an evaluation
        assert group.callback.latest[f"trial/{name}"] == sum(c.counts[name] for c in trials_of)


def test_rows_of_all_are_gathered(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    trainer.fit(group.module, group.data)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header.startswith("replica,phase,")
    for index in range(COUNT):
        own = (tmp_path / f"replica_{index}/metrics.csv").read_text().splitlines()
        assert [row.split(",", 1)[1] for row in rows if row.startswith(f"{index},")] == own[1:]
    assert len(rows) == COUNT * (len(own) - 1)
    # Different seeds, different numbers.
    assert len({row.split(",", 1)[1] for row in rows}) == len(rows)


@pytest.mark.parametrize("precision", ["medium", "highest"])
def test_all_set_the_precision_of_their_matrix_products(precision: str, tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    try:
        trainer, group = group_of(tmp_path, log, model={"matmul_precision": precision})
        trainer.fit(group.module, group.data)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def state_of(group: Replicas) -> list[dict[str, Any]]:
    """What each replica's checkpoint would hold, clock times aside, and its rows."""
    states = []
    for replica in group.replicas:
        state = replica.content()
        for key in [key for key in state["callbacks"] if key.startswith(("Summary", "Evaluation"))]:
            state["callbacks"][key].pop("seconds", None)
            state["callbacks"][key].pop("evaluation_seconds", None)
        state.pop("loops")
        state["metrics"] = (Path(replica.default_root_dir) / "metrics.csv").read_text()
        states.append(state)
    return states


@pytest.mark.parametrize(
    ("kind", "batches"),
    [
        ("plain", 2),
        ("plain", 4),
        ("plain", 5),
        ("plain", 12),
        ("balanced", 12),
        ("trials", 12),
        ("compiled", 12),
    ],
)
def test_resumes_bit_for_bit(kind: str, batches: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"env_id": "InvertedPendulum-v5"}
    callbacks: Callable[[], list[Callback]] = list
    if kind == "balanced":
        options["data"] = {"replay_capacity": None}
        callbacks = lambda: [BalancedReplay(balanced_steps=20, batch_size=8, hidden_sizes=(8,))]  # noqa: E731
    if kind == "trials":
        callbacks = lambda: [Trials(episodes=2, steps=1, horizon=10)]  # noqa: E731
    if kind == "compiled":
        options["model"] = {"engine": "compiled"}
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    trainer, group = group_of(tmp_path / "uncut", log, callbacks, **options)
    trainer.callbacks.append(Cut(tmp_path, (batches,)))  # type: ignore[attr-defined]
    trainer.fit(group.module, group.data)
    expected = state_of(group)

    shutil.copytree(tmp_path / "uncut", tmp_path / "resumed")  # rows after the cut included
    trainer, again = group_of(tmp_path / "resumed", log, callbacks, **options)
    trainer.fit(
        again.module, again.data, ckpt_path=tmp_path / f"cut{batches}.ckpt", weights_only=True
    )
    assert_equal(state_of(again), expected)
    gathered = (tmp_path / name / "metrics.csv" for name in ("uncut", "resumed"))
    assert len({path.read_text() for path in gathered}) == 1


def test_no_replica_s_training_has_the_evaluations_of_others_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0  # a clock that only evaluations move

    def slow(*given: Any) -> Any:
        nonlocal now
        now += 1
        return make.evaluate(*given)

    clock = SimpleNamespace(perf_counter=lambda: now)
    for module in (summary, evaluation):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(episode_envs, "evaluate", slow)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    trainer.fit(group.module, group.data)
    files = [json.loads(p.read_text()) for p in tmp_path.glob("replica_*/summary.json")]
    assert [f["seconds"] for f in files] == [{"offline": 0, "online": 0, "evaluation": 6}] * COUNT


def test_numbers_that_are_none_name_the_replica_that_has_them(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    trainer.fit(group.module, group.data)
    with torch.no_grad():
        group.replicas[1].lightning_module.actor.weights[0][0] = torch.nan
    with pytest.raises(NotFinite, match=r"actor.*\(replica 1, seed 1\)$"):
        group.module.on_save_checkpoint({})


def test_tensorboard_keeps_the_point_that_a_replica_goes_on_from(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    seen: list[tuple[str, int | None]] = []

    class Recorded(TensorBoard):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            seen.append((next(name for name in metrics if "eval/return" in name), step))

    trainer, group = group_of(tmp_path, log, env_id="InvertedPendulum-v5")
    trainer.fit(group.module, group.data)
    trainer, group = group_of(tmp_path, log, env_id="InvertedPendulum-v5")
    trainer.loggers = [Recorded(tmp_path / "tensorboard")]
    trainer.log_every_n_steps = 1
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer.fit(group.module, group.data, ckpt_path=last, weights_only=True)
    assert seen == [(f"replica_{index}/eval/return", 70) for index in range(COUNT)]


def test_a_replica_goes_on_alone(tmp_path: Path) -> None:
    """Its checkpoint is that of a single run, and holds nothing of the others."""
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path / "group", log)
    trainer.fit(group.module, group.data)
    path = tmp_path / "group/replica_1/checkpoints/pretrained.ckpt"
    single, module, data = tiny_run(
        tmp_path / "alone", register_toy(), log, schedule=SCHEDULE, seed=1
    )
    single.fit(module, data, ckpt_path=path, weights_only=True)
    both = (tmp_path / "alone", tmp_path / "group/replica_1")
    assert_rows_close(*(_online(folder / "metrics.csv") for folder in both))
    other = tmp_path / "single"
    single, module, data = tiny_run(other, register_toy(), log, schedule=SCHEDULE, seed=1)
    single.fit(module, data)
    sizes = [p.stat().st_size for p in (path, other / "checkpoints/pretrained.ckpt")]
    assert sizes[0] < 1.05 * sizes[1]


def _online(path: Path) -> Path:
    """The rows of fine-tuning that end an environment step, in a file of their own."""
    header, *rows = path.read_text().splitlines()
    kept = [row for row in rows if row.startswith("online")]
    target = path.with_name("online.csv")
    target.write_text("\n".join([header, *kept]) + "\n")
    return target


@pytest.mark.filterwarnings("ignore:the replicas are updated one after the other")
@pytest.mark.parametrize("method", [TD3BC, Peculiar])
def test_one_pre_training_for_all(method: type[TD3BC], tmp_path: Path) -> None:
    """Each fine-tunes as a single run from there; none shares a tensor with another."""
    log = write_log(tmp_path / "log.hdf5", 3, 2)

    def alone(folder: Path, seed: int, start: Path | None) -> OffToOnModule:
        single, module, data = tiny_run(
            folder,
            register_toy(),
            log,
            schedule=SCHEDULE,
            seed=seed,
            model={"method": method()},
        )
        single.fit(module, data, ckpt_path=start, weights_only=True)
        return module

    alone(tmp_path / "one", 0, None)
    folder = tmp_path / "one/checkpoints"
    trainer, group = group_of(tmp_path / "group", log, model={"method": method()})
    trainer.fit(group.module, group.data, ckpt_path=folder / "pretrained.ckpt", weights_only=True)
    for replica in group.replicas:
        single = alone(tmp_path / f"{replica.index}", replica.index, folder / "pretrained.ckpt")
        ours = replica.lightning_module.state_dict()
        for name, expected in single.state_dict().items():
            torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-6)
        saved = torch.load(
            tmp_path / f"group/replica_{replica.index}/checkpoints/last.ckpt", weights_only=True
        )
        for state, optimizer in zip(
            saved["optimizer_states"], single.trainer.optimizers, strict=True
        ):
            for index, expected in optimizer.state_dict()["state"].items():
                for moment in ("step", "exp_avg", "exp_avg_sq"):
                    torch.testing.assert_close(
                        state["state"][index][moment], expected[moment], rtol=1e-4, atol=1e-6
                    )
    trainer, group = group_of(tmp_path / "refused", log)
    with pytest.raises(UserError, match="of one agent's fine-tuning"):
        trainer.fit(group.module, group.data, ckpt_path=folder / "last.ckpt", weights_only=True)


def test_checkpoints_of_all_and_of_one_are_told_apart(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    trainer.fit(group.module, group.data)
    last = tmp_path / "checkpoints/last.ckpt"
    assert len(read_run(last, replicas=COUNT)["replicas"]) == COUNT
    with pytest.raises(UserError, match=r"several replicas; .*replica_0.checkpoints.last\.ckpt"):
        read_run(last)
    content = torch.load(last, weights_only=True)
    content["replicas"][1]["agent"]["seed"] = "x"
    torch.save(content, last)
    with pytest.raises(UserError, match="in replicas/1, agent/seed is 'x'"):
        read_run(last, replicas=COUNT)
    content["replicas"][1]["agent"].update(seed=1, gradient_updates=1)
    torch.save(content, last)
    with pytest.raises(UserError, match="the replicas are not equally far"):
        read_run(last, replicas=COUNT)
    del content["replicas"][1]
    torch.save(content, last)
    trainer, group = group_of(tmp_path / "again", log)
    with pytest.raises(UserError, match=f"of 2 replicas, model.replicas is {COUNT}"):
        trainer.fit(group.module, group.data, ckpt_path=last, weights_only=True)


@pytest.mark.parametrize(("index", "saved"), [(0, 7), (1, 5)])
def test_a_failure_names_its_replica(index: int, saved: int, tmp_path: Path) -> None:
    """Before others have made their step the state of all is saved, else the last one stays."""
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    data = group.replicas[index].datamodule

    class Broken(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if data.env_steps == 7:
                data.collector.env.unwrapped.position = np.full(3, np.nan)

    trainer.callbacks.insert(0, Broken())  # type: ignore[attr-defined]
    said = "the state before this step is saved" if index == 0 else "are a step ahead"
    last = str(tmp_path / "checkpoints" / "last.ckpt")  # of parts, which no command makes
    where = f"parts made anew and trainer.fit(…, ckpt_path={last!r}, weights_only=True)"
    with pytest.raises(EnvironmentFailure) as raised:
        trainer.fit(group.module, group.data)
    for text in (f"(replica {index}, seed {index})", said, where):
        assert text in str(raised.value)
    assert (tmp_path / f"replica_{index}/diagnostics.json").is_file()
    assert not (tmp_path / f"replica_{1 - index}/diagnostics.json").exists()
    whole = read_run(tmp_path / "checkpoints/last.ckpt", replicas=COUNT)
    steps = [part["ReplayDataModule"]["collector"]["env_steps"] for part in whole["replicas"]]
    assert steps == [saved] * COUNT


def test_what_is_no_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one or more"):
        Replicas([])
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path, register_toy(), log, schedule=SCHEDULE)
    with pytest.raises(UserError, match=r"two replicas have the seeds 0 \(module\) and 0 \(data"):
        Replicas([(module, data, []), (module, data, [])])
    with pytest.raises(UserError, match="2 devices and 1 replicas are asked for"):
        Replicas([(module, data, [])]).data.check_devices(2)
    data.log = Exchange(str(tmp_path / "robot"))
    with pytest.raises(UserError, match="a log, which one agent acts for"):
        Replicas([(module, data, [])])
    data.log = None
    for wrong in (0, -1, 1001):
        with pytest.raises(UserError, match=f"model.replicas is {wrong}; it must be between"):
            OffToOnModule(data.spec, replicas=wrong)
    module.replicas = 2
    with pytest.raises(UserError, match=r"give each replica a module of its own"):
        trainer.fit(module, data)


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        *("--config", "quick", "--model.replicas", "2", "--seed_everything", "5"),
        *("--schedule.offline_updates", "6", "--schedule.online_env_steps", "4"),
        *("--schedule.evaluation_every", "3", "--evaluation.episodes", "1"),
        *("--model.hidden_sizes", "[8,8]", "--data.max_episode_steps", "20"),
    ]

    def command(*words: str) -> tuple[int, str, str]:
        return main([*words]), *capsys.readouterr()

    status, said, error = command("fit", *small, "--trainer.default_root_dir", "run", "--dry-run")
    assert status == 0, error
    assert "2 of them" in said
    assert not (tmp_path / "run").exists()
    line = [sys.executable, "-m", "adabc_lightning", "fit", *small]
    made = subprocess.run(
        [*line, "--trainer.default_root_dir", "run"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert [line.rsplit("; ", 1)[-1] for line in made.stdout.splitlines()[:2]] == [
        "run/replica_0",
        "run/replica_1",
    ]
    with open(tmp_path / "run/metrics.csv", newline="") as file:
        returns = [float(row["eval/return"]) for row in csv.DictReader(file) if row["eval/return"]]
    means = [f"return {sum(pair) / 2:.1f}" for pair in zip(*[iter(returns)] * 2, strict=True)]
    lines = [line for line in made.stderr.splitlines() if "return" in line]
    assert [re.search(r"return [\d.-]+", line)[0] for line in lines] == means  # type: ignore[index]
    assert (tmp_path / "run/report.html").is_file()
    for index in (0, 1):
        folder = tmp_path / f"run/replica_{index}"
        assert json.loads((folder / "summary.json").read_text())["seed"] == 5 + index
        assert json.loads((folder / "summary.json").read_text())["finished"]
    assert command("report", "run")[0] == 0
    rollout = ["rollout", "--episodes", "1", "--ckpt_path"]
    assert command(*rollout, "run/replica_1/checkpoints/last.ckpt")[0] == 0
    status, _, error = command(*rollout, "run/checkpoints/last.ckpt")
    assert status == 2
    assert "replica_0/checkpoints/last.ckpt" in error
    # The config in a replica's folder is that of the single run.
    config = str(tmp_path / "run/replica_1/config.yaml")
    status, _, error = command("fit", "--config", config, "--trainer.default_root_dir", "alone")
    assert status == 0, error
    assert_rows_close(tmp_path / "alone/metrics.csv", tmp_path / "run/replica_1/metrics.csv")
    # Longer, from where it ended.
    longer = ["--schedule.online_env_steps", "6", "--trainer.default_root_dir", "run"]
    status, _, error = command("fit", *small, *longer, "--ckpt_path", "last")
    assert status == 0, error
    assert json.loads((tmp_path / "run/replica_0/summary.json").read_text())["env_steps"] == 6
    status, _, error = command(
        "fit", *small, "--trainer.default_root_dir", "alone", "--ckpt_path", "last"
    )
    assert status == 2
    assert "alone holds the run of one agent, model.replicas is 2" in error
    status, _, error = command(
        "fit", *small[:2], "--trainer.default_root_dir", "run", "--ckpt_path", "last"
    )
    assert status == 2
    assert "several replicas" in error


def test_replicas_of_other_sizes_are_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    for model, what in (
        ({"num_critics": 4}, "model.num_critics is 3"),
        ({"gamma": 0.5}, "model.gamma is 0.99"),
        ({"tau": 0.5}, "model.tau is 0.005"),
        ({"learning_rate": 0.5}, "model.learning_rate is 0.0003"),
        ({"target_noise": 0.9}, "model.method.target_noise is 0.2"),
    ):
        parts = []
        for seed, options in enumerate(({}, model)):
            _, module, data = tiny_run(
                tmp_path, register_toy(), log, schedule=SCHEDULE, seed=seed, model=options
            )
            parts.append((module, data, []))
        with pytest.raises(UserError, match=f"{what} in the replica of seed 0 and "):
            Replicas(parts)


class Logs(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        pl_module.log("mine", 1.0)


def test_what_lightning_logs_is_refused_with_replicas(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, group = group_of(tmp_path, log)
    for replica in group.replicas:
        replica.callbacks.insert(0, Logs())
    with pytest.raises(UserError, match=r"a callback logs 'mine' by pl_module\.log, which"):
        trainer.fit(group.module, group.data)
