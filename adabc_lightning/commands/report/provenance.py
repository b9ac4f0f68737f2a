"""How runs were made: their commands, versions, and the settings in which they differ."""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.runs import NOT_THE_METHOD, Run
from adabc_lightning.run.nested import dotted

_KEPT = ("kept_transitions", "transitions", "kept_episodes", "episodes")


def commands(run: Run) -> list[str]:
    """The command lines that made a run, in order, from the pre-training that it starts from on.

    A run of a version that did not write them down gets the one that repeats it: its own
    ``config.yaml`` holds every key.
    """
    if recorded := texts(run.summary.get("commands")):
        return recorded
    words = ["python", "-m", "adabc_lightning", "fit", "--config", str(run.folder / "config.yaml")]
    return [shlex.join([*words, "--trainer.default_root_dir", "NEW"])]


def texts(found: Any) -> list[str]:
    """Those of a list; nothing of what else a file may hold there."""
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def versions(runs: Iterable[Run]) -> dict[str, str]:
    """Name → every version that a run was made with, and the machines."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        entries = run.summary.get("versions") or {}
        for name, value in {**entries, "machine": run.summary.get("machine")}.items():
            if isinstance(value, str):
                found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def kept_of_each(run: Run) -> list[tuple[str, ...]]:
    """Of several datasets: name, and transitions and episodes that are kept, of how many each."""
    found = run.summary.get("datasets")
    entries = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
    names = [name if isinstance(name := e.get("name"), str) else "–" for e in entries]
    counts = [tuple(_whole(e.get(name)) for name in _KEPT) for e in entries]
    return [(name, *each) for name, each in zip(names, counts, strict=True)]


def _whole(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def differences(panel: Panel) -> dict[str, list[str]]:
    """Key → its value in each curve, for the keys of the configs in which curves differ.

    A callback's are named after its class: ``Trials.episodes``.
    """
    flat = []
    for config in (curve.runs[0].config for curve in panel.curves):
        of_method = {name: each for name, each in config.items() if name not in NOT_THE_METHOD}
        flat.append(_flat(of_method) | _of_callbacks(config))
    names = dict.fromkeys(name for config in flat for name in config)
    found = {name: [config.get(name, "–") for config in flat] for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _of_callbacks(config: dict[str, Any]) -> dict[str, str]:
    made: dict[str, str] = {}
    callbacks = (config.get("trainer") or {}).get("callbacks") or []
    for callback in [callbacks] if isinstance(callbacks, dict) else callbacks:
        if isinstance(callback, dict) and "class_path" in callback:
            name = str(callback["class_path"]).rpartition(".")[2]
            made |= _flat(callback.get("init_args") or {}, f"{name}.") or {name: "yes"}
    return made


def _flat(config: dict[str, Any], group: str = "") -> dict[str, str]:
    """``a.b`` → value, JSON; nothing of an empty group."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in dotted(config, group)
        if value != {}
    }
