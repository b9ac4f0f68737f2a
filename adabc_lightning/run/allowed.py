"""Which packages a config or a checkpoint may have imported: importing a module runs its code.

Imports no PyTorch.
"""

import inspect
import os
import sys

from adabc_lightning.errors import UserError

PACKAGES = (
    *("adabc_lightning", "lightning", "torch", "torchrl"),
    *("gymnasium", "gymnasium_robotics"),  # of environments
)
VARIABLE = "ADABC_ALLOW"
"""Environment variable: more packages, separated by commas."""


def allowed_packages() -> list[str]:
    """The packages above and those that the user trusts.

    Raises: UserError: one of the user's is no name of a package.
    """
    return [*PACKAGES, *users_packages()]


def users_packages() -> list[str]:
    """Those that the user trusts alone.

    Raises: UserError: as :func:`allowed_packages`.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"{name!r} is no package to allow; give a name like my_parts")
        # It could change what is allowed, and refuses to be named for that reason.
        if name.partition(".")[0] == "jsonargparse":
            raise UserError("jsonargparse reads the configs; it cannot be allowed to them")
    return names


_of_the_line: list[str] = []  # packages; those of the environment need not be said again


def take_allowed(words: list[str]) -> list[str]:
    """Adds each ``--allow PACKAGE`` of a command line to the environment variable.

    Returns: the other words.
    Raises: UserError: a package is missing or no name of one.
    """
    _of_the_line.clear()
    rest, remaining = [], iter(words)
    for word in remaining:
        option, has_value, value = word.partition("=")
        if option != "--allow":
            rest.append(word)
            continue
        package = value if has_value else next(remaining, "")
        if not package or package.startswith("--"):
            raise UserError("--allow needs the name of a package that configs may import")
        _of_the_line.append(package)
    before = os.environ.get(VARIABLE, "")
    if _of_the_line:
        os.environ[VARIABLE] = ",".join([before, *_of_the_line]).strip(",")
    try:
        allowed_packages()
    except UserError:
        os.environ[VARIABLE] = before  # what is refused stays with nobody
        raise
    return rest


def allowing() -> list[str]:
    """The words that allow again what the command line of this process has allowed."""
    return [word for package in dict.fromkeys(_of_the_line) for word in ("--allow", package)]


def check_module(module: str, what: str) -> None:
    """Refuses a module that nobody trusts.

    What the user has imported is trusted; Python's own modules are imported by everybody.

    Args:
        module: dotted name.
        what: where it is named, for the message.
    Raises: UserError: it would have to be imported, or it is one of Python's own.
    """
    trusted = any(f"{module}.".startswith(f"{package}.") for package in allowed_packages())
    everybodys = module.partition(".")[0] in sys.stdlib_module_names
    if not trusted and (everybodys or module not in sys.modules):
        raise UserError(refusal(module, what))


def check_origin(part: object, what: str) -> None:
    """:func:`check_module` for where a function or class is from: another may have imported it.

    Raises: UserError: as there.
    """
    if isinstance(part, type) or inspect.isroutine(part):  # other objects were made where they are
        own = getattr(part, "__self__", None)  # of a bound method, which may have no module
        check_module(getattr(part, "__module__", None) or type(own).__module__, what)


def check_environment(env_id: str) -> None:
    """:func:`check_module` for the module of ``module:Name-v0``; other ids, of logs too, have none.

    Raises: UserError: it would have to be imported.
    """
    module, colon, _ = env_id.partition(":")
    if module and colon and module != "log":
        check_module(module, f"environment {env_id!r}")


def refusal(path: str, what: str) -> str:
    """That a dotted path is not below the packages that are allowed."""
    package = path.partition(".")[0]
    also = "" if package in sys.stdlib_module_names else f" (in Python: import {package} first)"
    return (
        f"{what} names {path}, and only parts of {', '.join(PACKAGES)} are imported unasked; "
        f"if you trust {package}, add --allow {package}{also}"
    )
