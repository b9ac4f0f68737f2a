"""Threads on a CPU: as many as cores are free, and none that waits for the others by spinning long.

Two runs that each take all cores get far less done than one after the other: a thread that has
lost its core to the other run keeps all of its own run waiting, and those that wait burn the cores
(docs/performance.md has the numbers). No PyTorch until the threads are chosen.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# What limits the waiting by spinning: GCC's OpenMP, which PyTorch's wheels for Linux use, and
# LLVM's (macOS, conda). In turns of a loop (some tenths of a millisecond), and in milliseconds.
_SPIN = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}
_GIVEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user, nice, system, interrupts, what a host took
_SHORTEST = 0.3  # seconds of watching; the kernel counts in hundredths
_SPARE = 0.25  # of a core: so much that others do is no reason to leave one out


def spin_less() -> None:
    """For all libraries with OpenMP that are loaded later; what is set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in _SPIN.items():
            os.environ.setdefault(name, value)


def cores() -> int:
    """Cores that this process may use: its affinity, and its share of a container's time."""
    count = len(_numbers())
    quota = _quota()
    return count if quota is None else max(1, min(count, int(quota)))


@dataclass(frozen=True)
class Threads:
    """What a run takes.

    Args:
        count: of threads.
        why: a few words.
    """

    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.count} thread{'s' * (self.count > 1)} ({self.why})"


class Neighbours:
    """Watches how many cores other processes keep busy, from its making on."""

    def __init__(self) -> None:
        self._start = _seconds()

    def busy(self) -> float:
        """Cores, as a mean since it was made."""
        if self._start is None:
            return max(0.0, os.getloadavg()[0] - 1)
        time.sleep(max(0.0, _SHORTEST - (time.monotonic() - self._start[0])))
        now = _seconds() or self._start
        wall, machine, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, machine - own) / wall if wall else 0.0


def settle(neighbours: Neighbours, had: int | None = None) -> Threads:
    """Chooses the threads of a run, before PyTorch has worked on a tensor of some size.

    Args:
        neighbours: made a while ago.
        had: threads of the run that goes on, for here at most as many as there are cores. The
            last bits of a number may depend on them.
    """
    import torch

    if given := next((name for name in _GIVEN if os.environ.get(name)), None):
        return Threads(torch.get_num_threads(), given)
    if had and had <= cores():
        chosen = Threads(had, "as before")
    else:
        chosen = choose(cores(), len(_numbers()), neighbours.busy())
    torch.set_num_threads(chosen.count)
    return chosen


def choose(allowed: int, machine: int, busy: float) -> Threads:
    """One thread for each core that nobody uses, at least one.

    Args:
        allowed: cores whose time this process may have.
        machine: cores that it may run on.
        busy: how many of these others use.
    """
    count = max(1, min(allowed, int(machine - busy + _SPARE)))
    of = f"{allowed} core{'s' * (allowed > 1)}"
    return Threads(count, f"{of}, {busy:.1f} in use by others" if busy >= 0.05 else of)


def _numbers() -> set[int]:
    """Of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _seconds() -> tuple[float, float, float] | None:
    """Now, and what these cores and this process have worked so far; None where nobody counts."""
    numbers = {f"cpu{number}" for number in _numbers()}
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    ticks = 0
    for name, *counts in (line.split() for line in lines if line):
        if name in numbers:
            ticks += sum(int(counts[i]) for i in _BUSY)
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def _quota(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Cores whose time the control groups of this process allow it; None for all.

    Args:
        root: where they are mounted, of either version.
        own: the list of them.
    """
    quotas = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        # A container may see its own group as the root, or its path from outside.
        folder = Path(path.lstrip("/"))
        for part in (base, *(base / up for up in (folder, *folder.parents))):
            quotas += [quota for quota in (_of_v2(part), _of_v1(part)) if quota is not None]
    return min(quotas, default=None)


def _of_v2(folder: Path) -> float | None:
    try:
        most, period = (folder / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def _of_v1(folder: Path) -> float | None:
    try:
        most = int((folder / "cpu.cfs_quota_us").read_text())
        return most / int((folder / "cpu.cfs_period_us").read_text()) if most > 0 else None
    except (OSError, ValueError):
        return None
