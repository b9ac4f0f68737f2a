"""The packaged methods at the shapes that are measured; imports no PyTorch by itself."""

from importlib import import_module
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.config_files import find_config, load, packaged_configs, with_ancestors

FOLDER = "method/"
_MEASURED = ("hidden_sizes", "actor_hidden_sizes", "policy_delay", "critic_norm", "target_rule")
"""Keys of ``model`` that decide what an update is; N, B and widths are those that are measured."""


def names() -> list[str]:
    """The overlays of methods, sorted."""
    found = [name for name in packaged_configs() if name.startswith(FOLDER)]
    return [name.removeprefix(FOLDER).removesuffix(".yaml") for name in found]


def check(name: str) -> None:
    """Refuses a name that no overlay has.

    Raises: UserError: it is none.
    """
    if name not in names():
        raise UserError(f"--method is {name!r}; {nearest(name, names())}")


def model_of(name: str, num_critics: int, width: int) -> dict[str, Any]:
    """What an overlay makes of :class:`~adabc_lightning.agent.module.OffToOnModule`.

    Args:
        name: of the overlay.
        num_critics: N; where the overlay's targets are of all its critics, of all N here.
        width: units of every hidden layer.
    Returns: keyword arguments.
    """
    keys: dict[str, Any] = {}
    for path in with_ancestors(find_config(FOLDER + name, Path())):
        keys |= load(path).get("model") or {}
    model = {key: keys[key] for key in _MEASURED if keys.get(key) is not None}
    for key in ("hidden_sizes", "actor_hidden_sizes"):
        if key in model:
            model[key] = [width] * len(model[key])
    model.setdefault("hidden_sizes", [width, width])
    if "target_rule" in model:
        model["target_rule"] = _named(model["target_rule"])
    if method := keys.get("method"):
        model["method"] = _named(method["class_path"])(**method.get("init_args", {}))
    drawn = keys.get("subset_size", 2)
    every = drawn in (keys.get("num_critics"), "${model.num_critics}")
    subset_size = num_critics if every else min(drawn, num_critics)
    return {**model, "num_critics": num_critics, "subset_size": subset_size}


def _named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
