"""``rollout``: the returns of a policy's episodes, and a video of them."""

import re
import shlex
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny import Toy, register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.env.make import evaluate, make_env
from adabc_lightning.env.policy import load_policy
from adabc_lightning.run.schedule import Schedule


class Painted(Toy):
    """The toy with pictures: their brightness is the step; or none, or an error."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(self, render_mode: str | None = None, mishap: str = "") -> None:
        super().__init__()
        self.render_mode, self.mishap, self.t = render_mode, mishap, 0

    def reset(self, **options: Any) -> Any:
        self.t = 0
        return super().reset(**options)

    def step(self, action: np.ndarray) -> Any:
        self.t += 1
        return super().step(action)

    def render(self) -> Any:
        if self.mishap == "raises":
            raise RuntimeError("no OpenGL\nhere")
        return None if self.mishap else np.full((32, 48, 3), 10 * self.t, np.uint8)


for name, mishap in (("Painted", ""), ("Unpainted", "none"), ("Torn", "raises")):
    if f"Adabc{name}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"Adabc{name}-v0", Painted, max_episode_steps=7, kwargs={"mishap": mishap}
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    log = write_log(folder / "log.hdf5", 3, 2)
    schedule = Schedule(6, 4, 1, evaluation_every=4)
    trainer, module, data = tiny_run(
        folder / "run", "AdabcPainted-v0", log, schedule=schedule, seed=3
    )
    trainer.fit(module, data)
    return folder / "run"


def rollout(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["rollout", *shlex.split(line)]) == 0
    return capsys.readouterr().out


def test_the_starts_are_those_of_the_run_s_evaluations(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    said = rollout(f"--ckpt_path {last} --episodes 2", capsys)
    mean = load_policy(last).card["evaluation"]["eval/return"]
    assert re.search(r"return (-?[\d.]+) ", said)[1] == f"{mean:.2f}"  # type: ignore[index]
    assert main(shlex.split(f"export --ckpt_path {last} --out {run}/out")) == 0
    capsys.readouterr()
    assert rollout(f"--ckpt_path {run}/out --episodes 2", capsys) == said
    assert rollout(f"--ckpt_path {last} --episodes 2 --seed 5", capsys) != said


def test_the_returns_by_hand(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = load_policy(run)
    env = make_env("AdabcPainted-v0")
    returns, *_ = evaluate(policy, [env], 3, 11)
    said = rollout(f"--ckpt_path {run} --seed 11", capsys).splitlines()
    assert [line.split()[1] for line in said[1:4]] == [f"{value:.2f}" for value in returns]
    assert [line.split()[3] for line in said[1:4]] == ["7"] * 3
    said = rollout(f"--ckpt_path {run} --max-episode-steps 2", capsys).splitlines()
    assert [line.split()[3] for line in said[1:4]] == ["2"] * 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ffmpeg's pipes
def test_a_video_shows_every_episode_and_changes_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imageio = pytest.importorskip("imageio")
    pytest.importorskip("imageio_ffmpeg")
    video = tmp_path / "new" / "out.mp4"
    said = rollout(f"--ckpt_path {run} --video {video} --episodes 3", capsys)
    table, _, line = said.rstrip().rpartition("\n")
    assert f"{table}\n" == rollout(f"--ckpt_path {run} --episodes 3", capsys)
    assert line == f"{video}: 15 frames, 0.5 s"  # steps 0, 2, 4, 6 and 7, the last one
    assert [path.name for path in video.parent.iterdir()] == ["out.mp4"]
    with imageio.get_reader(video) as reader:
        frames = [frame.mean() for frame in reader]
        assert reader.get_meta_data()["fps"] == 30
        assert reader.get_meta_data()["size"] == (48, 32)
    np.testing.assert_allclose(frames, [0, 20, 40, 60, 70] * 3, atol=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--video out.gif", "must end in .mp4"),
        ("--episodes 0", "--episodes is 0; it must be a whole number, 1 or more"),
        ("--env-id Hopper-v5", "observations of 3 and actions of 2 numbers"),
        ("--video out.mp4 --env-id AdabcTorn-v0", "cannot be rendered (no OpenGL here)"),
        ("--video out.mp4 --env-id AdabcUnpainted-v0", "gives no pictures"),
        (f"--video out.mp4 --env-id {register_toy()}", "__init__() got an unexpected keyword"),
        ("--video out.mp4 --env-id AdabcPaint-v0", "is not registered"),
        ("--videos out.mp4", "did you mean '--video'?"),
    ],
)
def test_one_line_for_each_mistake(
    run: Path,
    options: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rollout", "--ckpt_path", str(run), *options.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
