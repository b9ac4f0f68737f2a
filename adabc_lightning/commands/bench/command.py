"""``python -m adabc_lightning bench``: what it measures, the table and the JSON."""

import json
import os
import statistics
import time
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adabc_lightning.commands.figures import check_plot
from adabc_lightning.commands.options import Options
from adabc_lightning.errors import UserError

_EPILOG = """\
The contestants run in turn, round by round, and medians are printed, so that what else the machine
does falls on all of them; yet run it on an idle one. Sampling is part of every update. --rounds 1
--updates 2 --steps 20 --rows 1000 tries it out in a minute."""

PARTS = ("updates", "loop", "load", "start")
MORE = ("grow",)
"""Measured only where they are named."""


def parse(words: list[str]) -> Namespace:
    """The options of a command line.

    Raises: UserError: an option is unknown or out of its range.
    """
    parser = Options("bench", "Measures how fast this machine trains.", _EPILOG)
    add, count = parser.add_argument, parser.add_count
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all these), "
        "or grow: how the cost grows with N, batch, width, replicas R and G")  # fmt: skip
    count("--updates", default=40, help="per contestant and round (default: %(default)s)")
    count("--rounds", default=7, help="default: %(default)s")
    count("--steps", default=500, help="environment steps of a loop (default: %(default)s)")
    count("--replicas", default=1, metavar="R", help="also time the loop of R agents in "
        "one process; the rate is that of each (default: none)")  # fmt: skip
    count("--rows", default=1_000_000, help="of the datasets (default: %(default)s)")
    count("--num-critics", default=10, metavar="N", help="default: %(default)s")
    count("--batch-size", default=256, metavar="B", help="default: %(default)s")
    count("--hidden", default=256, metavar="H", help="units of each of the two hidden "
        "layers (default: %(default)s)")  # fmt: skip
    add("--method", metavar="NAME", help="for updates: the packaged method to measure (iql for "
        "method/iql); with --num-critics 2 IQL is compared with CORL's (default: the default "
        "method, beside several baselines)")  # fmt: skip
    count("--threads", help="of PyTorch (default: its own choice)")
    add("--precision", choices=("auto", "highest", "high", "medium", "bf16"), default="auto",
        help="of float32 matrix products, torch.set_float32_matmul_precision; auto: what a run "
        "takes here, the baselines highest; bf16: auto, and the packaged updates in "
        "model.precision bf16, too (default: %(default)s)")  # fmt: skip
    add("--no-compile", action="store_true", help="leave out the compiled update")
    add("--untuned", action="store_true", help="without the settings of runtime.tune: PyTorch's "
        "and the allocator's defaults")  # fmt: skip
    add("--processor-time", action="store_true", help="for updates: count CPU seconds, not "
        "wall time (busy machine); needs --threads 1")  # fmt: skip
    add("--cpu", action="store_true", help="even where there is a GPU")
    add("--json", metavar="FILE", help="write what was measured, every round of it; - for stdout")
    add("--plot", metavar="FILE", help="of grow, a figure: .svg, .png or .pdf")
    options = parser.parse_args(words)
    for part in options.parts:
        if part not in (*PARTS, *MORE):
            raise UserError(f"bench measures no {part!r}; known: {', '.join((*PARTS, *MORE))}")
    if options.method is not None:
        from adabc_lightning.commands.bench.overlays import check

        check(options.method)
        if options.parts != ["updates"]:
            raise UserError("--method is measured by updates alone: bench updates --method NAME")
    if options.processor_time and options.threads != 1:
        raise UserError("--processor-time adds up the threads' seconds; use it with --threads 1")
    for name in ("json", "plot"):
        file = getattr(options, name)
        if file not in (None, "-") and not Path(file).absolute().parent.is_dir():
            raise UserError(f"--{name}: there is no folder {Path(file).parent}")
    if options.plot:
        if "grow" not in options.parts:
            raise UserError("--plot draws what grow measures; name it: bench grow --plot FILE")
        check_plot(Path(options.plot))
    return options


