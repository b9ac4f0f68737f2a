"""Where ``--config NAME`` is found, and what a config file inherits. Imports no PyTorch."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from adabc_lightning.errors import UserError, nearest, reason
from adabc_lightning.run.moved import translated
from adabc_lightning.run.record import read_text
from adabc_lightning.run.yaml_core import RefusedError, load_yaml

_MOST_VALUES, _DEEPEST = 100_000, 50  # of a config file, keys included
_MOST_BITS = 1024  # of a whole number: Python prints the longest no more, but in hexadecimal
_PACKAGE = Path(__file__).resolve().parent.parent


def packaged_folder(name: str = "configs") -> Path:
    """``configs/`` or ``experiments/``: inside the installed package, beside it in a clone."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def packaged_configs() -> dict[str, str]:
    """Name of each packaged config → the comment in its first line."""
    folder = packaged_folder()
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[:1]
        about = first[0].lstrip("# ") if first and first[0].startswith("#") else ""
        found[path.relative_to(folder).as_posix()] = about
    return found


def find_config(name: str, beside: Path, heir: Path | None = None) -> Path:
    """The file a config name stands for; ``.yaml`` may be left out.

    Args:
        name: a path, or the name of a packaged config.
        beside: the folder searched before the packaged configs.
        heir: the file that inherits; its own name means another file than itself, so that a
            ``hopper.yaml`` in the working folder can inherit the packaged one.
    Returns: an existing file.
    Raises: UserError: there is none.
    """
    spelled = (name, f"{name}.yaml")
    places = [folder / spelling for folder in (beside, packaged_folder()) for spelling in spelled]
    found = [path.resolve() for path in places if _is_file(path)]
    if not found:
        names = [packaged.removesuffix(".yaml") for packaged in packaged_configs()]
        below = [packaged for packaged in names if packaged.endswith(f"/{name}")]
        if below:
            raise UserError(f"there is no config {name!r}; did you mean {below[0]!r}?")
        raise UserError(
            f"config {name!r} is neither in {beside.resolve()} nor among the packaged configs; "
            f"{nearest(name.removesuffix('.yaml'), names)}"
        )
    return next((path for path in found if path != heir), found[0])


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:  # too long
        return False


