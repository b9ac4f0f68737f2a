"""A run that was cut and goes on equals the one that never was, bit for bit."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import AWAC, IQL, SPOT, ReBRAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import BalancedReplay, Trials
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

# Six offline batches (3+3 chunks of 2, 2, 1 updates), then 40 steps; an episode of the
# untrained pendulum lasts a few steps, so the cuts fall inside and between episodes.
SCHEDULE = Schedule(10, 40, 2, evaluation_every=5, offline_chunk=2)
ENV = "InvertedPendulum-v5"


class Cut(Callback):
    """Saves a checkpoint after chosen batches, whatever else happens there."""

    def __init__(self, folder: Path, batches: tuple[int, ...]) -> None:
        self.folder, self.batches = folder, batches

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.datamodule.batches in self.batches:
            path = self.folder / f"cut{trainer.datamodule.batches}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)


# 60 kept rows and 40 steps: the oldest rows are overwritten from step 20 on.
RING = {"replay_capacity": 80}
EVERY_ROW = {"replay_capacity": None}


def awac() -> dict[str, Any]:
    """Options of a tiny run of AWAC."""
    model = {"num_critics": 2, "policy_delay": 1, "actor_weight_decay": 0.1, "method": AWAC()}
    return {"data": EVERY_ROW, "model": model}


def iql() -> dict[str, Any]:
    """Options of a tiny run of IQL; one whose best policy is not that of a cut."""
    model = {"num_critics": 2, "policy_delay": 1, "method": IQL(dropout=0.5)}
    return {"data": EVERY_ROW, "model": model, "seed": 1}


def spot() -> dict[str, Any]:
    """Options of a tiny run of SPOT: the first cut is in the VAE's stage, others in a cooling."""
    method = SPOT(vae_updates=9, vae_width=8, weight=1.0, weight_end=0.5, cooling_updates=100)
    return {"data": EVERY_ROW, "model": {"num_critics": 2, "method": method}}


def rebrac() -> dict[str, Any]:
    """Options of a tiny run of ReBRAC, whose newest row waits for its next action at each cut."""
    method = ReBRAC(1.0, 0.5, 100, 0.5, 0.25)
    return {"data": EVERY_ROW, "model": {"method": method, "critic_norm": "after"}}


def balanced_replay(seed: int = 0) -> dict[str, Any]:
    """Options of a tiny run of Balanced Replay."""
    balanced = BalancedReplay(balanced_steps=20, batch_size=8, hidden_sizes=(8,))
    return {"data": EVERY_ROW, "callbacks": [balanced], "seed": seed}


def steady() -> dict[str, Any]:
    """Options of a tiny run with trials; one that holds, and goes back, and lets go."""
    trials = Trials(episodes=3, steps=16, horizon=30)
    return {"data": EVERY_ROW, "callbacks": [trials], "seed": 2, "alpha": {"kp": 0.0, "kd": 0.0}}


def compiled() -> dict[str, Any]:
    """Options of a tiny run that takes the engine of long ones."""
    return {"data": EVERY_ROW, "model": {"engine": "compiled"}}


def bf16() -> dict[str, Any]:
    """The same with products in bfloat16."""
    return {"data": EVERY_ROW, "model": {"engine": "compiled", "precision": "bf16"}}


def cuda_graph() -> dict[str, Any]:
    """Options of a tiny run on a GPU, which draws ahead of its steps."""
    return {"data": EVERY_ROW, "model": {"engine": "cuda_graph"}, "accelerator": "gpu"}


def compiled_graph() -> dict[str, Any]:
    """The same with the engine of long ones."""
    return {"data": EVERY_ROW, "model": {"engine": "compiled_graph"}, "accelerator": "gpu"}


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def everything(trainer: Any) -> dict[str, Any]:
    """All of a run's state, and the content of its metrics file."""
    path = Path(trainer.default_root_dir) / "everything.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    state = torch.load(path, weights_only=True)
    path.unlink()
    for key in [key for key in state["callbacks"] if key.startswith(("Summary", "Evaluation"))]:
        state["callbacks"][key].pop("seconds", None)  # clock time is the one thing that differs
        state["callbacks"][key].pop("evaluation_seconds", None)
    state.pop("loops")
    state["metrics"] = (Path(trainer.default_root_dir) / "metrics.csv").read_text()
    return state


