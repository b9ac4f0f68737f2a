"""``make fuzz``: random logs, configs, keys and checkpoints, for a bounded time.

Success or :class:`UserError` is right; anything else, a crash of the process and half a
minute for one file included, is a failure and prints its seed, which
``python tests/fuzz.py hdf5 SEED`` repeats. ``FUZZ_SECONDS`` (default 60) is the time in all,
``FUZZ_SEED`` the first seed (default: the clock's).
"""

import io
import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"  # what is forked must have one thread

sys.path.extend(str(path) for path in Path(__file__).parent.iterdir())  # as pytest has them

from fuzz_targets import TARGETS

from adabc_lightning.errors import UserError

PATIENCE = 30  # seconds for one file
MEMORY = 16 << 30  # address space; what a file makes us ask for beyond it is a failure


def worker(name: str, seeds: Any, results: Any) -> None:
    """Answers each seed with the exception that should not be, "" for none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    target, prepare = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MINARI_DATASETS_PATH"] = folder
        sys.stdout = sys.stderr = io.StringIO()
        logging.getLogger("torchrl").setLevel(logging.WARNING)
        prepared = prepare(Path(folder))
        while (seed := seeds.recv()) is not None:
            try:
                sys.stdout = sys.stderr = io.StringIO()  # warnings about what was loaded
                target(random.Random(seed), Path(folder), prepared)
                problem = ""
            except UserError as error:
                problem = "more than one line" if "\n" in str(error) else ""
            except BaseException:
                problem = traceback.format_exc()
            if Path("pwned").exists():
                problem = "something in the file was run"
            results.send(problem)


def fuzz(name: str, first: int, seconds: float, only: int | None = None) -> tuple[int, list[int]]:
    """Feeds seeds to a process of its own, a new one after each crash.

    Returns: how many files there were, and the seeds that failed.
    """
    end, count, failed = time.monotonic() + seconds, 0, []
    process = None
    while time.monotonic() < end and len(failed) < 20 and (only is None or not count):
        if process is None:
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("fork").Process(
                target=worker, args=(name, theirs, theirs), daemon=True
            )
            process.start()
            theirs.close()
        seed = first + count if only is None else only
        count += 1
        problem = "no answer in time"
        try:
            ours.send(seed)
            patience = PATIENCE + (60 if count == 1 or failed else 0)  # the first starts things
            if ours.poll(patience):
                problem = ours.recv()
        except (EOFError, OSError):
            process.join()
            problem = f"the process ended with {process.exitcode}"
        if problem:
            failed.append(seed)
            print(f"{name} seed {seed}: {problem}", flush=True)
            if problem.startswith(("no answer", "the process")):
                process.kill()
                process = None
    if process is not None:
        process.kill()
    return count, failed


def main(words: list[str]) -> int:
    """All targets in turn, or one seed of one."""
    if words:
        return bool(fuzz(words[0], 0, 600, int(words[1]))[1])
    seconds = float(os.environ.get("FUZZ_SECONDS", 60))
    first = int(os.environ.get("FUZZ_SEED", time.time()))
    failures = 0
    for name in TARGETS:
        count, failed = fuzz(name, first, seconds / len(TARGETS))
        print(f"{name}: {count} files from seed {first}, {len(failed)} failures", flush=True)
        failures += len(failed)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
