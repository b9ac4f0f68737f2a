"""``python -m adabc_lightning doctor``: its options, and its report for people or as JSON."""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adabc_lightning.commands.doctor.data import datasets
from adabc_lightning.commands.doctor.finding import Finding
from adabc_lightning.commands.doctor.machine import (
    accelerators,
    bfloat16,
    importable,
    machine,
    packages,
    products,
    weights_and_biases,
)
from adabc_lightning.commands.doctor.rendering import rendering, simulation
from adabc_lightning.commands.options import Options
from adabc_lightning.commands.plan import Plan
from adabc_lightning.errors import UserError, printable
from adabc_lightning.run.config_files import last_value, merged, resolve
from adabc_lightning.run.durations import spoken
from adabc_lightning.run.nested import at
from adabc_lightning.run.threads import Neighbours

EPILOG = """\
--config and --KEY VALUE are those of fit; without them it looks at the defaults (Hopper, the
packaged log, the paper's full protocol). Nothing is downloaded, nor written but the user's cache:
which library multiplies, and PyTorch's compiled code, where a run is long enough to be compiled;
that takes half a minute the first time.

Exit status: 0, or 1 when something that a run needs is broken. A note (no GPU, not logged in to
Weights & Biases) is no problem.

examples:
  doctor
  doctor --config walker2d-medium --config method/awac --seconds 20
  doctor --data-dir ~/logs --json
"""


