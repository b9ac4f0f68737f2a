"""Names of an environment's observations and actions, where it gives them.

An environment may have them as attributes, ``observation_names`` and ``action_names``; those of
Gymnasium's MuJoCo environments follow from the model's joints and from what the environment says
about the parts of its observation.
"""

from typing import Any

import gymnasium


def observation_names(env: gymnasium.Env) -> list[str] | None:
    """``qpos.rootz``, ``qvel.thigh_joint``, ``cfrc_ext[3]`` and the like, in order.

    A joint of several numbers has ``joint[0]``, ``joint[1]``, …
    """
    base: Any = env.unwrapped
    if (own := getattr(base, "observation_names", None)) is not None:
        return list(map(str, own))
    structure = getattr(base, "observation_structure", None)  # Gymnasium's since v5
    if not structure or not hasattr(base, "model"):
        return None
    skipped = structure.get("skipped_qpos", 0)
    coordinates = {
        "qpos": _coordinates(base.model, base.model.jnt_qposadr, base.model.nq)[skipped:],
        "qvel": _coordinates(base.model, base.model.jnt_dofadr, base.model.nv),
    }
    names = []
    for part, size in structure.items():
        if part == "skipped_qpos":
            continue
        of_joints = coordinates.get(part, [])
        if len(of_joints) == size:
            names += [f"{part}.{name}" for name in of_joints]
        else:
            names += [f"{part}[{index}]" for index in range(size)]
    return names


def action_names(env: gymnasium.Env) -> list[str] | None:
    """The actuators' names, or those of the joints that they move."""
    base: Any = env.unwrapped
    if (own := getattr(base, "action_names", None)) is not None:
        return list(map(str, own))
    if not hasattr(base, "model"):
        return None
    model = base.model
    names = []
    for index in range(model.nu):
        name = model.actuator(index).name
        if not name and model.actuator_trntype[index] == 0:  # mjTRN_JOINT
            name = model.joint(model.actuator_trnid[index, 0]).name
        names.append(name or f"actuator[{index}]")
    return names


def _coordinates(model: Any, first: Any, count: int) -> list[str]:
    """One name per position or velocity, from the index of each joint's first one."""
    ends = [*map(int, first[1:]), count]
    names: list[str] = []
    for joint, (start, end) in enumerate(zip(map(int, first), ends, strict=True)):
        name = model.joint(joint).name or f"joint{joint}"
        names += [name] if end - start == 1 else [f"{name}[{i}]" for i in range(end - start)]
    return names
