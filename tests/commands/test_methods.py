"""Every method: what its overlay resolves to, and that it runs on every Hopper log there is."""

import csv
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from paths import SHARED
from test_resume import assert_equal

import adabc_lightning
from adabc_lightning.__main__ import main
from adabc_lightning.agent import methods
from adabc_lightning.callbacks import AlphaController
from adabc_lightning.data.transitions import Layout
from adabc_lightning.run.config_files import packaged_configs

ASSETS = Path(adabc_lightning.__file__).parent / "assets"  # holds medium-replay
LOGS = SHARED / "data"
MIN, GROUPS = "minimum", "minimum_of_group_means"

# A task whose α differs from the default's, as Adroit's does.
ADROIT = """
inherit: base.yaml
schedule: {updates_per_env_step: 1}
model: {alpha_offline: 8.0}
alpha: {kp: 6.0e-4, kd: 2.0e-3, ceiling: 8.0}
"""
# A few updates of each phase; a method may have its own lengths, so they come before it.
TASK = """
inherit: base.yaml
schedule:
  offline_updates: 4
  online_env_steps: 3
  updates_per_env_step: 2
  evaluation_every: 3
evaluation: {episodes: 1}
"""
SMALL = shlex.split(
    "--model.hidden_sizes [8] --model.actor_hidden_sizes [8] --data.batch_size 16"
    " --trainer.enable_progress_bar false"
)


class Method(NamedTuple):
    """What a method is, beside the defaults."""

    critics: int = 10
    drawn: int = 2
    rule: str = MIN
    keep: float = 0.05
    capacity: int | None = 250_000
    online_alpha: float = 0.4
    adroit_alpha: float = 8.0
    adaptive: bool = False
    offline: bool = True
    offline_updates: bool = True
    kind: str | None = None
    constants: dict[str, Any] = {}
    delay: int = 2
    batch: int = 256
    hidden: list[int] = [256, 256]
    actor: list[int] | None = None
    decay: float = 0.0
    rate: float = 3e-4
    parts: tuple[str, ...] = ("actor", "critics", "actor_target", "critics_target")
    words: tuple[str, ...] = ()
    norm: str | None = None
    noise: float = 0.1
    measured: tuple[str, ...] = ()
    updates: int | None = None
    frozen: int = 0
    uniform: bool = False
    fraction: float | None = None


