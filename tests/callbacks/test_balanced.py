"""Balanced Replay: a whole run against a plain loop, and what it leaves alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import BalancedReplay, Downsampling
from adabc_lightning.callbacks.balanced import DensityRatio, density_ratio
from adabc_lightning.commands.bench.plain import plain_mlp
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import torch_generator

EVERY_ROW = {"replay_capacity": None}
KEPT = 60  # half of the log's 120 rows
LR = 2e-3


class Record(Callback):
    """What the callback before it had to go on, and what it made of it, after every batch."""

    def __init__(self, balanced: BalancedReplay) -> None:
        self.balanced = balanced
        self.start: list[torch.Tensor] = []
        self.steps: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        weights = pl_module.density_ratio.weights
        self.start = [weight.detach().clone() for weight in weights]

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, _: Any, batch: Any, *__: Any
    ) -> None:
        data = trainer.datamodule
        if data.env_steps:
            self.steps.append(
                {
                    "batch": batch.clone(),
                    "rows": data.replay.rows.clone(),
                    "priorities": self.balanced.sampler.priorities.copy(),
                    "network": copy.deepcopy(pl_module.density_ratio.state_dict()),
                }
            )


def run(
    folder: Path, schedule: Schedule, callbacks: list[Callback], first: bool = False, **options: Any
) -> tuple[Trainer, OffToOnModule, ReplayDataModule]:
    """A fitted tiny run; ``first`` puts the callbacks where the command line's config puts them."""
    folder.mkdir(parents=True)
    log = write_log(folder / "log.hdf5", 3, 2)
    options = {"data": EVERY_ROW, **options}
    trainer, module, data = tiny_run(
        folder / "run", register_toy(), log, schedule=schedule, callbacks=callbacks, **options
    )
    if first:
        others = [callback for callback in trainer.callbacks if callback not in callbacks]
        trainer.callbacks = [*callbacks, *others]
    trainer.fit(module, data)
    return trainer, module, data


@pytest.mark.parametrize("first", [False, True])
def test_a_run_is_that_of_a_plain_loop(first: bool, tmp_path: Path) -> None:
    balanced = BalancedReplay(
        online_fraction=0.4,
        balanced_steps=20,
        batch_size=16,
        hidden_sizes=(7, 5),
        learning_rate=LR,
    )
    record = Record(balanced)
    _, _, data = run(tmp_path / "a", Schedule(4, 15, 3), [balanced, record], first)
    assert balanced.offline_rows == KEPT
    assert len(record.steps) == 15

    network = plain_mlp([5, 7, 5, 1], torch.float32)
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), record.start, strict=True):
            parameter.copy_(weight)
    assert network[-1].bias.item() == 1.0
    adam = torch.optim.Adam(network.parameters(), lr=LR, foreach=False, fused=False)
    generator = torch_generator(0, "density ratio")
    priorities, largest = [1.0] * KEPT, 1.0
    entry = KEPT * 0.4 / (0.6 * 20)  # 2

    def ratio(pairs: torch.Tensor) -> torch.Tensor:
        return torch.relu(network(pairs))[:, 0]

    def pairs_of(rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :5]  # three observations, two actions

    for number, step in enumerate(record.steps, 1):
        rows = step["rows"]
        assert len(rows) == KEPT + number
        assert rows[:, -1].tolist() == [0.0] * KEPT + [1.0] * number
        largest = max(entry, largest)
        priorities.append(largest)
        for batch in step["batch"]:
            offline = pairs_of(rows[torch.randint(0, KEPT, (16,), generator=generator)])
            online = pairs_of(rows[torch.randint(KEPT, len(rows), (16,), generator=generator)])
            w_offline, w_online = ratio(offline), ratio(online)
            loss = -torch.log(2 / (w_offline + 1)).mean()
            loss = loss - torch.log(2 * w_online / (w_online + 1) + 1e-10).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                learnt = rows[batch["index"]]
                assert torch.equal(pairs_of(learnt)[:, :3], batch["observation"])
                assert torch.equal(pairs_of(learnt)[:, 3:], batch["action"])
                mean = (ratio(offline) ** 0.2).mean()
                new = (ratio(pairs_of(learnt)) ** 0.2 / mean).clamp(0.001, 1000)
            for index, priority in zip(batch["index"].tolist(), new.tolist(), strict=True):
                priorities[index] = priority
            largest = max(largest, new.max().item())
        assert step["priorities"].tolist() == pytest.approx(priorities, rel=1e-4, abs=1e-6)
        for parameter, weight in zip(network.parameters(), step["network"].values(), strict=True):
            torch.testing.assert_close(weight, parameter.detach(), atol=1e-5, rtol=0)
    for before, after in zip(record.start, network.parameters(), strict=True):
        assert (after - before).abs().max() > 1e-3  # the agreement is not one in standing still
    assert len({round(priority, 3) for priority in priorities}) > 20
    assert data.online_sampler is balanced.sampler


