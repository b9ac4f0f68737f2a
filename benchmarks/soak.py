"""A long accelerated run, watched from outside: do memory, rate and file descriptors stay flat?

    .venv/bin/python benchmarks/soak.py --data hopper_medium_replay.hdf5 --minutes 120

The command line's ``fit`` as a child, small enough that everything happens often: the ring is full
within the first minutes and wraps many thousand rows later again and again, episodes end, the agent
is evaluated, checkpoints replace each other, rows go to metrics.csv and both loggers. Every ten
seconds a row of ``soak.csv`` (on disk at once, so that a kill loses nothing): memory, descriptors,
threads, progress, wall time, the child's processor time. At the end the child gets SIGTERM, and
the first quarter after the warm-up is compared with the last one. ``--report`` does that to an
existing ``soak.csv``. Linux. Status 1 if something drifts.

On a machine with other work a CPU second is worth more or less from minute to minute; a second run,
begun near the end of the first and compared by ``--beside``, tells that from a run that grows slow.
"""

import argparse
import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

RUN = (
    "fit --config hopper.yaml --schedule.offline_updates 5000 --schedule.online_env_steps 100000000"
    " --schedule.updates_per_env_step 2 --schedule.evaluation_every 500 --evaluation.episodes 2"
    " --data.batch_size 64 --data.replay_capacity 5000 --data.max_episode_steps 100"
    " --downsampling.minimum 1000 --downsampling.keep 0.01 --model.num_critics 4"
    " --model.hidden_sizes [32,32] --metrics.every 500 --trainer.accelerator cpu"
    " --logging.wandb offline --logging.tensorboard true"
)
BYTES = 2**20
TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Processes below a process, at all depths."""
    below: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            own = [int(word) for word in (task / "children").read_text().split()]
            below += own + [deeper for child in own for deeper in children(child)]
    return below


def memory(pid: int) -> dict[str, float]:
    """Resident, proportional and private memory of a process in MiB."""
    sizes: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        sizes[name.rstrip(":")] = int(size) / 1024
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"rss_mib": sizes["Rss"], "pss_mib": sizes["Pss"], "private_mib": private}


def progress(path: Path) -> dict[str, int]:
    """Counters of the newest row of metrics.csv."""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        rows = [line.split(",") for line in file.read().decode().splitlines()[1:]]
        if rows and len(rows[-1]) > 2:
            return {"updates": int(rows[-1][1]), "env_steps": int(rows[-1][2])}
    return {"updates": 0, "env_steps": 0}


def sample(pid: int, folder: Path) -> dict[str, float]:
    """One row of soak.csv, times aside."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    others = 0.0
    for child in children(pid):
        with suppress(OSError):
            others += memory(child)["rss_mib"]
    return {
        "cpu_s": (int(stat[11]) + int(stat[12])) / TICKS,
        **progress(folder / "metrics.csv"),
        **memory(pid),
        "children_rss_mib": others,
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(stat[17]),
        "load": os.getloadavg()[0],
        "run_mib": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / BYTES,
    }


def watch(out: Path, data: str, minutes: float, every: float, words: list[str]) -> int:
    """Runs ``fit`` for so long; its exit status."""
    out.mkdir(parents=True)
    folder = out / "run"
    command = [sys.executable, "-m", "adabc_lightning", *shlex.split(RUN), "--data.dataset", data]
    command += ["--trainer.default_root_dir", str(folder), *words]
    print(shlex.join(command), flush=True)
    with open(out / "log.txt", "w") as log, open(out / "soak.csv", "w", newline="") as file:
        start = time.monotonic()
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        writer = None
        while child.poll() is None and time.monotonic() - start < 60 * minutes:
            time.sleep(every)
            with suppress(OSError):  # it has just ended, or a file has just been replaced
                row = {"wall_s": time.monotonic() - start, **sample(child.pid, folder)}
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                writer.writerow({name: round(value, 2) for name, value in row.items()})
                file.flush()
                os.fsync(file.fileno())
        child.send_signal(signal.SIGTERM)
        return child.wait()


