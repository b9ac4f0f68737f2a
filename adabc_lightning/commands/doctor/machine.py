"""Machine, packages, accelerators: what can be said without any config."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from adabc_lightning.commands.doctor.finding import Finding
from adabc_lightning.errors import reason
from adabc_lightning.run.processor import processor
from adabc_lightning.run.threads import Neighbours, cores, settle

LITTLE_MEMORY, LITTLE_DISK = 2e9, 1e9  # bytes; a run of the paper's size takes about a third
LITTLE_GAIN = 1.3  # of a product, which is half of an update
PACKAGE = "adabc_lightning"


def machine() -> Iterator[Finding]:
    """System, cores, memory and disk."""
    from adabc_lightning.run.limits import amount, available

    count, load = cores(), os.getloadavg()[0]
    python = f"Python {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}, {python}, {count} cores ({processor()})"
    if load > 0.5 * count:
        yield Finding(
            "machine", f"{system}, load {load:.1f}", "note",
            "other processes are using the cores: what is measured below is less than the "
            "machine can do alone.",
        )  # fmt: skip
    else:
        yield Finding("machine", system)
    memory, disk = available(), shutil.disk_usage(Path.cwd()).free
    found = f"{'?' if memory is None else amount(memory)} free; disk {amount(disk)} free here"
    if memory is not None and memory < LITTLE_MEMORY:
        yield Finding(
            "memory", found, "note",
            "close other programs, or set data.replay_capacity and use a smaller dataset.",
        )  # fmt: skip
    elif disk < LITTLE_DISK:
        yield Finding(
            "memory", found, "note",
            "free some space, or give runs a folder elsewhere by --trainer.default_root_dir.",
        )  # fmt: skip
    else:
        yield Finding("memory", found)


def packages() -> Iterator[Finding]:
    """Versions of what this package requires, and of its extras' packages."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in requires(PACKAGE) or []]
    except PackageNotFoundError:
        yield Finding(
            "packages", f"{PACKAGE} runs from a folder, not installed", "note",
            "`pip install .` in the clone, or `make venv`, installs it with what it needs.",
        )  # fmt: skip
        return
    have, bad = [f"{PACKAGE} {version(PACKAGE)}"], []
    missing: dict[str, list[str]] = {}
    for needed in declared:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", str(needed.marker or ""))
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            if extra is None:
                bad.append(f"{needed.name} missing")
            else:
                missing.setdefault(extra[1], []).append(needed.name)
            continue
        if not needed.specifier.contains(found, prereleases=True):
            bad.append(f"{needed.name} {found} (needed: {needed.specifier})")
        elif extra is None:
            have.append(f"{needed.name} {found}")
    if bad:
        yield Finding(
            "packages", ", ".join(bad), "problem",
            f"`pip install --upgrade {PACKAGE}` installs what it needs.",
        )  # fmt: skip
    else:
        yield Finding("packages", ", ".join(have))
    users = {extra: names for extra, names in missing.items() if extra not in ("dev", "docs")}
    if users:
        yield Finding(
            "extras", f"not installed: {', '.join(users)}", "note",
            f"`pip install '{PACKAGE}[{','.join(users)}]'` adds them; without them only what they "
            "are named after is missing.",
        )  # fmt: skip


def accelerators(neighbours: Neighbours) -> Finding:
    """What Lightning would choose, and what it would leave unused.

    Args:
        neighbours: made a while ago, for the threads that a run would take now.
    """
    import torch

    if torch.cuda.is_available():
        names = []
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            names.append(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)")
        return Finding("accelerator", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Finding("accelerator", "Apple's GPU (MPS)")
    threads = f"runs use the CPU, {settle(neighbours)}"
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return Finding(
            "accelerator", f"an NVIDIA device that torch {torch.__version__} cannot use; {threads}",
            "note", "install a torch with CUDA and a driver that is new enough for it "
            "(PyTorch's site names both).",
        )  # fmt: skip
    return Finding("accelerator", f"none; {threads}")


def products() -> Finding:
    """Which library multiplies float32 matrices where ``model.matmul_precision`` is auto."""
    import torch

    from adabc_lightning.agent.float32 import measured

    if torch.cuda.is_available():
        return Finding("products", "float32 on the GPU (--model.matmul_precision high: TF32)")
    return Finding("products", str(measured()))


def bfloat16() -> Finding:
    """What ``model.precision: bf16`` would gain here, on the device that a run takes."""
    import torch

    from adabc_lightning.agent.float32 import choose, multiplying
    from adabc_lightning.agent.products import gain

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with multiplying(choose(device)):
        ratio = gain(torch.bfloat16, device)
    found = f"its matrix products take 1/{ratio:.1f} of float32's time"
    if ratio > LITTLE_GAIN:
        return Finding("bfloat16", f"{found}; --model.precision bf16 takes them")
    slower = f"{1 / ratio:.1f} × float32's time"
    return Finding("bfloat16", f"little or nothing to gain: its matrix products take {slower}")


def weights_and_biases(wanted: str) -> Finding:
    """What becomes of ``logging.wandb`` here; never the key.

    Args:
        wanted: the value of ``logging.wandb``.
    """
    from adabc_lightning.run.loggers import logged_in

    set_to = f"WANDB_MODE is {os.environ['WANDB_MODE']}, " if "WANDB_MODE" in os.environ else ""
    mode = os.environ.get("WANDB_MODE", "auto") if wanted == "auto" else wanted
    if mode == "disabled":
        return Finding("W&B", f"{set_to}logging.wandb {wanted}: off")
    try:
        known = logged_in()
    except Exception as error:  # a key of the wrong form, a broken file
        kind = type(error).__name__
        return Finding(
            "W&B", f"{set_to}its login does not work ({kind}); runs log offline", "note",
            "`wandb login --relogin` stores another key; `wandb sync RUN/wandb/offline-*` uploads.",
        )  # fmt: skip
    if mode == "offline":
        login = "logged in" if known else "not logged in"
        return Finding("W&B", f"{set_to}logging.wandb {wanted}: offline, though {login}")
    if known:
        return Finding("W&B", f"{set_to}logging.wandb {wanted}: logged in, online")
    return Finding(
        "W&B", f"{set_to}logging.wandb {wanted}: not logged in, offline (in the run's folder)",
        "note", "`wandb login` puts runs online; --logging.wandb disabled turns it off.",
    )  # fmt: skip


def importable() -> Finding | None:
    """A problem where PyTorch or Lightning cannot even be imported."""
    try:
        from adabc_lightning.run.runtime import tune

        tune()
        import lightning  # noqa: F401
        import torchrl  # noqa: F401
    except Exception as error:  # a broken installation raises anything
        return Finding(
            "libraries", f"{type(error).__name__}: {reason(error)[:200]}", "problem",
            "install torch, torchrl and lightning again, with the versions of constraints.txt.",
        )  # fmt: skip
    return None
