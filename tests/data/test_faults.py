"""What makes training wrong is said by ``fit`` before it trains, as ``inspect`` says it."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TOY_LIMIT, register_toy, tiny_run

from adabc_lightning.__main__ import main
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.faults import faults, in_other_units
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.data.mixture import mixed
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()


def log(path: Path, lengths: list[int], terminal: set[int], torn: bool = False) -> str:
    """Episodes whose ends are terminals where their length is in ``terminal``."""
    rows = sum(lengths)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(rows + 1, 3))
    ends = np.concatenate([np.arange(1, n + 1) == n for n in lengths])
    short = np.concatenate([np.full(n, n in terminal) for n in lengths])
    following = rng.normal(size=(rows, 3)) if torn else observations[1:]
    np.savez(
        path,
        observations=observations[:-1],
        next_observations=following,
        actions=rng.uniform(-1, 1, (rows, 2)),
        rewards=rng.normal(size=rows),
        terminals=ends & short,
        timeouts=ends & ~short,
    )
    return str(path)


@pytest.mark.parametrize(
    ("lengths", "terminal", "limit", "said"),
    [
        ([4] * 20, {4}, 10, "20 of 20 terminals are at step 4 of their episodes"),
        ([4] * 20, {4}, None, "20 of 20 terminals are at step 4 of their episodes"),
        ([4, 5] * 10, {4, 5}, 10, "20 of 20 terminals are at step 4 or 5 of their episodes"),
        ([11] * 20, {11}, 10, "20 of 20 terminals are at step 11 of their episodes"),
        ([4] * 18 + [3, 2], {2, 3, 4}, 10, "18 of 20 terminals are at step 4"),
        ([4] * 4, {4}, 10, None),  # too few to tell
        ([1] * 20, {1}, 10, None),  # tasks of one step
        ([4] * 20 + [9] * 20, {4}, 10, None),  # others go on: some end there
        ([2, 3, 4, 5, 6, 7, 8] * 4, {2, 3, 4, 5, 6, 7, 8}, 10, None),
        ([10] * 20, {10}, 10, None),  # the environment's own limit: said when it is read
    ],
)
def test_terminals_at_one_length_are_time_limits(
    lengths, terminal, limit, said, tmp_path: Path
) -> None:
    found = faults(load_dataset(log(tmp_path / "a.npz", lengths, terminal)), limit)
    at_one = [sentence for sentence in found if "terminals are at step" in sentence]
    assert [said in sentence for sentence in at_one] == [True] * (said is not None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda end_T: ~end_T, "60 of 80 rows are terminals, and 60 of the next begin where they"),
        (lambda end_T: end_T | True, "80 of 80 rows are terminals, and 79 of the next begin"),
        (lambda end_T: end_T, None),
        (lambda end_T: end_T & False, None),
    ],
)
def test_inverted_terminals_are_named(change, said, tmp_path: Path) -> None:
    path = log(tmp_path / "a.npz", [4] * 20, {4})
    arrays = dict(np.load(path))
    arrays["terminals"] = change(arrays["terminals"])
    np.savez(path, **arrays)
    found = [one for one in faults(load_dataset(path), 10) if "inverted" in one]
    assert [said in one for one in found] == [True] * (said is not None)


def test_logs_without_ends_are_counted_together(tmp_path: Path) -> None:
    found = []
    for name, rows in {"a.npz": 100, "b.npz": 30}.items():
        path = log(tmp_path / name, [rows], set())
        arrays = dict(np.load(path))
        arrays["timeouts"][:] = False
        np.savez(path, **arrays)
        found.append(load_dataset(path))
    for datasets, said in ((found[:1], "1 episode, 100"), (found, "2 episodes, 130")):
        sentence = f"no end of an episode is flagged: {said} steps in all; log where"
        assert faults(mixed(datasets), None)[0].startswith(sentence)


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1, 1), None),
        ((100, 0.02), None),
        ((1, 200), "action_1 (up to 200) is far from order one, where critics learn: rescale"),
        ((0.001, 1e4), "action_0 (up to 0.001), action_1 (up to 1e+04) are far from order one"),
        ((0, 1), None),  # it is fixed
    ],
)
def test_actions_far_from_order_one_are_named(
    factors: tuple[float, float], said: str | None, tmp_path: Path
) -> None:
    path = log(tmp_path / "a.npz", [8] * 10, set())
    arrays = dict(np.load(path))
    arrays["actions"] = np.linspace(-1, 1, 80)[:, None] * np.array(factors)
    np.savez(path, **arrays)
    found = [each for each in faults(load_dataset(path), 10) if "critics learn" in each]
    assert [str(said) in each for each in found] == [True] * (said is not None)


def test_terminals_that_stay_are_named(tmp_path: Path) -> None:
    path = log(tmp_path / "a.npz", [8] * 10, set())
    arrays = dict(np.load(path))
    arrays["terminals"] = np.tile(np.arange(8) > 4, 10)
    np.savez(path, **arrays)
    said = "20 of 30 terminals begin where the terminal before them ended: each is an episode of"
    assert [said in one for one in faults(load_dataset(path), 10)].count(True) == 1
    arrays["terminals"] = np.tile(np.arange(8) == 4, 10)
    np.savez(path, **arrays)
    assert not [one for one in faults(load_dataset(path), 10) if "begin where" in one]


def test_steps_behind_a_success_are_no_fault(tmp_path: Path) -> None:
    path = log(tmp_path / "a.npz", [8] * 10, set())
    arrays = dict(np.load(path))
    arrays["success"] = np.tile(np.arange(8) > 2, 10)
    np.savez(path, **arrays)
    for ends in (False, True):
        dataset = load_dataset(path, reading=Reading(success_terminates=ends))
        assert not [one for one in faults(dataset, 10) if "inverted" in one]


CASES = {
    "terminals at one length": (([3] * 20, {3}), "20 of 20 terminals are at step 3 of their"),
    "terminals at the limit": (
        ([TOY_LIMIT] * 20, {TOY_LIMIT}), "end flagged as terminals, which stops bootstrapping"
    ),
    "longer than the limit": (([TOY_LIMIT + 2] * 20, set()), "20 episodes are longer than the"),
    "torn": (([TOY_LIMIT] * 20, set(), True), "are not the next row's observation (the first at"),
    "nothing": (([TOY_LIMIT] * 20, set()), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_fit_says_what_inspect_says(case: str, tmp_path: Path, capfd) -> None:
    what, said = CASES[case]
    path = log(tmp_path / "a.npz", *what)
    schedule = Schedule(2, 0, 1, evaluation_every=2)
    trainer, module, data = tiny_run(tmp_path / "run", TOY, Path(path), schedule=schedule)
    trainer.fit(module, data)
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == bool(said), warnings
    assert all(said in line for line in warnings)
    assert main(["inspect", path, "--env-id", TOY]) == 0
    printed = capfd.readouterr()
    assert not said or said in printed.out + printed.err


def test_a_run_that_goes_on_looks_for_no_faults(tmp_path: Path, capfd, monkeypatch) -> None:
    log(tmp_path / "a.npz", [TOY_LIMIT + 2] * 20, set())
    calls = []

    def counted(*args: Any) -> list[str]:
        calls.append(args)
        return faults(*args)

    monkeypatch.setattr("adabc_lightning.data.module.faults", counted)
    words = shlex.split(
        f"fit --data.env_id {TOY} --data.dataset {tmp_path / 'a.npz'} --data.batch_size 4"
        " --schedule.offline_updates 2 --schedule.evaluation_every 2 --evaluation.episodes 1"
        " --model.hidden_sizes [4] --model.num_critics 2 --downsampling.minimum 4"
        " --data.reference_min 0 --data.reference_max 1"
        f" --trainer.default_root_dir {tmp_path / 'run'} --schedule.online_env_steps"
    )
    assert main([*words, "0"]) == 0
    assert "20 episodes are longer than" in capfd.readouterr().err
    assert len(calls) == 1
    assert main([*words, "2", "--ckpt_path", "last"]) == 0
    assert "are longer than" not in capfd.readouterr().err
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x, None),
        (lambda x: x * 300, r"\S+, standard deviation [23]\d\d"),
        (lambda x: x / 5000, r"\S+, standard deviation 0.000[12]\d+"),
        (lambda x: 500 + x, r"(499|500)\S*, standard deviation [01]\.\d+"),
        (lambda x: x * 0 + 0.3, None),  # a constant is said elsewhere
        (lambda x: x * 1e-9 + 0.3, None),  # no more than float32 rounds
    ],
)
def test_observations_far_from_order_one_are_named(change, said, tmp_path: Path, capsys) -> None:
    path = log(tmp_path / "a.npz", [TOY_LIMIT] * 8, set())
    arrays = dict(np.load(path))
    for name in ("observations", "next_observations"):
        arrays[name][:, 1] = change(arrays[name][:, 1])
    np.savez(path, **arrays)
    found = [s for s in faults(load_dataset(path), TOY_LIMIT) if "order one" in s]
    assert len(found) == (said is not None)
    if said is None:
        return
    assert re.match(rf"observation_1 \(mean {said}\S* is far from order one", found[0]), found
    assert "set data.normalize_observations to true, or scale" in found[0]
    assert not [s for s in faults(load_dataset(path), TOY_LIMIT, None, True) if "order one" in s]
    for on in (False, True):  # and a run that does so has nothing to say
        trainer, module, data = tiny_run(
            tmp_path / str(on), TOY, Path(path), schedule=Schedule(1, 0, 1),
            data={"normalize_observations": on},
        )  # fmt: skip
        trainer.fit(module, data)
        assert ("order one" in capsys.readouterr().err) is not on


def test_what_normalising_does_not_mend_is_named_as_it_was_read(tmp_path: Path, capsys) -> None:
    path = log(tmp_path / "a.npz", [TOY_LIMIT] * 8, set())
    arrays = dict(np.load(path))
    arrays["observations"][:, 0] *= 1e-7
    np.savez(path, **arrays)
    trainer, module, data = tiny_run(
        tmp_path / "run", TOY, Path(path), schedule=Schedule(1, 0, 1),
        data={"normalize_observations": True},
    )  # fmt: skip
    trainer.fit(module, data)
    said = next(line for line in capsys.readouterr().err.splitlines() if "order one" in line)
    assert re.search(r"observation_0 \(mean \S+, standard deviation \d\S+e-0[78]\) is far", said)
    assert "where networks learn: scale them in log and environment" in said


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ([0.1, 0.5, 0.9], [500.0, 2500.0, 4500.0], True),
        ([0.1, 0.5, 0.9], [-4900.0, -4500.0, -4100.0], True),
        ([-0.1, -0.05, -0.02], [-0.1] * 50 + [100.0], False),  # a success, seldom
        ([-0.4, -0.1, -0.2], [-0.3] * 20 + [20.0] * 80, False),  # or most of the time
        ([0.0] * 9 + [1.0], [0.0] * 9 + [100.0], False),
        ([0.0, 0.0], [1.0, 1.0], False),
        ([], [1.0], False),
        (
            [0.0] * 25 + [1.0],
            list(np.linspace(2, 6, 30)),
            True,
        ),  # successes, and what steps are worth
        ([0.0] * 25 + [1.0], [0.0] * 5 + list(np.linspace(2, 6, 30)), False),
        ([0.0] * 25 + [1.0], [-1.0] * 30, False),  # a step's cost, where nothing has succeeded
        ([0.0] * 5 + [1.0], list(np.linspace(2, 6, 30)), False),  # too few to say
        ([-0.1] * 25 + [1.0], [-0.1] * 20 + [0.5, 1.0], False),
    ],
)
def test_units_of_rewards(one: list[float], other: list[float], differ: bool) -> None:
    pair = np.array(one, np.float32), np.array(other)
    assert in_other_units(*pair) == in_other_units(*pair[::-1]) == differ
