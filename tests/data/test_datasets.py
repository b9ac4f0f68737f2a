"""Datasets against a slow, obvious loop; their published statistics; every refusal's sentence."""

import dataclasses
import shutil
import warnings
from pathlib import Path
from unittest import mock

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer
from paths import SHARED

from adabc_lightning.data import datasets
from adabc_lightning.data.datasets import OfflineDataset, load_dataset, packaged_datasets
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

LOGS = SHARED / "data"
PACKAGED = "hopper-medium-replay"

pytestmark = pytest.mark.filterwarnings("error")


def columns(steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A D4RL v2 file of random numbers, O = 3, A = 2; nothing ends."""
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(steps, 3)),
        "actions": rng.uniform(-1, 1, size=(steps, 2)),
        "rewards": rng.normal(size=steps),
        "terminals": np.zeros(steps, bool),
        "timeouts": np.zeros(steps, bool),
        "next_observations": rng.normal(size=(steps, 3)),
    }


def write(path: Path, data: dict[str, np.ndarray]) -> str:
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key] = value
    return str(path)


def slow_load(data: dict[str, np.ndarray], limit: int | None) -> dict[str, list]:
    """What ``load_dataset`` promises, one row after the other."""
    rows, row_episodes, returns, lengths = [], [], [0.0], [0]
    terminals = timeouts = 0
    last = len(data["rewards"]) - 1
    for t in range(last + 1):
        returns[-1] += float(data["rewards"][t])
        lengths[-1] += 1
        terminated = bool(data["terminals"][t])
        if "timeouts" in data:
            truncated = bool(data["timeouts"][t]) and not terminated
        else:
            truncated = lengths[-1] == limit and not terminated
        terminals += terminated
        timeouts += truncated
        if "next_observations" in data:
            following = data["next_observations"][t]
        elif terminated:
            following = data["observations"][t]
        elif truncated or t == last:
            following = None
        else:
            following = data["observations"][t + 1]
        if following is not None:
            row = [*data["observations"][t], *data["actions"][t], data["rewards"][t], *following]
            rows.append([*row, terminated, 0.0])
            row_episodes.append(len(returns) - 1)
        if (terminated or truncated) and t < last:
            returns.append(0.0)
            lengths.append(0)
    return {
        "rows": rows,
        "episode_T": row_episodes,
        "episode_return_E": returns,
        "episode_length_E": lengths,
        "terminals": terminals,
        "timeouts": timeouts,
    }


def assert_equals_slow(dataset: OfflineDataset, slow: dict[str, list]) -> None:
    rows = torch.from_numpy(np.array(slow["rows"], np.float32))
    torch.testing.assert_close(dataset.rows, rows, rtol=0, atol=0)
    assert dataset.episode_T.tolist() == slow["episode_T"]
    assert dataset.episode_length_E.tolist() == slow["episode_length_E"]
    returns = torch.tensor(slow["episode_return_E"], dtype=torch.float64)
    torch.testing.assert_close(dataset.episode_return_E, returns)
    assert (dataset.terminals, dataset.timeouts) == (slow["terminals"], slow["timeouts"])


LAYOUTS = {
    "v2": (),
    "mixed": ("next_observations",),
    "v0": ("timeouts", "next_observations"),
    "v0 with next states": ("timeouts",),
}


@pytest.mark.parametrize("left_out", LAYOUTS.values(), ids=LAYOUTS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    flags=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=25),
    limit=st.none() | st.integers(1, 6),
    float_type=st.sampled_from(["float32", "float64"]),
    flag_type=st.sampled_from(["bool", "uint8", "float32"]),
    is_column=st.booleans(),
)
def test_every_layout_equals_a_loop_over_rows(
    tmp_path_factory, left_out, flags, limit, float_type, flag_type, is_column
):
    data = columns(len(flags))
    data["terminals"], data["timeouts"] = np.array(flags).T
    for key in ("observations", "actions", "rewards", "next_observations"):
        data[key] = data[key].astype(float_type)
    data = {key: value for key, value in data.items() if key not in left_out}
    slow = slow_load(data, limit)

    stored = dict(data)
    for key in stored.keys() & {"rewards", "terminals", "timeouts"}:
        stored[key] = data[key].astype(flag_type) if key != "rewards" else data[key]
        stored[key] = stored[key][:, None] if is_column else stored[key]
    path = write(tmp_path_factory.getbasetemp() / "layout.hdf5", stored)

    with mock.patch.object(datasets, "BLOCK_ROWS", 4):  # so that episodes cross block seams
        if not slow["rows"]:
            with pytest.raises(UserError, match="has no step with a known next observation"):
                load_dataset(path, max_episode_steps=limit)
        else:
            dataset = load_dataset(path, max_episode_steps=limit)
            assert_equals_slow(dataset, slow)
            assert (dataset.name, dataset.reference) == (path, None)


def test_a_time_limit_is_never_a_terminal(tmp_path):
    data = columns(9)
    data["timeouts"][[2, 5]] = True
    data["terminals"][5] = True  # both at once: the terminal wins
    with_next = load_dataset(write(tmp_path / "v2.hdf5", data))
    assert with_next.layout.unpack(with_next.rows)["terminated"].nonzero().tolist() == [[5]]
    assert (with_next.terminals, with_next.timeouts) == (1, 1)

    del data["next_observations"]
    without = load_dataset(write(tmp_path / "mixed.hdf5", data))
    assert without.episode_T.tolist() == [0, 0, 1, 1, 1, 2, 2]  # the cut-off steps are gone
    fields = without.layout.unpack(without.rows)
    assert fields["terminated"].tolist() == [0, 0, 0, 0, 1, 0, 0]
    assert torch.equal(fields["next_observation"][4], fields["observation"][4])

    del data["timeouts"], data["terminals"]
    data["terminals"] = np.zeros(9, bool)
    limited = load_dataset(write(tmp_path / "v0.hdf5", data), max_episode_steps=3)
    assert limited.episode_length_E.tolist() == [3, 3, 3]
    assert (limited.terminals, limited.timeouts, len(limited.rows)) == (0, 3, 6)
    assert not limited.layout.unpack(limited.rows)["terminated"].any()


def test_returns_are_as_logged_even_where_rows_are_dropped(tmp_path):
    data = columns(5)
    del data["next_observations"]
    data["rewards"][:] = [1, 2, 4, 8, 16]
    data["timeouts"][1] = True
    dataset = load_dataset(write(tmp_path / "d.hdf5", data))
    assert dataset.episode_return_E.tolist() == [3, 28]
    assert dataset.episode_return_E.dtype == torch.float64
    assert len(dataset.rows) == 3


def test_the_fingerprint_follows_the_content(tmp_path):
    data = columns(6)
    first = load_dataset(write(tmp_path / "a.hdf5", data)).fingerprint()
    assert load_dataset(write(tmp_path / "b.hdf5", data)).fingerprint() == first
    data["rewards"][3] += 1
    assert load_dataset(write(tmp_path / "c.hdf5", data)).fingerprint() != first
    shorter = {key: value[:-1] for key, value in data.items()}
    assert load_dataset(write(tmp_path / "d.hdf5", shorter)).fingerprint() != first


# ---- the files themselves: FACTS.md, "Data in data/" -------------------------------------------

PUBLISHED = {
    "hopper_random": "4510 | 17.46 ± 17.22 | 227.05 | 4509 / 0",
    "hopper_medium": "510 | 584.89 ± 81.15 | 792.45 | 509 / 1",
    "hopper_medium_replay": "1500 | 150.22 ± 419.10 | 2879.89 | 1470 / 30",
    "hopper_medium_expert": "311 | 1079.53 ± 1112.86 | 3743.81 | 270 / 41",
    "pen_expert": "250 | 3116.01 ± 1867.70 | 5333.24 | 0 / 250",
}


def statistics(dataset: OfflineDataset) -> str:
    returns = dataset.episode_return_E
    return (
        f"{len(returns)} | {returns.mean():.2f} ± {returns.std(correction=0):.2f} | "
        f"{returns.max():.2f} | {dataset.terminals} / {dataset.timeouts}"
    )


@pytest.mark.parametrize("stem", PUBLISHED)
@pytest.mark.skipif(not LOGS.is_dir(), reason="the shared data folder is not here")
def test_the_shared_files_have_their_published_statistics(stem):
    dataset = load_dataset(str(LOGS / f"{stem}.hdf5"), max_episode_steps=1000)
    assert statistics(dataset) == PUBLISHED[stem]


def test_the_packaged_dataset_is_the_published_one():
    assert packaged_datasets() == [PACKAGED]
    assert (datasets.ASSETS / "hopper_medium_replay.hdf5").stat().st_size <= 5_000_000
    dataset = load_dataset(PACKAGED)
    assert dataset.name == PACKAGED
    assert statistics(dataset) == PUBLISHED["hopper_medium_replay"]
    assert (dataset.rows.shape, dataset.rows.dtype) == ((99_970, 28), torch.float32)
    original = LOGS / "hopper_medium_replay.hdf5"
    if original.exists():
        assert load_dataset(str(original)).fingerprint() == dataset.fingerprint()


def test_a_data_module_is_set_up_without_a_trainer():
    data = ReplayDataModule("Hopper-v5", PACKAGED, Schedule(20, online_env_steps=10))
    data.setup("fit")
    data.teardown("fit")
    assert torch.equal(data.replay.rows, load_dataset(PACKAGED).rows)
    small = ReplayDataModule("Hopper-v5", PACKAGED, Schedule(20, 10), replay_capacity=1000)
    with pytest.raises(UserError, match=r"data\.replay_capacity is 1000; add"):
        small.setup("fit")


# ---- Minari ------------------------------------------------------------------------------------


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def box(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)


def create_minari(name: str, buffers: list[EpisodeBuffer], observation_space=None, action=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari wants an author, a description, …
        return minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=observation_space or box(3),
            action_space=action or box(2),
        )


def episode_buffers(lengths: list[int], ends: list[str]) -> list[EpisodeBuffer]:
    buffers = []
    for seed, (steps, end) in enumerate(zip(lengths, ends, strict=True)):
        data = columns(steps + 1, seed)
        last = np.arange(steps) == steps - 1
        buffers.append(
            EpisodeBuffer(
                observations=data["observations"],
                actions=data["actions"][:steps],
                rewards=data["rewards"][:steps],
                terminations=last & ("terminal" in end),
                truncations=last & ("timeout" in end),
            )
        )
    return buffers


def test_minari_gives_the_same_transitions_as_d4rl_v2(tmp_path, minari_root):
    buffers = episode_buffers([4, 1, 3, 2], ["terminal", "timeout", "terminal timeout", "timeout"])
    source = create_minari("test/toy/random-v0", buffers)
    v2 = {
        "observations": [b.observations[:-1] for b in buffers],
        "actions": [b.actions for b in buffers],
        "rewards": [b.rewards for b in buffers],
        "terminals": [b.terminations for b in buffers],
        "timeouts": [b.truncations for b in buffers],
        "next_observations": [b.observations[1:] for b in buffers],
    }
    path = write(tmp_path / "v2.hdf5", {key: np.concatenate(value) for key, value in v2.items()})
    ours, theirs = load_dataset("test/toy/random-v0"), load_dataset(path)

    assert ours.name == "test/toy/random-v0"
    assert (ours.layout, ours.terminals, ours.timeouts) == (theirs.layout, 2, 2)
    for field in ("rows", "episode_T", "episode_return_E", "episode_length_E"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field)), field
    assert ours.fingerprint() == theirs.fingerprint()
    assert ours.reference is None

    source.storage.update_metadata({"ref_min_score": -1.5, "ref_max_score": 20.0})
    assert load_dataset("test/toy/random-v0").reference == Reference(-1.5, 20.0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.sampled_from(["terminal", "timeout", "terminal timeout", "nothing"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.none() | st.integers(1, 6),
)
def test_any_minari_dataset_equals_a_loop_over_rows(tmp_path_factory, episodes, limit):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("minari")
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        lengths, ends = zip(*episodes, strict=True)
        buffers = episode_buffers(list(lengths), list(ends))
        create_minari("any-v0", buffers)
        slow = slow_load(
            {
                "observations": np.concatenate([b.observations[:-1] for b in buffers]),
                "next_observations": np.concatenate([b.observations[1:] for b in buffers]),
                "actions": np.concatenate([b.actions for b in buffers]),
                "rewards": np.concatenate([b.rewards for b in buffers]),
                "terminals": np.concatenate([b.terminations for b in buffers]),
                # an episode that just stops was cut off
                "timeouts": np.concatenate([np.arange(n) == n - 1 for n in lengths]),
            },
            limit,
        )
        with mock.patch.object(datasets, "warn"):
            assert_equals_slow(load_dataset("any-v0", max_episode_steps=limit), slow)


def test_a_minari_episode_that_just_stops_is_not_joined_to_the_next(minari_root):
    create_minari("toy-v0", episode_buffers([2, 3], ["nothing", "terminal"]))
    dataset = load_dataset("toy-v0")
    assert dataset.episode_length_E.tolist() == [2, 3]
    assert dataset.layout.unpack(dataset.rows)["terminated"].tolist() == [0, 0, 0, 0, 1]


def test_a_missing_minari_dataset_fails_at_once_and_says_how_to_get_it(minari_root, monkeypatch):
    for name in ("load_dataset", "download_dataset"):
        monkeypatch.setattr(minari, name, lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(UserError) as caught:
        load_dataset("mujoco/hopper/medium-v0")
    assert str(caught.value) == (
        f"Minari dataset 'mujoco/hopper/medium-v0' is not at {minari_root}/mujoco/hopper/medium-v0:"
        " fetch it with `minari download mujoco/hopper/medium-v0` or fit --data.download true,"
        " give the path of an HDF5 file or a packaged dataset's name (hopper-medium-replay), or"
        " make a stand-in with `python -m adabc_lightning collect`"
    )


def test_a_failed_download_is_one_sentence(minari_root, monkeypatch):
    def unreachable(name):
        assert name == "mujoco/hopper/medium-v0"
        raise ConnectionError("no route\n  to host")

    monkeypatch.setattr(minari, "download_dataset", unreachable)
    with pytest.raises(UserError) as caught:
        load_dataset("mujoco/hopper/medium-v0", download=True)
    expected = "dataset 'mujoco/hopper/medium-v0' cannot be read: no route to host"
    assert str(caught.value) == expected


def test_minari_spaces_that_do_not_fit_are_refused(minari_root):
    (buffer,) = episode_buffers([2], ["terminal"])
    as_tuple = dataclasses.replace(buffer, observations=(buffer.observations,))
    create_minari("tuple-v0", [as_tuple], observation_space=gym.spaces.Tuple([box(3)]))
    with pytest.raises(UserError, match=r"metadata.json needs a flat Box observation space, not T"):
        load_dataset("tuple-v0")

    discrete = dataclasses.replace(buffer, actions=np.array([0, 1]))
    create_minari("discrete-v0", [discrete], action=gym.spaces.Discrete(2))
    with pytest.raises(UserError, match=r"metadata.json needs a flat Box action space, not Discr"):
        load_dataset("discrete-v0")


def test_bad_minari_contents_are_refused(minari_root):
    buffers = episode_buffers([2, 2], ["terminal", "terminal"])
    buffers[1].rewards[1] = np.nan
    create_minari("nan-v0", buffers)
    with pytest.raises(UserError) as caught:
        load_dataset("nan-v0")
    assert str(caught.value) == (
        "Minari dataset 'nan-v0': 'rewards' must be finite in float32, but row 1 "
        "(counted from 0) of episode_1 is nan; leave the row out, and flag the one before it as a "
        "timeout, or log step"
    )

    create_minari("empty-v0", [])
    with pytest.raises(UserError, match=r"^Minari dataset 'empty-v0' has no steps$"):
        load_dataset("empty-v0")

    shutil.rmtree(minari_root / "nan-v0" / "data")
    (minari_root / "nan-v0" / "data").mkdir()
    with pytest.raises(UserError, match=r"metadata.json cannot be read: No such file"):
        load_dataset("nan-v0")


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"actions": None}, " has no 'actions'; it has: next_observations, observations, "),
        ({"rewards": np.zeros(3)}, ": 'rewards' has 3 rows, but 'observations' 4"),
        ({"timeouts": np.zeros(5)}, ": 'timeouts' has 5 rows, but 'observations' 4"),
        (
            {"next_observations": np.zeros((4, 2))},
            ": 'next_observations' must be as wide as 'observations', 3 columns",
        ),
        (
            {"observations": np.zeros(4)},
            ": 'observations' must be [rows, columns], not empty, but is [4]",
        ),
        ({"rewards": np.zeros((4, 2))}, ": 'rewards' must be [rows], not empty, but is [4, 2]"),
        ({"rewards": np.float32(1)}, ": 'rewards' must be [rows], not empty, but is []"),
        ({"rewards": h5py.Empty("f4")}, ": 'rewards' must be [rows], not empty, but is []"),
        ({"terminals": np.zeros((1, 4, 1))}, ": 'terminals' must be [rows], not empty, but is [1,"),
        (
            {"observations": np.zeros((0, 3))},
            ": 'observations' must be [rows, columns], not empty, but is [0, 3]",
        ),
        (
            {"actions": np.full((4, 2), "left", h5py.string_dtype())},
            ": 'actions' must be numeric, but has type object",
        ),
        ({"actions": np.zeros((4, 2), complex)}, ": 'actions' must be numeric, but has type compl"),
        (
            {"observations": np.array([[0, 0, 0], [0, np.inf, 0], [np.nan, 0, 0], [0, 0, 0]])},
            ": 'observations' must be finite in float32, but row 1 (counted from 0) is inf",
        ),
        (
            {"next_observations": np.full((4, 3), np.nan)},
            ": 'next_observations' must be finite in float32, but row 0 (counted from 0) is nan",
        ),
        (
            {"actions": np.array([[0, 0], [0, 0], [0, 0], [0, 1e300]])},
            ": 'actions' must be finite in float32, but row 3 (counted from 0) is inf",
        ),
        (
            {"rewards": np.array([0, -np.inf, 0, 0])},
            ": 'rewards' must be finite in float32, but row 1 (counted from 0) is -inf",
        ),
        (
            {"terminals": np.array([0, 1, 2, 0])},
            ": 'terminals' must be 0 or 1, but row 2 (counted from 0) is 2",
        ),
        (
            {"timeouts": np.array([0, 1, 0, np.nan])},
            ": 'timeouts' must be 0 or 1, but row 3 (counted from 0) is nan",
        ),
        (
            {"rewards": h5py.SoftLink("/elsewhere")},
            ": 'rewards' must be an array in this file, no link and no group",
        ),
        (
            {"rewards": h5py.SoftLink("/observations")},
            ": 'rewards' must be an array in this file, no link and no group",
        ),
        (
            {"timeouts": h5py.ExternalLink("other.hdf5", "/timeouts")},
            ": 'timeouts' must be an array in this file, no link and no group",
        ),
    ],
)
def test_a_bad_column_is_refused_by_name(tmp_path, changes, sentence):
    data = {key: value for key, value in (columns(4) | changes).items() if value is not None}
    path = write(tmp_path / "bad.hdf5", data)
    with mock.patch.object(datasets, "BLOCK_ROWS", 3), pytest.raises(UserError) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(path + sentence)
    assert "\n" not in str(caught.value)


def test_an_array_kept_in_another_file_is_refused(tmp_path):
    data = columns(4)
    rewards = data.pop("rewards")
    rewards.tofile(tmp_path / "rewards.bin")
    write(tmp_path / "source.hdf5", {"rewards": rewards})
    virtual = h5py.VirtualLayout((4,), "f8")
    virtual[:] = h5py.VirtualSource(tmp_path / "source.hdf5", "rewards", (4,))

    makers = {
        "a group": lambda file: file.create_group("rewards"),
        "external storage": lambda file: file.create_dataset(
            "rewards", (4,), "f8", external=[(str(tmp_path / "rewards.bin"), 0, 32)]
        ),
        "a virtual array": lambda file: file.create_virtual_dataset("rewards", virtual),
    }
    for what, make in makers.items():
        path = write(tmp_path / "bad.hdf5", data)
        with h5py.File(path, "a") as file:
            make(file)
        with pytest.raises(UserError, match="'rewards' must be an array in this file, no link"):
            pytest.fail(f"loaded {what}: {load_dataset(path)}")


def test_a_file_that_is_not_whole_hdf5_is_refused(tmp_path):
    text = tmp_path / "text.hdf5"
    text.write_text("observations: none")
    with pytest.raises(UserError, match=r"text.hdf5 is not a readable HDF5 file$"):
        load_dataset(str(text))

    whole = Path(write(tmp_path / "whole.hdf5", columns(500))).read_bytes()
    truncated = tmp_path / "truncated.hdf5"
    truncated.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"truncated.hdf5' cannot be read: .*truncated file"):
        load_dataset(str(truncated))

    with pytest.raises(UserError, match=r"empty.hdf5 is empty: it has no arrays$"):
        load_dataset(write(tmp_path / "empty.hdf5", {}))


@pytest.mark.parametrize(
    ("dataset", "ending"),
    [
        ("hopper_medium_replay", "did you mean 'hopper-medium-replay'?"),
        ("hopper-medium-replya", "did you mean 'hopper-medium-replay'?"),
        ("no/such/file.hdf5", "known: hopper-medium-replay"),
        ("~nobody-by-this-name/data.hdf5", "known: hopper-medium-replay"),
        ("../escape-v0", "known: hopper-medium-replay"),
        ("", "known: hopper-medium-replay"),
    ],
)
def test_an_unknown_dataset_says_what_would_be_right(dataset, ending):
    with pytest.raises(UserError) as caught:
        load_dataset(dataset)
    message = str(caught.value)
    assert message.startswith(
        f"dataset {dataset!r} is no file (looked for {Path(dataset).absolute()})"
    )
    assert message.endswith(
        "no packaged dataset, no D4RL name such as 'hopper-medium-v0' and no Minari id such as "
        "'mujoco/hopper/medium-v0'; " + ending
    )


def test_a_file_beats_a_name_and_a_folder_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"^dataset 'folder' is a folder without a dataset: it"):
        load_dataset("folder")
    write(tmp_path / PACKAGED, columns(4))
    assert len(load_dataset(PACKAGED).rows) == 4
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_dataset(f"~/{PACKAGED}").rows) == 4


def test_a_time_limit_below_one_step_is_refused():
    with pytest.raises(UserError, match=r"^max_episode_steps is 0, but must be at least 1$"):
        load_dataset(PACKAGED, max_episode_steps=0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("antmaze-umaze-v2", "Minari's are such as D4RL/antmaze/umaze-v1"),
        ("kitchen-mixed-v0", "Minari's are such as D4RL/antmaze/umaze-v1"),
        ("Hopper-medium-v2", "did you mean 'hopper-medium-v2'?"),
    ],
)
def test_other_names_of_d4rl_are_no_minari_ids(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_dataset(name)
    assert str(caught.value) == (
        f"{name!r} looks like a dataset of D4RL, but is none that is known here; give the path of "
        f"its HDF5 file; {hint}"
    )
    (tmp_path / name / "data").mkdir(parents=True)  # Minari's first ones had such names
    with pytest.raises(UserError, match=r"cannot be read"):
        load_dataset(name)


def test_a_d4rl_name_that_no_task_needs_asks_for_its_file() -> None:
    with pytest.raises(UserError) as caught:
        load_dataset("hopper-meduim-replay-v2")
    assert str(caught.value) == (
        "'hopper-meduim-replay-v2' looks like a dataset of D4RL, but is none that is known here; "
        "give the path of its HDF5 file; did you mean 'hopper-medium-replay-v2'?"
    )