@pytest.mark.parametrize(("fraction", "keep"), [(0.5, 1.0), (0.7, 0.5), (0.0, 0.5)])
def test_the_share_of_online_rows_after_the_balanced_steps(
    fraction: float, keep: float, tmp_path: Path
) -> None:
    balanced = BalancedReplay(fraction, balanced_steps=40)
    collect_only = Schedule(2, 40, 0)  # without an update the priorities stay as they entered
    options = {"downsampling": {"keep": keep}}
    _, _, data = run(tmp_path / "a", collect_only, [balanced], first=True, **options)
    offline = round(keep * 120)
    expected = max(fraction, 40 / (40 + offline))  # a new row is never below the others
    share = data.replay.sample(100, 200)["online"].mean().item()
    assert share == pytest.approx(expected, abs=0.015)


def test_what_the_hand_over_keeps_is_what_counts(tmp_path: Path) -> None:
    balanced = BalancedReplay(0.5, balanced_steps=10, batch_size=4, hidden_sizes=(4,))
    trainer, _, data = run(tmp_path / "a", Schedule(2, 3, 2), [balanced], first=True)
    names = [type(callback) for callback in trainer.callbacks]
    assert names.index(BalancedReplay) < names.index(Downsampling)
    assert balanced.offline_rows == KEPT
    assert balanced.sampler.entry_priority == KEPT / 10
    assert len(data.replay) == KEPT + 3


def test_the_offline_phase_is_untouched(tmp_path: Path) -> None:
    states = []
    for name, callbacks in (("with", [BalancedReplay()]), ("without", [])):
        schedule = Schedule(8, 0, 1, offline_chunk=3)
        trainer, module, data = run(tmp_path / name, schedule, callbacks)
        states.append({**module.state_dict(), "rng": data.replay.generator.get_state()})
        if callbacks:
            added = [name for name in states[0] if name.startswith("density_ratio.")]
            assert len(added) == 6
            for name in added:
                del states[0][name]
            assert not trainer.optimizers[2].state_dict()["state"]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_without_offline_rows_all_rows_are_alike(tmp_path: Path) -> None:
    balanced = BalancedReplay()
    trainer, module, data = tiny_run(
        tmp_path,
        register_toy(),
        None,
        schedule=Schedule(0, 6, 1),
        callbacks=[balanced],
        data=EVERY_ROW,
    )
    trainer.fit(module, data)
    assert balanced.sampler.priorities.tolist() == [1.0] * 6


def test_a_ring_that_overwrites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.replay_capacity is 150; .* must be null"):
        run(tmp_path / "a", Schedule(2, 2, 1), [BalancedReplay()], data={})


@pytest.mark.parametrize(
    "options",
    [
        {"online_fraction": 1.0},
        {"online_fraction": -0.1},
        {"online_fraction": float("nan")},
        {"balanced_steps": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
    ],
)
def test_a_value_outside_its_range_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UserError, match=f"BalancedReplay.{name} is"):
        BalancedReplay(**options)


def test_the_network_starts_near_one() -> None:
    torch.manual_seed(0)
    ratio_B = density_ratio(torch.randn(1000, 5), DensityRatio(5, (256, 256)).weights)
    assert ratio_B.shape == (1000,)
    assert 0.8 < ratio_B.mean() < 1.2


def test_the_density_ratio_is_in_the_metrics(tmp_path: Path) -> None:
    balanced = BalancedReplay(batch_size=4, hidden_sizes=(4,))
    run(tmp_path / "a", Schedule(2, 3, 2), [balanced], first=True)
    rows = (tmp_path / "a" / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss/density_ratio")
    values = [row.split(",")[column] for row in rows[1:]]
    assert values[0] == ""  # pre-training
    assert float(values[-1]) != 0
