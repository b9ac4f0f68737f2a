"""The hand-over diagnostics: numbers by hand, no trace in the run, sentences when they are due."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from tensordict import TensorDict
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import AWAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks import Downsampling, HandoverDiagnostics, RunCallback, Trials
from adabc_lightning.callbacks.handover import measure
from adabc_lightning.callbacks.lines import say
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import torch_generator

NAMES = ["q_gap", "action_distance", "disagreement_data", "disagreement_policy"]
NAMES = [f"diagnostics/{name}" for name in [*NAMES, "disagreement_online", "saturated"]]


class Agent:
    """π(s) = (s, 4 − s), limits ±2 and 0…4; Q_i(s, a) = i · a₀ for i = 1, 2, 3."""

    class actor:
        action_low, action_high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 4.0])

        def __new__(cls, observation: torch.Tensor) -> torch.Tensor:  # type: ignore[misc]
            return torch.cat([observation, 4 - observation], -1)

        @staticmethod
        def normalized(observation: torch.Tensor) -> torch.Tensor:
            return observation

    @staticmethod
    def critics(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.arange(1.0, 4.0)[:, None] * action[:, 0]


def test_the_numbers_by_hand() -> None:
    batch = TensorDict(
        {
            "observation": torch.tensor([[0.0], [2.0]]),
            "action": torch.tensor([[1.0, 4.0], [1.0, 0.0]]),
        },
        [2],
    )
    values = measure(Agent(), batch, torch.tensor([[1.0], [2.0], [0.0]]))  # type: ignore[arg-type]
    std = np.std([1, 2, 3])
    expected = {
        "q_gap": 2 * (1 - 1),  # policy's a₀: 0 and 2, data's: 1 and 1
        "action_distance": np.sqrt(((0.5) ** 2 + 0 + 0.5**2 + 1) / 4),
        "disagreement_data": std,
        "disagreement_policy": std * (0 + 2) / 2,
        "saturated": 2 / 4,  # a₁ = 4 of the first row, a₀ = 2 of the second
        "disagreement_online": std * (1 + 2 + 0) / 3,
    }
    assert values.keys() == {f"diagnostics/{name}" for name in expected}
    for name, value in expected.items():
        assert values[f"diagnostics/{name}"] == pytest.approx(value), name
    batch["action"] += torch.tensor([0.5, 0.0])
    shifted = measure(Agent(), batch, None)  # type: ignore[arg-type]
    assert shifted["diagnostics/q_gap"] == pytest.approx(2 * (1 - 1.5))
    assert "diagnostics/disagreement_online" not in shifted
    only_states = measure(Agent(), None, torch.tensor([[2.0]]))  # type: ignore[arg-type]
    assert only_states == {"diagnostics/disagreement_online": pytest.approx(2 * std)}


def read_rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def fitted(folder: Path, **options: Any) -> tuple[OffToOnModule, list[dict[str, str]], Any]:
    folder.mkdir(parents=True)
    log = options.pop("log", None) or write_log(folder / "log.hdf5", 3, 2)
    options = {"schedule": Schedule(6, 12, 2, evaluation_every=3)} | options
    trainer, module, data = tiny_run(folder / "run", register_toy(), log, **options)
    trainer.fit(module, data)
    rows = read_rows(folder / "run")
    return module, rows, trainer


@pytest.mark.parametrize("model", [{}, {"method": AWAC()}], ids=["TD3BC", "AWAC"])
def test_a_run_is_the_same_without_them(tmp_path: Path, model: dict[str, Any]) -> None:
    runs = []
    for diagnostics in (True, False):
        torch.manual_seed(0)
        np.random.seed(0)
        folder = tmp_path / str(diagnostics)
        module, rows, _ = fitted(folder, model=dict(model), diagnostics=diagnostics)
        others = [{k: v for k, v in row.items() if not k.startswith("diag")} for row in rows]
        checkpoint = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
        runs.append((module, others, checkpoint, torch.rand(3), np.random.rand(3)))
    (ours, our_rows, our_file, *draws), (plain, plain_rows, plain_file, *plain_draws) = runs
    for name, tensor in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    # The row of the hand-over is theirs alone.
    assert [r for r in our_rows if r["loss/critic"] or r["eval/return"]] == plain_rows
    assert len(our_rows) == len(plain_rows) + 1
    assert torch.equal(our_file["agent"]["generator"], plain_file["agent"]["generator"])
    for key in ("collector", "replay"):
        assert repr(our_file["ReplayDataModule"][key]) == repr(plain_file["ReplayDataModule"][key])
    for draw, other in zip(draws, plain_draws, strict=True):
        np.testing.assert_array_equal(draw, other)


def test_at_the_hand_over_and_at_every_evaluation(tmp_path: Path) -> None:
    _, rows, _ = fitted(tmp_path / "a")
    for row in rows:
        handed_over = row["env_steps"] == "0" and not row["eval/return"] and not row["loss/critic"]
        measured = bool(row["eval/return"]) or handed_over
        assert all(bool(row[name]) == measured for name in NAMES), row
    measured = [(int(r["gradient_updates"]), int(r["env_steps"])) for r in rows if r[NAMES[0]]]
    assert measured == [(3, 0), (6, 0), (6, 0), (12, 3), (18, 6), (24, 9), (30, 12)]


def test_the_hand_over_is_measured_on_the_rows_that_are_kept(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Spy(RunCallback):
        def on_hand_over(self, data: Any, agent: OffToOnModule) -> None:
            index = torch.randint(
                len(data.kept), (20,), generator=torch_generator(data.seed, "diagnostics")
            )
            batch = data.layout.unpack(data.replay.rows[data.kept[index]])
            seen.update(measure(agent, batch, None))

    options = {"method": "best", "keep": 0.2}
    _, rows, trainer = fitted(tmp_path / "a", downsampling=options, callbacks=[Spy()])
    assert any(isinstance(callback, Downsampling) for callback in trainer.callbacks)
    (row,) = [r for r in rows if r[NAMES[0]] and not r["eval/return"]]
    assert {name: float(row[name]) for name in seen} == pytest.approx(seen)


def test_from_scratch_there_are_only_visited_states(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    schedule = Schedule(0, 6, 1, evaluation_every=3)
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), None, schedule=schedule, alpha={"initial": 0.0}
    )
    trainer.fit(module, data)
    first, *later = read_rows(tmp_path / "a")
    assert first["eval/return"]
    assert first["diagnostics/disagreement_online"]
    assert not first["diagnostics/q_gap"]
    assert all(row["diagnostics/q_gap"] for row in later if row["eval/return"])
    assert not (json.loads((tmp_path / "a" / "summary.json").read_text())["warnings"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": {"initial": 0.0}}, "α is 0 at the hand-over"),
        ({"alpha": {"initial": 0.4, "ceiling": 0.4, "kp": 0.0, "kd": 0.0}}, ""),
        ({"alpha": {"initial": 0.0}, "model": {"method": AWAC()}}, ""),
        (
            {"alpha": {"initial": 0.0}, "callbacks": [Trials(2, 1)]},
            "collapse of the learner ",
        ),
    ],
)
def test_the_sentence_at_the_hand_over(
    tmp_path: Path, options: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, trainer = fitted(tmp_path / "a", **options)
    warnings = json.loads((tmp_path / "a" / "run" / "summary.json").read_text())["warnings"]
    assert len(warnings) == bool(says)
    assert says in "".join(warnings)
    assert capsys.readouterr().err.count("expect a collapse") == len(warnings)
    (callback,) = (c for c in trainer.callbacks if isinstance(c, HandoverDiagnostics))
    assert callback.state_dict()["warnings"] == warnings


def test_the_sentence_when_the_policy_leaves_the_data(tmp_path: Path) -> None:
    class Push(Callback):
        """Lets the policy go to its limits before the evaluation at environment step 6."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.datamodule.env_steps == 5:
                with torch.no_grad():
                    pl_module.actor.weights[-1].copy_(torch.tensor([9.0, 9.0]))

    options = {"callbacks": [Push()], "alpha": {"kp": 0.0, "kd": 0.0}}
    _, rows, _ = fitted(tmp_path / "a", **options)
    (warning,) = json.loads((tmp_path / "a" / "run" / "summary.json").read_text())["warnings"]
    at = {r["env_steps"]: float(r[NAMES[1]]) for r in rows if r[NAMES[1]]}
    ratio = at["6"] / min(at["0"], at["3"])
    assert ratio > 1.1 > at["3"] / at["0"]
    assert f"{ratio:.2f} times as far" in warning
    assert "a collapse may follow (docs" in warning
    assert "environment step 6, α 0.400" in warning
    assert float(next(r for r in rows if r["env_steps"] == "6")["diagnostics/saturated"]) == 1


