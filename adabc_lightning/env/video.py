"""Pictures of an environment's episodes as one MP4 file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium

from adabc_lightning.env.state import is_mujoco
from adabc_lightning.errors import UserError, reason
from adabc_lightning.run.atomic import writing

_RATE = 30.0  # frames a second of environments that do not say


class Recorder(gymnasium.Wrapper):
    """Hands a picture of every k-th step to a writer; the environment runs as without it.

    Args:
        env: made with ``render_mode="rgb_array"``.
        writer: has ``append_data``.
        every: k.
        rate: frames a second of the video.
    """

    def __init__(self, env: gymnasium.Env, writer: Any, every: int, rate: float) -> None:
        super().__init__(env)
        self._writer, self._every, self._rate = writer, every, rate
        self._step = self.frames = 0

    @property
    def seconds(self) -> float:
        """Length of the video so far."""
        return self.frames / self._rate

    def reset(self, **options: Any) -> Any:
        """As the environment's, with a picture of the start."""
        answer = super().reset(**options)
        self._step = 0
        self._picture()
        return answer

    def step(self, action: Any) -> Any:
        """As the environment's, with a picture of every k-th step and of the last one."""
        answer = super().step(action)
        self._step += 1
        if self._step % self._every == 0 or answer[2] or answer[3]:
            self._picture()
        return answer

    def _picture(self) -> None:
        self._writer.append_data(self.env.render())
        self.frames += 1


def _check_pictures(env: gymnasium.Env) -> None:
    """Raises: UserError: the environment gives no pictures, or OpenGL does not work here."""
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    env.reset(seed=0)
    try:
        picture = env.render()
    except Exception as error:  # of OpenGL's and MuJoCo's bindings, of all kinds
        remedy = "leave --video out"
        if is_mujoco(env):
            remedy = "without a display MuJoCo needs MUJOCO_GL=egl or MUJOCO_GL=osmesa"
        raise UserError(
            f"environment {name!r} cannot be rendered ({reason(error)}); {remedy}"
        ) from error
    if getattr(picture, "ndim", 0) != 3:
        raise UserError(f"environment {name!r} gives no pictures; leave --video out")


@contextmanager
def recording(env: gymnasium.Env, target: Path, most_frames: float) -> Iterator[Recorder]:
    """The environment with a camera; the file takes its name once it is whole.

    Args:
        env: made with ``render_mode="rgb_array"``.
        target: ``.mp4``, replaced if it exists.
        most_frames: a second; where the environment gives more, steps are left out and the speed
            stays the real one.
    Raises: UserError: no encoder is installed, or the file cannot be written.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
        from imageio import get_writer
    except ImportError as error:
        raise UserError(
            "--video needs imageio with ffmpeg; `pip install 'adabc_lightning[video]'` installs it"
        ) from error
    _check_pictures(env)
    rate = float(env.metadata.get("render_fps") or _RATE)
    every = max(1, round(rate / most_frames))
    temporary = target.with_name(f".{target.stem}.tmp.mp4")
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = get_writer(temporary, fps=rate / every, macro_block_size=2)
            try:
                yield Recorder(env, writer, every, rate / every)
            finally:
                writer.close()
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
