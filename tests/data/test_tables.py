"""Logs as CSV, Parquet and npz: the same rows as HDF5, and one sentence for each mistake."""

import io
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.errors import UserError

ROWS = 30


def columns(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(1, rows + 1) % 10 == 0,
        "timeouts": np.arange(1, rows + 1) % 10 == 5,
        "next_observations": rng.normal(size=(rows, 11)).astype(np.float32),
    }


def flat(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One column per number, as tables have them, and one that nobody asked for."""
    table: dict[str, np.ndarray] = {"note": np.array(["a, b"] * len(data["rewards"]))}
    for key, array in data.items():
        name = key.removesuffix("s")
        if array.ndim == 1:
            table[name] = array
        else:
            for i in reversed(range(array.shape[1])):  # the number says the place, not the order
                table[f"{name}_{i}"] = array[:, i]
    return table


def write(path: Path, data: dict[str, np.ndarray]) -> str:
    if path.suffix == ".npz":
        np.savez_compressed(path, **data)
    elif path.suffix == ".csv":
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(flat(data)).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(flat(data)), path)
    else:
        with h5py.File(path, "w") as file:
            for key, array in data.items():
                file[key] = array
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".CSV"])
@pytest.mark.parametrize(
    "left_out", [(), ("next_observations",), ("timeouts", "next_observations")], ids=len
)
def test_a_table_is_the_same_dataset_as_hdf5(
    tmp_path: Path, suffix: str, left_out: tuple[str, ...]
) -> None:
    data = {key: array for key, array in columns().items() if key not in left_out}
    expected = load_dataset(write(tmp_path / "a.hdf5", data), max_episode_steps=7)
    source = Path(write(tmp_path / f"a{suffix.lower()}", data))
    found = load_dataset(str(source.rename(tmp_path / f"b{suffix}")), max_episode_steps=7)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.episode_T, expected.episode_T)
    torch.testing.assert_close(found.episode_return_E, expected.episode_return_E)
    assert (found.terminals, found.timeouts) == (expected.terminals, expected.timeouts)
    assert found.fingerprint() == expected.fingerprint()


CSV = """observation_0,action_0,reward,terminated,episode
0,0.5,1,False,a
1,0.5,1,true,a
10,0.5,1,0,b
11,0.5,1,0,b
12,0.5,1,0,b
20,0.5,1,False,c
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_episodes_by_their_name(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("\ufeff" + CSV.replace(",", delimiter), encoding="utf-8")
    dataset = load_dataset(str(path))
    assert dataset.episode_length_E.tolist() == [2, 3, 1]
    assert (dataset.terminals, dataset.timeouts) == (1, 2)
    batch = dataset.layout.unpack(dataset.rows)
    # the last steps of b and c have no next state; that of a is a terminal and needs none
    assert batch["observation"].flatten().tolist() == [0, 1, 10, 11]
    assert batch["next_observation"].flatten().tolist() == [1, 1, 11, 12]
    assert batch["terminated"].tolist() == [0, 1, 0, 0]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=10), st.permutations(range(10)))
def test_episode_column_equals_timeouts(
    tmp_path_factory: pytest.TempPathFactory, lengths, names
) -> None:
    folder = tmp_path_factory.getbasetemp()
    ids = np.repeat(names[: len(lengths)], lengths)
    data = columns(len(ids))
    data["terminals"][:] = False
    ends = np.append(np.diff(ids) != 0, True)
    marked = data | {"timeouts": ends}
    named = {k: v for k, v in data.items() if k != "timeouts"} | {"episode": np.array(ids)}
    a = load_dataset(write(folder / "a.npz", marked))
    b = load_dataset(write(folder / "b.npz", named))
    assert torch.equal(a.rows, b.rows)
    assert a.episode_length_E.tolist() == b.episode_length_E.tolist()
    assert a.timeouts == b.timeouts == ends.sum()


MISTAKES = {
    "no reward": (CSV.replace("reward", "score"), "has no column reward; it has: observation_0, a"),
    "no terminal": (CSV.replace("terminated", "d"), "has no column terminal; it has: obs"),
    "gap": (CSV.replace("action_0", "action_0,action_2"), "has action_2, but no action_1"),
    "twice": (CSV.replace("episode", "terminal"), "the columns terminated and terminal; give one"),
    "text": (CSV.replace("11,0.5", "11,left"), "line 5, column action_0"),
    "empty cell": (CSV.replace("10,0.5", ",0.5"), "line 4, column observation_0"),
    "flag": (CSV.replace("true", "maybe"), "line 3, column terminated"),
    "flag 2": (CSV.replace("true", "2"), "'terminals' must be 0 or 1, but line 3 is 2"),
    "ragged": (CSV.replace("12,0.5,1,0,b", "12,0.5"), "line 6 has 2 values"),
    "wider": (CSV.replace("12,0.5,1,0,b", "12,0.5,1,0,b,3"), "line 6 has 6 values, the first"),
    "decimal commas": (CSV.replace("12,0.5", "12,0,5"), "a row is broken, or decimal commas"),
    "nan": (CSV.replace("12,", "nan,"), "'observations' must be finite in float32, but line 6 is"),
    "no rows": (CSV.splitlines()[0] + "\n", "log.csv has no rows"),
    "nothing": ("", "log.csv is empty"),
    "blank": ("\ufeff\n \n", "log.csv is empty"),
    "a blank first": ("\n" + CSV, "line 1 is empty; it must have the names of the columns"),
    "binary": (b"\xff\xfe\x00a", "is no text in UTF-8"),
}