def main(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: the command line after ``bench``.
    Raises: UserError: anything wrong with what the user gave.
    """
    options = parse(words)
    from adabc_lightning.run.runtime import tune

    if not options.untuned:
        tune()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    cuda = torch.cuda.is_available() and not options.cpu
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    if options.precision in ("auto", "bf16"):
        from adabc_lightning.agent.float32 import choose

        torch.set_float32_matmul_precision(choose(device))
    else:
        torch.set_float32_matmul_precision(options.precision)
    measured: dict[str, Any] = {"machine": machine(device)}
    show = print if options.json != "-" else lambda *_, **__: None
    show("  ".join(f"{key} {value}" for key, value in measured["machine"].items()))
    parts = {"updates": _updates, "loop": _loop, "load": _load, "start": _start, "grow": _grow}
    for name in options.parts or PARTS:
        measured[name], lines = parts[name](options, device)
        show(f"\n{name}", *lines, sep="\n  ", flush=True)
    if options.json == "-":
        print(json.dumps(measured, indent=2))
    elif options.json:
        from adabc_lightning.run.atomic import replace_text

        replace_text(Path(options.json), json.dumps(measured, indent=2) + "\n")


def machine(device: Any) -> dict[str, Any]:
    """Processor, cores, accelerator and the versions that decide about speed."""
    import torch

    from adabc_lightning import __version__
    from adabc_lightning.run.processor import processor

    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": torch.get_float32_matmul_precision(),
        "torch": torch.__version__,
        "adabc_lightning": __version__,
    }


def _updates(options: Namespace, device: Any) -> tuple[dict[str, Any], list[str]]:
    from adabc_lightning.commands.bench import updates

    shapes = _shapes(options)
    engines = ["eager"]
    if device.type == "cuda":
        engines += ["cuda_graph", *(() if options.no_compile else ["compiled_graph"])]
    elif not options.no_compile:
        engines.append("compiled")
    usual = "highest" if options.precision in ("auto", "bf16") else None
    running = updates.contestants(shapes, device, engines, usual)
    clock = time.process_time if options.processor_time else time.perf_counter
    rates = updates.in_turn(running, options.updates, options.rounds, device, clock)
    flops = updates.flops_per_update(shapes)
    peaks = {
        precision: updates.peak_flops(shapes, device, options.rounds, clock, precision)
        for precision in dict.fromkeys(["float32", shapes.precision])
    }
    baselines = {"to_authors_style": "authors' style", "to_corl_style": "CORL's style"}
    measured, lines = {}, []
    for name, each in rates.items():
        ratios = {
            key: statistics.median(a / b for a, b in zip(each, rates[baseline], strict=True))
            for key, baseline in baselines.items()
            if baseline in rates
        }
        rate = statistics.median(each)
        precision = next((each for each in peaks if name.endswith(f", {each}")), "float32")
        share = rate * flops / peaks[precision]
        measured[name] = {"updates_per_s": each, **ratios, "share_of_peak": share}
        words = [f"{ratios[key]:5.2f} × {baselines[key]}" for key in ratios]
        words += [f"{100 * share:3.0f} % of the products' peak"]
        if updates.PRODUCTS in rates and name.partition(",")[0] in engines:
            pairs = zip(rates[updates.PRODUCTS], each, strict=True)
            times = statistics.median(alone / rate for alone, rate in pairs)
            measured[name]["times_its_products"] = times
            words += [f"{times:.2f} × the time of its products"]
        lines.append(
            f"{name:<24} {rate:8.1f} updates/s ({min(each):.1f} to {max(each):.1f}), "
            + ", ".join(words)
        )
    lines.append(
        f"N = {shapes.num_critics}, B = {shapes.batch_size}, hidden {shapes.hidden}: "
        f"{flops / 1e9:.2f} GFLOP per update, peak at this shape "
        + ", ".join(f"{peak / 1e9:.0f} GFLOP/s in {name}" for name, peak in peaks.items())
    )
    return {**measured, "flops_per_update": flops, "peak_flops_per_s": peaks}, lines


def _shapes(options: Namespace) -> Any:
    from adabc_lightning.commands.bench.shapes import Shapes

    hidden = (options.hidden, options.hidden)
    precision = "bf16" if options.precision == "bf16" else "float32"
    return Shapes(
        num_critics=options.num_critics,
        batch_size=options.batch_size,
        hidden=hidden,
        rows=options.rows,
        method=options.method,
        precision=precision,
    )


def _grow(options: Namespace, device: Any) -> tuple[dict[str, Any], list[str]]:
    from adabc_lightning.commands.bench import grow

    shapes = _shapes(options)
    # Not compiled: each shape would be, for half a minute.
    engine = "cuda_graph" if device.type == "cuda" else "eager"
    per_round = max(1, options.updates // 2), options.rounds, options.steps // 2
    growth = grow.measure(shapes, device, engine, *per_round)
    if options.plot:
        name = machine(device)["device" if device.type == "cuda" else "cpu"]
        title = f"{name}, {engine}; N = {shapes.num_critics}, B = {shapes.batch_size}, "
        grow.draw(growth, f"{title}hidden {shapes.hidden}, where they stay", Path(options.plot))
    return {"engine": engine, "milliseconds": growth}, grow.table(growth)


def _loop(options: Namespace, device: Any) -> tuple[dict[str, Any], list[str]]:
    from adabc_lightning.commands.bench import loop

    hidden = [options.hidden, options.hidden]
    model: dict[str, Any] = {"num_critics": options.num_critics, "hidden_sizes": hidden}
    model["subset_size"] = min(2, options.num_critics)
    model["precision"] = "bf16" if options.precision == "bf16" else "float32"
    model["matmul_precision"] = "auto" if options.precision == "bf16" else options.precision
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    # These loops are too short for the engine of a long run.
    plain, compiled = ("eager", "compiled")
    if accelerator == "gpu":
        plain, compiled = ("cuda_graph", "compiled_graph")
    model["engine"] = plain if options.no_compile else compiled
    measured: dict[str, Any] = {}
    updates = max(60, options.updates * options.rounds)  # the first chunks warm up
    measured["offline"] = loop.offline(updates, accelerator, model)
    fewer = 1 if accelerator == "gpu" else 10
    steps = {0: options.steps * 10, 1: options.steps, 10: max(10, options.steps // fewer)}
    for g, count in steps.items():
        measured[f"online, G = {g}"] = loop.online(count, g, accelerator, model)
    if (several := options.replicas) > 1:
        name = f"online, G = 10, {several} agents"
        measured[name] = loop.online(steps[10], 10, accelerator, model, several)
    measured["acting alone"] = loop.acting(options.steps * 2, options.rounds, accelerator, model)
    lines = []
    for name, values in measured.items():
        (unit, rate), outside = next(iter(values.items())), values.get("outside")
        unit = unit.replace("_per_s", "/s").replace("_", " ")
        share = "" if outside is None else f", {100 * outside:5.1f} % outside the updates"
        if itself := values.get("environment_itself"):
            share = f", the environment itself {itself:.1f}"
        lines.append(f"{name:<24} {rate:8.1f} {unit}{share}")
    return measured, lines


def _load(options: Namespace, device: Any) -> tuple[dict[str, Any], list[str]]:
    from adabc_lightning.commands.bench import processes

    measured: dict[str, Any] = {}
    lines = []
    layouts = {"HDF5": False} | ({"LeRobot's Parquet": True} if find_spec("pyarrow") else {})
    for name, lerobot in layouts.items():
        runs = [processes.load(options.rows, lerobot) for _ in range(min(3, options.rounds))]
        seconds = statistics.median(run["seconds"] for run in runs)
        peak = statistics.median(run["peak"] for run in runs)
        lines.append(
            f"{options.rows} transitions      {seconds:.2f} s from {name}, peak {peak:.2f} × "
            f"their float32 size ({runs[0]['size'] / 2**20:.0f} MiB)"
        )
        seconds_peak = {**runs[0], "seconds": [run["seconds"] for run in runs], "peak": peak}
        measured |= {"lerobot": seconds_peak} if lerobot else seconds_peak
    return measured, lines


def _start(options: Namespace, device: Any) -> tuple[dict[str, Any], list[str]]:
    from adabc_lightning.commands.bench import processes

    repeats = range(min(3, options.rounds))
    usage = [processes.help_seconds() for _ in repeats]
    first = [processes.first_update_seconds() for _ in repeats]
    lines = [
        f"{'--help':<24} {statistics.median(usage):8.2f} s",
        f"{'first update, hopper':<24} {statistics.median(first):8.2f} s",
    ]
    return {"help_s": usage, "first_update_s": first}, lines
