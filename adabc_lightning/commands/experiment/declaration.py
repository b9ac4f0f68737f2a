"""``experiments/NAME.yaml``: which tasks, variants and seeds an experiment compares."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from adabc_lightning.env.options import is_plain
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.config_files import load, packaged_folder

FIELDS = ("seeds", "tasks", "options", "variants")
OWN_KEYS = {
    "seed_everything": "from seeds",
    "trainer.default_root_dir": "below --out",
    "ckpt_path": "that of its pre-training",
}
"""What no variant may set, and where it is from."""
MOST_SEEDS = 10_000
VARIANT_FIELDS = ("method", "options", "options_for")
# Keys of Lightning's Trainer and of a class that a variant names; only ``fit`` knows which exist.
OPEN_KEYS = ("trainer.", "model.method.class_path", "model.method.init_args.")


def slug(name: str) -> str:
    """A variant's name as a folder's: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-.") or "variant"


@dataclass(frozen=True)
class Variant:
    """One curve of a figure.

    Args:
        name: as in tables and legends.
        method: name of a config in ``configs/method``, or a path; None for the task's own.
        options: its own values by their dotted keys, which win over every config file.
        options_for: more of them for the tasks that match a pattern (``hopper-*``), or one of
            several with commas.
    """

    name: str
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    options_for: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def options_of(self, task: str) -> dict[str, Any]:
        """All of its own for one task."""
        options = dict(self.options)
        for patterns, more in self.options_for.items():
            if any(fnmatchcase(task, pattern.strip()) for pattern in patterns.split(",")):
                options |= more
        return options


@dataclass(frozen=True)
class Declaration:
    """What an experiment compares.

    Args:
        name: of the experiment.
        seeds: how many; they are 0, 1, …
        tasks: names of task configs.
        variants: the curves.
        options: of every variant, over which its own win.
        keys: of the command line, which win over all.
    """

    name: str
    seeds: int
    tasks: list[str]
    variants: list[Variant]
    options: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)


def packaged_experiments() -> dict[str, str]:
    """Name of each packaged experiment → the comment in its first line."""
    found = {}
    for path in sorted(packaged_folder("experiments").glob("*.yaml")):
        found[path.stem] = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    return found


def find_experiment(name: str) -> Path:
    """The file of an experiment: a path, or a name in the working folder or the package's.

    Raises: UserError: there is none.
    """
    folders = (Path(), Path("experiments"), packaged_folder("experiments"))
    for path in (folder / file for folder in folders for file in (name, f"{name}.yaml")):
        if path.is_file():
            return path
    raise UserError(
        f"there is no experiment {name!r}, neither a file nor packaged; "
        f"{nearest(name.removesuffix('.yaml'), packaged_experiments())}"
    )


def read(path: Path, known_keys: Collection[str]) -> Declaration:
    """Reads and checks an experiment's file.

    Args:
        path: an existing file.
        known_keys: the keys that options may set, dotted; :data:`OPEN_KEYS` besides.
    Raises: UserError: it is no YAML, a field is missing, misspelt or of the wrong kind.
    """
    content = load(path)
    _check_names(content, FIELDS, str(path))
    seeds, tasks, variants = (content.get(name) for name in ("seeds", "tasks", "variants"))
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MOST_SEEDS:
        raise UserError(
            f"{path}: seeds is {seeds!r:.40}; it must be a whole number from 1 to {MOST_SEEDS:,}"
        )
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise UserError(f"{path}: tasks must be a list of names of task configs")
    if not isinstance(variants, dict) or not variants:
        raise UserError(f"{path}: variants must map names to methods and options")
    common = _options(content.get("options"), known_keys, f"{path}: options")
    made = [_variant(str(n), v, known_keys, str(path)) for n, v in variants.items()]
    first: dict[str, str] = {}
    for variant in made:
        if (folder := slug(variant.name)) in first:
            raise UserError(
                f"{path}: variants {first[folder]!r} and {variant.name!r} would share the folder "
                f"{folder}, as only a to z, digits, dots and + of a name are kept; rename one"
            )
        first[folder] = variant.name
    return Declaration(path.stem, seeds, [t.removesuffix(".yaml") for t in tasks], made, common)


def override(
    declaration: Declaration, options: Mapping[str, Any], known_keys: Collection[str]
) -> Declaration:
    """An experiment with options of the command line for every variant.

    Args:
        declaration: of those variants that are wanted.
        options: values by their dotted keys.
        known_keys: as of :func:`read`.
    Raises: UserError: there is no such key, or it is each run's own.
    """
    _options(dict(options), known_keys, "the command line")
    return replace(declaration, keys=dict(options))


def task_names(tasks: list[str]) -> list[str]:
    """What tasks are called in folders and tables: their configs' names, without folders.

    Raises: UserError: two of them have one name.
    """
    names = [Path(task).name for task in tasks]
    for index, name in enumerate(names):
        if name in ("", "..") or not name.isprintable():
            raise UserError(f"task {tasks[index]!r} would have no folder of its own; rename it")
        if name in names[:index]:
            first = tasks[names.index(name)]
            raise UserError(f"tasks {first} and {tasks[index]} would share the folder {name}")
    return names


def _variant(name: str, content: Any, known_keys: Collection[str], where: str) -> Variant:
    where = f"{where}: variant {name!r}"
    if not isinstance(content, dict):
        raise UserError(f"{where} must be a mapping such as {{method: redq_adaptive_bc}}")
    _check_names(content, VARIANT_FIELDS, where)
    method = content.get("method")
    if not isinstance(method, str | None):
        raise UserError(f"{where}: method must be the name of a config in configs/method")
    patterns = content.get("options_for") or {}
    if not isinstance(patterns, dict):
        raise UserError(f"{where}: options_for must map task patterns to options")
    options = _options(content.get("options"), known_keys, f"{where}: options")
    options_for = {
        str(pattern): _options(values, known_keys, f"{where}: options_for {pattern}")
        for pattern, values in patterns.items()
    }
    return Variant(name, method, options, options_for)


def _options(content: Any, known_keys: Collection[str], where: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{where} must map keys such as alpha.initial to values")
    for key in content:
        if key in OWN_KEYS:
            raise UserError(f"{where}: {key} is each run's own, {OWN_KEYS[key]}; leave it out")
        if key not in known_keys and not str(key).startswith(OPEN_KEYS):
            if str(key).startswith("model.method."):
                meant = f"model.method.init_args.{str(key).removeprefix('model.method.')}"
                raise UserError(f"{where}: there is no key {key!r}; did you mean {meant!r}?")
            if isinstance(content[key], dict):
                (name, *_), short = content[key] or ("…",), f"{where}: write {key} with a dot"
                raise UserError(f"{short}, {key}.{name}: keys and values stand in one mapping")
            raise UserError(f"{where}: there is no key {key!r}; {nearest(str(key), known_keys)}")
        if not is_plain(content[key]):
            raise UserError(
                f"{where}: {key} must be a number, a text, true or false, null, or a list or "
                "mapping of them"
            )
    return content


def _check_names(content: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in content:
        if name not in known:
            raise UserError(f"{where}: there is no field {name!r}; {nearest(str(name), known)}")
