"""The paper's sixteen tasks: environments, datasets, special settings; one run on real data."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import REPOSITORY
from tiny import shapes

from adabc_lightning.__main__ import main
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.d4rl import FILES, MINARI
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.scores import REFERENCES
from adabc_lightning.errors import UserError
from adabc_lightning.run.config_files import (
    merged,
    packaged_configs,
    packaged_folder,
    with_ancestors,
)
from adabc_lightning.run.schedule import Schedule

SHARED = REPOSITORY.parent / "shared" / "data"
QUALITIES = ("random", "medium", "medium-replay", "medium-expert")
LOCOMOTION = [f"{task}-{q}" for task in ("hopper", "halfcheetah", "walker2d") for q in QUALITIES]
ADROIT = [f"{task}-expert" for task in ("pen", "door", "hammer", "relocate")]
TASKS = LOCOMOTION + ADROIT

# Observation and action size and time limit in steps, as D4RL has them.
DOMAINS = {
    "hopper": ("Hopper-v5", 11, 3, 1000),
    "halfcheetah": ("HalfCheetah-v5", 17, 6, 1000),
    "walker2d": ("Walker2d-v5", 17, 6, 1000),
    "pen": ("AdroitHandPen-v1", 45, 24, 100),
    "door": ("AdroitHandDoor-v1", 39, 28, 200),
    "hammer": ("AdroitHandHammer-v1", 46, 26, 200),
    "relocate": ("AdroitHandRelocate-v1", 39, 30, 200),
}

# What a task's config says beyond environment and dataset; everything else is the default.
ADROIT_ONLY = {
    "schedule": {"updates_per_env_step": 1},
    "model": {"alpha_offline": 8},
    "alpha": {"ceiling": 8, "kp": 6e-4, "kd": 2e-3},
}
SPECIAL = {"walker2d-random": {"model": {"alpha_offline": 100}}} | dict.fromkeys(
    ADROIT, ADROIT_ONLY
)


def keys(task: str) -> dict:
    return merged(with_ancestors(packaged_folder() / f"{task}.yaml"), {})


def test_every_task_has_a_config_and_nothing_else_has() -> None:
    listed = {name.removesuffix(".yaml") for name, _ in packaged_configs().items()}
    assert {name for name in listed if "-" in name and "/" not in name} == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_differs_from_the_defaults_in_what_the_paper_says(task: str) -> None:
    base, ours = merged([packaged_folder() / "base.yaml"], {}), keys(task)
    assert ours["data"]["dataset"] == f"{task}-v0"
    assert ours["data"]["dataset"] in FILES
    del base["data"], ours["data"]
    for group, values in SPECIAL.get(task, {}).items():
        base[group].update(values)
    assert ours == base

    text = (packaged_folder() / f"{task}.yaml").read_text()
    domain, _, quality = task.partition("-")
    assert text.splitlines()[0].endswith(f"D4RL {quality} (v0, as the paper).")
    assert (
        f"{task}-v1" in text if domain in ("pen", "door", "hammer", "relocate") else "-v2" in text
    )
    assert MINARI.get(task, "Minari has none") in text


@pytest.mark.parametrize("task", TASKS)
def test_a_task_s_environment_is_d4rl_s(task: str) -> None:
    domain = task.partition("-")[0]
    env_id, observation_size, action_size, limit = DOMAINS[domain]
    assert shapes(env_id) == (observation_size, action_size)  # skips what is not installed
    data = keys(task)["data"]
    module = ReplayDataModule(
        data["env_id"], None, Schedule(0), max_episode_steps=data["max_episode_steps"]
    )
    assert module.env_id == env_id
    assert module.spec.max_episode_steps == limit
    assert module.make_env().spec.max_episode_steps == limit  # type: ignore[union-attr]
    assert module.reference == REFERENCES[domain]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not here")
@pytest.mark.parametrize("task", ["hopper-" + quality for quality in QUALITIES] + ["pen-expert"])
def test_data_of_a_task_fits_its_environment(task: str) -> None:
    path = SHARED / f"{task.replace('-', '_')}.hdf5"
    _, observation_size, action_size, limit = DOMAINS[task.partition("-")[0]]
    dataset = load_dataset(str(path), max_episode_steps=limit)
    assert (dataset.layout.observation_size, dataset.layout.action_size) == (
        observation_size,
        action_size,
    )
    assert int(dataset.episode_length_E.max()) <= limit


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not here")
def test_pen_pre_trains_fine_tunes_and_resumes_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.chdir(tmp_path)
    dataset = SHARED / "pen_expert.hdf5"
    fit = shlex.split(
        f"fit --config pen-expert --data.dataset {dataset} --data.max_episode_steps 12"
        " --schedule.offline_updates 4 --schedule.online_env_steps 30"
        " --schedule.evaluation_every 4 --model.hidden_sizes [8] --model.num_critics 3"
        " --data.batch_size 8 --evaluation.episodes 2 --trainer.enable_progress_bar false"
    )
    assert main([*fit, "--trainer.default_root_dir", "whole"]) == 0
    step = Collector.step

    def crash(collector: Collector, *arguments: Any) -> torch.Tensor:
        """After 18 steps: the last checkpoint lies amid the second episode, with its target."""
        if collector.env_steps == 18:
            raise RuntimeError("power cut")
        return step(collector, *arguments)

    monkeypatch.setattr(Collector, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        main([*fit, "--trainer.default_root_dir", "cut"])
    monkeypatch.setattr(Collector, "step", step)
    assert torch.load("cut/checkpoints/last.ckpt")["ReplayDataModule"]["collector"]["steps"] == 4
    resume = ["fit", "--trainer.default_root_dir", "cut", "--ckpt_path", "last"]
    assert main(resume) == 0, capsys.readouterr().err

    whole, cut = (
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("whole", "cut")
    )
    assert cut["state_dict"].keys() == whole["state_dict"].keys()
    for name, value in whole["state_dict"].items():
        assert torch.equal(cut["state_dict"][name], value), name
    rows = [c["ReplayDataModule"]["replay"]["rows"] for c in (whole, cut)]
    assert torch.equal(*rows)
    assert int(rows[0][:, -1].sum()) == 30
    assert Path("cut/metrics.csv").read_bytes() == Path("whole/metrics.csv").read_bytes()


def test_a_time_limit_below_one_step_is_refused() -> None:
    with pytest.raises(UserError, match=r"^data.max_episode_steps is 0; it must be 1 or more"):
        ReplayDataModule(max_episode_steps=0)
