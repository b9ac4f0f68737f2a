"""Nonsense goes in, one sentence comes out: the table of what is refused, and what is not.

``test_datasets.py`` has the columns' own table (22 rows) and the names, ``test_cli.py`` what goes
through the command line (75 rows): those are counted by :func:`test_there_are_enough_cases`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from test_cli import MISTAKES
from test_datasets import create_minari, episode_buffers
from tiny import TOY_LIMIT, register_toy

from adabc_lightning.__main__ import main
from adabc_lightning.agent.methods import AWAC, TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks import AlphaController, Downsampling, Evaluation, Metrics
from adabc_lightning.callbacks.balanced import BalancedReplay
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

SHORT = Schedule(4, 2, 1, evaluation_every=4)
SPEC = EnvironmentSpec("Toy", 3, (-1.0, -3.0), (1.0, 3.0), TOY_LIMIT)
ROWS = 200


def log(rows: int = ROWS, **changes: Any) -> dict[str, Any]:
    """A log of the toy environment in D4RL's v2 layout, with changed columns; None leaves out."""
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(rows, 3)),
        "actions": rng.uniform((-1, -3), (1, 3), size=(rows, 2)),
        "rewards": rng.normal(size=rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(1, rows + 1) % TOY_LIMIT == 0,
        "next_observations": rng.normal(size=(rows, 3)),
    }
    return {key: value for key, value in (columns | changes).items() if value is not None}


def write(path: Path, columns: dict[str, Any], **attributes: Any) -> str:
    with h5py.File(path, "w") as file:
        for key, value in columns.items():
            file[key] = value
        file.attrs.update(attributes)
    return str(path)


def load(path: str, **options: Any) -> ReplayDataModule:
    """The data module of the toy with its dataset, as ``fit`` sets it up, without a trainer."""
    data = ReplayDataModule(register_toy(), path, SHORT, batch_size=8, **options)
    data.dataset = data.loading.load(data.spec)
    return data


def nan_at(row: int, value: float, width: int | None = None) -> np.ndarray:
    column = np.zeros((ROWS, width) if width else ROWS)
    column[row] = value
    return column


# ---- the file ----------------------------------------------------------------------------------