def load(path: Path) -> dict[str, Any]:
    """A config file's mapping, ``inherit`` included.

    Raises: UserError: it cannot be read, is not YAML or does not hold a mapping.
    """
    try:
        content = load_yaml(read_text(path))
    except RefusedError as error:
        raise UserError(f"config {path}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"config {path} is not YAML: {line}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not YAML: it is no text") from error
    except (ValueError, OverflowError, RecursionError) as error:  # of PyYAML's constructors
        raise UserError(
            f"config {path} holds a value that cannot be read: {reason(error)}"
        ) from error
    except OSError as error:
        raise UserError(f"config {path} cannot be read: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else "single value"
        raise UserError(f"config {path} holds a {kind}; it must map keys to values")
    _check_values(content, path)
    return translated(content)


def _check_values(content: Any, path: Path) -> None:
    """Refuses what aliases make endless or huge (a mapping below itself, a billion laughs), and
    what a tag makes of a value (``!!timestamp``, ``!!set``): no key takes it, and JSON has no such
    thing.
    """
    open_ends, values = [(content, 0)], 0
    while open_ends:
        value, depth = open_ends.pop()
        values += 1
        if values > _MOST_VALUES or depth > _DEEPEST:
            raise UserError(
                f"config {path} has more than {_MOST_VALUES} values or {_DEEPEST} levels; an "
                "alias in it (*name) may refer to itself"
            )
        if isinstance(value, dict):
            open_ends += [(below, depth + 1) for below in (*value, *value.values())]
        elif isinstance(value, list):
            open_ends += [(below, depth + 1) for below in value]
        elif value is not None and type(value) not in (bool, int, float, str):
            raise UserError(
                f"config {path} holds a {type(value).__name__}; it must be made of numbers, texts, "
                "true or false, null, lists and mappings of them"
            )
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise UserError(f"config {path} holds a whole number of more than 300 digits")


def with_ancestors(path: Path, heirs: tuple[Path, ...] = ()) -> list[Path]:
    """A config file and all it inherits, the most general first.

    A file inherits with a top-level ``inherit: name`` or ``inherit: [name, …]``; names are
    looked up beside the file, then among the packaged configs.

    Raises: UserError: as :func:`load` and :func:`find_config`, or it inherits from itself.
    """
    path = path.resolve()
    if path in heirs:
        chain = " → ".join(heir.name for heir in (*heirs, path))
        raise UserError(f"config {path} inherits from itself: {chain}")
    parents = load(path).get("inherit") or []
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise UserError(f"config {path}: inherit must be a config's name or a list of names")
    chained: list[Path] = []
    for name in parents:
        parent = find_config(name, path.parent, path)
        chained += [p for p in with_ancestors(parent, (*heirs, path)) if p not in chained]
    return [*chained, path]


def resolve(command: str, arguments: list[str]) -> tuple[list[Path], list[str]]:
    """Splits a command line into config files and options; options win over files.

    Whatever is inherited is applied before everything that is named, and once, so that neither
    a method stacked on a task nor a task stacked on a method brings the defaults back. Methods, and
    what inherits one, are the exception: they are laid over the task, in their order.

    Args:
        command: ``"fit"`` or ``"validate"``.
        arguments: the command line after it.
    Returns: the files in the order in which they are applied, and the remaining words.
    Raises: UserError: as :func:`find_config`, :func:`with_ancestors` and :func:`run_config`.
    """
    names: list[str] = []
    options: list[str] = []
    words = iter(arguments)
    for word in words:
        option, has_value, value = word.partition("=")
        if option in ("--config", "-c"):
            name = value if has_value else next(words, "")
            if not name or name.startswith("--"):
                raise UserError(f"{option} needs the name of a config file")
            names.append(name)
        elif option == "--inherit":
            raise UserError("inherit is a key of config files; here it is --config NAME")
        else:
            options.append(word)
    chains = [with_ancestors(find_config(name, Path.cwd())) for name in names]
    named = [chain[-1] for chain in chains]
    inherited = [path for chain in chains for path in chain[:-1] if path not in named]
    general = [path for path in inherited if not any(map(_is_method, with_ancestors(path)))]
    rest = [p for chain in chains for p in chain if p == chain[-1] or p in inherited]
    files = list(dict.fromkeys([*general, *rest]))
    return files or run_config(command, options), options


def _is_method(path: Path) -> bool:
    return path.parent.name == "method"


def run_config(command: str, options: list[str]) -> list[Path]:
    """``config.yaml`` of the run that ``--ckpt_path`` belongs to, for want of a ``--config``.

    Raises: UserError: ``validate`` has no checkpoint, or there is no run that it belongs to.
    """
    checkpoint = last_value(options, "--ckpt_path")
    if not checkpoint:
        if command == "validate":
            raise UserError("validate needs --ckpt_path, a checkpoint of a run")
        return []
    if command == "fit" and checkpoint == "last":
        folder = last_value(options, "--trainer.default_root_dir")
        config = Path(folder, "config.yaml") if folder else None
        if config and not _is_file(config):
            raise UserError(
                f"there is no run in {config.parent} to go on with; give its folder, or --config "
                "NAME to start one"
            )
        return [config.resolve()] if config else []
    path = Path(checkpoint)
    if not path.is_dir() and not _is_file(path):
        hint = "; validate takes the run's folder" if checkpoint == "last" else ""
        raise UserError(f"there is no checkpoint {checkpoint}{hint}")
    # The file may be a link to where its run is, and the folder of checkpoints one to elsewhere.
    names = [Path(os.path.abspath(path)), path.resolve()]
    places = [path] if path.is_dir() else [_run_of(name) for name in names]
    for config in (place / "config.yaml" for place in places):
        if _is_file(config):
            return [config.resolve()]
    raise UserError(
        f"{checkpoint} lies in no run's folder, whose config would be taken; give --config NAME "
        "as well"
    )


def _run_of(checkpoint: Path) -> Path:
    """Where the run of a checkpoint, or of a policy that it keeps, would lie."""
    folder = checkpoint.parent
    return (folder.parent if folder.name == "policies" else folder).parent


def merged(files: list[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """The config that ``fit`` makes of files and options, without importing PyTorch.

    Args:
        files: as :func:`resolve` returns them; ``base.yaml``, the defaults, comes before them.
        options: values by their dotted keys; they win.
    Returns: nested mapping with every key that a file or an option sets, ``${…}`` resolved. In a
        group that ``base.yaml`` has not (``trainer``) a ``name+`` stays what it is: more than
        whatever the default is.
    Raises: UserError: as :func:`load`, or a ``${…}`` leads nowhere.
    """
    from omegaconf import OmegaConf  # --help does not need it
    from omegaconf.errors import OmegaConfBaseException

    references_only()
    config: dict[str, Any] = {}
    for path in dict.fromkeys([packaged_folder() / "base.yaml", *files]):
        _overlay(config, load(path))
    for key, value in options.items():
        *groups, name = key.split(".")
        for group in reversed(groups):
            name, value = group, {name: value}
        _overlay(config, {name: value})
    config.pop("inherit", None)
    try:
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True)  # type: ignore
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{error.full_key} cannot be resolved: {said}") from error


def references_only() -> None:
    """Leaves ``${group.key}`` as all that a config can refer to.

    OmegaConf's functions would let it read more: ``${oc.env:WANDB_API_KEY}`` would end up in a
    run's ``config.yaml``.
    """
    from omegaconf import OmegaConf

    names = "env", "create", "decode", "deprecated", "select", "dict.keys", "dict.values"
    for name in names:
        OmegaConf.clear_resolver(f"oc.{name}")


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Mappings merge, ``name+`` appends to a list, whatever else replaces."""
    for name, value in above.items():
        plain = str(name).removesuffix("+")
        if plain != name:
            more = value if isinstance(value, list) else [value]
            key = name if name in below else plain
            below[key] = [*(below.get(key) or []), *more]
        elif isinstance(value, Mapping) and isinstance(below.get(name), dict):
            _overlay(below[name], value)
        else:
            below.pop(f"{name}+", None)
            below[name] = copy.deepcopy(value)


def last_value(options: list[str], name: str) -> str | None:
    """The value of an option in a list of words, the last one given."""
    value = None
    for index, word in enumerate(options):
        if word == name and index + 1 < len(options):
            value = options[index + 1]
        elif word.startswith(f"{name}="):
            value = word.removeprefix(f"{name}=")
    return value
