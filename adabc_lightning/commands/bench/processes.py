"""What is measured in a process of its own: loading a dataset, and starting up."""

import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from adabc_lightning.commands.bench.shapes import Shapes


def load(rows: int, lerobot: bool = False) -> dict[str, float]:
    """Seconds and peak memory of loading an uncompressed D4RL-style HDF5 file of Hopper's sizes.

    Args:
        rows: transitions.
        lerobot: a folder like LeRobot's in its place: Parquet, 14 observations and 14 actions.
    Returns: ``seconds``, ``peak``: what the process grew by at most, in multiples of the float32
        rows' own size, and that size in bytes, ``size``.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log") if lerobot else Path(folder, "log.hdf5")
        (_write_lerobot if lerobot else _write)(path, rows)
        words = [sys.executable, "-m", "adabc_lightning.commands.bench.processes", str(path)]
        answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    seconds, peak, size = map(float, answer.split())
    return {"seconds": seconds, "peak": peak / size, "size": size}


def _write(path: Path, rows: int) -> None:
    """A synthetic log with episodes of 500 steps."""
    shapes, rng = Shapes(), np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key, width in (
            ("observations", shapes.observation_size),
            ("actions", shapes.action_size),
            ("next_observations", shapes.observation_size),
        ):
            file[key] = rng.standard_normal((rows, width), dtype=np.float32).clip(-1, 1)
        file["rewards"] = rng.standard_normal(rows, dtype=np.float32)
        file["terminals"] = np.arange(1, rows + 1) % 1000 == 0
        file["timeouts"] = np.arange(1, rows + 1) % 1000 == 500


def _write_lerobot(folder: Path, rows: int, size: int = 14, most: int = 500_000) -> None:
    """The same in LeRobot's layout, a file for each ``most`` rows."""
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(
        f'{{"codebase_version": "v3.0", "total_frames": {rows}, "total_tasks": 1}}'
    )
    for start in range(0, rows, most):
        step = np.arange(start, min(rows, start + most))
        starts = pyarrow.array(np.arange(len(step) + 1, dtype=np.int32) * size)
        lists = [
            pyarrow.ListArray.from_arrays(starts, rng.standard_normal(len(step) * size, np.float32))
            for _ in range(2)
        ]
        columns = {"observation.state": lists[0], "action": lists[1]}
        columns |= {"next.reward": rng.standard_normal(len(step), np.float32)}
        columns |= {"episode_index": step // 500, "frame_index": step % 500}
        columns |= {"timestamp": (step % 500 / 30).astype(np.float32)}
        parquet.write_table(
            pyarrow.table(columns), folder / "data" / f"file-{start // most:03d}.parquet"
        )


def _load(path: str) -> None:
    """Prints seconds, growth at most and rows' size in bytes."""
    from adabc_lightning.data.datasets import load_dataset

    before = _forget_peak()
    start = time.perf_counter()
    dataset = load_dataset(path)
    seconds = time.perf_counter() - start
    print(seconds, _peak() - before, dataset.rows.numel() * dataset.rows.element_size())


def _forget_peak() -> int:
    """Bytes resident now; on Linux the imports' peak is forgotten first."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most bytes that were resident."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def help_seconds() -> float:
    """Wall time of ``--help``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "adabc_lightning", "--help"], check=True,
                   capture_output=True)  # fmt: skip
    return time.perf_counter() - start


def first_update_seconds() -> float:
    """From the command ``fit --config hopper.yaml`` to the first update's row in metrics.csv."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "run", "metrics.csv")
        words = ["fit", "--config", "hopper.yaml", "--metrics.every", "1"]
        words += [
            "--schedule.offline_chunk",
            "1",
            "--trainer.default_root_dir",
            str(metrics.parent),
        ]
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "adabc_lightning", *words, "--model.engine", "eager"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None:
                if metrics.is_file() and metrics.read_text().count("\n") > 1:
                    return time.perf_counter() - start
                time.sleep(0.01)
            raise RuntimeError(f"fit ended with status {process.returncode} before an update")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    _load(sys.argv[1])