def leave(folder: Path, place: Path) -> None:
    """What a run left behind beside the checkpoint that it goes on from."""
    shutil.copy(folder / "metrics.csv", place / "metrics.csv")  # rows after the cut included
    (place / "checkpoints").mkdir()
    shutil.copy(folder / "checkpoints" / "best.ckpt", place / "checkpoints")


def assert_equal(a: Any, b: Any, path: str = "") -> None:
    """Deep, exact equality of nested containers of tensors."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The uncut run's folder with checkpoints from many moments, and its final state."""
    folder = tmp_path_factory.mktemp("uncut")
    log = write_log(folder / "log.hdf5", 4, 1)
    cut = Cut(folder, (1, 4, 6, 7, 15, 16, 17, 33, 45))
    trainer, module, data = tiny_run(
        folder, ENV, log, schedule=SCHEDULE, callbacks=[cut], data=RING
    )
    trainer.fit(module, data)
    assert data.batches == 6 + 40
    return folder, everything(trainer)


@pytest.mark.parametrize("batches", [1, 4, 6, 7, 15, 16, 17, 33, 45])
def test_resumed_equals_uncut(
    uncut: tuple[Path, dict[str, Any]], batches: int, tmp_path: Path
) -> None:
    folder, expected = uncut
    leave(folder, tmp_path)
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=SCHEDULE, data=RING
    )
    trainer.fit(module, data, ckpt_path=folder / f"cut{batches}.ckpt", weights_only=True)
    assert_equal(everything(trainer), expected)


@pytest.fixture(
    scope="module",
    params=[
        *(awac, iql, spot, rebrac, balanced_replay, steady, compiled, bf16),
        pytest.param(cuda_graph, marks=on_gpu),
        pytest.param(compiled_graph, marks=on_gpu),
    ],
)
def uncut_method(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[..., dict[str, Any]], Path, dict[str, Any]]:
    """The same of another method, and its options."""
    folder = tmp_path_factory.mktemp("uncut_method")
    log = write_log(folder / "log.hdf5", 4, 1, linked=request.param is rebrac)
    options = request.param()
    options["callbacks"] = [*options.get("callbacks", []), Cut(folder, (1, 4, 6, 7, 16, 33, 46))]
    trainer, module, data = tiny_run(folder, ENV, log, schedule=SCHEDULE, **options)
    trainer.fit(module, data)
    assert len(data.replay) == data.replay.capacity == 60 + 40
    return request.param, folder, everything(trainer)


@pytest.mark.parametrize("batches", [1, 4, 6, 7, 16, 33])
def test_another_method_resumed_equals_uncut(
    uncut_method: tuple[Callable[..., dict[str, Any]], Path, dict[str, Any]],
    batches: int,
    tmp_path: Path,
) -> None:
    options, folder, expected = uncut_method
    state = expected["callbacks"].get("BalancedReplay")
    assert (state is not None) == (options is balanced_replay)
    if state:
        assert expected["optimizer_states"][2]["state"][0]["step"] == 2 * 40
        sampler = expected["ReplayDataModule"]["replay"]["sampler"]
        assert sampler["priorities"].unique().numel() > 10
    trials = expected["callbacks"].get("Trials")
    assert (trials is not None) == (options is steady)
    if trials:
        assert min(trials[name] for name in ("promotions", "holds", "retreats")) > 0
    leave(folder, tmp_path)
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=SCHEDULE, **options()
    )
    trainer.fit(module, data, ckpt_path=folder / f"cut{batches}.ckpt", weights_only=True)
    assert_equal(everything(trainer), expected)