ALL = {"keep": 1.0, "capacity": None}
NONE = {"online_alpha": 0.0, "adroit_alpha": 0.0}
IQL = {
    "beta": 3.0,
    "expectile": 0.7,
    "largest_weight": 100.0,
    "log_std_range": [-5.0, 2.0],
    "dropout": 0.0,
}
IQL_MEASURED = ("loss/value",)
IQL_PARTS = ("actor", "critics", "critics_target", "value")
SPOT = {
    "weight": 0.1,
    "weight_end": 0.2,
    "cooling_updates": None,
    "vae_updates": 100_000,
    "vae_learning_rate": 1e-3,
    "vae_beta": 0.5,
    "vae_width": 750,
    "dropout": 0.1,
    "actor_learning_rate": None,
    "small_end": False,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
}
SPOT_ADROIT = {"weight": 1.0, "weight_end": 0.5, "dropout": 0.0, "actor_learning_rate": 1e-4}
SPOT_MEASURED = ("loss/vae", "loss/support")
SPOT_WORDS = ("--model.method.vae_updates", "1", "--model.method.vae_width", "8")
REBRAC = {
    "actor_weight": 0.05,
    "actor_weight_end": 0.5,
    "decay_updates": None,
    "critic_weight": 0.5,
    "critic_weight_online": 0.0,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
}
SOFT = {"actor_learning_rate": 1e-4, "entropy_per_action": -1.0, "backup_entropy": False}
SOFT |= {"actor_value": "minimum"}
CQL = {
    **SOFT,
    "weight": 5.0,
    "weight_online": None,
    "samples": 10,
    "temperature": 1.0,
    "importance": True,
    "floor": None,
    "max_target_backup": True,
    "target_gap": None,
    "heads": None,
}
RLPD = {**SOFT, "actor_learning_rate": None, "entropy_per_action": -0.5}
RLPD |= {"backup_entropy": True, "actor_value": "mean"}
SOFT_PARTS = ("actor", "critics", "critics_target")
METHODS = {
    "redq_adaptive_bc": Method(adaptive=True),
    "steady": Method(adaptive=True),
    "td3_adaptive_bc": Method(2, 2, adaptive=True),
    "ensemble_min": Method(10, 10, adaptive=True),
    "fixed_alpha": Method(adroit_alpha=0.4),
    "redq_ft": Method(**NONE),
    "redq_scratch": Method(**NONE, offline=False),
    "td3_bc": Method(2, 2, **ALL),
    "td3_ft": Method(2, 2, **ALL, **NONE),
    "balanced_replay": Method(10, 10, GROUPS, **ALL, **NONE),
    "awac": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="AWAC",
        constants={"beta": 2.0},
        delay=1,
        batch=1024,
        actor=[256] * 4,
        decay=1e-4,
        parts=("actor", "critics", "critics_target"),
    ),
    "iql": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="IQL",
        constants=IQL,
        delay=1,
        parts=IQL_PARTS,
        measured=IQL_MEASURED,
    ),
    "iql_adroit": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="IQL",
        constants={**IQL, "beta": 0.5, "dropout": 0.1},
        delay=1,
        parts=IQL_PARTS,
        measured=IQL_MEASURED,
    ),
    "spot": Method(
        2, 2, **ALL, **NONE, kind="SPOT", constants=SPOT, words=SPOT_WORDS, measured=SPOT_MEASURED
    ),
    "spot_adroit": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="SPOT",
        constants={**SPOT, **SPOT_ADROIT, "small_end": True},
        words=SPOT_WORDS,
        measured=SPOT_MEASURED,
    ),
    "rebrac": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="ReBRAC",
        constants=REBRAC,
        hidden=[256] * 3,
        norm="after",
        rate=1e-3,
        batch=1024,
        noise=0.03,
        fraction=0.5,
    ),
    "rlpd": Method(
        **ALL,
        **NONE,
        kind="RLPD",
        constants=RLPD,
        delay=1,
        parts=SOFT_PARTS,
        norm="before",
        updates=20,
        frozen=5000,
        uniform=True,
        fraction=0.5,
        offline_updates=False,
        words=("--schedule.frozen_env_steps", "1", "--schedule.updates_per_env_step", "2"),
    ),
    "cql": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="CQL",
        constants={**CQL, "calibrate": False},
        delay=1,
        parts=SOFT_PARTS,
    ),
    "cal_ql": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="CalQL",
        constants=CQL,
        delay=1,
        parts=SOFT_PARTS,
        frozen=1000,
        fraction=0.5,
        words=("--schedule.frozen_env_steps", "1", "--data.max_episode_steps", "1"),
    ),
    "wsrl": Method(
        keep=0.0,
        capacity=None,
        **NONE,
        kind="WSRL",
        constants={**CQL, "heads": 2, "calibrate": False},
        delay=1,
        parts=SOFT_PARTS,
        norm="before",
        updates=4,
        frozen=5000,
        words=("--schedule.frozen_env_steps", "1", "--schedule.updates_per_env_step", "2"),
    ),
    "cql_adroit": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="CQL",
        constants={**CQL, "weight": 1.0, "floor": -200.0, "calibrate": False},
        delay=1,
        parts=SOFT_PARTS,
        hidden=[256] * 3,
    ),
    "cal_ql_adroit": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="CalQL",
        constants={**CQL, "weight": 1.0},
        delay=1,
        parts=SOFT_PARTS,
        frozen=200,
        fraction=0.5,
        hidden=[512] * 3,
        actor=[512] * 2,
        words=("--schedule.frozen_env_steps", "1", "--data.max_episode_steps", "1"),
    ),
    "rlpd_adroit": Method(
        **ALL,
        **NONE,
        kind="RLPD",
        constants={**RLPD, "backup_entropy": False},
        delay=1,
        parts=SOFT_PARTS,
        norm="before",
        updates=20,
        frozen=5000,
        uniform=True,
        fraction=0.5,
        offline_updates=False,
        hidden=[256] * 3,
        words=("--schedule.frozen_env_steps", "1", "--schedule.updates_per_env_step", "2"),
    ),
    "wsrl_adroit": Method(
        keep=0.0,
        capacity=None,
        **NONE,
        kind="WSRL",
        constants={**CQL, "heads": 2, "calibrate": True, "weight": 1.0},
        delay=1,
        parts=SOFT_PARTS,
        norm="before",
        updates=4,
        frozen=5000,
        hidden=[512] * 3,
        actor=[512] * 2,
        words=(
            *("--schedule.frozen_env_steps", "1", "--schedule.updates_per_env_step", "2"),
            *("--data.max_episode_steps", "1"),  # it waits for the end of an episode
        ),
    ),
    "rebrac_adroit": Method(
        2,
        2,
        **ALL,
        **NONE,
        kind="ReBRAC",
        constants={**REBRAC, "actor_weight": 0.01, "critic_weight": 0.01},
        hidden=[256] * 3,
        norm="after",
        noise=0.03,
        fraction=0.5,
    ),
}


