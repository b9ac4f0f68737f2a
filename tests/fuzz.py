"""``make fuzz``: random files into the HDF5 and the YAML entry points, for a bounded time.

Success or :class:`UserError` is right; anything else, a crash of the process and ten seconds
for one file included, is a failure and prints its seed, which
``python tests/fuzz.py hdf5 SEED`` repeats. ``FUZZ_SECONDS`` (default 60) is the time in all,
``FUZZ_SEED`` the first seed (default: the clock's).
"""

import copy
import io
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from jsonargparse import capture_parser

from adabc_lightning.cli import run
from adabc_lightning.config_files import load, merged, packaged_folder, with_ancestors
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.errors import UserError

PATIENCE = 10  # seconds for one file
MEMORY = 16 << 30  # address space; what a file makes us ask for beyond it is a failure
KEYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
TYPES = ("f2", "f4", "f8", "i1", "u8", "bool", "c8", "S3", "V4", "O")
SNIPPETS = (
    *("null", ".nan", "-.inf", "1e999", "0x", "9" * 5000, "''", "[]", "{}", "- ", "? ", ": ", "|"),
    *("---\n", "\t", "&a", "*a", "&a [*a]", "<<: *a", "${", "${model.gamma}", "${model}", "${.x}"),
    *("${oc.env:HOME}", "!!python/object/apply:os.system [touch pwned]", "2001-99-99", "\x00", "é"),
    *(
        "!!binary x",
        "!!set {a}",
        "inherit: base",
        "class_path: os.system",
        "callbacks+: 3",
        "[" * 80,
    ),
)
VALUES = (
    *(
        None,
        True,
        -1,
        0,
        10**30,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "${alpha.kp}",
        "os.system",
    ),
    *([], {}, [None], {"class_path": "os.system"}, {"init_args": {}}, {1: 2}, [[1], {"a": "b"}]),
    {"class_path": "adabc_lightning.objectives.AWAC", "init_args": {"beta": []}},
)


def hdf5(rng: random.Random, folder: Path) -> None:
    """A small valid file with random structure, then with random bytes, into the loader."""
    path, rows = folder / "log.hdf5", rng.choice((1, 2, 7, 50))
    numbers = np.random.default_rng(rng.randrange(2**32))
    with h5py.File(path, "w") as file:
        for key in KEYS:
            with suppress(ValueError, TypeError):  # h5py makes no such array
                _column(rng, numbers, file, key, rows)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((0, 0, 1, 4, 30))):
        place = rng.randrange(len(content))
        content[place] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    if rng.random() < 0.1:
        del content[rng.randrange(len(content)) :]
    path.write_bytes(content)
    load_dataset(str(path), max_episode_steps=rng.choice((None, 1, 5)))


def _column(rng: random.Random, numbers: Any, file: h5py.File, key: str, rows: int) -> None:
    """One key: mostly as it should be, else missing, of another shape or type, or a link."""
    width = 3 if key.endswith("observations") else 2
    shape = (rows, width) if key in (*KEYS[:2], KEYS[-1]) else (rows,)
    strange = rng.random()
    if strange < 0.04:
        return
    if strange < 0.08:
        shape = tuple(rng.choice((0, 1, 2, 50)) for _ in range(rng.randrange(4)))
        file.create_dataset(key, shape, rng.choice(TYPES[:6]))
    elif strange < 0.12:
        shape = (rng.choice((10**6, 10**13, 2**63)), *shape[1:])
        chunks = (rng.choice((1, 2**20)), *shape[1:])
        file.create_dataset(key, shape, "f4", chunks=chunks)
    elif strange < 0.16:
        kind = rng.choice(TYPES)
        file[key] = np.full(shape, "x", object) if kind == "O" else np.zeros(shape, kind)
    elif strange < 0.2:
        file[key] = rng.choice((h5py.SoftLink(f"/{rng.choice(KEYS)}"), h5py.ExternalLink("x", "y")))
    else:
        values = np.zeros(shape) if key in KEYS[3:5] else numbers.normal(size=shape)
        packed = rng.choice(({}, {"compression": "gzip", "chunks": True}))
        file.create_dataset(key, data=values, **packed)


def config(rng: random.Random, folder: Path) -> None:
    """A packaged config with random changes, through all that happens before a class is made."""
    path = folder / "config.yaml"
    text = rng.choice(sorted(packaged_folder().rglob("*.yaml"))).read_text(encoding="utf-8")
    if rng.random() < 0.5:
        text = yaml.safe_dump(_changed(rng, yaml.safe_load(text)), sort_keys=False)
    for _ in range(rng.choice((0, 1, 2, 5))):
        place = rng.randrange(len(text) + 1)
        cut = place + rng.choice((0, 0, 1, 20))
        text = text[:place] + rng.choice((*SNIPPETS, "")) + text[cut:]
    path.write_bytes(text.encode() + rng.choice((b"", b"", b"", b"\xff\xfe")))
    files = with_ancestors(path)
    for file in files:
        PARSER.check_names(load(file), str(file))
    PARSER.parse_args([f"--config={file}" for file in files])
    merged(files, {})


def _changed(rng: random.Random, content: Any) -> Any:
    """The same tree with one or more of its values replaced, renamed or moved."""
    for _ in range(rng.randint(1, 3)):
        place = content
        while isinstance(place, dict) and place:
            key = rng.choice(list(place))
            if not isinstance(place[key], dict) or rng.random() < 0.2:
                what = rng.random()
                if what < 0.7:
                    place[key] = copy.deepcopy(rng.choice(VALUES))
                elif what < 0.85:
                    place[rng.choice(("x", f"{key}+", "class_path", 3))] = place.pop(key)
                else:
                    del place[key]
                break
            place = place[key]
    return content


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {"hdf5": hdf5, "yaml": config}
PARSER: Any = None


def worker(name: str, seeds: Any, results: Any) -> None:
    """Answers each seed with the exception that should not be, "" for none."""
    global PARSER
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if name == "yaml":
        PARSER = capture_parser(run, "fit", [], [])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        while (seed := seeds.recv()) is not None:
            try:
                sys.stderr = io.StringIO()  # warnings about what was loaded
                TARGETS[name](random.Random(seed), Path(folder))
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
