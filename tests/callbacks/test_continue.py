"""What may differ when a run goes on from a checkpoint, and what is refused, with its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from lightning import Callback
from tiny import shapes, tiny_run, write_log

from adabc_lightning.agent.methods import AWAC
from adabc_lightning.callbacks import BalancedReplay
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

ENV = "InvertedPendulum-v5"
OTHER_ENV = "AdabcOtherPendulum-v0"  # of the same sizes
RING = {"replay_capacity": 80}


class Cut(Callback):
    """Saves a checkpoint amid pre-training (2 updates of 6) and amid fine-tuning (step 4 of 8)."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        names = {1: "offline.ckpt", 3 + 4: "online.ckpt"}
        if name := names.get(trainer.datamodule.batches):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / name, weights_only=False)


def schedule(steps: int = 8, updates: int = 2) -> Schedule:
    return Schedule(6, steps, updates, evaluation_every=6, offline_chunk=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of one run: amid pre-training, before the hand-over, amid fine-tuning; and the dataset."""
    folder = tmp_path_factory.mktemp("run")
    log = write_log(folder / "log.hdf5", 4, 1)
    trainer, module, data = tiny_run(
        folder, ENV, log, schedule=schedule(), callbacks=[Cut()], data=RING
    )
    trainer.fit(module, data)
    pretrained = folder / "checkpoints" / "pretrained.ckpt"
    found = {"pretrained": pretrained, "log": log}
    return found | {name: folder / f"{name}.ckpt" for name in ("offline", "online")}


def mean(q_MB: torch.Tensor) -> torch.Tensor:
    return q_MB.mean(0)


def fixed_alpha(module: Any, data: Any) -> bool:
    return module.alpha == torch.tensor(0.1)


def prioritised(module: Any, data: Any) -> bool:
    return len(data.online_sampler.priorities) == data.replay.capacity == 60 + 8


ALPHA = {"kp": 0.0, "kd": 0.0, "initial": 0.1}
EVERY_ROW = {"replay_capacity": None}
BALANCED = {"balanced_steps": 20, "batch_size": 8, "hidden_sizes": (8,)}
# from → what is given anew, and how one sees that it was honoured
HONOURED: list[tuple[str, dict[str, Any], Callable[[Any, Any], bool]]] = [
    ("pretrained", {"alpha": ALPHA}, fixed_alpha),
    ("pretrained", {"schedule": schedule(updates=5)}, lambda m, d: m.gradient_updates == 6 + 40),
    ("pretrained", {"schedule": schedule(updates=0)}, lambda m, d: m.gradient_updates == 6),
    ("pretrained", {"schedule": schedule(12)}, lambda m, d: d.env_steps == 12),
    ("pretrained", {"data": {"replay_capacity": 70}}, lambda m, d: d.replay.capacity == 70),
    ("pretrained", {"data": RING | {"batch_size": 4}}, lambda m, d: d.env_steps == 8),
    ("pretrained", {"downsampling": {"keep": 0.25}}, lambda m, d: len(d.replay) == 30 + 8),
    (
        "pretrained",
        {"model": {"subset_size": 3, "target_rule": mean}},
        lambda m, d: m.subset_size == 3 and m.gradient_updates == 6 + 16,
    ),
    (
        "pretrained",
        {"callbacks": lambda: [BalancedReplay(**BALANCED)], "data": EVERY_ROW},
        prioritised,
    ),
    ("offline", {"model": {"alpha_offline": 0.9}}, lambda m, d: m.alpha_offline == 0.9),
    ("offline", {"alpha": ALPHA}, fixed_alpha),
    ("online", {"data": RING, "schedule": schedule(12)}, lambda m, d: d.env_steps == 12),
    (
        "online",
        {"data": RING, "schedule": schedule(updates=5)},
        lambda m, d: m.gradient_updates == 6 + 4 * 2 + 4 * 5,
    ),
]


@pytest.mark.parametrize(("start", "change", "honoured"), HONOURED)
def test_what_is_given_anew_applies(
    start: str,
    change: dict[str, Any],
    honoured: Callable[[Any, Any], bool],
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    change = {"schedule": schedule(), **change}
    if "callbacks" in change:
        change["callbacks"] = change["callbacks"]()
    trainer, module, data = tiny_run(tmp_path, ENV, checkpoints["log"], **change)
    trainer.fit(module, data, ckpt_path=checkpoints[start], weights_only=True)
    assert data.schedule.finished(module.gradient_updates, data.env_steps)
    assert honoured(module, data)


@pytest.mark.parametrize("start", ["pretrained", "online"])
def test_another_run_s_rows_are_left_alone(
    start: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """In Python, where nobody looks at the folder first."""
    longer = Schedule(0, 20, 3, evaluation_every=1)
    trainer, module, data = tiny_run(tmp_path, ENV, None, schedule=longer, seed=1)
    trainer.fit(module, data)
    rows = (tmp_path / "metrics.csv").read_text()
    assert len(rows) > len((checkpoints["log"].parent / "metrics.csv").read_text())
    options = {"schedule": schedule(), "data": RING}
    trainer, module, data = tiny_run(tmp_path, ENV, checkpoints["log"], **options)
    with pytest.raises(UserError, match=r"metrics\.csv exists and belongs to another run"):
        trainer.fit(module, data, ckpt_path=checkpoints[start], weights_only=True)
    assert (tmp_path / "metrics.csv").read_text() == rows


def awac() -> dict[str, Any]:
    return {"num_critics": 3, "method": AWAC()}


# from → what is given anew, and what is said of it
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "pretrained",
        {"model": {"hidden_sizes": (9, 9)}},
        r"trained with model.hidden_sizes \[8, 8\], not \[9, 9\]; resume with the method, networks",
    ),
    (
        "online",
        {"data": RING, "model": {"actor_hidden_sizes": (9, 9)}},
        r"trained with model.actor_hidden_sizes \[8, 8\], not \[9, 9\]; resume",
    ),
    ("pretrained", {"model": {"num_critics": 4}}, "with model.num_critics 3, not 4; resume"),
    ("pretrained", {"model": {"hidden_sizes": (8,)}}, r"hidden_sizes \[8, 8\], not \[8\]; resume"),
    ("pretrained", {"model": {"critic_norm": "before"}}, "critic_norm null, not before; resume"),
    ("pretrained", {"model": {"critic_norm": "after"}}, "critic_norm null, not after; resume"),
    ("pretrained", {"model": awac}, "actor.*; resume with the method"),
    # With data of its own: that its networks are larger, too, is no second reason.
    ("online", {"log": 80, "env_id": "Hopper-v5"}, f"'{ENV}', data.env_id is 'Hopper-v5'; resume"),
    ("pretrained", {"env_id": OTHER_ENV}, f"trained in '{ENV}', data.env_id is '{OTHER_ENV}'"),
    ("online", {"data": RING, "env_id": OTHER_ENV}, f"'{ENV}', data.env_id is '{OTHER_ENV}'"),
    ("offline", {"log": 80}, "pre-trained on other data .*log.hdf5.* than data.dataset .*80.hdf5"),
    ("pretrained", {"log": 80}, "pre-trained on other data .*log.hdf5.* than data.dataset"),
    (
        "online",
        {"data": {"replay_capacity": 81}},
        "data.replay_capacity is 81, the checkpoint's ring has 80",
    ),
    (
        "online",
        {"callbacks": lambda: [BalancedReplay(**BALANCED)], "data": EVERY_ROW},
        "agent has no density_ratio, which this configuration adds",
    ),
]


@pytest.mark.parametrize(("start", "change", "sentence"), REFUSED)
def test_what_cannot_be_honoured_is_refused(
    start: str,
    change: dict[str, Any],
    sentence: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    if OTHER_ENV not in gymnasium.registry:
        gymnasium.register(OTHER_ENV, InvertedPendulumEnv, max_episode_steps=1000)
    options = {name: value() if callable(value) else value for name, value in change.items()}
    env_id, log = options.pop("env_id", ENV), checkpoints["log"]
    if rows := options.pop("log", None):
        log = write_log(tmp_path / f"{rows}.hdf5", *shapes(env_id), rows=rows)
    trainer, module, data = tiny_run(tmp_path / "run", env_id, log, schedule=schedule(), **options)
    with pytest.raises(UserError, match=sentence):
        trainer.fit(module, data, ckpt_path=checkpoints[start], weights_only=True)
    assert not (tmp_path / "run").exists()