@pytest.mark.parametrize("note", ['"x\nfoo, bar, baz\nend"', '"a, b"', " ", f'"{"a, " * 60_000}"'])
def test_texts_beside_the_numbers_are_no_surplus(note: str, tmp_path: Path) -> None:
    head, *rows = CSV.splitlines()
    text = "\n".join([f"{head},note", *(f"{row},{note}" for row in rows)])
    (tmp_path / "noted.csv").write_text(text + "\n")
    (tmp_path / "plain.csv").write_text(CSV)
    noted, plain = (load_dataset(str(tmp_path / f"{name}.csv")) for name in ("noted", "plain"))
    assert torch.equal(noted.rows, plain.rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("content", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_broken_csv_is_one_sentence(tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_dataset(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("new", "found"),
    [
        ("nan,0.5,1,0,b", "must be finite in float32, but line 8 is nan"),
        ("12,left,1,0,b", "at line 8, column action_0"),
        ("12,0.5", "line 8 has 2 values"),
    ],
)
def test_a_line_is_that_of_the_file_also_after_empty_ones(
    tmp_path: Path, new: str, found: str
) -> None:
    header, *rows = CSV.splitlines()
    text = "\n".join([header, *rows[:2], "", "", *rows[2:]])
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "a.csv").write_text(re.sub(r",(\w)$", r",first \1", text, flags=re.MULTILINE))
    for path in (tmp_path / "log.csv", shards / "b.csv"):
        path.write_text(text.replace("12,0.5,1,0,b", new))
    with pytest.raises(UserError, match=found):
        load_dataset(str(tmp_path / "log.csv"))
    with pytest.raises(UserError, match=found.replace("8 is", "8 of b.csv is")):
        load_dataset(str(shards))


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    text = "observation_0;action_0;reward;terminal\n0,5;1,0;0,25;0\n0,5;1,0;-0,25;1\n"
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(UserError, match=r"line 2, column .*; decimals are written with a point$"):
        load_dataset(str(tmp_path / "log.csv"))


def array(header: bytes, data: bytes) -> bytes:
    padded = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def test_an_npz_file_runs_nothing_and_takes_no_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("objects.npz", **columns() | {"rewards": np.array([Payload()] * ROWS)})
    np.load("objects.npz", allow_pickle=True)["rewards"]
    assert Path("pwned").exists()  # the payload is live
    Path("pwned").unlink()
    with zipfile.ZipFile("lies.npz", "w") as archive:
        archive.writestr("rewards.npy", array(
            b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }", b"\0" * 80
        ))  # fmt: skip
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rewards.npy", b"\0" * 3_000_000)
    Path("bomb.npz").write_bytes(bomb.getvalue())
    Path("cut.npz").write_bytes(Path("objects.npz").read_bytes()[:500])
    Path("text.npz").write_text("text")
    for name, message in {
        "objects": "is no readable npz file: Object arrays cannot be loaded",
        "lies": "rewards.npy holds less than its header says",
        "bomb": "is no readable npz file",
        "cut": "is no readable npz file",
        "text": "is no readable npz file",
    }.items():
        with pytest.raises(UserError, match=message):
            load_dataset(f"{name}.npz")
    np.savez("beside.npz", **columns(), info=np.array([{"a": 1}, None]))  # of which none is wanted
    assert load_dataset("beside.npz").unread == ()
    assert not Path("pwned").exists()


def test_broken_parquet_is_one_sentence(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = Path(write(tmp_path / "a.parquet", columns()))
    wrong = "is no readable Parquet file"
    for content, said in ((path.read_bytes()[:200], wrong), (b"PAR1", wrong), (b"", "is empty$")):
        (tmp_path / "cut.parquet").write_bytes(content)
        with pytest.raises(UserError, match=said):
            load_dataset(str(tmp_path / "cut.parquet"))
    for change, message in (
        ({"reward": ["x"] * ROWS}, "column reward must be numeric, but is string"),
        ({"reward": [None] * ROWS}, "column reward must be numeric, but is null"),
        (
            {"reward": [1.0, None] * (ROWS // 2)},
            "'rewards' must be finite in float32, but row 1 .counted from 0. is",
        ),
    ):
        parquet.write_table(pyarrow.table({**flat(columns()), **change}), path)
        with pytest.raises(UserError, match=message):
            load_dataset(str(path))


def test_numbers_of_a_part_are_one_part_in_order(tmp_path: Path) -> None:
    """``pose_10`` comes after ``pose_9``, and what is no whole row of numbers stays apart."""
    rng = np.random.default_rng(0)
    columns = {f"observation.pose_{i}": rng.normal(size=30).round(3) for i in range(11)}
    columns |= {"observation.goal": rng.normal(size=30).round(3)}
    columns |= {"observation.wheel_1": np.arange(30.0), "action_0": np.ones(30)}
    columns |= {"reward": np.zeros(30), "terminal": np.arange(1, 31) % 10 == 0}
    path = tmp_path / "log.csv"
    header = ",".join(columns)
    rows = np.stack([np.asarray(v, float) for v in columns.values()], 1)
    np.savetxt(path, rows, delimiter=",", header=header, comments="")
    dataset = load_dataset(str(path))
    assert dataset.observation_parts == (("goal", 1), ("pose", 11), ("wheel_1", 1))
    read = dataset.as_d4rl()["observations"]
    kept = read[:, 12].astype(int)  # a row's number; a time limit's row is dropped
    poses = np.stack([columns[f"observation.pose_{i}"] for i in range(11)], 1)
    np.testing.assert_array_equal(read[:, 1:12], poses[kept].astype(np.float32))
