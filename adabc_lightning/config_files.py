"""Where ``--config NAME`` is found, and what a config file inherits. Imports no PyTorch."""

from pathlib import Path

import yaml

from adabc_lightning.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent


def packaged_folder() -> Path:
    """``configs/``: inside the installed package, beside it in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def packaged_configs() -> dict[str, str]:
    """Name of each packaged config → the comment in its first line."""
    folder = packaged_folder()
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[:1]
        about = first[0].lstrip("# ") if first and first[0].startswith("#") else ""
        found[path.relative_to(folder).as_posix()] = about
    return found


def find_config(name: str, beside: Path | None = None) -> Path:
    """The file a config name stands for; ``.yaml`` may be left out.

    Args:
        name: a path, or the name of a packaged config.
        beside: folder of the file that names it, searched first.
    Returns: an existing file: beside the naming file, in the working folder, or packaged.
    Raises: UserError: there is none.
    """
    folders = [folder for folder in (beside, Path.cwd(), packaged_folder()) if folder is not None]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"config {name!r} is neither in {Path.cwd()} nor among the packaged configs; "
        f"{nearest(name, list(packaged_configs()))}"
    )


def with_ancestors(path: Path, below: tuple[Path, ...] = ()) -> list[Path]:
    """A config file and all it inherits, the most general first.

    A file inherits with a top-level ``inherit: name`` or ``inherit: [name, …]``.

    Raises: UserError: the file is not YAML, or inherits from itself.
    """
    path = path.resolve()
    if path in below:
        chain = " → ".join(p.name for p in (*below, path))
        raise UserError(f"config {path.name} inherits from itself: {chain}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"config {path} cannot be read: {error.strerror}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(
            f"config {path} holds a {type(content).__name__}; it must map keys to values"
        )
    parents = content.get("inherit") or []
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise UserError(f"config {path}: inherit must be a config's name or a list of names")
    chain: list[Path] = []
    for name in parents:
        parent = find_config(name, path.parent)
        chain += [p for p in with_ancestors(parent, (*below, path)) if p not in chain]
    return [*chain, path]


def expand(arguments: list[str]) -> list[str]:
    """Replaces each ``--config NAME`` by one ``--config PATH`` for each file it stands for.

    Args:
        arguments: the command line without the program.
    Returns: the same command line for a parser that knows paths only.
    Raises: UserError: as :func:`find_config` and :func:`with_ancestors`.
    """
    expanded: list[str] = []
    words = iter(arguments)
    for word in words:
        name: str | None
        if word in ("--config", "-c"):
            name = next(words, None)
            if name is None:
                raise UserError(f"{word} needs the name of a config file")
        elif word.startswith("--config="):
            name = word.removeprefix("--config=")
        else:
            expanded.append(word)
            continue
        for path in with_ancestors(find_config(name)):
            expanded += ["--config", str(path)]
    return expanded