CALLBACKS: dict[str, dict[str, dict[str, Any]]] = {
    "balanced_replay": {
        "BalancedReplay": {
            "online_fraction": 0.5,
            "balanced_steps": 1000,
            "batch_size": 256,
            "hidden_sizes": [256, 256],
            "learning_rate": 3e-4,
        }
    },
    "steady": {
        "Trials": {
            "episodes": 5,
            "steps": 2000,
            "confidence": 1.0,
            "tried": "both",
            "horizon": 1000,
            "alpha_rise": 0.5,
            "patience": 2,
        }
    },
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with nothing but the tasks."""
    monkeypatch.chdir(tmp_path)
    Path("adroit.yaml").write_text(ADROIT)
    Path("task.yaml").write_text(TASK)


def test_every_method_is_tested() -> None:
    packaged = {Path(name).stem for name in packaged_configs() if name.startswith("method/")}
    assert packaged == set(METHODS)


@pytest.mark.parametrize("task", ["base", "adroit"])
@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_is(name: str, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", task, "--config", f"method/{name}", "--print_config"])
    assert done.value.code == 0
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    method, adroit = METHODS[name], task == "adroit"
    model, data, schedule = config["model"], config["data"], config["schedule"]
    assert (model["num_critics"], model["subset_size"]) == (method.critics, method.drawn)
    assert model["target_rule"] == f"adabc_lightning.agent.losses.{method.rule}"
    assert model["hidden_sizes"] == method.hidden
    assert model["policy_delay"] == method.delay
    assert model["actor_hidden_sizes"] == method.actor
    assert model["critic_norm"] == method.norm
    assert data["exploration_noise"] == method.noise
    assert model["actor_weight_decay"] == method.decay
    if method.kind is None:
        assert model["method"] is None
    else:
        assert model["method"]["class_path"] == f"adabc_lightning.agent.methods.{method.kind}"
        own = {key: _plain(value) for key, value in model["method"]["init_args"].items()}
        assert own == method.constants
    assert (model["gamma"], model["tau"], model["learning_rate"]) == (0.99, 0.005, method.rate)
    assert data["batch_size"] == method.batch
    assert data["replay_capacity"] == method.capacity
    assert data["dataset"] == ("hopper-medium-replay" if method.offline else None)
    pretrains = method.offline and method.offline_updates
    assert schedule["offline_updates"] == (1_000_000 if pretrains else 0)
    assert schedule["online_env_steps"] == 250_000
    assert schedule["updates_per_env_step"] == (method.updates or (1 if adroit else 10))
    assert schedule["frozen_env_steps"] == method.frozen
    assert data["frozen_actions"] == ("uniform" if method.uniform else "policy")
    assert data["offline_fraction"] == method.fraction
    assert config["downsampling"]["keep"] == method.keep

    assert model["alpha_offline"] == (0 if not method.offline else 8 if adroit else 0.4)
    controller = AlphaController(**config["alpha"])
    assert controller.alpha == (method.adroit_alpha if adroit else method.online_alpha)
    assert controller.adaptive == method.adaptive
    gains = ((6e-4, 2e-3) if adroit else (3e-5, 1e-4)) if method.adaptive else (0, 0)
    assert (controller.kp, controller.kd) == gains

    callbacks = config["trainer"]["callbacks"] or []
    own = CALLBACKS.get(name, {})
    assert [callback["class_path"] for callback in callbacks] == [
        f"adabc_lightning.callbacks.{kind}" for kind in own
    ]
    for callback, expected in zip(callbacks, own.values(), strict=True):
        assert {key: _plain(value) for key, value in callback["init_args"].items()} == expected


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All networks of a checkpoint."""
    return torch.load(checkpoint)["state_dict"]


def fit(*words: str) -> None:
    assert main(["fit", *words, *SMALL]) == 0


@pytest.mark.parametrize(
    ("name", "log"),
    [
        (name, log)
        for name in METHODS
        for log in ("medium_replay", "random", "medium", "medium_expert")
        # The others are read alike for all; some take columns of their own from them.
        if log == "medium_replay" or name in ("redq_adaptive_bc", "iql", "cal_ql", "rebrac")
    ],
)
def test_every_method_trains(name: str, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = LOGS / f"hopper_{log}.hdf5"
    if log == "medium_replay":
        path = ASSETS / path.name
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with open("task.yaml", "a") as file:
        file.write(f"data: {{dataset: {path}}}\n")
    method = METHODS[name]
    run = ("--trainer.default_root_dir", "run")
    normalized = ("--data.normalize_observations", str(log == "medium" and method.offline).lower())
    fit("--config", "task", "--config", f"method/{name}", *method.words, *normalized, *run)
    checkpoints = Path("run/checkpoints")
    names = {"last.ckpt", "best.ckpt"}
    pretrains = method.offline and method.offline_updates
    if pretrains:  # a second evaluation, and a hand-over
        names |= {"previous.ckpt", "pretrained.ckpt"}
    assert {checkpoint.name for checkpoint in checkpoints.iterdir()} == names
    before = weights(checkpoints / "last.ckpt")
    fit("--ckpt_path", "last", "--schedule.online_env_steps", "6", *run)
    after = weights(checkpoints / "last.ckpt")
    for part in method.parts:
        trained = [name for name in after if name.startswith(f"{part}.") and "weight" in name]
        assert trained
        assert not any(torch.equal(before[name], after[name]) for name in trained)

    with open("run/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    offline = 4 if pretrains else 0
    frozen = 2 if method.frozen else 0  # updates that a frozen step does not bring
    # before the hand-over (a run from scratch evaluates its first policy) and every three steps
    counters = [(row["gradient_updates"], row["env_steps"]) for row in rows]
    # and what was measured at the hand-over
    evaluated = [("3", "0"), ("4", "0"), ("4", "0")] if offline else [("0", "0")]
    ends = (str(offline + 6 - frozen), "3"), (str(offline + 12 - frozen), "6")
    assert counters == [*evaluated, *ends]
    losses = ["loss/critic"] + (["loss/density_ratio"] if name == "balanced_replay" else [])
    for row in rows[len(evaluated) :]:
        assert all(torch.tensor(float(row[loss])).isfinite() for loss in losses)
    for name_of_own in method.measured:
        assert any(row[name_of_own] for row in rows)
    chosen = yaml.safe_load(Path("run/config.yaml").read_text())["model"]["method"]
    kind = "TD3BC" if chosen is None else chosen["class_path"].rpartition(".")[2]
    if not getattr(methods, kind).uses_alpha:
        assert {row["control/alpha"] for row in rows} == {""}
    elif method.online_alpha == 0:
        assert float(rows[-1]["control/alpha"]) == 0

    replay = torch.load(checkpoints / "last.ckpt")["ReplayDataModule"]["replay"]["rows"]
    if not method.offline or method.fraction is not None or method.keep == 0:
        assert len(replay) == 6
    elif method.keep == 1.0:
        assert 99_000 < len(replay) <= 100_006
    else:
        assert len(replay) == 50_006
    assert replay[:, Layout(11, 3).columns["online"]].sum() == 6

    if log == "medium":
        capsys.readouterr()
        assert main(["validate", "--ckpt_path", "run/checkpoints/last.ckpt"]) == 0
        again = capsys.readouterr().out  # of the same episodes as the run's last evaluation
        assert f"return {float(rows[-1]['eval/return']):.2f} " in again


@pytest.mark.parametrize(
    ("first", "second", "options", "alpha"),
    [
        ("redq_adaptive_bc", "redq_ft", "", 0.0),
        ("redq_adaptive_bc", "fixed_alpha", "--alpha.initial 0.2", 0.2),
        ("td3_bc", "td3_ft", "", 0.0),
    ],
)
def test_one_pretraining_serves_methods_that_differ_online(
    first: str, second: str, options: str, alpha: float
) -> None:
    def run(name: str, folder: str, *words: str) -> dict[str, Any]:
        methods = ("--config", "task", "--config", f"method/{name}")
        fit(*methods, "--trainer.default_root_dir", folder, *words)
        return torch.load(f"{folder}/checkpoints/last.ckpt")

    whole = run(first, "first")
    pretrained = ("--ckpt_path", "first/checkpoints/pretrained.ckpt")
    continued = run(second, "continued", *pretrained, *options.split())
    alone = run(second, "alone", *options.split())
    for part in ("state_dict", "optimizer_states", "agent", "ReplayDataModule"):
        assert_equal(continued[part], alone[part])
    assert continued["state_dict"]["alpha"].item() == pytest.approx(alpha)
    weight = "actor.net.0.weight"
    assert not torch.equal(whole["state_dict"][weight], alone["state_dict"][weight])
