"""What has another name or place today than in a config or a checkpoint of version 0.1.0."""

import re
from typing import Any

MOVED = {
    "adabc_lightning.losses": "adabc_lightning.agent.losses",
    "adabc_lightning.objectives": "adabc_lightning.agent.methods",
}
"""Dotted path in a config of version 0.1.0 → the path today; of all that lies below it, too."""

_OLD = re.compile(rf"\b({'|'.join(map(re.escape, MOVED))})(?=\.|$)")


_KEY = re.compile(r"^model\.objective(?=\.|$)")
_REFERENCE = re.compile(r"\$\{model\.objective(?=[.}])")


def translated(content: Any) -> Any:
    """A config's values, of any shape, with today's names; also such as ``model.objective: …``."""
    if isinstance(content, str):
        moved = _OLD.sub(lambda found: MOVED[found[1]], content)
        return _REFERENCE.sub("${model.method", moved)
    if isinstance(content, list):
        return [translated(value) for value in content]
    if not isinstance(content, dict):
        return content
    known = {_todays_key(name): translated(value) for name, value in content.items()}
    model = known.get("model")
    if isinstance(model, dict) and "objective" in model:
        known["model"] = {("method" if n == "objective" else n): v for n, v in model.items()}
    return known


def translated_word(word: str) -> str:
    """The same of a word of a command line, ``--KEY``, ``--KEY=VALUE`` or ``VALUE``."""
    option, equals, value = word.partition("=")
    if option.startswith("--"):
        return f"--{_todays_key(option[2:])}{equals}{translated(value)}"
    return translated(word)


def _todays_key(name: Any) -> Any:
    return _KEY.sub("model.method", name) if isinstance(name, str) else name


def named_as_before(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted key with the names of version 0.1.0; what has a digest keeps it."""
    return {
        re.sub(r"^model\.method(?=\.|$)", "model.objective", key): _moved_back(value)
        for key, value in settings.items()
    }


def _moved_back(value: Any) -> Any:
    if isinstance(value, str):
        for old, new in MOVED.items():
            value = re.sub(rf"^{re.escape(new)}(?=\.|$)", old, value)
    return value


def todays_checkpoint(content: Any) -> Any:
    """A checkpoint's content with the parts named as today; what is no checkpoint stays as it is.

    Version 0.1.0 named the critics' targets otherwise, had the critics' Adam in front, and kept
    Balanced Replay's network with its callback.
    """
    if not isinstance(content, dict):
        return content
    if isinstance(content.get("replicas"), list):
        return {**content, "replicas": [todays_checkpoint(each) for each in content["replicas"]]}
    try:
        return _todays_agent(content)
    except (KeyError, TypeError, ValueError, AttributeError):  # whoever checks it says so
        return content


def _todays_agent(content: dict[str, Any]) -> dict[str, Any]:
    old = "critic_targets."
    networks = content["state_dict"]
    if "actor.log_std" in networks:  # AWAC followed its actor with a target that nothing read
        networks = {n: t for n, t in networks.items() if not n.startswith("actor_target.")}
        content = {**content, "state_dict": networks}
    if not any(name.startswith(old) for name in networks):
        return content
    networks = {
        f"critics_target.{name.removeprefix(old)}" if name.startswith(old) else name: tensor
        for name, tensor in networks.items()
    }
    if "actor.log_std" in networks:  # AWAC's, which had this range
        from torch import tensor  # configs are read without PyTorch

        networks["actor.log_std_range"] = tensor([-10.0, 2.0])
    critics_adam, actor_adam = content["optimizer_states"]
    adams, callbacks, added = [actor_adam, critics_adam], dict(content["callbacks"]), []
    if "BalancedReplay" in callbacks:
        balanced = dict(callbacks["BalancedReplay"])
        networks |= {f"density_ratio.{n}": t for n, t in balanced.pop("network").items()}
        adams.append(balanced.pop("optimizer"))
        callbacks["BalancedReplay"], added = balanced, ["density_ratio"]
    return {
        **content,
        "state_dict": networks,
        "optimizer_states": adams,
        "callbacks": callbacks,
        "agent": {**content["agent"], "added": added},
    }
