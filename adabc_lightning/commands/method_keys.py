"""The keys of ``model.method``, which are those of the class that it names."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.config_files import last_value, load, with_ancestors
from adabc_lightning.run.nested import dotted

_OURS = "adabc_lightning."
OVERLAYS = "method"
"""Folder of the configs that choose a method."""
ELSEWHERE = {
    **dict.fromkeys(("alpha", "cql_alpha", "cql_weight", "min_q_weight"), "weight"),
    **dict.fromkeys(("cql_n_actions", "n_actions", "num_samples"), "samples"),
    **dict.fromkeys(("temperature", "awac_lambda", "lam"), "beta"),
    **dict.fromkeys(("tau", "iql_tau", "quantile"), "expectile"),
    **dict.fromkeys(("actor_lr", "policy_lr"), "actor_learning_rate"),
    "actor_bc_coef": "actor_weight",
    "critic_bc_coef": "critic_weight",
    "actor_dropout": "dropout",
}
"""What keys of methods are called elsewhere (CORL, young-geng's, jaxrl), and here."""


def check_one_method(files: Iterable[Path]) -> None:
    """Refuses two files that each choose a method: the second would leave half of the first.

    An overlay does, and whatever names a class; a file that inherits one goes on with it.

    Args:
        files: all that are applied, what they inherit included.
    Raises: UserError: there are two.
    """
    chosen = [p for p in files if p.parent.name == OVERLAYS or class_of(load(p))]
    families = {path: {file.resolve() for file in with_ancestors(path)} for path in chosen}
    for first, second in combinations(chosen, 2):
        if first.resolve() in families[second] or second.resolve() in families[first]:
            continue
        one, other = (
            f"{OVERLAYS}/{p.stem}" if p.parent.name == OVERLAYS else p for p in (first, second)
        )
        raise UserError(
            f"--config {one} and --config {other} each choose a method; give one of them"
        )


def overruled(contents: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Sentences: where a later file changes a value of the method's overlay.

    Not of a file that inherits the overlay, which means to.

    Args:
        contents: of all files, in the order in which they are applied.
    """
    found, paths = [], list(contents)
    for path in (path for path in paths if path.parent.name == OVERLAYS):
        own = dict(dotted(contents[path]))
        for later in paths[paths.index(path) + 1 :]:
            if path.resolve() in {file.resolve() for file in with_ancestors(later)}:
                continue
            changed = {
                key: value
                for key, value in dotted(contents[later])
                if key in own and value != own[key]
            }
            if changed:
                said = ", ".join(f"{key} {value}, not {own[key]}" for key, value in changed.items())
                found.append(
                    f"{later.name}, after --config {OVERLAYS}/{path.stem}, sets {said}; where the "
                    "method's values are meant, give it last"
                )
    return found


def pretrained_all_the_same(
    contents: Mapping[Path, Mapping[str, Any]], options: Iterable[str]
) -> str | None:
    """A sentence where an option gives a pre-training to a method that its overlay gives none.

    Args:
        contents: see :func:`overruled`.
        options: the command line's words.
    """
    words = list(options)
    given = last_value(words, "--schedule.offline_updates")
    for path, content in contents.items():
        length = (content.get("schedule") or {}).get("offline_updates")
        if path.parent.name == OVERLAYS and length == 0 and given not in (None, "0"):
            return (
                f"--config {OVERLAYS}/{path.stem} starts from nothing (schedule.offline_updates "
                f"0); here it is pre-trained for {given} updates"
            )
    return None


def overlay(files: Iterable[Path]) -> str | None:
    """The last of the files that is an overlay of a method, as ``method/steady``; None for none."""
    names = [f"{OVERLAYS}/{path.stem}" for path in files if path.parent.name == OVERLAYS]
    return names[-1] if names else None


def check_same(of_files: str | None, given: str | None, option: str) -> None:
    """Refuses an option that names another method than the files do, as two files are refused.

    Args:
        of_files: the class that the files name; None where they name none.
        given: the class that the option names; a short name may stand for a dotted path.
        option: its name.
    Raises: UserError: they differ.
    """
    if of_files is None or given is None:
        return
    one, other = (path.rpartition(".")[2] for path in (of_files, given))
    if one != other:
        raise UserError(
            f"the config files choose the method {one} and {option} chooses {other}; leave one "
            "of them out, or name the second in a config of your own that inherits the first's"
        )


def class_of(content: Mapping[str, Any]) -> str | None:
    """The class that a config file's content names, by its dotted path; None where it has none."""
    model = content.get("model")
    method = model.get("method") if isinstance(model, Mapping) else None
    path = method.get("class_path") if isinstance(method, Mapping) else method
    return path if isinstance(path, str) else None


def check_keys(content: Mapping[str, Any], class_path: str | None, where: str) -> None:
    """Refuses keys of another method, or of none.

    Args:
        content: of a config file, or what an option amounts to.
        class_path: of the method, by this file or those before it; None where none is named.
        where: what holds them, for the message.
    Raises: UserError: the method has no such key.
    """
    method = (content.get("model") or {}).get("method")
    given = method.get("init_args") if isinstance(method, Mapping) else None
    known = keys_of(class_path)
    if not isinstance(given, Mapping) or known is None:
        return
    for name in given:
        if str(name).removesuffix("+") not in known:
            raise UserError(f"{where}: {unknown_key(str(name), class_path)}")


def unknown_key(name: str, class_path: str | None) -> str:
    """That the method has no such key, and the nearest one."""
    known = keys_of(class_path)
    if name == "init_args":
        such = f", such as --model.method.init_args.{known[0]}" if known else ""
        return f"model.method.init_args takes no value; give its keys one by one{such}"
    if class_path is None:
        return (
            f"model.method has no key {name!r}, as no method is named; give --config "
            f"{OVERLAYS}/NAME first"
        )
    short = class_path.rpartition(".")[2]
    meant = ELSEWHERE.get(name)
    hint = ""
    if known:
        hint = f"; did you mean {meant!r}?" if meant in known else f"; {nearest(name, known)}"
    return f"model.method has no key {name!r} with {short}{hint}"


def keys_of(class_path: str | None) -> list[str] | None:
    """The keys of one of the package's methods; without a method there are none.

    Returns: None where nobody knows them: others are not imported for it.
    """
    if class_path is None:
        return []
    if not class_path.startswith(_OURS):
        return None
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
        return list(ArgumentParser().add_class_arguments(kind, sub_configs=True))
    except (ImportError, AttributeError, ValueError):
        return None  # whoever makes it says what is wrong
