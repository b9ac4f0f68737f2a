"""Pages made of what the package says about itself: its keys, its configs, its changelog."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INTRODUCTION = """# Every config key

Set on the command line (`--model.gamma 0.98`), in a YAML file, or by a packaged config; `fit
--help` prints the same list, `fit --config NAME --print_config` the values of a config. A key is
the heading, a dot and the name below it. This page is made from the package at build time.
"""
TRAINER = """
## trainer

`trainer.*` are the arguments of Lightning's `Trainer`. Worth knowing: `trainer.default_root_dir`
(the run's folder), `trainer.accelerator`, `trainer.enable_progress_bar`, `trainer.callbacks` (a
list of `class_path` and `init_args`; `callbacks+` appends). Those that would change the length of
a run (`max_epochs`, `max_steps` and the like) are refused: the keys of `schedule` say how long it
is.
"""


def anchor(name: str) -> str:
    """The id of a packaged config's heading."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def keys() -> str:
    """A section per group, a row per key: default, what it takes, what it means, who changes it."""
    from adabc_lightning.run.words import in_words

    parser = _parser()
    actions = {action.dest: action for action in parser._actions}
    meaning, comments, changed = _docstrings(), _comments(), _changed()
    parts, group = [INTRODUCTION], None
    for key, comment in comments.items():
        action = actions[key]
        first, _, name = key.rpartition(".")
        if first != group:
            group = first
            parts.append(f"\n## {group or 'seed'}\n\n{_ABOUT.get(group, '')}\n")
            parts.append("| key | default | takes | in short; source | in full | changed by |")
            parts.append("| --- " * 6 + "|")
        kind = in_words(action._typehint) if getattr(action, "_typehint", None) else "a number"
        row = [f"`{name}`", f"`{_default(key)}`", kind, comment, meaning.get(key, "")]
        row.append(", ".join(changed.get(key, [])))
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(parts) + "\n" + TRAINER


_ABOUT = {
    "schedule": "How long each phase lasts. One timeline: offline updates, hand-over, environment "
    "steps.",
    "data": "Environment, dataset and replay ring.",
    "model": "Networks, targets and losses.",
    "downsampling": "The hand-over: which offline transitions are kept.",
    "alpha": "The controller of the behaviour-cloning weight α (Eq. 2).",
    "guard": "What ends a run whose numbers are none.",
    "evaluation": "Evaluations without noise.",
    "metrics": "Rows of `metrics.csv`.",
    "checkpoints": "What is kept beside `last.ckpt`.",
    "logging": "Loggers beside `metrics.csv`.",
}


def _parser() -> Any:
    """The command line's own parser."""
    from adabc_lightning.commands.command_line import CommandLine
    from adabc_lightning.run.lock import FolderLock

    class Made(Exception):
        pass

    class Halfway(CommandLine):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            raise Made(parser)

    try:
        Halfway("fit", [], [], FolderLock("", ""))
    except Made as made:
        return made.args[0]
    raise AssertionError("the command line parsed nothing")


def _default(key: str) -> str:
    """As YAML writes it: that of base.yaml, which comes before every other config."""
    value: Any = _base()
    for name in key.split("."):
        value = value[name]
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _base() -> dict[str, Any]:
    from adabc_lightning.run.config_files import packaged_folder

    return yaml.safe_load((packaged_folder() / "base.yaml").read_text(encoding="utf-8"))


def _comments() -> dict[str, str]:
    """Key → the comment behind it in base.yaml, in the file's order."""
    from adabc_lightning.run.config_files import packaged_folder

    found, group = {}, ""
    for line in (packaged_folder() / "base.yaml").read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)(\w+):( *[^#]*?)(?: +# (.*))?$", line)
        if match is None:
            continue
        indent, name, value, comment = match.groups()
        if not value.strip():
            group = f"{name}."
        else:
            found[(group if indent else "") + name] = comment or ""
    return found


def _docstrings() -> dict[str, str]:
    """Key → what the docstring of the class that takes it says."""
    from docstring_parser import parse

    from adabc_lightning.agent.methods import TD3BC
    from adabc_lightning.agent.module import OffToOnModule
    from adabc_lightning.callbacks import (
        AlphaController,
        Checkpointing,
        Downsampling,
        Evaluation,
        Guard,
        Metrics,
    )
    from adabc_lightning.data.module import ReplayDataModule
    from adabc_lightning.run.loggers import Logging
    from adabc_lightning.run.schedule import Schedule

    classes = [
        *[("schedule", Schedule), ("data", ReplayDataModule), ("model", OffToOnModule)],
        *[("downsampling", Downsampling), ("alpha", AlphaController), ("guard", Guard)],
        *[("evaluation", Evaluation), ("metrics", Metrics), ("checkpoints", Checkpointing)],
        *[("logging", Logging), ("model", TD3BC)],  # the module hands three keys on to TD3BC
    ]
    found: dict[str, str] = {}
    for group, kind in classes:
        for part in parse(kind.__doc__ or "").params:
            text = _plain(part.description or "")
            for name in part.arg_name.split(","):
                key = f"{group}.{name.strip()}"
                if found.get(key, "see ").startswith("see "):
                    found[key] = text
    return found


def _plain(text: str) -> str:
    """Sphinx's roles and double backticks as Markdown has them."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return " ".join(text.replace("``", "`").split())


def _changed() -> dict[str, list[str]]:
    """Key → the packaged configs that set it to something else than the default."""
    from adabc_lightning.run.config_files import load, packaged_configs, packaged_folder

    base, found = _flat(_base()), {}
    for file in packaged_configs():
        name = file.removesuffix(".yaml")
        for key, value in _flat(load(packaged_folder() / file)).items():
            if key in base and base[key] != value and key not in ("data.dataset", "data.env_id"):
                link = f"[{name}](configs.md#{anchor(name)})"
                found.setdefault(key, []).append(link)
    return found


def _flat(content: dict[str, Any], group: str = "") -> dict[str, Any]:
    found = {}
    for name, value in content.items():
        if isinstance(value, dict) and name != "method":
            found |= _flat(value, f"{group}{name}.")
        else:
            found[f"{group}{name}"] = value
    return found


def configs() -> str:
    """Every packaged config in full."""
    from adabc_lightning.run.config_files import packaged_configs, packaged_folder

    parts = [
        "# Packaged configs\n\n`python -m adabc_lightning configs` lists them; `--config NAME` "
        "takes one, several stack, later ones win. The defaults, `base`, are [every key](keys.md) "
        "with its source.\n"
    ]
    for file, about in packaged_configs().items():
        if file == "base.yaml":
            continue
        name = file.removesuffix(".yaml")
        text = (packaged_folder() / file).read_text(encoding="utf-8").rstrip()
        parts.append(f"## {name} {{ #{anchor(name)} }}\n\n{about}\n\n```yaml\n{text}\n```\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "keys": keys,
    "configs": configs,
    "changelog": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    "contributing": lambda: (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
}