def test_data_that_were_met_exactly_are_no_division_by_zero(tmp_path: Path) -> None:
    """As a saturated policy does a log of constant actions at the limit."""
    _, _, trainer = fitted(tmp_path / "a")
    (callback,) = (c for c in trainer.callbacks if isinstance(c, HandoverDiagnostics))
    for distance, warned in ((0.010, False), (0.02, True)):
        callback._smallest, callback.warnings = 0.0, []
        callback._measure = lambda *_, d=distance: {NAMES[1]: d}  # type: ignore[method-assign,misc]
        callback.on_train_batch_end(trainer, trainer.lightning_module, None, None, 0)
        assert callback._smallest == 0
        assert bool(callback.warnings) == warned
    assert "are 2.00 times as far" in callback.warnings[0]


@pytest.mark.parametrize(
    "options", [{"rows": 0}, {"distance_ratio": 1.0}, {"distance_ratio": float("nan")}]
)
def test_values_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"diagnostics\."):
        HandoverDiagnostics(**options)


def test_they_measure_a_real_module() -> None:
    spec = EnvironmentSpec("x", 3, (-1.0,), (1.0,), None)
    module = OffToOnModule(spec, num_critics=1, subset_size=1, hidden_sizes=(4,))
    assert measure(module, None, torch.zeros(2, 3)) == {"diagnostics/disagreement_online": 0.0}


def test_a_replica_s_line_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    one = SimpleNamespace(is_global_zero=True, default_root_dir="runs/a")
    replica = SimpleNamespace(**vars(one) | {"default_root_dir": "a/replica_1", "run_folder": "a"})
    for trainer in (one, replica, None, SimpleNamespace(is_global_zero=False)):
        say(trainer, "warning: x")
    assert capsys.readouterr().err == "warning: x\nreplica_1: warning: x\nwarning: x\n"
