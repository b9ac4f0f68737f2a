"""Files from elsewhere: nothing in them runs, and nothing in them takes the memory."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import REPOSITORY
from test_bad_data import SPEC, log, write
from test_datasets import create_minari, episode_buffers

from adabc_lightning.__main__ import main
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.commands.export import graph
from adabc_lightning.data import filling, packing
from adabc_lightning.data.actions import clip_actions
from adabc_lightning.data.d4rl import FILES
from adabc_lightning.data.datasets import MINARI_ID, load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.policy import Policy, load_policy
from adabc_lightning.env.policy_export import CARD
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run import limits, yaml_core
from adabc_lightning.run.allowed import (
    allowed_packages,
    check_module,
    check_origin,
    take_allowed,
)
from adabc_lightning.run.config_files import merged
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.loggers import refuse_key

PACKAGE = REPOSITORY / "adabc_lightning"
TINY_PART = partial(print)  # an object of this module


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder that Python imports from, and nothing allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ADABC_ALLOW", "")


# ---- checkpoints -------------------------------------------------------------------------------


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def checkpoint() -> dict[str, Any]:
    """What looks like a run's checkpoint, with a payload."""
    return {"agent": {}, "optimizer_states": [], "state_dict": {}, "extra": Payload()}


def test_the_payload_is_live() -> None:
    torch.save(checkpoint(), "evil.ckpt")
    torch.load("evil.ckpt", weights_only=False)
    assert Path("pwned").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--config", "hopper", "--ckpt_path", "evil.ckpt"],
        ["fit", "--config", "hopper", "--ckpt_path", "last", "--trainer.default_root_dir", "run"],
        ["validate", "--config", "hopper", "--ckpt_path", "evil.ckpt"],
        ["collect", "--policy", "evil.ckpt", "--out", "out.hdf5"],
        ["collect", "--policy", "run", "--out", "out.hdf5"],
    ],
)
def test_a_checkpoint_with_a_payload_is_refused_and_not_run(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for path in ("evil.ckpt", "run/checkpoints/last.ckpt", "run/checkpoints/policies/000.ckpt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint(), path)
    before = sorted(Path().rglob("*"))
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "is no readable checkpoint" in said
    assert said.count("\n") == 1
    after = sorted(path for path in Path().rglob("*") if path.name != ".lock")
    assert after == before


def test_other_pickles_are_refused_and_not_run() -> None:
    legacy = io.BytesIO()
    torch.save(checkpoint(), legacy, _use_new_zipfile_serialization=False)
    for content in (pickle.dumps(Payload()), pickle.dumps(checkpoint()), legacy.getvalue()):
        Path("evil.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=r"evil.ckpt is no readable checkpoint"):
            read_run(Path("evil.ckpt"))
    assert not Path("pwned").exists()


def test_the_package_never_unpickles_or_evaluates() -> None:
    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where, code = f"{path}:{number}", line.replace(".eval()", "")
            for word in (
                "import pickle",
                "eval(",
                "exec(",
                "allow_pickle=True",
                "yaml.unsafe",
                "shelve",
            ):
                assert word not in code, where
            assert "torch.load(" not in code or "weights_only=True" in code, where
            # It unpickles; what it may read is the bytes that were made a line before.
            assert "export.load(" not in code or path.name == "graph.py", where
            # In one place, by a loader that makes plain values alone (below).
            loads = "yaml.load(" in code or "yaml.full_load" in code
            assert not loads or path.name == "yaml_core.py", where
    assert issubclass(yaml_core.Loader, yaml.SafeLoader | yaml.CSafeLoader)


def exported(folder: Path) -> bytes:
    """A right export of a tiny policy; what is in its file."""
    layers = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    content = graph.export(Policy(StoredPolicy(layers), [-1, -1], [1, 1]), "torch")
    facts = {"env_id": "Hopper-v5", "max_episode_steps": None, "reference": None, "seed": None}
    card = facts | {"format": "torch", "action": {"low": [-1, -1], "high": [1, 1]}}
    folder.mkdir()
    (folder / CARD).write_text(json.dumps(card))
    (folder / "policy.pt2").write_bytes(content)
    return content


def test_an_export_with_a_payload_is_read_and_it_is_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, evil = exported(Path("out")), io.BytesIO()
    torch.save((Payload(),), evil)
    right = load_policy("out")(np.ones(3))
    for name, instead in (
        ("data/sample_inputs/model.pt", evil.getvalue()),
        ("data/weights/model_weights_config.json", b'"use_pickle": true'),
        ("data/weights/weight_0", b""),
        ("data/weights/weight_0", bytes(100)),
    ):
        with (
            zipfile.ZipFile(io.BytesIO(content)) as old,
            zipfile.ZipFile("out/policy.pt2", "w", zipfile.ZIP_STORED) as new,
        ):
            for entry in old.infolist():
                data = old.read(entry)
                if entry.filename.endswith(name):
                    pickled = instead.startswith(b'"use_pickle')
                    data = data.replace(b'"use_pickle": false', instead) if pickled else instead
                new.writestr(entry.filename, data)
        if "sample" in name:
            np.testing.assert_array_equal(load_policy("out")(np.ones(3)), right)
            assert main(["rollout", "--ckpt_path", "out", "--episodes", "1"]) == 2
            assert "the policy is for observations of 3" in capsys.readouterr().err
        else:
            with pytest.raises(UserError, match=r"policy.pt2 (is no readable|holds no policy)"):
                load_policy("out")
        assert not Path("pwned").exists()


WRONG_POLICIES: list[tuple[str, Any, str]] = [
    ("agent/seed", "abc", "agent/seed is 'abc'; it must be a whole number, 0 or more"),
    ("agent/seed", torch.ones(3), "agent/seed is a tensor"),
    ("callbacks", 3, "callbacks is 3; it must be a mapping"),
    ("callbacks/Evaluation", {"history": {"a": 1}}, "callbacks/Evaluation/history is a dict of 1"),
    ("callbacks/Evaluation", {"history": [[1]]}, "history/0 is a list of 1; it must be a mapping"),
    ("callbacks/Evaluation", {"history": [{"a": [1]}]}, "it must be a finite number"),
    ("ReplayDataModule/dataset_name", torch.ones(3), "must be a text"),
    ("ReplayDataModule/reference", [1.0, 2.0, 3.0], "it must be a minimum and a maximum"),
    ("state_dict/actor.action_low", torch.ones(7), "holds no actor"),
    ("state_dict/actor.net.0.weight", torch.ones(7), "holds no actor"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG_POLICIES)
def test_what_a_kept_policy_says_of_itself_is_checked(path: str, value: Any, said: str) -> None:
    names = ("action_low", "action_high", "net.0.bias")
    state = {f"actor.{name}": torch.ones(2) for name in names}
    state["actor.net.0.weight"] = torch.ones(2, 3, dtype=torch.bfloat16)
    data = {"env_id": "Hopper-v5", "collector": {"env_steps": 1}, "dataset_name": "x"}
    data["max_episode_steps"] = None
    kept = {"agent": {"gradient_updates": 1, "seed": 0}, "state_dict": state, "callbacks": {}}
    kept["ReplayDataModule"] = data
    torch.save(kept, "kept.ckpt")
    assert load_policy("kept.ckpt").action_size == 2
    group, _, name = path.partition("/")
    if name:
        kept[group][name] = value
    else:
        kept[group] = value
    torch.save(kept, "kept.ckpt")
    with pytest.raises(UserError, match=re.escape(said)):
        load_policy("kept.ckpt")


# ---- datasets ----------------------------------------------------------------------------------


def test_a_terabyte_that_is_not_there_is_refused_before_memory_is_taken() -> None:
    path = write(Path("big.hdf5"), log(observations=None))
    with h5py.File(path, "a") as file:
        for name, shape in {"observations": (10**12, 3), "chunked": (3, 3)}.items():
            file.create_dataset(name, shape, "f4", chunks=(1024, 3), maxshape=(None, 3))
    with pytest.raises(UserError, match="'actions' has 200 rows, but 'observations' 1000000000000"):
        load_dataset(path)

    with h5py.File("all.hdf5", "w") as file:
        for key, column in log().items():
            shape = (10**12, *column.shape[1:])
            chunks = (1024, *column.shape[1:])
            file.create_dataset(key, shape, column.dtype, chunks=chunks, compression="gzip")
    with pytest.raises(
        UserError, match=r"says that it holds 7\d\.\d TB, but has \d+\.\d kB: it is"
    ):
        load_dataset("all.hdf5")


def test_names_in_a_file_cannot_steer_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    path = write(Path("log.hdf5"), log(actions=None) | {"a\x1b[2J\nb": np.zeros(200)})
    with pytest.raises(UserError, match=r"has no 'actions'; it has: a.x1b.2J b, ") as raised:
        load_dataset(path)
    assert str(raised.value).isprintable()
    assert main(["fit", "--config", "hopper", "--data.env_id", "a\x1b[2J"]) == 2
    assert "\x1b" not in capfd.readouterr().err


def test_a_chunk_larger_than_its_array_counts() -> None:
    path = write(Path("chunk.hdf5"), log(rewards=None))
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", (200,), "f8", chunks=(2**28,), maxshape=(None,))
    with pytest.raises(UserError, match=r"says that it holds 2\.1 GB"):
        load_dataset(path)


def test_more_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(Path("log.hdf5"), log())
    monkeypatch.setattr(limits, "available", lambda: 200 * 11 * 4 * 2 - 1)  # rows · width · 2
    with pytest.raises(UserError, match=r"log.hdf5 needs 17.6 kB of memory, 17.6 kB are free; use"):
        load_dataset(path)
    monkeypatch.setattr(limits, "available", lambda: 200 * 11 * 4 * 2)
    load_dataset(path)
    monkeypatch.setattr(limits, "available", lambda: None)  # no Linux
    check_memory(10**30, "nothing")


@contextmanager
def at_most(megabytes: int) -> Iterator[None]:
    """Python and NumPy take no more than so much in here."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6


def flags(rows: int) -> dict[str, np.ndarray]:
    """A log of ones of a byte each."""
    shapes = {"observations": (rows, 3), "actions": (rows, 2), "rewards": rows, "terminals": rows}
    return {key: np.ones(shape, bool) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", ["bytes.npz", "bytes.hdf5", "shards"])
def test_bytes_that_become_far_more_rows_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(name) if "." in name else Path(name, "a.npz")
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, **flags(2_000_000))
    else:
        with h5py.File(path, "w") as file:
            for key, column in flags(2_000_000).items():
                file.create_dataset(key, data=column, compression=9, chunks=True)
    message = r" has \d+\.\d kB, and its rows would take 88.0 MB, more than 1,032 times that"
    monkeypatch.setattr(limits, "SMALL", 64 << 20)
    with at_most(80), pytest.raises(UserError, match=name + message):
        load_dataset(name)
    np.savez_compressed("few.npz", **flags(200_000))  # 8.8 MB are no harm
    assert len(load_dataset("few.npz").rows) == 200_000


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".parquet"])
def test_sparse_rows_of_a_small_file_are_no_harm(suffix: str) -> None:
    """A walk in a grid world, one-hot: over 1,032 times its file, and honest."""
    rows, cells, rng = 20_000, 256, np.random.default_rng(0)
    place = np.cumsum(rng.integers(-1, 2, rows) * (np.arange(rows) % 50 == 0)) % cells
    columns = {
        "observations": np.eye(cells, dtype=np.uint8)[place],
        "actions": np.zeros((rows, 1), np.int8),
        "rewards": np.zeros(rows, np.int8),
        "terminals": (np.arange(1, rows + 1) % 200 == 0).astype(np.int8),
    }
    path = Path(f"grid{suffix}")
    if suffix == ".npz":
        np.savez_compressed(path, **columns)
    elif suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            for key, column in columns.items():
                file.create_dataset(key, data=column, compression=9, chunks=True)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        wide = columns.pop("observations").reshape(-1)
        columns = {key: column.reshape(-1) for key, column in columns.items()}
        columns["observations"] = pyarrow.FixedSizeListArray.from_arrays(wide, cells)
        parquet.write_table(pyarrow.table(columns), path, compression="zstd")
    dataset = load_dataset(path)
    assert dataset.rows.nbytes > limits.DEFLATE * path.stat().st_size
    assert len(dataset.rows) == rows


def test_wide_rows_are_read_in_short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(Path("log.hdf5"), log())
    expected, blocks = load_dataset(path), []
    monkeypatch.setattr(packing, "BLOCK_NUMBERS", 100)
    monkeypatch.setattr(packing, "fill", lambda *a: blocks.append(a[-1]) or filling.fill(*a))
    assert torch.equal(load_dataset(path).rows, expected.rows)
    assert blocks == [100 // (3 + 3 + 2)]
    monkeypatch.setattr(packing, "BLOCK_NUMBERS", 7)
    assert torch.equal(load_dataset(path).rows, expected.rows)
    assert blocks[1:] == [1]


def test_one_long_text_does_not_make_an_array_of_them() -> None:
    path = write(Path("ids.hdf5"), log(timeouts=None, terminals=np.zeros(200)))
    with h5py.File(path, "a") as file:
        ids = file.create_dataset("episode", (200,), h5py.string_dtype(), chunks=True)
        ids[:] = [f"run {i // 50}" for i in range(200)]
    assert load_dataset(path).episode_length_E.tolist() == [50] * 4
    with h5py.File(path, "a") as file:
        file["episode"][7] = "x" * 200_000  # 160 MB as 200 rows of NumPy's texts
    wrong = r"'episode' has a text of 200,000 characters in row 7 .*; a name may have 1,000"
    with at_most(8), pytest.raises(UserError, match=wrong):
        load_dataset(path)
    with h5py.File(path, "a") as file:
        file["episode"][7] = ""
    with pytest.raises(UserError, match=r"'episode' has the value '' in row 7 \(counted from 0\)"):
        load_dataset(path)
    with h5py.File(path, "a") as file:
        del file["episode"]
        file.create_dataset("episode", (200, 10**7), h5py.string_dtype(), chunks=(1, 100))
    with pytest.raises(UserError, match="'episode' must be texts, one in each row"):
        load_dataset(path)


def test_what_is_one_number_or_name_is_not_read_as_many() -> None:
    with h5py.File("demos.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        for key, column in {"obs/a": log()["observations"], "actions": log()["actions"]}.items():
            demo[key] = column
        demo["rewards"] = np.zeros(200)
        file["data"].attrs["env_args"] = ["{}", "{}"]
        many = {"chunks": (1000,), "compression": "gzip"}
        file.create_dataset("mask/many", (10**11,), "S10", **many)
        file["mask/numbers"], file["mask/one"] = np.zeros(3), [b"demo_0"]
    for mask, message in {
        "many": "mask 'many' says that it holds 1.0 TB, but has",
        "numbers": "mask 'numbers' must be texts, one in each row",
    }.items():
        with at_most(8), pytest.raises(UserError, match=message):
            load_dataset("demos.hdf5", reading=Reading(mask=mask))
    assert len(load_dataset("demos.hdf5", reading=Reading(mask="one")).rows) == 199
    with h5py.File("demos.hdf5", "a") as file:
        del file["mask"]
        file["mask"] = np.zeros(3)
    with pytest.raises(UserError, match="'mask' must be a group of arrays, a mask in each"):
        load_dataset("demos.hdf5", reading=Reading(mask="one"))

    with h5py.File("dump.h5", "w") as file:
        file["columns"] = [b"observations"]
        file.create_dataset("num_episodes", (10**11,), "i8", **many)
    with pytest.raises(UserError, match="'num_episodes' must be a number that the file can hold"):
        load_dataset("dump.h5")

    path = write(Path("attributes.hdf5"), log())
    with h5py.File(path, "a") as file:
        file.attrs["env_id"] = ["Hopper-v4", "Hopper-v4"]
    assert load_dataset(path).env_id is None
    with h5py.File(path, "a") as file:
        file.attrs["observation_parts"] = ['[["a", 3]]'] * 2
    with pytest.raises(UserError, match="its attribute 'observation_parts' must be a list of"):
        load_dataset(path)


def parquet_log(rows: int, **changes: Any) -> str:
    """A log of one observation and one action as Parquet, with other columns."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"observation_0": np.arange(rows) % 7.0, "action_0": np.zeros(rows)}
    columns |= {"reward": np.zeros(rows), "terminal": np.zeros(rows)} | changes
    columns = {key: column for key, column in columns.items() if column is not None}
    parquet.write_table(pyarrow.table(columns), "log.parquet", compression="zstd")
    return "log.parquet"


@pytest.mark.parametrize("case", ["fixed", "lists", "later", "unread", "pages"])
def test_parquet_of_more_numbers_than_the_file_can_hold_is_refused(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    wide, rows = 50_000, 100
    zeros, ends = np.zeros(wide * rows, np.float32), np.arange(rows + 1, dtype=np.int32) * wide
    if case == "later":  # the first list is short
        ends[1:-1] = np.arange(1, rows)
    changes = {
        "fixed": {"observation": pyarrow.FixedSizeListArray.from_arrays(zeros, wide)},
        "unread": {"note": pyarrow.FixedSizeListArray.from_arrays(zeros, wide)},
        "pages": {"note": ["x" * 5_000_000] + [""] * (rows - 1)},
    }.get(case, {"observation": pyarrow.ListArray.from_arrays(ends, zeros)})
    if "observation" in changes:
        changes["observation_0"] = None
    path = parquet_log(rows, **changes)

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(limits, "SMALL", 1 << 20)
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", read)
    held = "5.0 MB" if case == "pages" else "20.0 MB"
    with pytest.raises(UserError, match=f"log.parquet says that it holds {held}, but has .* kB"):
        load_dataset(path)


def test_a_text_of_parquet_is_not_copied_into_every_row() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows, rng = 400, np.random.default_rng(0)
    long = rng.bytes(500_000).hex()  # 400 MB in all
    places = np.repeat([1, 0, 2], [200, 100, 100]).astype(np.int32)
    ids = pyarrow.DictionaryArray.from_arrays(places, ["7", long, long[1:]])
    path, before = parquet_log(rows, episode=ids), pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(before)
    pyarrow.set_memory_pool(pool)
    try:
        with at_most(20):
            dataset = load_dataset(path)
    finally:
        pyarrow.set_memory_pool(before)
    assert 0 < pool.max_memory() < 40e6
    assert dataset.episode_length_E.tolist() == [200, 100, 100]
    path = parquet_log(2, episode=pyarrow.array([long.encode()] * 2, pyarrow.binary()))
    with pytest.raises(UserError, match="episode must be a number or a text, but is binary"):
        load_dataset(path)


def test_observations_at_the_end_of_float32_are_compared_without_a_warning() -> None:
    size = np.where(np.arange(200) % 2, 3e38, -3e38).astype(np.float32)
    columns = log(observations=np.stack([size, size / 1e19, size / 1e38], 1))
    columns["next_observations"] = np.roll(columns["observations"], -1, 0)
    columns["next_observations"][9, 1] *= -1  # of 3e19: its square is too large, too
    dataset = load_dataset(write(Path("log.hdf5"), columns))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.flatnonzero(dataset.torn()).tolist() == [9]


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_a_minari_file_that_leads_elsewhere_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    create_minari("toy-v0", episode_buffers([4], ["terminal"]))
    load_dataset("toy-v0")
    Path("secret.bin").write_bytes(bytes(32))
    write(Path("secret.hdf5"), {"rewards": np.zeros(4)})
    with h5py.File("toy-v0/data/main_data.hdf5", "a") as file:
        episode = file["episode_0"]
        del episode["rewards"]
        if kind == "external link":
            episode["rewards"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "rewards")
        elif kind == "soft link":
            episode["rewards"] = h5py.SoftLink("/episode_0/terminations")
        elif kind == "external storage":
            place = [(str(tmp_path / "secret.bin"), 0, 32)]
            episode.create_dataset("rewards", (4,), "f8", external=place)
        else:
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(tmp_path / "secret.hdf5", "rewards", (4,))
            episode.create_virtual_dataset("rewards", layout)
    with pytest.raises(UserError, match="'episode_0/rewards' must be in this file, no link"):
        load_dataset("toy-v0")


def test_names_never_leave_their_folder() -> None:
    for name in ("../x-v0", "a/../x-v0", "/etc/x-v0", "a//x-v0", "~/x-v0", "x-v0\n", "a\\x-v0"):
        assert not MINARI_ID.fullmatch(name), name
        with pytest.raises(UserError, match="is no file"):
            load_dataset(name)
    for file in FILES.values():
        assert Path(file.name).name == file.name
        assert ".." not in file.path


ENV_SPEC = json.dumps(
    {"id": "X-v0", "entry_point": "evil_env:X", "kwargs": {}, "additional_wrappers": []}
)
METADATA: dict[str, tuple[dict[str, Any], str]] = {
    "an environment to make": ({"observation_space": None}, "has no 'observation_space', without"),
    "a huge dtype": ({"observation_space": {"dtype": "(10000000000)f8"}}, "needs a dtype and bou"),
    "an object dtype": ({"action_space": {"dtype": "O"}}, "'action_space' needs a dtype and bou"),
    "a huge shape": ({"action_space": {"shape": [10**12]}}, "'action_space' needs a dtype and bo"),
    "no box": ({"action_space": {"type": "MultiBinary", "n": 10**12}}, "not MultiBinary"),
    "no space": ({"action_space": [[]]}, "needs a flat Box action space, not [[]]"),
    "many episodes": ({"total_episodes": 10**12}, "'total_episodes' must be a whole number that"),
    "no steps": ({"total_steps": "x"}, "'total_steps' must be a whole number that"),
    "references": (
        {"ref_min_score": 1, "ref_max_score": 1.0},
        "ref_min_score is 1.0, ref_max_score 1.0; it must be below",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_minari_metadata_that_would_run_code_or_fill_the_memory(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    Path("evil_env.py").write_text("from pathlib import Path\nPath('pwned').touch()\n")
    create_minari("toy-v0", episode_buffers([4], ["terminal"]))
    path = Path("toy-v0/data/metadata.json")
    content = json.loads(path.read_text())
    content["env_spec"] = ENV_SPEC
    changes, message = METADATA[case]
    for key, value in changes.items():
        if value is None:
            del content[key]
        elif isinstance(value, dict):
            content[key] = json.dumps(json.loads(content[key]) | value)
        else:
            content[key] = json.dumps(value) if isinstance(value, list) else value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(message)):
        load_dataset("toy-v0")
    assert not Path("pwned").exists()


def test_minari_itself_would_run_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    Path("evil_env.py").write_text("from pathlib import Path\nPath('pwned').touch()\n")
    create_minari("toy-v0", episode_buffers([4], ["terminal"]))
    path = Path("toy-v0/data/metadata.json")
    content = json.loads(path.read_text())
    del content["observation_space"]
    content["env_spec"] = ENV_SPEC
    path.write_text(json.dumps(content))
    with suppress(Exception):
        minari.load_dataset("toy-v0")
    assert Path("pwned").exists()


# ---- configs -----------------------------------------------------------------------------------

EVIL = "import pathlib; pathlib.Path('pwned').touch()\nclass Part: pass\ndef rule(x): return x\n"
CONFIGS = {
    "callbacks": "trainer: {callbacks: [{class_path: evil.Part}]}",
    "one callback": "trainer: {callbacks: {class_path: evil.Part}}",
    "a callback's name": "trainer: {callbacks: evil.Part}",
    "appended": "trainer: {callbacks+: {class_path: evil.Part}}",
    "plugins": "trainer: {plugins: [{class_path: evil.Part}]}",
    "logger": "trainer: {logger: {class_path: evil.Part}}",
    "strategy": "trainer: {strategy: {class_path: evil.Part}}",
    "profiler": "trainer: {profiler: {class_path: evil.Part}}",
    "method": "model: {method: {class_path: evil.Part}}",
    "method's name": "model: {method: evil.Part}",
    "target rule": "model: {target_rule: evil.rule}",
    "nested": "trainer: {callbacks: {class_path: lightning.pytorch.callbacks.LambdaCallback, "
    "init_args: {on_fit_start: evil.rule}}}",
    "environment": "data: {env_id: 'evil:X-v0'}",
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_imports_allowed_packages_only(
    case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("evil.py").write_text(EVIL)
    Path("evil.yaml").write_text(CONFIGS[case])
    assert main(["fit", "--config", "hopper", "--config", "evil.yaml"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    if case != "nested":
        assert "names evil" in said
        assert said.endswith("add --allow evil (in Python: import evil first)\n")
    assert sorted(os.listdir()) == ["evil.py", "evil.yaml"]
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "path",
    ["os.system", "torch.os.system", "adabc_lightning.env.make.import_module", "builtins.exec"],
)
def test_what_an_allowed_module_has_imported_is_not_allowed(
    path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "hopper", "--model.target_rule", path]) == 2
    assert "and only parts of adabc_lightning, lightning, torch" in capfd.readouterr().err


def test_allow_lets_a_package_in(capfd: pytest.CaptureFixture[str]) -> None:
    source = "from torch import Tensor\ndef rule(q: Tensor) -> Tensor: return q.sum()\n"
    Path("trusted_parts.py").write_text(source)
    words = ["fit", "--config", "hopper", "--model.target_rule", "trusted_parts.rule"]
    assert main([*words, "--allow", "trusted_parts"]) == 2
    assert "model.target_rule makes [] of values of shape [2, 3]" in capfd.readouterr().err
    assert os.environ["ADABC_ALLOW"] == "trusted_parts"


def test_take_allowed() -> None:
    assert take_allowed(["--a", "1", "--allow=x.y", "--allow", "z", "b"]) == ["--a", "1", "b"]
    assert allowed_packages()[-2:] == ["x.y", "z"]
    check_module("x.y.z", "it")
    check_module("h5py", "it")  # the user has imported it: nothing runs
    with pytest.raises(UserError, match=r"it names json, and only .* add --allow json$"):
        check_module("json", "it")  # everybody has, and it is not for configs
    for module in ("x", "x.yy", "torchx"):
        with pytest.raises(UserError, match="add --allow"):
            check_module(module, "it")
    with pytest.raises(UserError, match="jsonargparse reads the configs"):
        take_allowed(["--allow", "jsonargparse"])


def test_where_functions_are_from() -> None:
    for part in (load_dataset, torch.norm, torch.ones(1).add, np.add.reduce, TINY_PART):
        check_origin(part, "it")
    for part, module in (
        (os.getcwd, "posix|nt"),
        (re.compile, "re"),
        (eval, "builtins"),
        (len.__call__, "builtins"),
    ):
        with pytest.raises(UserError, match=f"it names ({module}), and only parts of"):
            check_origin(part, "it")


# ---- secrets -----------------------------------------------------------------------------------

KEY = "0123456789abcdef0123456789abcdef01234567"


def test_a_config_cannot_read_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    Path("evil.yaml").write_text("logging: {wandb_name: '${oc.env:WANDB_API_KEY}'}")
    assert main(["fit", "--config", "hopper", "--config", "evil.yaml", "--print_config"]) == 2
    printed = capfd.readouterr()
    assert "logging.wandb_name cannot be resolved: Unsupported interpolation type" in printed.err
    assert KEY not in printed.out + printed.err
    with pytest.raises(UserError, match="cannot be resolved"):
        merged([Path("evil.yaml")], {})


def test_a_key_in_the_config_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert main(["fit", "--config", "hopper", "--logging.wandb_name", f"run-{KEY}"]) == 2
    assert capfd.readouterr().err.startswith("error: the config holds your Weights & Biases key")
    assert os.listdir() == []
    monkeypatch.delenv("WANDB_API_KEY")
    refuse_key(KEY)


def test_the_key_is_in_no_file_of_a_run() -> None:
    write(Path("log.hdf5"), log(200, observations=np.zeros((200, 11)), next_observations=None,
                                actions=np.zeros((200, 3))))  # fmt: skip
    words = "--schedule.offline_updates 2 --schedule.online_env_steps 1 --evaluation.episodes 1"
    words += " --schedule.updates_per_env_step 1 --data.dataset log.hdf5 --model.hidden_sizes [4]"
    words += " --data.batch_size 4 --data.max_episode_steps 5 --trainer.default_root_dir run"
    result = subprocess.run(
        [sys.executable, "-m", "adabc_lightning", "fit", "--config", "hopper", *words.split()],
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "HOME": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert KEY not in result.stdout + result.stderr
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert {"config.yaml", "metrics.csv", "last.ckpt"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


# ---- properties --------------------------------------------------------------------------------

steady = settings(max_examples=50, deadline=None, derandomize=True)


@steady
@given(
    # One in 25 numbers is far outside: of some of the lists at most 1 % of the rows.
    st.lists(
        st.tuples(*2 * [st.sampled_from([0.0, -1.0, 1.0, 1.0005, -1.0005, 0.3] * 4 + [5.0])]),
        min_size=1,
        max_size=120,
    )
)
def test_clipping_against_a_plain_loop(actions: list[tuple[float, float]]) -> None:
    layout = Layout(3, 2)
    rows = torch.arange(len(actions) * layout.width, dtype=torch.float32).view(-1, layout.width)
    rows[:, layout.columns["action"]] = torch.tensor(actions)
    before, far = rows.clone(), 0
    for action in actions:
        far += any(abs(a) > m + 2 * m * 1e-3 for a, m in zip(action, (1, 3), strict=True))
    if far > 0.01 * len(actions):
        with pytest.raises(UserError, match=f"{far} of {len(actions)} actions lie outside"):
            clip_actions(rows, layout, SPEC, "log")
        assert torch.equal(rows, before)
        return
    clip_actions(rows, layout, SPEC, "log")
    for row, old, action in zip(rows, before, actions, strict=True):
        old[3] = min(max(action[0], -1), 1)
        old[4] = min(max(action[1], -3), 3)
        assert torch.equal(row, old)


@steady
@given(st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_limits_read_as_timeouts_against_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    flags = np.concatenate([np.arange(1, n + 1) == n for n in lengths])
    path = write(
        tmp_path_factory.getbasetemp() / "limit.hdf5",
        log(len(flags), terminals=flags, timeouts=np.zeros(len(flags))),
    )
    dataset = load_dataset(path, max_episode_steps=5, terminals_at_limit="timeout")
    assert dataset.episode_length_E.tolist() == lengths
    assert dataset.timeouts == lengths.count(5)
    expected = [float(n != 5 and t == n) for n in lengths for t in range(1, n + 1)]
    assert dataset.layout.unpack(dataset.rows)["terminated"].tolist() == expected


def test_the_flag_is_a_key_of_the_config() -> None:
    assert merged([], {})["data"]["terminals_at_limit"] == "terminal"
