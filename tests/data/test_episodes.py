"""Ends and order of episodes: one list of names, one set of rules, the same in every format."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.names import SCALARS, unread_ends
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.errors import UserError

LENGTHS = (3, 5, 4)
ROWS = sum(LENGTHS)


def log() -> dict[str, np.ndarray]:
    """Three episodes that a person cut; the observation counts all steps, the cut is a flag."""
    ends = np.zeros(ROWS, bool)
    ends[np.cumsum(LENGTHS) - 1] = True
    return {
        "observations": np.arange(ROWS)[:, None] * np.array([1.0, -1.0]),
        "actions": np.linspace(-1, 1, ROWS)[:, None],
        "rewards": np.arange(ROWS) / 8,
        "terminals": np.zeros(ROWS),
        "timeouts": ends,
        "episode": np.repeat([7, 2, 5], LENGTHS),
        "step": np.concatenate([np.arange(n) for n in LENGTHS]),
    }


def table(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = {}
    for name, values in columns.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            stem = name if name == "obs" else name.removesuffix("s")
            flat |= {f"{stem}_{i}": values[:, i] for i in range(values.shape[1])}
    return flat


def write_hdf5(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(folder / "log.hdf5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    return folder / "log.hdf5"


def write_npz(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "log.npz", **columns)
    return folder / "log.npz"


def lines(columns: dict[str, np.ndarray], delimiter: str) -> str:
    flat = table(columns)
    rows = zip(*(values.tolist() for values in flat.values()), strict=True)
    return "\n".join([delimiter.join(flat), *(delimiter.join(map(str, row)) for row in rows)])


def write_csv(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    (folder / "log.csv").write_text(lines(columns, ","))
    return folder / "log.csv"


def write_packed(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    with gzip.open(folder / "log.tsv.gz", "wt") as file:
        file.write(lines(columns, "\t"))
    return folder / "log.tsv.gz"


def write_jsonl(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    rows = [
        {name: values[i].tolist() for name, values in columns.items()}
        for i in range(len(columns["rewards"]))
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "log.jsonl"


def write_parquet(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lists = {name: list(v) if v.ndim > 1 else v for name, v in columns.items()}
    parquet.write_table(pyarrow.table(lists), folder / "log.parquet")
    return folder / "log.parquet"


WRITERS: dict[str, Callable[[Path, dict[str, np.ndarray]], Path]] = {
    "hdf5": write_hdf5,
    "npz": write_npz,
    "csv": write_csv,
    "tsv.gz": write_packed,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def place(write, row: int) -> str:
    """As a message names it: the line that an editor shows, or the index of an array."""
    if write in (write_csv, write_packed):
        return f"line {row + 2}"
    return f"line {row + 1}" if write is write_jsonl else f"row {row} (counted from 0)"


def without(*names: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {key: values for key, values in log().items() if key not in names} | more


def load(path: Path, **reading) -> OfflineDataset:
    return load_dataset(str(path), reading=Reading(**reading))


def refused(path: Path, **reading) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **reading)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def expected() -> tuple[list[int], list[float], list[float]]:
    """Lengths, and first numbers of observation and next observation of what is kept."""
    ends = np.cumsum(LENGTHS) - 1
    kept = np.setdiff1d(np.arange(ROWS), ends).astype(float)
    return list(LENGTHS), kept.tolist(), (kept + 1).tolist()


def found(dataset: OfflineDataset) -> tuple[list[int], list[float], list[float]]:
    fields = dataset.layout.unpack(dataset.rows)
    return (
        dataset.episode_length_E.tolist(),
        fields["observation"][:, 0].tolist(),
        fields["next_observation"][:, 0].tolist(),
    )


@every_format
@pytest.mark.parametrize("name", [*SCALARS["timeouts"], *SCALARS["episode"]])
def test_a_cut_is_read_by_every_name(write, name: str, tmp_path: Path) -> None:
    kept = log()["episode" if name in SCALARS["episode"] else "timeouts"]
    path = write(tmp_path, without("timeouts", "episode", "step", **{name: kept}))
    dataset = load(path)
    assert found(dataset) == expected()
    assert (dataset.terminals, dataset.timeouts) == (0, 3)


@every_format
@pytest.mark.parametrize("name", SCALARS["terminals"])
def test_a_terminal_is_read_by_every_name(write, name: str, tmp_path: Path) -> None:
    flags = log()["timeouts"].astype(float)
    dataset = load(
        write(tmp_path, without("timeouts", "episode", "step", "terminals", **{name: flags}))
    )
    assert (dataset.terminals, dataset.timeouts) == (3, 0)
    assert dataset.episode_length_E.tolist() == list(LENGTHS)


@every_format
@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("timeouts", "truncated"),
        ("terminals", "terminated"),
        ("rewards", "reward"),
        ("episode", "episode_id"),
        ("observations", "obs"),
        ("step", "frame_index"),
    ],
)
def test_two_names_for_one_thing_are_refused(write, key: str, other: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path, log() | {other: log()[key]}))
    assert "two names for the" in message
    assert other in message


@every_format
def test_what_looks_like_an_end_and_is_not_read_is_named(write, tmp_path: Path, capsys) -> None:
    flags = log()["timeouts"].astype(int)
    path = write(tmp_path, log() | {"masks": 1 - flags, "dones": flags, "weather": flags})
    assert found(load(path)) == expected()
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert "'masks' looks like ends of episodes and is not read; names that are: " in said
    assert "'dones' looks like ends of episodes and is not read; data.done_means says" in said


def test_a_name_that_is_nearly_one_is_named(tmp_path: Path, capsys) -> None:
    columns = without("timeouts") | {"timout": log()["timeouts"], "battery": np.zeros(ROWS)}
    columns["nextobservations"] = columns["observations"]
    columns["acton_1"] = columns["battery"]
    dataset = load(write_npz(tmp_path, columns))
    said = capsys.readouterr().err
    assert said.count("\n") == 3
    assert "'timout' is not read; did you mean 'timeout'?" in said
    assert "'nextobservations' is not read; did you mean 'next_observations'?" in said
    assert "'acton_1' is not read; did you mean 'action_1'?" in said
    assert set(dataset.unread) == {"timout", "battery", "nextobservations", "acton_1"}


@every_format
def test_all_names_are_in_the_error(write, tmp_path: Path) -> None:
    flags = log()["timeouts"].astype(int)
    path = write(tmp_path, without("terminals", "timeouts", weather=flags))
    message = refused(path)
    for name in ("rewards", "episode", "step", "weather"):
        assert name in message.partition("it has: ")[2]


@every_format
def test_what_dones_mean_is_asked_and_told(write, tmp_path: Path, capsys) -> None:
    flags = log()["timeouts"].astype(int)
    path = write(tmp_path, without("terminals", "timeouts", "episode", "step", dones=flags))
    assert "set data.done_means to terminal or timeout" in refused(path)
    assert found(load(path, done_means="timeout")) == expected()
    dataset = load(path, done_means="terminal")
    assert (dataset.terminals, dataset.timeouts) == (3, 0)
    two = write(tmp_path, without("episode", "step", dones=flags))
    assert "leave it out" in refused(two, done_means="timeout")
    assert "has no 'dones'; leave it out" in refused(write(tmp_path, log()), done_means="timeout")
    # Gym's done is terminated or truncated: with timeouts it is clear
    cut = flags * (np.arange(ROWS) < 5)
    both = load(write(tmp_path, without("terminals", "episode", "step", dones=flags, timeouts=cut)))
    assert (both.terminals, both.timeouts) == (2, 1)
    assert capsys.readouterr().err == ""


@every_format
def test_success_ends_an_episode_if_told_so(write, tmp_path: Path) -> None:
    success = log()["timeouts"] & (np.arange(ROWS) > 3)
    path = write(tmp_path, log() | {"success": success.astype(int)})
    assert load(path).terminals == 0
    assert load(path, success_terminates=True).terminals == 2
    # Known where an episode ends only; CSV has nothing between two commas then.
    path = write(tmp_path, log() | {"success": np.where(log()["timeouts"], success, np.nan)})
    assert load(path, success_terminates=True).terminals == 2
    assert "has no 'success'" in refused(write(tmp_path, log()), success_terminates=True)


@every_format
def test_a_success_that_lasts_ends_one_episode(
    write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load(write(tmp_path, log()))
    length_E = first.episode_length_E.tolist()
    starts = [length - 3 + e for e, length in enumerate(length_E)]
    pairs = zip(length_E, starts, strict=True)
    success = np.concatenate([np.arange(length) >= start for length, start in pairs])
    path = write(tmp_path, log() | {"success": success.astype(int)})
    capsys.readouterr()
    dataset = load(path, success_terminates=True)
    expected = [min(length, start + 1) for length, start in zip(length_E, starts, strict=True)]
    assert dataset.episode_length_E.tolist() == expected
    left_out = sum(length_E) - sum(expected)
    assert left_out
    said = f"{left_out} steps behind a success that lasts are left out: the first one ends the epis"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("success", "lengths"),
    [
        ([6, 7], [7, 2, 10, 10]),  # lost at 8, as a goal that moves: the rest is an episode
        ([6, 7, 8, 9, 10], [7, 1, 9, 10]),  # kept to the limit; the next one begins with success
        ([6], [7, 10, 10, 3]),  # nothing says that it went on
    ],
)
def test_a_time_limit_counts_on_behind_a_success_that_lasts(
    success: list[int], lengths: list[int], tmp_path: Path
) -> None:
    rows = 30
    columns = {"observations": np.arange(rows)[:, None] + 0.0, "actions": np.zeros((rows, 1))}
    flags = np.isin(np.arange(rows), success)
    path = tmp_path / "a.npz"
    np.savez(path, success=flags, rewards=np.ones(rows), terminals=np.zeros(rows), **columns)
    reading = Reading(success_terminates=True)
    dataset = load_dataset(str(path), max_episode_steps=10, reading=reading)
    assert dataset.episode_length_E.tolist() == lengths


def test_successes_that_are_episodes_of_their_own(tmp_path: Path) -> None:
    """Ends that the log knows, and flags that fall in between."""
    path = tmp_path / "a.npz"
    columns = {"observations": np.arange(8.0)[:, None], "actions": np.zeros((8, 1))}
    columns |= {"next_observations": np.arange(1, 9.0)[:, None], "rewards": np.arange(8.0)}
    success = np.array([1, 1, 1, 0, 1, 1, 1, 0])
    ends = {"terminals": np.array([1, 0, 0, 0, 0, 0, 0, 0]), "timeouts": np.arange(8) == 5}
    np.savez(path, success=success, **columns, **ends)
    dataset = load_dataset(str(path), reading=Reading(success_terminates=True))
    assert dataset.rows[:, dataset.layout.columns["reward"]].tolist() == [0, 1, 3, 4, 6, 7]
    assert dataset.episode_T.tolist() == [0, 1, 2, 2, 3, 4]
    assert dataset.rows[:, dataset.layout.columns["terminated"]].tolist() == [1, 1, 0, 1, 1, 0]


ORDERS = {
    "interleaved": np.lexsort((log()["episode"], log()["step"])),
    "shuffled": np.random.default_rng(0).permutation(ROWS),
    "backwards": np.arange(ROWS)[::-1],
}


@every_format
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("by", ["step", "frame", "timestamp"])
def test_rows_are_put_in_order(write, order, by: str, tmp_path: Path, capsys) -> None:
    value = log()["step"] / (8 if by == "timestamp" else 1)
    columns = without("timeouts", "step", **{by: value})
    path = write(tmp_path, {key: values[order] for key, values in columns.items()})
    dataset = load(path)
    lengths, observations, _ = expected()
    assert sorted(dataset.episode_length_E.tolist()) == sorted(lengths)
    fields = dataset.layout.unpack(dataset.rows)
    assert sorted(fields["observation"][:, 0].tolist()) == observations
    assert torch.equal(fields["next_observation"][:, 0], fields["observation"][:, 0] + 1)
    # each row with its own reward
    assert torch.equal(fields["reward"] * 8, fields["observation"][:, 0])
    key = "time" if by == "timestamp" else "step"
    assert f"they were put in order by their {key}\n" in capsys.readouterr().err


@every_format
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_rows_that_cannot_be_put_in_order_are_refused(write, order, tmp_path: Path) -> None:
    columns = {key: values[order] for key, values in without("timeouts", "step").items()}
    if order is ORDERS["backwards"]:
        assert load(write(tmp_path, columns)).episode_length_E.tolist() == [4, 5, 3]
        return
    ids = columns["episode"]
    back = next(i for i in range(1, ROWS) if ids[i] != ids[i - 1] and ids[i] in ids[:i])
    message = refused(write(tmp_path, columns))
    assert f"episode {ids[back]} comes back in {place(write, back)}, after another one" in message


@every_format
def test_a_step_that_is_there_twice_is_refused(write, tmp_path: Path) -> None:
    columns = {key: np.concatenate([values, values]) for key, values in log().items()}
    message = refused(write(tmp_path, columns))
    assert (
        f"{place(write, 0)} and {place(write, 12)} are of one episode and both have step 0"
        in message
    )


@every_format
def test_steps_alone_tell_episodes(write, tmp_path: Path, capsys) -> None:
    assert found(load(write(tmp_path, without("timeouts", "episode")))) == expected()
    assert (
        f"step begins again in {place(write, 3)} and 1 more, where no end is flagged"
        in capsys.readouterr().err
    )
    shuffled = {key: v[ORDERS["shuffled"]] for key, v in without("timeouts", "episode").items()}
    assert "without an end of an episode before; without a column episode" in refused(
        write(tmp_path, shuffled)
    )
    clock = without("step", "timeouts", "episode", time=1.7e9 + np.arange(ROWS))
    path = write(tmp_path, {key: values[::-1] for key, values in clock.items()})
    dataset = load(path)
    assert found(dataset)[1] == list(range(ROWS - 1))
    assert "rows are not in order; they were put so by time" in capsys.readouterr().err


DATES = [f"2024-05-01T10:{i // 60:02}:{i % 60:02}.5" for i in range(ROWS)]


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_dates_and_names_put_rows_in_order(name: str, tmp_path: Path) -> None:
    columns = without("timeouts", "step", "episode", timestamp=np.array(DATES))
    columns["episode"] = np.repeat(["b", "a", "run 3"], LENGTHS)
    columns["success"] = np.full(ROWS, np.nan)  # known to nobody
    mixed = {key: values[ORDERS["shuffled"]] for key, values in columns.items()}
    if name == "parquet":
        mixed["timestamp"] = mixed["timestamp"].astype("datetime64[ns]")
    dataset = load(WRITERS[name](tmp_path, mixed))
    assert sorted(found(dataset)[1]) == expected()[1]
    mixed["timestamp"] = np.array(["soon"] * ROWS)
    assert "timestamp" in refused(WRITERS[name](tmp_path, mixed))


def test_episodes_by_their_name_in_hdf5(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path, without("timeouts", "episode", "step"))
    with h5py.File(path, "a") as file:
        file["episode"] = np.repeat(["b", "a", "run 3"], LENGTHS).astype(object)
    assert found(load(path)) == expected()


def test_missing_rows_end_an_episode(tmp_path: Path, capsys) -> None:
    columns = {key: np.delete(values, 5, 0) for key, values in log().items()}
    dataset = load(write_npz(tmp_path, columns))
    assert dataset.episode_length_E.tolist() == [3, 2, 2, 4]
    assert found(dataset)[2] == [1, 2, 4, 7, 9, 10, 11]
    assert (
        "step goes from 1 to 3 in row 5 (counted from 0); episodes are cut"
        in capsys.readouterr().err
    )
    timed = {key: values for key, values in columns.items() if key != "step"}
    timed["time"] = columns["step"] * 0.1
    assert load(write_npz(tmp_path, timed)).episode_length_E.tolist() == [3, 4, 4]
    assert capsys.readouterr().err == ""
    late = timed | {"time": timed["time"] + 0.5 * (np.arange(ROWS - 1) > 4)}
    assert load(write_npz(tmp_path, late)).episode_length_E.tolist() == [3, 4, 4]
    assert (
        "time goes from 0.1 to 0.8 in row 5 (counted from 0), where its rows are 0.1 apart: rows "
        "are missing, or an episode ends there; data.max_time_gap 5 cuts it there"
    ) in capsys.readouterr().err
    gaps = load(write_npz(tmp_path, timed), max_time_gap=1.5)
    assert gaps.episode_length_E.tolist() == [3, 2, 2, 4]


def test_missing_rows_leave_the_time_limit(tmp_path: Path) -> None:
    """Steps go on where rows are missing, so the next end is where it would have been."""
    columns = {key: log()[key] for key in ("observations", "actions", "rewards", "terminals")}
    columns["step"] = np.arange(ROWS)
    for lost, lengths in (
        ([], [4, 4, 4]),
        ([5], [4, 1, 2, 4]),
        ([7], [4, 3, 4]),
        ([4, 5], [4, 2, 4]),
    ):
        left = {key: np.delete(values, lost, 0) for key, values in columns.items()}
        dataset = load_dataset(str(write_npz(tmp_path, left)), max_episode_steps=4)
        assert dataset.episode_length_E.tolist() == lengths, lost
    columns["time"] = columns.pop("step") * 0.1
    left = {key: np.delete(values, [5, 6], 0) for key, values in columns.items()}
    dataset = load_dataset(
        str(write_npz(tmp_path, left)), max_episode_steps=4, reading=Reading(max_time_gap=1.5)
    )
    assert dataset.episode_length_E.tolist() == [4, 1, 4, 1]  # what follows is another episode


@every_format
@pytest.mark.parametrize(
    "key", ["observations", "actions", "rewards", "timeouts", "episode", "step"]
)
def test_a_missing_value_is_refused_with_row_and_column(write, key: str, tmp_path: Path) -> None:
    columns = log()
    columns[key] = columns[key].astype(float)
    columns[key][4, ...] = (
        np.nan if columns[key].ndim == 1 else [4, np.nan][-columns[key].shape[1] :]
    )
    message = refused(write(tmp_path, columns))
    assert place(write, 4) in message
    assert key in message or key.removesuffix("s") in message


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_transitions(tmp_path_factory, lengths, random) -> None:
    rows = sum(lengths)
    columns = {
        "observations": np.arange(rows)[:, None] * 1.0,
        "actions": np.zeros((rows, 1)),
        "rewards": np.arange(rows) * 1.0,
        "terminals": np.array([random.random() < 0.2 for _ in range(rows)]),
        "episode": np.repeat(np.arange(len(lengths)), lengths),
        "step": np.concatenate([np.arange(n) for n in lengths]),
    }
    order = list(range(rows))
    random.shuffle(order)
    folder = tmp_path_factory.getbasetemp()

    def transitions(data: dict[str, np.ndarray]) -> set[tuple[float, ...]] | str:
        try:
            return {tuple(row) for row in load(write_npz(folder, data)).rows.tolist()}
        except UserError as error:
            return str(error)

    mixed = transitions({key: values[order] for key, values in columns.items()})
    assert mixed == transitions(columns)


def test_which_names_look_like_ends() -> None:
    ends = (
        "masks", "not_done", "is_first", "episode_ends", "time_limit_reached", "Terminated_flag",
        "crash", "reset", "info.success", "discount",
    )  # fmt: skip
    others = ("end_effector_x", "last_action", "weather", "friend", "mastery", "observation_3")
    assert unread_ends([*ends, *others], ["terminals"]) == list(ends)
    assert unread_ends(ends, ends) == []