@pytest.mark.parametrize("batches", [16, 46])
def test_a_ring_that_keeps_every_row_grows_with_a_longer_schedule(
    uncut_method: tuple[Callable[..., dict[str, Any]], Path, dict[str, Any]],
    batches: int,
    tmp_path: Path,
) -> None:
    options, folder, expected = uncut_method
    longer = Schedule(10, 50, 2, evaluation_every=5, offline_chunk=2)
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=longer, **options()
    )
    trainer.fit(module, data, ckpt_path=folder / f"cut{batches}.ckpt", weights_only=True)
    assert len(data.replay) == data.replay.capacity == 60 + 50
    saved = expected["ReplayDataModule"]["replay"]["rows"]
    common = data.layout.columns["online"] + 1  # the newest row's next action comes later
    rows = data.replay.rows.cpu()
    assert torch.equal(rows[:100, :common], saved[:, :common])
    assert torch.equal(rows[:99], saved[:99])
    assert data.layout.unpack(data.replay.rows)["online"].tolist() == [0.0] * 60 + [1.0] * 50


def test_a_ring_that_has_overwritten_rows_keeps_its_size(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = uncut
    longer = Schedule(10, 50, 2, evaluation_every=5, offline_chunk=2)
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=longer, data=EVERY_ROW
    )
    trainer.fit(module, data, ckpt_path=folder / "cut45.ckpt", weights_only=True)
    assert len(data.replay) == data.replay.capacity == 80
    online = data.layout.unpack(data.replay.rows)["online"]
    assert online.tolist() == [1.0] * 30 + [0.0] * 30 + [1.0] * 20


def test_balanced_replay_needs_priorities_and_another_seed_has_its_own_network(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = uncut
    checkpoint = folder / "cut16.ckpt"
    trainer, module, data = tiny_run(
        tmp_path / "a", ENV, folder / "log.hdf5", schedule=SCHEDULE, **balanced_replay()
    )
    with pytest.raises(UserError, match="has no density_ratio, which this config"):
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)

    before = Schedule(10, 0, 2, evaluation_every=5, offline_chunk=2)
    networks = {}
    for name, seed, checkpoint in (
        ("first", 0, None),
        ("second", 1, tmp_path / "first" / "checkpoints" / "pretrained.ckpt"),
        ("alone", 1, None),
    ):
        options = balanced_replay(seed)
        trainer, module, data = tiny_run(
            tmp_path / name, ENV, folder / "log.hdf5", schedule=before, **options
        )
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        (balanced,) = options["callbacks"]
        networks[name] = {**balanced.state_dict(), **module.density_ratio.state_dict()}
    assert_equal(networks["second"], networks["alone"])
    assert not torch.equal(networks["first"]["generator"], networks["alone"]["generator"])


