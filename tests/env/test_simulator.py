"""What MuJoCo says while it simulates."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest

from adabc_lightning.env import simulator
from adabc_lightning.env.make import make_env
from adabc_lightning.env.simulator import hear_mujoco

UNSTABLE = "warning: MuJoCo: Nan, Inf or huge value in QVEL at DOF 0. The simulation is unstable."


@pytest.fixture(autouse=True)
def _unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)
    monkeypatch.setattr(simulator, "_said", set())
    yield
    mujoco.set_mju_user_warning(before)


def test_a_deprecation_of_its_models_is_nobodys_business_and_an_instability_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_env("HalfCheetah-v5").close()  # its model says "settotalmass"
    env = make_env("Hopper-v5")
    for _ in range(2):
        env.reset(seed=0)
        env.unwrapped.data.qvel[:] = 1e12
        env.step(np.zeros(3, np.float32))
    env.close()
    assert capfd.readouterr().err == f"{UNSTABLE} Time = 0.0000.\n"
    assert list(tmp_path.iterdir()) == []  # MuJoCo would write MUJOCO_LOG.TXT


def test_one_of_ones_own_is_heard_from_the_first_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    point = "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv"
    text = f"import gymnasium\ngymnasium.register('HeardCheetah-v0', '{point}')\n"
    (tmp_path / "heard_cheetah.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADABC_ALLOW", "heard_cheetah")
    make_env("heard_cheetah:HeardCheetah-v0").close()
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


def test_a_handler_of_somebody_else_stays() -> None:
    heard: list[str] = []
    mujoco.set_mju_user_warning(heard.append)
    make_env("HalfCheetah-v5").close()
    assert len(heard) == 1


def test_no_environment_without_mujoco_imports_it() -> None:
    code = (
        "import sys; from adabc_lightning.env.simulator import hear_mujoco; "
        "import gymnasium; hear_mujoco('CartPole-v1'); assert 'mujoco' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("env_id", ["Nowhere-v0", "no_such_module:Name-v0"])
def test_an_id_that_is_wrong_is_left_to_gymnasium(env_id: str) -> None:
    hear_mujoco(env_id)
