"""Seconds and peak memory of loading a million transitions of Hopper's size from HDF5.

    .venv/bin/python benchmarks/load_speed.py [--rows 1000000]

Each file is loaded in a process of its own, so that the peak is the loader's.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

OBSERVATION, ACTION = 11, 3


def write(path: Path, rows: int, compression: str | None, next_observations: bool) -> None:
    """A synthetic log with episodes of 500 steps."""
    rng = np.random.default_rng(0)
    widths = {"observations": OBSERVATION, "actions": ACTION}
    if next_observations:
        widths["next_observations"] = OBSERVATION
    with h5py.File(path, "w") as file:
        for key, width in widths.items():
            data = rng.standard_normal((rows, width), dtype=np.float32).clip(-1, 1)
            file.create_dataset(key, data=data, compression=compression)
        file["rewards"] = rng.standard_normal(rows, dtype=np.float32)
        file["terminals"] = np.arange(1, rows + 1) % 1000 == 0
        file["timeouts"] = np.arange(1, rows + 1) % 1000 == 500


def load(path: str) -> None:
    """Prints seconds and the peak in multiples of the rows' own size."""
    from adabc_lightning.data.datasets import load_dataset

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    dataset = load_dataset(path)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    size = dataset.rows.numel() * dataset.rows.element_size()
    print(f"{seconds:.2f} s, peak {peak / size:.2f} x the rows ({size / 2**20:.0f} MiB)")


def main() -> None:
    """Writes the four files and loads each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load)
        return
    with tempfile.TemporaryDirectory() as folder:
        for compression in (None, "gzip"):
            for stored in (True, False):
                path = Path(folder, "log.hdf5")
                write(path, options.rows, compression, stored)
                words = [sys.executable, __file__, "--load", str(path)]
                result = subprocess.run(words, check=True, capture_output=True, text=True)
                layout = "with" if stored else "without"
                name = f"{compression or 'plain'}, {layout} next_observations"
                print(f"{name:<32} {result.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