def test_same_seed_same_weights_and_other_seed_other_weights(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = uncut
    for seed in (0, 1):
        trainer, module, data = tiny_run(
            tmp_path / str(seed), ENV, folder / "log.hdf5", schedule=SCHEDULE, seed=seed, data=RING
        )
        trainer.fit(module, data)
        state = everything(trainer)
        if seed == 0:
            assert_equal(state, expected)
        else:
            weights = "actor.net.0.weight"
            assert not torch.equal(state["state_dict"][weights], expected["state_dict"][weights])


def test_a_finished_run_has_nothing_left_to_do(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = uncut
    leave(folder, tmp_path)
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=SCHEDULE, data=RING
    )
    trainer.fit(module, data, ckpt_path=folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert_equal(everything(trainer), expected)


@pytest.mark.parametrize("checkpoint", ["cut45.ckpt", "checkpoints/last.ckpt"])
def test_a_longer_schedule_goes_on_from_the_end(
    uncut: tuple[Path, dict[str, Any]], checkpoint: str, tmp_path: Path
) -> None:
    folder, _ = uncut
    longer = Schedule(10, 50, 2, evaluation_every=5, offline_chunk=2)
    trainer, module, data = tiny_run(tmp_path, ENV, folder / "log.hdf5", schedule=longer, data=RING)
    trainer.fit(module, data, ckpt_path=folder / checkpoint, weights_only=True)
    assert (data.env_steps, module.gradient_updates) == (50, 110)


def test_a_pretraining_alone_and_its_continuation_are_the_uncut_run(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = uncut
    alone = Schedule(10, 0, 2, evaluation_every=5, offline_chunk=2)
    other = {"downsampling": {"keep": 1.0}, "alpha": {"kp": 0.0, "kd": 0.0, "initial": 0.1}}
    log = folder / "log.hdf5"
    trainer, module, data = tiny_run(
        tmp_path / "alone", ENV, log, schedule=alone, data={"replay_capacity": None}, **other
    )
    trainer.fit(module, data)
    pretrained = tmp_path / "alone" / "checkpoints" / "pretrained.ckpt"
    trainer, module, data = tiny_run(tmp_path / "run", ENV, log, schedule=SCHEDULE, data=RING)
    trainer.fit(module, data, ckpt_path=pretrained, weights_only=True)
    final = everything(trainer)
    for part in ("state_dict", "optimizer_states", "ReplayDataModule"):
        assert_equal(final[part], expected[part])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["finished"]

    def evaluations(path: Path) -> list[tuple[str, ...]]:
        columns = ("phase", "gradient_updates", "env_steps", "eval/return", "eval/score")
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["eval/return"]]
        return [tuple(row[name] for name in columns) for row in rows]

    # The new folder's file begins with the evaluations of the pre-training.
    assert evaluations(tmp_path / "run" / "metrics.csv") == evaluations(folder / "metrics.csv")


def test_fine_tuning_goes_on_from_a_run_of_pretraining_only(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = uncut
    checkpoint = None
    for name, schedule in (
        ("offline", Schedule(10, 0, 2, evaluation_every=5, offline_chunk=2)),
        ("online", SCHEDULE),
    ):
        trainer, module, data = tiny_run(
            tmp_path / name, ENV, folder / "log.hdf5", schedule=schedule, data=RING
        )
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        checkpoint = tmp_path / name / "checkpoints" / "pretrained.ckpt"
    state = everything(trainer)
    for key in ("state_dict", "optimizer_states", "ReplayDataModule"):
        assert_equal(state[key], expected[key])


def test_another_fine_tuning_from_the_pretrained_checkpoint(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = uncut
    pretrained = folder / "checkpoints" / "pretrained.ckpt"
    finals = {}
    for name, seed, alpha in (
        ("same", 0, {}),
        ("fixed", 0, {"kp": 0.0, "kd": 0.0, "initial": 0.1}),
        ("seed", 1, {}),
    ):
        trainer, module, data = tiny_run(
            tmp_path / name,
            ENV,
            folder / "log.hdf5",
            schedule=SCHEDULE,
            seed=seed,
            alpha=alpha,
            data=RING,
        )
        trainer.fit(module, data, ckpt_path=pretrained, weights_only=True)
        finals[name] = trainer.model.state_dict()
    final = expected["state_dict"]
    weights = "actor.net.0.weight"
    assert torch.equal(finals["same"][weights], final[weights])
    assert finals["fixed"]["alpha"] == torch.tensor(0.1)  # not the other run's 0.4
    assert not torch.equal(finals["seed"][weights], final[weights])


def test_pretraining_goes_on_with_the_values_that_were_asked_for(
    uncut: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = uncut
    schedule = Schedule(10, 0, 2, evaluation_every=5, offline_chunk=2)
    changed = {"alpha_offline": 0.9, "learning_rate": 0.0}
    trainer, module, data = tiny_run(
        tmp_path, ENV, folder / "log.hdf5", schedule=schedule, model=changed
    )
    checkpoint = folder / "cut4.ckpt"
    before = torch.load(checkpoint, weights_only=True)["state_dict"]["actor.net.0.weight"]
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    assert module.alpha == torch.tensor(0.9)
    assert module.gradient_updates == 10
    assert torch.equal(module.actor.weights[0], before)


def test_a_second_fit_of_the_same_module_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(2, 1, 1)
    trainer, module, data = tiny_run(tmp_path / "a", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    used = data
    again = tiny_run(tmp_path / "b", register_toy(), log, schedule=schedule)[0]
    data = tiny_run(tmp_path / "b", register_toy(), log, schedule=schedule)[2]
    with pytest.raises(UserError, match="trained by an earlier fit"):
        again.fit(module, data)
    _, module, data = tiny_run(tmp_path / "c", register_toy(), log, schedule=schedule)
    had = list(trainer.callbacks)
    trainer.callbacks[:] = again.callbacks
    with pytest.raises(UserError, match="this Trainer has ended an earlier fit; make a new one"):
        trainer.fit(module, data)
    again.callbacks[:] = had  # another run's history would stand before its own
    with pytest.raises(UserError, match=r"Downsampling has been in an earlier fit.* anew for each"):
        again.fit(module, data)
    trainer, module, _ = tiny_run(tmp_path / "d", register_toy(), log, schedule=schedule)
    with pytest.raises(UserError, match="this data module has been in an earlier fit; make a new"):
        trainer.fit(module, used)


def test_a_fit_that_failed_before_its_first_update_can_be_tried_again(tmp_path: Path) -> None:
    class Fails(Callback):
        fails = True

        def on_train_batch_start(self, *_: Any) -> None:
            if self.fails:
                raise RuntimeError("once")

    log, fails = write_log(tmp_path / "log.hdf5", 3, 2), Fails()
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), log, schedule=Schedule(2, 0, 1), callbacks=[fails]
    )
    with pytest.raises(RuntimeError, match="once"):
        trainer.fit(module, data)
    again, _, data = tiny_run(tmp_path / "a", register_toy(), log, schedule=Schedule(2, 0, 1))
    again.callbacks[:] = [each for each in trainer.callbacks if each is not fails]
    again.fit(module, data)
    assert module.gradient_updates == 2


@pytest.mark.parametrize(("own", "others"), [(3, None), (None, 3)])
def test_a_seed_that_only_one_part_has_is_named(
    own: int | None, others: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, _ = tiny_run(tmp_path / "a", register_toy(), log, schedule=Schedule(2, 0, 1))
    data = ReplayDataModule(
        register_toy(), str(log), Schedule(2, 0, 1), batch_size=8, seed=others,
        reference_min=0.0, reference_max=10.0,
    )  # fmt: skip
    module = OffToOnModule(data.spec, num_critics=2, hidden_sizes=(8, 8), seed=own)
    said = f"the module's seed is {own or 0} and the data module's {others or 0}; a run of one seed"
    with pytest.warns(UserWarning, match=said):
        trainer.fit(module, data)


def test_an_environment_without_capturable_state_says_so(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(2, 8, 1, evaluation_every=100)
    cut = Cut(tmp_path, (4,))
    first = tiny_run(tmp_path / "a", register_toy(), log, schedule=schedule, callbacks=[cut])
    first[0].fit(first[1], first[2])
    second = tiny_run(tmp_path / "b", register_toy(), log, schedule=schedule)
    with pytest.warns(UserWarning, match="resumes inexactly"):
        second[0].fit(second[1], second[2], ckpt_path=tmp_path / "cut4.ckpt", weights_only=True)
    assert second[2].env_steps == 8


def test_a_weight_cools_over_all_of_fine_tuning_and_no_longer(tmp_path: Path) -> None:
    method = SPOT(vae_updates=9, vae_width=8, weight=1.0, weight_end=0.0)
    options = {"data": EVERY_ROW, "model": {"num_critics": 2, "method": method}}
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    trainer, module, data = tiny_run(tmp_path, ENV, log, schedule=SCHEDULE, **options)
    trainer.fit(module, data)
    assert module.online_updates == SCHEDULE.online_updates == 80
    assert module.coefficients["support_weight"] == 0.0
    assert method.coefficients_at(79, module.planned_updates)["support_weight"] > 0