def parser() -> Options:
    """The command's options; the others are fit's."""
    options = Options("doctor", "Checks this machine and how long a config will take.", EPILOG)
    add = options.add_argument
    add("--config", "-c", action="append", default=[], metavar="NAME", help="as for fit")
    add("--data-dir", type=Path, metavar="DIR", help="also list the HDF5 datasets of a folder")
    options.add_number("--seconds", lambda seconds: 0 <= seconds <= 600,
        "a number between 0 and 600", default=10.0, metavar="S",
        help="about how long to measure; 0: not at all (default: %(default)g)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    return options


def main(words: list[str]) -> int:
    """Runs the command.

    Args:
        words: the command line after ``doctor``.
    Returns: the exit status: 0, or 1 where a finding is a problem.
    Raises: UserError: the command line itself is wrong.
    """
    options, keys = parser().parse_known_args(words)
    for word in keys:
        if word.startswith("--") and ("." not in word and not word.startswith("--seed_everything")):
            parser().error(f"unrecognized arguments: {word}")
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise UserError(f"--data-dir: there is no folder {options.data_dir}")
    files, keys = resolve("doctor", [*(f"--config={name}" for name in options.config), *keys])
    report: dict[str, Any] = {"plan": None, "speed": None, "seconds": None}
    findings = []
    for finding in examine(options, files, keys, report):
        findings.append(finding)
        if not options.json:
            print(printable(finding.line(), keep="\n"), flush=True)
    broken = [finding for finding in findings if finding.state == "problem"]
    if options.json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": not broken, "findings": checks, **report}, indent=2))
    else:
        count = f"{len(broken)} problem{'s' * (len(broken) > 1)}" if broken else "no problems"
        print(f"\n{count}")
    return 1 if broken else 0


def examine(
    options: argparse.Namespace, files: list[Path], keys: list[str], report: dict[str, Any]
) -> Iterator[Finding]:
    """Everything in order, what costs least first.

    Args:
        options: the command's.
        files, keys: the chosen config.
        report: gets the plan, the speed and the seconds of the run.
    """
    neighbours = Neighbours()
    yield from machine()
    yield from packages()
    yield simulation()
    if bad := importable():
        yield bad
        return
    yield accelerators(neighbours)
    yield products()
    yield bfloat16()
    wanted = last_value(keys, "--logging.wandb") or at(merged(files, {}), "logging.wandb", "auto")
    yield weights_and_biases(str(wanted))
    yield rendering()
    yield from datasets(options.data_dir)
    yield from chosen(files, keys, options.seconds, report)


def chosen(
    files: list[Path], keys: list[str], seconds: float, report: dict[str, Any]
) -> Iterator[Finding]:
    """Whether the config could start, how fast it is and how long it will take."""
    from adabc_lightning.commands import fit
    from adabc_lightning.commands.command_line import CommandLine
    from adabc_lightning.commands.doctor.speed import expected_seconds, measure
    from adabc_lightning.commands.preview import to_fetch
    from adabc_lightning.commands.quiet import quieten
    from adabc_lightning.run.lock import FolderLock

    quieten()
    name = " + ".join(path.stem for path in files) or "the defaults"
    with tempfile.TemporaryDirectory() as folder:
        away = [f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"]
        try:
            line = CommandLine("fit", files, [*keys, *away], FolderLock("", ""), dry=True)
            missing = (
                to_fetch(line.datamodule.dataset_name) if line.datamodule.loading.download else None
            )
            if missing or not seconds:
                plan, speed = fit.plan(line), None
            else:
                plan, speed = measure(line, seconds)
        except UserError as error:
            yield Finding("config", f"{name} cannot run", "problem", f"{error}")
            return
    report["plan"] = _contents(plan)
    yield Finding("config", f"{name}: {_task(plan)}")
    yield _room(plan)
    if plan.max_episode_steps is None and line.datamodule.log is None:
        yield Finding(
            "time limit", f"{plan.env_id} is registered without one", "note",
            "where its episodes may never end, neither do evaluations: set data.max_episode_steps.",
        )  # fmt: skip
    if missing:
        yield Finding(
            "speed", "not measured: the dataset is not here yet", "note",
            f"fit fetches it first, from {missing}; then ask again.",
        )  # fmt: skip
    if speed is None:
        return
    phases, evaluations, beside = expected_seconds(plan, speed)
    report["speed"] = asdict(speed)
    report["seconds"] = {
        "phases": phases,
        "evaluations_at_most": evaluations,
        "beside_at_most": beside,
    }
    yield Finding("speed", _rates(plan, speed))
    names = [each.name for each in plan.beside]
    yield Finding("duration", _duration(phases, evaluations, beside, names))


def _contents(plan: Plan) -> dict[str, Any]:
    """What ``--json`` prints of a plan."""
    contents = asdict(plan)
    contents["beside"] = [asdict(each) | {"text": each.in_words()} for each in plan.beside]
    memory = plan.memory
    contents["memory"] = {"now": memory.now, **memory.to_come, "free": memory.free}
    if plan.replicas == 1:
        del contents["replicas"]
    return contents


def _task(plan: Plan) -> str:
    from adabc_lightning.commands.messages import fine_tuning

    data = plan.dataset or "no dataset"
    return f"{plan.env_id}, {data}; {plan.offline_updates:,} updates, then {fine_tuning(plan)}"


def _room(plan: Plan) -> Finding:
    """Whether memory and disk will do."""
    import shutil

    from adabc_lightning.run.limits import amount

    files, memory = sum(plan.files.values()), plan.memory
    more = sum(size for size in memory.to_come.values() if size)
    disk, free = shutil.disk_usage(Path.cwd()).free, memory.free
    in_all = amount(more + (memory.now or 0))
    found = f"the run takes {in_all} of memory, {amount(files)} of disk"
    if files > disk:
        return Finding(
            "room", found, "problem",
            f"{amount(disk)} are free here: give another --trainer.default_root_dir.",
        )  # fmt: skip
    if free is not None and more > free:
        return Finding(
            "room", found, "problem",
            f"{amount(free)} are free: set a smaller data.replay_capacity.",
        )  # fmt: skip
    return Finding("room", found)


def _rates(plan: Plan, speed: Any) -> str:
    parts = []
    if speed.offline_updates:
        parts.append(f"pre-training {speed.offline_updates:,.0f} updates/s")
    if speed.frozen_env_steps:
        parts.append(f"frozen {speed.frozen_env_steps:,.1f} environment steps/s")
    if speed.online_env_steps:
        updates = speed.online_env_steps * plan.updates_per_env_step
        parts.append(
            f"fine-tuning {updates:,.0f} updates/s ({speed.online_env_steps:,.1f} environment "
            "steps/s)"
        )
    if parts and plan.replicas > 1:
        parts.append(f"in each of {plan.replicas} replicas")
    return ", ".join(parts) or "too few updates to measure"


def _duration(
    phases: float | None, evaluations: float | None, beside: float | None, names: list[str]
) -> str:
    if phases is None:
        return "unknown: too few updates to measure"
    if evaluations is None or beside is None:
        others = " and ".join(["evaluations", *names])
        return f"{spoken(phases)}, and the {others}, whose episodes have no time limit"
    most = f"up to {spoken(evaluations)} of evaluations"
    if names:
        return f"{spoken(phases)}, {most}, and up to {spoken(beside)} of {' and '.join(names)}"
    return f"{spoken(phases)}, and {most}"
