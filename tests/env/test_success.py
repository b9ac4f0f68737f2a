"""Successes that an environment flags, from a step's info to the tables."""

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny import TOY_LIMIT, Toy, register_toy, tiny_run, write_log

from adabc_lightning.callbacks import Evaluation
from adabc_lightning.commands.messages import closing_line, episode_table
from adabc_lightning.env.make import Outcomes, evaluate, make_env
from adabc_lightning.run.schedule import Schedule


class Flagging(Toy):
    """A success where the point starts on the right; flagged in the second step alone."""

    key = "is_success"

    def reset(self, **options: Any) -> tuple[np.ndarray, dict]:
        observation, info = super().reset(**options)
        self.steps, self.right = 0, bool(observation[0] > 0)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        *others, _ = super().step(action)
        self.steps += 1
        return *others, {self.key: np.float32(self.steps == 2 and self.right)}  # type: ignore[return-value]


class Robotics(Flagging):
    """As gymnasium_robotics' Adroit says it."""

    key = "success"


class Silent(Flagging):
    """It says nothing of what is no success."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        *others, info = super().step(action)
        return *others, {"is_success": None, "success": True} if info[self.key] else {}  # type: ignore[return-value]


NAMES = {
    "AdabcFlagging-v0": Flagging,
    "AdabcRobotics-v0": Robotics,
    "AdabcSilent-v0": Silent,
}
for name, kind in NAMES.items():
    gymnasium.register(name, kind, max_episode_steps=TOY_LIMIT)


def still(observation_BO: np.ndarray) -> np.ndarray:
    return np.zeros((len(observation_BO), 2), np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side_by_side", [1, 3])
def test_an_episode_succeeds_if_one_of_its_steps_is_flagged(name: str, side_by_side: int) -> None:
    starts = [make_env(name).reset(seed=7 + i)[0][0] > 0 for i in range(6)]
    found = evaluate(still, [make_env(name) for _ in range(side_by_side)], 6, seed=7)
    unsaid = None if name == "AdabcSilent-v0" else False
    assert found.successes == [True if start else unsaid for start in starts]
    assert 0 < sum(starts) < 6
    assert found.success_rate == sum(starts) / 6


def test_without_flags_there_is_no_rate() -> None:
    found = evaluate(still, [make_env(register_toy())], 2, seed=0)
    assert found.successes == [None, None]
    assert found.success_rate is None
    assert (
        Outcomes([1.0, 2.0], [1, 1], [True, None]).success_rate == 0.5
    )  # successes alone are said
    assert "success" not in episode_table(found, None)


def test_the_rate_is_in_the_metrics_the_summary_and_the_last_line(tmp_path: Path) -> None:
    trainer, module, data = tiny_run(
        tmp_path / "run",
        "AdabcFlagging-v0",
        write_log(tmp_path / "log.hdf5", 3, 2),
        schedule=Schedule(4, 10, 1, evaluation_every=5),
    )
    trainer.fit(module, data)
    rows = csv.DictReader((tmp_path / "run/metrics.csv").read_text().splitlines())
    rates = [row["eval/success_rate"] for row in rows if row["eval/return"]]
    assert len(set(rates)) == 1  # it does not depend on what is done
    rate = float(rates[0])
    summary = json.loads((tmp_path / "run/summary.json").read_text())["success_rate"]
    assert (summary["pretrained"], summary["final"], summary["drawdown"]) == (rate, rate, 0)
    point = {"gradient_updates": 4, "env_steps": 0, "eval/return": 1.0, "eval/success_rate": 0.25}
    assert closing_line([point], data.schedule, Path("x")).endswith(", success rate 0.25; x")


def test_a_table_says_which_episodes_succeeded() -> None:
    table = episode_table(Outcomes([1.0, 2.0], [5, 4], [True, False]), None).splitlines()
    assert table[0].endswith("steps success")
    assert table[1].endswith("      5     yes")
    assert table[2].endswith("      4      no")
    assert table[-1] == "success rate 0.5"


def test_who_flags_successes_alone_says_by_silence_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = iter([[True, None], [None, None], [None, True], [None, None]])
    monkeypatch.setattr(Evaluation, "run", lambda *_: Outcomes([1.0] * 2, [5] * 2, next(flags)))
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        write_log(tmp_path / "log.hdf5", 3, 2),
        schedule=Schedule(4, 12, 1, evaluation_every=4),
    )
    trainer.fit(module, data)
    (evaluation,) = (each for each in trainer.callbacks if isinstance(each, Evaluation))
    assert [point["eval/success_rate"] for point in evaluation.history] == [0.5, 0, 0.5, 0]
