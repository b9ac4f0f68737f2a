"""The methods from the literature on odd data: each starts, or says in a sentence why it cannot."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from tiny import TOY_LIMIT, register_toy

from adabc_lightning.__main__ import main

ROWS = 60
METHODS = ("cal_ql", "cql", "iql", "wsrl", "rlpd", "spot", "rebrac")
RUN = shlex.split(
    "--schedule.offline_updates 4 --schedule.online_env_steps 7 --schedule.updates_per_env_step 1"
    f" --schedule.frozen_env_steps {TOY_LIMIT} --schedule.evaluation_every 7"
    " --evaluation.episodes 1 --data.batch_size 8"
    " --data.reference_min 0 --data.reference_max 1 --data.replay_capacity null"
    " --model.hidden_sizes [8] --model.actor_hidden_sizes [8] --model.engine eager"
    " --downsampling.minimum 4 --trainer.enable_progress_bar false --trainer.accelerator cpu"
    f" --data.dataset a.npz --data.env_id {register_toy()} --trainer.default_root_dir run"
)


def log() -> dict[str, np.ndarray]:
    """Episodes of five steps, which time limits end."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(ROWS + 1, 3))
    return {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": rng.uniform(-1, 1, (ROWS, 2)),
        "rewards": rng.normal(size=ROWS),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(1, ROWS + 1) % TOY_LIMIT == 0,
    }


def one_step() -> dict[str, np.ndarray]:
    return log() | {"terminals": np.ones(ROWS, bool), "timeouts": np.zeros(ROWS, bool)}


def gaps() -> dict[str, np.ndarray]:
    """Rows are missing, and no next observations are logged."""
    steps = {"step": np.arange(ROWS) % TOY_LIMIT, "episode": np.arange(ROWS) // TOY_LIMIT}
    columns = {k: v for k, v in log().items() if k not in ("timeouts", "next_observations")}
    return {key: np.delete(values, [7, 23, 48], 0) for key, values in (columns | steps).items()}


def sparse() -> dict[str, np.ndarray]:
    return log() | {"rewards": np.arange(ROWS) % 10 == 4}


@pytest.mark.parametrize("make", [log, one_step, gaps, sparse])
@pytest.mark.parametrize("method", METHODS)
def test_it_starts_or_says_why_not(
    method: str, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **{key: values.astype(np.float32) for key, values in make().items()})
    own = ["--model.method.vae_updates", "1"] if method == "spot" else []
    own += ["--data.failure_reward", "0"] if make is sparse else []
    status = main(["fit", "--config", "base", "--config", f"method/{method}", *RUN, *own])
    said = capsys.readouterr().err
    if method == "rebrac" and make is one_step:
        assert status == 2
        assert "model.method ReBRAC needs the action that followed a step, and no row is" in said
        assert not Path("run").exists()
        return
    assert status == 0, said
    assert Path("run/summary.json").exists()


@pytest.mark.parametrize("method", ["iql", "td3_bc"])
def test_a_method_without_alpha_is_not_told_to_raise_it(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **log() | {"rewards": 1e30 * log()["rewards"]})
    plain = ["--data.reward_scale", "1.0"]  # IQL's own would make them of order one
    assert main(["fit", "--config", "base", "--config", f"method/{method}", *RUN, *plain]) == 2
    said = capsys.readouterr().err
    assert ("model.alpha_offline" in said) == (method == "td3_bc")
    assert ("data.reward_scale may help" in said) == (method == "iql")


def test_steps_without_a_next_observation_say_what_to_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = log() | {"timeouts": np.ones(ROWS, bool)}
    del columns["next_observations"]
    np.savez("a.npz", **columns)
    assert main(["fit", "--config", "base", *RUN]) == 2
    assert "no step with a known next observation: each episode has one" in capsys.readouterr().err