HALF = "truncated"
BROKEN_FILES: dict[str, tuple[Any, str]] = {
    "missing": (None, "is no file (looked for "),
    "empty file": (b"", "log.hdf5 is empty"),
    "text": (b"observations, actions", "is not a readable HDF5 file"),
    "a pickle": (b"\x80\x04\x95\x00.", "is not a readable HDF5 file"),
    "signature alone": (b"\x89HDF\r\n\x1a\n", "cannot be read: "),
    "truncated": (HALF, "cannot be read: "),
    "no keys": ({}, "is empty: it has no arrays"),
    "no observations": (log(observations=None), "has no 'observations'; it has: actions, "),
    "no actions": (log(actions=None), "has no 'actions'"),
    "no rewards": (log(rewards=None), "has no 'rewards'"),
    "no terminals": (log(terminals=None), "has no 'terminals'"),
    "many other keys": (
        {f"key{i:03}": 0 for i in range(100)},
        "has no 'observations'; it has: key000, ",
    ),
    "actions too short": (log(actions=np.zeros((9, 2))), "'actions' has 9 rows, but"),
    "rewards too long": (log(rewards=np.zeros(201)), "'rewards' has 201 rows, but"),
    "terminals too short": (log(terminals=np.zeros(1)), "'terminals' has 1 rows, but"),
    "next ones too short": (
        log(next_observations=np.zeros((199, 3))),
        "'next_observations' has 199 rows, but",
    ),
    "flat observations": (log(observations=np.zeros(ROWS)), "must be [rows, columns], not empty"),
    "images": (log(observations=np.zeros((ROWS, 3, 2, 2))), "must be [rows, columns], not empty"),
    "flat actions": (log(actions=np.zeros(ROWS)), "'actions' must be [rows, columns]"),
    "two rewards": (log(rewards=np.zeros((ROWS, 2))), "'rewards' must be [rows], not empty"),
    "no rows": (log(0), "has no rows"),
    "no columns": (log(actions=np.zeros((ROWS, 0))), "not empty, but is [200, 0]"),
    "texts": (log(actions=np.full((ROWS, 2), b"up")), "'actions' must be numeric, but has type"),
    "pickled objects": (
        log(rewards=np.full(ROWS, "cposix\nsystem", h5py.string_dtype())),
        "'rewards' must be numeric, but has type object",
    ),
    "opaque bytes": (log(rewards=np.zeros(ROWS, "V8")), "'rewards' must be numeric, but has type"),
    "records": (
        log(rewards=np.zeros(ROWS, [("a", "f4")])),
        "'rewards' must be numeric, but has type",
    ),
    "complex": (log(rewards=np.zeros(ROWS, complex)), "'rewards' must be numeric, but has type"),
    "NaN observation": (
        log(observations=nan_at(7, np.nan, 3)),
        "'observations' must be finite in float32, but row 7 (counted from 0) is nan",
    ),
    "inf action": (
        log(actions=nan_at(9, np.inf, 2)),
        "'actions' must be finite in float32, but row 9 (counted from 0) is inf",
    ),
    "NaN reward": (log(rewards=nan_at(199, np.nan)), "but row 199 (counted from 0) is nan"),
    "-inf reward": (log(rewards=nan_at(0, -np.inf)), "but row 0 (counted from 0) is -inf"),
    "beyond float32": (log(rewards=nan_at(3, 1e39)), "but row 3 (counted from 0) is inf"),
    "NaN next one": (
        log(next_observations=nan_at(5, np.nan, 3)),
        "but row 5 (counted from 0) is nan",
    ),
    "terminal 2": (
        log(terminals=nan_at(4, 2)),
        "'terminals' must be 0 or 1, but row 4 (counted from 0) is 2",
    ),
    "terminal NaN": (
        log(terminals=nan_at(4, np.nan)),
        "'terminals' must be 0 or 1, but row 4 (counted from 0)",
    ),
    "timeout -1": (
        log(timeouts=nan_at(4, -1)),
        "'timeouts' must be 0 or 1, but row 4 (counted from 0) is -1",
    ),
    "terminals are rewards": (
        log(terminals=np.linspace(0, 1, ROWS)),
        "'terminals' must be 0 or 1, but row 1 (counted from 0)",
    ),
    "four observations": (
        log(observations=np.zeros((ROWS, 4)), next_observations=None),
        "has observations of 4 and actions of 2 numbers, environment 'AdabcToy-v0' has 3 and 2",
    ),
    "three actions": (log(actions=np.zeros((ROWS, 3))), "they must be of the same task"),
    "other next width": (
        log(next_observations=np.zeros((ROWS, 2))),
        "must be as wide as 'observations', 3 columns",
    ),
    "actions in degrees": (
        log(actions=np.full((ROWS, 2), 57.3)),
        "200 of 200 actions lie outside the action space of 'AdabcToy-v0', the furthest is 57.3 "
        "in column 0, where -1 to 1 is allowed",
    ),
    "actions of 2 %": (
        log(actions=np.array([[0, 3.1]] * 4 + [[0, 0]] * 196)),
        "4 of 200 actions lie outside the action space",
    ),
    "only cut-off steps": (
        log(1, next_observations=None, timeouts=np.ones(1)),
        "has no step with a known next observation",
    ),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_dataset_is_one_sentence(case: str, tmp_path: Path) -> None:
    content, sentence = BROKEN_FILES[case]
    path = tmp_path / "log.hdf5"
    if isinstance(content, dict):
        write(path, content)
    elif content == HALF:
        whole = Path(write(path, log())).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content is not None:
        path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as caught:
        load(str(path))
    message = str(caught.value)
    assert sentence in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 700
    assert sorted(tmp_path.iterdir()) == before


# ---- spaces ------------------------------------------------------------------------------------


class Spaces(gymnasium.Env):
    """An environment that consists of its spaces."""

    def __init__(self, observations: gymnasium.Space, actions: gymnasium.Space) -> None:
        self.observation_space, self.action_space = observations, actions


BOX = gymnasium.spaces.Box(-1, 1, (3,))
UNBOUNDED = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
BAD_SPACES = {
    "discrete actions": (BOX, gymnasium.spaces.Discrete(4), "(continuous actions) is supported"),
    "unbounded actions": (BOX, UNBOUNDED, "has unbounded actions"),
    "half bounded actions": (BOX, gymnasium.spaces.Box(0, np.inf, (2,)), "has unbounded actions"),
    "matrix actions": (BOX, gymnasium.spaces.Box(-1, 1, (2, 2)), "only a Box of one dimension"),
    "pixels": (gymnasium.spaces.Box(0, 255, (8, 8, 3)), BOX, "only a Box of one dimension is"),
    "discrete observations": (gymnasium.spaces.Discrete(3), BOX, "only a Box of one dimension is"),
    "dict observations": (gymnasium.spaces.Dict({"a": BOX}), BOX, "only a Box of one dimension is"),
}


@pytest.mark.parametrize("case", BAD_SPACES)
def test_spaces_that_are_not_supported(case: str) -> None:
    *spaces, sentence = BAD_SPACES[case]
    with pytest.raises(UserError) as caught:
        EnvironmentSpec.of(Spaces(*spaces), "X-v0")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("environment 'X-v0' has ")


# ---- values ------------------------------------------------------------------------------------

NUMBER = "it must be a number, 0 or more"
NAN, INF, HUGE = float("nan"), float("inf"), 10**19
SIZES = "it must be a list of whole numbers, each 1 or more, at least 1 of them"


def module(**values: Any) -> OffToOnModule:
    return OffToOnModule(SPEC, **{"num_critics": 2, "hidden_sizes": (4,)} | values)


def data(**values: Any) -> ReplayDataModule:
    return ReplayDataModule(register_toy(), None, Schedule(0, 5), **values)


BAD_VALUES: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    # ensembles
    (module, {"num_critics": 0}, "model.num_critics 0; it must be 1 ≤ subset_size"),
    (module, {"num_critics": -1}, "model.num_critics -1; it must be 1 ≤ subset_size"),
    (module, {"subset_size": 0}, "model.subset_size is 0 and"),
    (module, {"subset_size": 3}, "model.subset_size is 3 and model.num_critics 2"),
    (module, {"hidden_sizes": ()}, f"model.hidden_sizes is (); {SIZES}"),
    (module, {"hidden_sizes": (4, 0)}, f"model.hidden_sizes is (4, 0); {SIZES}"),
    (module, {"hidden_sizes": (-4,)}, f"model.hidden_sizes is (-4,); {SIZES}"),
    (module, {"actor_hidden_sizes": (4, -1)}, f"model.actor_hidden_sizes is (4, -1); {SIZES}"),
    (module, {"actor_hidden_sizes": []}, f"model.actor_hidden_sizes is []; {SIZES}, or null"),
    # numbers
    (module, {"gamma": NAN}, "model.gamma is nan; it must be a number between 0 and 1"),
    (module, {"gamma": -0.1}, "model.gamma is -0.1; it must be between 0 and 1"),
    (module, {"tau": 1.5}, "model.tau is 1.5; it must be between 0 and 1"),
    (module, {"learning_rate": NAN}, f"model.learning_rate is nan; {NUMBER}"),
    (module, {"learning_rate": INF}, f"model.learning_rate is inf; {NUMBER}"),
    (module, {"learning_rate": -1.0}, "model.learning_rate is -1.0; it must be 0 or more"),
    (module, {"alpha_offline": INF}, f"model.alpha_offline is inf; {NUMBER}"),
    (module, {"alpha_offline": NAN}, f"model.alpha_offline is nan; {NUMBER}"),
    (
        module,
        {"actor_weight_decay": INF},
        f"model.actor_weight_decay is inf; {NUMBER}",
    ),
    (module, {"policy_delay": 0}, "model.policy_delay is 0; it must be 1 or more"),
    (module, {"target_noise": NAN}, f"model.target_noise is nan; {NUMBER}"),
    (module, {"target_noise_clip": -1.0}, "model.target_noise_clip is -1.0; it must be 0 or more"),
    (module, {"normalizer": "mean"}, "model.normalizer is mean; it must be policy or data"),
    (
        TD3BC,
        {"target_noise": NAN},
        f"model.method.target_noise is nan; {NUMBER}",
    ),
    (
        TD3BC,
        {"target_noise": INF},
        f"model.method.target_noise is inf; {NUMBER}",
    ),
    (TD3BC, {"target_noise_clip": -1.0}, "model.method.target_noise_clip is -1.0; it must be 0"),
    (TD3BC, {"normalizer": "mean"}, "model.method.normalizer is mean; it must be policy or data"),
    (AWAC, {"beta": 0.0}, "model.method.beta is 0.0"),
    (AWAC, {"beta": NAN}, "model.method.beta is nan"),
    (AlphaController, {"kp": NAN}, f"alpha.kp is nan; {NUMBER}"),
    (AlphaController, {"kd": -1.0}, "alpha.kd is -1.0; it must be 0 or more"),
    (AlphaController, {"ceiling": INF}, f"alpha.ceiling is inf; {NUMBER}"),
    (AlphaController, {"target": NAN}, "alpha.target is nan; it must be a number"),
    (AlphaController, {"average_rate": 2.0}, "alpha.average_rate is 2.0; it must be between 0"),
    (AlphaController, {"initial": 0.5}, "alpha.initial is 0.5; it must be between 0 and 0.4"),
    (Downsampling, {"keep": NAN}, "downsampling.keep is nan; it must be a number between 0 and 1"),
    (Downsampling, {"minimum": -1}, "downsampling.minimum is -1; it must be 0 or more"),
    (Evaluation, {"episodes": -1}, "evaluation.episodes is -1; it must be between 1 and 10000"),
    (Evaluation, {"episodes": HUGE}, "it must be between 1 and 10000"),
    (Metrics, {"every": 0}, "metrics.every is 0; it must be 1 or more"),
    (BalancedReplay, {"online_fraction": NAN}, "online_fraction is nan"),
    # the schedule
    (Schedule, {"offline_updates": -1}, "schedule.offline_updates is -1; it must be 0 or more"),
    (Schedule, {"online_env_steps": -1}, "schedule.online_env_steps is -1; it must be 0 or more"),
    (Schedule, {"updates_per_env_step": -1}, "schedule.updates_per_env_step is -1; it must be 0"),
    (Schedule, {"offline_chunk": 0}, "schedule.offline_chunk is 0; it must be 1 or more"),
    (Schedule, {"evaluation_every": -5}, "schedule.evaluation_every is -5; it must be 1 or more"),
    (Schedule, {"offline_updates": 0, "online_env_steps": 0}, "are both 0"),
    # the data
    (data, {"batch_size": 0}, "data.batch_size is 0; it must be 1 or more"),
    (data, {"batch_size": HUGE}, "of memory"),
    (data, {"replay_capacity": -5}, "data.replay_capacity is -5; it must be 1 or more"),
    (data, {"replay_capacity": HUGE}, "of memory"),
    (
        data,
        {"exploration_noise": NAN},
        f"data.exploration_noise is nan; {NUMBER}",
    ),
    (
        data,
        {"exploration_noise": INF},
        f"data.exploration_noise is inf; {NUMBER}",
    ),
    (data, {"max_episode_steps": 0}, "data.max_episode_steps is 0; it must be 1 or more, or null"),
    (data, {"reference_min": 5.0}, "must be given together"),
    (data, {"reference_min": 5.0, "reference_max": 5.0}, "must be below"),
    (data, {"reference_min": 5.0, "reference_max": 1.0}, "must be below"),
    (data, {"reference_min": NAN, "reference_max": 1.0}, "must be below"),
    (module, {"hidden_sizes": (10**12,)}, "of memory"),
    (module, {"num_critics": 10**12}, "of memory"),
]


