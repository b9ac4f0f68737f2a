"""MuJoCo: whether it simulates, and which of its ways to draw without a display work."""

import os
import subprocess
import sys

from adabc_lightning.commands.doctor.finding import Finding

BACKENDS = ("egl", "osmesa", "glfw")
SECONDS = 30  # for one of them
# A lit ball: something must be seen. In a process of its own, as a backend is chosen at the first
# import and a wrong one can end the process.
PICTURE = """
import mujoco
ball = '<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(ball)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 48, 64) as renderer:
    renderer.update_scene(data)
    print("seen" if renderer.render().std() > 1 else "black")
"""


def simulation() -> Finding:
    """A step of a falling ball."""
    try:
        import mujoco

        text = "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"
        model = mujoco.MjModel.from_xml_string(text)
        data = mujoco.MjData(model)
        mujoco.mj_step(model, data)
        if not data.qvel[2] < 0:
            raise RuntimeError("a ball does not fall")
    except Exception as error:  # a library that cannot be loaded raises anything
        return Finding(
            "MuJoCo", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", "problem",
            "`pip install --force-reinstall mujoco` installs it again.",
        )  # fmt: skip
    return Finding("MuJoCo", f"{mujoco.__version__} simulates")


def works(backend: str) -> bool:
    """Whether MuJoCo draws with this ``MUJOCO_GL``."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", PICTURE],
            env={**os.environ, "MUJOCO_GL": backend},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0 and result.stdout.strip() == "seen"


def rendering() -> Finding:
    """Tries each backend; training needs none, so there is no problem, only a note."""
    working = [backend for backend in BACKENDS if works(backend)]
    chosen = os.environ.get("MUJOCO_GL")
    if not working:
        return Finding(
            "rendering", f"none of {', '.join(BACKENDS)} works; training needs none", "note",
            "for videos install a GPU's driver with EGL or software rendering "
            "(`apt-get install libegl1 libosmesa6`).",
        )  # fmt: skip
    found = f"works with MUJOCO_GL={', '.join(working)}"
    if chosen and chosen not in working:
        return Finding(
            "rendering", f"{found}, but it is set to {chosen}", "note",
            f"set MUJOCO_GL={working[0]} before you render.",
        )  # fmt: skip
    return Finding("rendering", found)
