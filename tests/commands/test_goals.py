"""The recipe of docs/tasks.md for gymnasium-robotics, command by command, in small."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from adabc_lightning.__main__ import main
from adabc_lightning.env.make import make_env
from adabc_lightning.env.policy import load_policy

PARTS = [["achieved_goal", 3], ["desired_goal", 3], ["observation", 10]]
TINY = (
    "--schedule.offline_updates 4 --schedule.online_env_steps 6 --schedule.evaluation_every 6"
    " --schedule.offline_chunk 4 --data.batch_size 8 --data.max_episode_steps 5"
    " --data.normalize_observations true"
    " --downsampling.minimum 10 --evaluation.episodes 1 --model.hidden_sizes [8]"
    " --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    def run(line: str) -> str:
        status, printed = main(shlex.split(line)), capsys.readouterr()
        assert status == 0, printed.err
        return printed.out + printed.err

    return run


def test_fetch_from_its_log_to_its_policy(said, tmp_path: Path) -> None:
    pytest.importorskip("gymnasium_robotics")
    made = "--env-id FetchReach-v4 --env-kwargs '{reward_type: dense}'"
    log, run = tmp_path / "reach.hdf5", tmp_path / "run"
    said(f"collect --policy random {made} --steps 40 --max-episode-steps 10 --out {log}")
    card = said(f"inspect {log} {made}")
    assert "parts         achieved_goal (3), desired_goal (3), observation (10)" in card
    assert "observation.observation[9]" in card
    assert "observation.observation[3] (mean " in card  # the gripper, which hardly moves
    said(
        f"fit --config quick --data.env_id FetchReach-v4 --data.env_kwargs '{{reward_type: dense}}'"
        f" --data.dataset {log} --data.reference_min -15 --data.reference_max -1"
        f" --trainer.default_root_dir {run} {TINY}"
    )
    summary = json.loads((run / "summary.json").read_text())
    assert summary["env_steps"] == 6
    printed = said(f"rollout --ckpt_path {run} --episodes 1")
    total = float(printed.splitlines()[1].split()[1])
    assert -5 < total < 0  # dense: of five steps, each less than a metre away
    assert total % 1
    env = make_env("FetchReach-v4", kwargs={"reward_type": "dense"})
    try:
        nested = env.env.reset(seed=0)[0]  # type: ignore[attr-defined]
    finally:
        env.close()
    flat = np.concatenate([nested[name] for name, _ in PARTS])
    expected = load_policy(run)(nested)
    np.testing.assert_array_equal(load_policy(run)(flat), expected)
    for kind in ("onnx", "torch"):
        said(f"export --ckpt_path {run} --format {kind} --inputs parts --out {tmp_path / kind}")
        policy = load_policy(tmp_path / kind)
        assert json.loads((tmp_path / kind / "policy.json").read_text())["observation_parts"] == (
            PARTS
        )
        np.testing.assert_allclose(policy(nested), expected, atol=1e-6)
        np.testing.assert_allclose(policy(flat), expected, atol=1e-6)