@pytest.mark.parametrize(
    ("make", "values", "sentence"), BAD_VALUES, ids=[str(values) for _, values, _ in BAD_VALUES]
)
@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="knows the memory on Linux only")
def test_a_value_without_sense_is_one_sentence(
    make: Callable[..., Any], values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        make(**values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- through the command line ------------------------------------------------------------------

TINY = ["fit", "--config", "hopper", "--model.hidden_sizes", "[4]", "--evaluation.episodes", "1"]
WORDS = {
    "--data.terminals_at_limit never": "is never; it must be terminal or timeout",
    "--trainer.max_epochs 0": "trainer.max_epochs is 0, but a run is one pass of the schedule",
    "--trainer.max_epochs -1": "trainer.max_epochs is -1, but a run is one pass of the schedule",
    "--trainer.limit_train_batches 0": "trainer.limit_train_batches is 0, but a run is one pass",
    "--trainer.fast_dev_run true": "trainer.fast_dev_run is True, but a run is one pass",
    "--trainer.default_root_dir=": "trainer.default_root_dir is empty",
    "--data.env_id :": "environment ':' cannot be made",
    "--data.dataset bad.hdf5": "must be finite in float32, but row 5 (counted from 0) is nan",
    "--data.dataset degrees.hdf5": "200 of 200 actions lie outside the action space",
    "--allow": "--allow needs the name of a package",
    "--allow a-b": "'a-b' is no package to allow",
}


@pytest.mark.parametrize("words", WORDS)
def test_the_command_line_says_it_in_one_line_and_leaves_nothing(
    words: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADABC_ALLOW", "")
    hopper = {
        "observations": np.zeros((ROWS, 11)),
        "next_observations": np.zeros((ROWS, 11)),
        "actions": np.zeros((ROWS, 3)),
    }
    write(tmp_path / "bad.hdf5", log(**hopper, rewards=nan_at(5, np.nan)))
    write(tmp_path / "degrees.hdf5", log(**hopper | {"actions": np.full((ROWS, 3), 90.0)}))
    assert main([*TINY, *words.split()]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert WORDS[words] in printed.err
    assert set(os.listdir()) == {"bad.hdf5", "degrees.hdf5"}


def test_there_are_enough_cases() -> None:
    datasets = len(BROKEN_FILES) + len(BAD_SPACES)
    configuration = len(BAD_VALUES) + len(WORDS) + len(MISTAKES)
    assert datasets >= 50
    assert configuration >= 120


# ---- what looks odd and is fine ----------------------------------------------------------------

FINE = {
    "integer rewards": log(rewards=np.arange(ROWS)),
    "unsigned rewards": log(rewards=np.arange(ROWS, dtype=np.uint8)),
    "bool rewards": log(rewards=np.arange(ROWS) % 2 == 0),
    "half precision": log(observations=np.zeros((ROWS, 3), np.float16)),
    "episodes of one step": log(terminals=np.ones(ROWS, bool), timeouts=None),
    "one row": log(1),
    "fewer rows than a batch": log(3),
    "no end at all": log(timeouts=np.zeros(ROWS)),
    "flags as numbers": log(terminals=np.zeros(ROWS), timeouts=np.zeros((ROWS, 1), np.int64)),
    "actions at the bounds": log(actions=np.tile([1.0, -3.0], (ROWS, 1))),
    "other keys": log(infos=np.zeros(3)),
}


@pytest.mark.parametrize("case", FINE)
def test_odd_but_fine(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    columns = FINE[case]
    dataset = load(write(tmp_path / "log.hdf5", columns)).dataset
    assert dataset is not None
    fields = dataset.layout.unpack(dataset.rows)
    rewards = torch.from_numpy(np.asarray(columns["rewards"], np.float32))
    assert torch.equal(fields["reward"], rewards)
    assert torch.equal(fields["action"], torch.from_numpy(columns["actions"].astype(np.float32)))
    assert capfd.readouterr().err == ""


# ---- clipped -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ([[0, 3.0005]] * ROWS, ROWS),  # rounding: 8e-5 of the range, in every row
        ([[-9e9, 0], [5, 0]] + [[0, 0]] * (ROWS - 2), 2),  # outliers: 1 % of the rows
    ],
)
def test_a_little_outside_is_clipped_and_counted(
    actions: list, count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = load(write(tmp_path / "log.hdf5", log(actions=np.array(actions, float)))).dataset
    assert dataset is not None
    expected = np.clip(np.array(actions, np.float32), [-1, -3], [1, 3])
    stored = dataset.layout.unpack(dataset.rows)["action"]
    assert torch.equal(stored, torch.from_numpy(expected.astype(np.float32)))
    said = capfd.readouterr().err
    assert said.startswith(f"warning: dataset '{tmp_path}/log.hdf5': {count} of 200 actions lay ")
    assert said.count("\n") == 1


# ---- the time limit as a terminal --------------------------------------------------------------


def limit_as_terminal(ends: int, **changes: Any) -> dict[str, Any]:
    """Every episode ends as a terminal, ``ends`` of them at the limit of 5, the others after 2."""
    lengths = [5] * ends + [2] * 10
    flags = np.concatenate([np.arange(1, n + 1) == n for n in lengths])
    return log(len(flags), terminals=flags, timeouts=None, **changes)


@pytest.mark.parametrize("changes", [{}, {"next_observations": None}])
def test_a_time_limit_recorded_as_a_terminal_is_seen_and_fixed(
    changes: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "log.hdf5", limit_as_terminal(8, **changes))
    kept = load(path).dataset
    said = capfd.readouterr().err
    assert said == (
        f"warning: {path}: 8 of 8 episodes of exactly 5 steps, the time limit, end flagged as "
        "terminals, which stops bootstrapping there; if the limit ended them, set "
        "data.terminals_at_limit to timeout\n"
    )
    read = load(path, terminals_at_limit="timeout").dataset
    assert capfd.readouterr().err == ""
    assert kept is not None
    assert read is not None
    assert (kept.terminals, kept.timeouts) == (18, 0)
    assert (read.terminals, read.timeouts) == (10, 8)
    assert torch.equal(read.episode_length_E, kept.episode_length_E)
    terminated = read.layout.unpack(read.rows)["terminated"]
    assert terminated.sum() == 10
    assert len(read.rows) == len(kept.rows) - (8 if changes else 0)
    assert not terminated[:32].any()


def test_true_terminals_at_the_limit_are_not_suspicious(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(write(tmp_path / "one.hdf5", limit_as_terminal(1)))  # it can happen
    mixed = limit_as_terminal(8)
    mixed["timeouts"] = mixed["terminals"].copy()
    mixed["terminals"][:10] = False  # two of the eight ended by the limit
    load(write(tmp_path / "mixed.hdf5", mixed))
    load_dataset(write(tmp_path / "unlimited.hdf5", limit_as_terminal(8)))
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="terminals_at_limit is 'never'; known: terminal, timeout"):
        load_dataset(str(tmp_path / "one.hdf5"), terminals_at_limit="never")  # type: ignore


# ---- another environment's data ----------------------------------------------------------------


def test_data_of_another_environment_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "log.hdf5", log(), env_id="Other-v3")
    load(path)
    assert capfd.readouterr().err == (
        f"warning: dataset '{path}' says that it was logged in 'Other-v3'; data.env_id, where "
        "fine-tuning and evaluation take place, is 'AdabcToy-v0'\n"
    )
    load(write(tmp_path / "same.hdf5", log(), env_id="AdabcToy-v0"))
    load(write(tmp_path / "number.hdf5", log(), env_id=3))
    assert capfd.readouterr().err == ""


def test_minari_data_of_another_environment_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    source = create_minari("toy/other-v0", episode_buffers([4, 3], ["terminal", "timeout"]))
    gymnasium.register("Elsewhere-v7", lambda: None)
    spec = gymnasium.spec("Elsewhere-v7")
    spec.entry_point = "elsewhere:Env"
    source.storage.update_metadata({"env_spec": spec.to_json()})
    capfd.readouterr()
    load("toy/other-v0")
    said = capfd.readouterr().err
    assert "says that it was logged in 'Elsewhere-v7'" in said
    assert said.count("\n") == 1