def read(path: Path) -> dict[str, np.ndarray]:
    """Columns of soak.csv."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def rates(columns: dict[str, np.ndarray], clock: str, window: int) -> np.ndarray:
    """Updates per second of a clock over so many samples, NaN at the beginning."""
    done, seconds = columns["updates"], columns[clock]
    rate = np.full(len(done), np.nan)
    rate[window:] = (done[window:] - done[:-window]) / (seconds[window:] - seconds[:-window])
    return rate


def report(out: Path, warm_up: float, figure: Path | None) -> bool:
    """Prints first and last quarter after the warm-up, draws the figure; whether all is flat."""
    columns = read(out / "soak.csv")
    window = 12
    columns["updates_per_cpu_s"] = rates(columns, "cpu_s", window)
    columns["updates_per_wall_s"] = rates(columns, "wall_s", window)
    wall = columns["wall_s"]
    begin, end = 60 * warm_up, wall[-1]
    first = (wall >= begin) & (wall < begin + (end - begin) / 4)
    last = wall >= end - (end - begin) / 4
    after = wall >= begin
    hours = wall[after] / 3600
    print(
        f"{end / 60:.0f} min, {columns['cpu_s'][-1] / 60:.0f} min of it on a processor; "
        f"{columns['updates'][-1]:,.0f} updates, {columns['env_steps'][-1]:,.0f} environment steps"
    )
    print("after the warm-up     first quarter   last quarter   change   per hour   min–max")
    flat = True
    limits = {"rss_mib": 5, "private_mib": 5, "updates_per_cpu_s": 5, "fds": 0}
    others = ("updates_per_wall_s", "threads", "children_rss_mib", "load", "run_mib")
    # What others map as well counts less in this one, the more of them there are.
    for name in (*limits, "pss_mib", *others):
        values = columns[name]
        a, b = np.nanmedian(values[first]), np.nanmedian(values[last])
        change = 100 * (b / a - 1) if a else 0.0
        slope = np.polyfit(hours, values[after], 1)[0]
        held = name not in limits or abs(change) <= limits[name]
        flat &= held
        spread = f"{values[after].min():.1f}–{values[after].max():.1f}"
        print(
            f"{name:<20} {a:14.1f} {b:14.1f} {change:+7.2f} % {slope:+10.2f}   {spread}"
            f"{'' if held else '   DRIFTS'}"
        )
    if figure is not None:
        draw(columns, begin, figure)
    return flat


def beside(old: Path, young: Path, warm_up: float) -> None:
    """Prints the updates per CPU second of a long run and of one begun later, at the same time."""
    tables = []
    for out in (old, young):
        columns = read(out / "soak.csv")
        began = (out / "soak.csv").stat().st_mtime - columns["wall_s"][-1]
        tables.append((columns, began + columns["wall_s"]))
    begin = tables[1][1][0] + 60 * warm_up
    end = min(clock[-1] for _, clock in tables)
    rate, span = [], (end - begin) / 60
    for columns, clock in tables:
        done, cpu = (np.interp([begin, end], clock, columns[name]) for name in ("updates", "cpu_s"))
        rate.append(np.diff(done)[0] / np.diff(cpu)[0])
    print(f"side by side for {span:.0f} min: {rate[0]:.0f} updates per CPU second after "
          f"{(begin - tables[0][1][0]) / 60:.0f} min, {rate[1]:.0f} of a run just begun "
          f"({100 * (rate[0] / rate[1] - 1):+.1f} %)")  # fmt: skip


def draw(columns: dict[str, np.ndarray], begin: float, figure: Path) -> None:
    """Memory, rate and descriptors over wall time."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "soak"
    import matplotlib.pyplot as plt

    minutes = columns["wall_s"] / 60
    drawing, panels = plt.subplots(3, 1, figsize=(7, 7), sharex=True, layout="constrained")
    lines = (
        (("rss_mib", "resident"), ("private_mib", "private")),
        (("updates_per_cpu_s", "per CPU second"), ("updates_per_wall_s", "per wall second")),
        (("fds", "file descriptors"), ("threads", "threads")),
    )
    titles = ("memory, MiB", "gradient updates", "count")
    for panel, pairs, title in zip(panels, lines, titles, strict=True):
        for name, label in pairs:
            panel.plot(minutes, columns[name], label=label, linewidth=1)
        panel.axvline(begin / 60, color="0.6", linestyle=":", linewidth=1)
        panel.set_ylim(bottom=0)
        panel.set_ylabel(title)
        panel.legend(loc="lower right", frameon=False)
    panels[-1].set_xlabel("minutes (dotted: end of the warm-up)")
    drawing.savefig(figure, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="hopper-medium-replay", help="a Hopper dataset")
    parser.add_argument("--minutes", type=float, default=120, help="of wall time")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--warm-up", type=float, default=10, help="minutes that are left out")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="a new folder")
    parser.add_argument("--figure", type=Path, help="an SVG to draw")
    parser.add_argument("--beside", type=Path, help="--out of a run begun later, to compare with")
    parser.add_argument("--report", action="store_true", help="only read --out")
    options, words = parser.parse_known_args()
    status = 128 + signal.SIGTERM
    if not options.report:
        status = watch(options.out, options.data, options.minutes, options.every, words)
        print(f"fit ended with status {status}")
    flat = report(options.out, options.warm_up, options.figure)
    if options.beside:
        beside(options.out, options.beside, 3)
    raise SystemExit(not flat or status != 128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
