"""Trials: what is deployed, when the learner is held and put back; and a run goes on exactly."""

import csv
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback, Trainer
from tiny import TOY_LIMIT, register_toy, tiny_run, write_log

from adabc_lightning.agent.comparison import improvement
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.restoring import as_deployed
from adabc_lightning.agent.state import learnt
from adabc_lightning.callbacks import AlphaController, Trials
from adabc_lightning.callbacks.episode_envs import EpisodeEnvs
from adabc_lightning.callbacks.trials_state import SavedTrials, TrialsState
from adabc_lightning.env.make import Outcomes
from adabc_lightning.env.policy import load_policy
from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import check
from adabc_lightning.run.schedule import Schedule

SCHEDULE = Schedule(4, 12, 2, evaluation_every=2)
"""Trials after environment steps 2, 4, … 12."""
BETTER, WORSE = [5.0, 7.0], [1.0, 3.0]  # than 2 and 4


def script(
    monkeypatch: pytest.MonkeyPatch, trials: Sequence[list[float]], better: str = "average"
) -> None:
    """The returns of the hand-over's trial and of those that follow; evaluations are real.

    The learner and the average are tried in turn; one of the two has the returns that are given.
    """
    real, worst = EpisodeEnvs.run, [-100.0, -100.0]
    left = [trials[0]]
    for returns in trials[1:]:
        left += [returns, worst] if better == "average" else [worst, returns]

    def run(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        made = real(self, data, act, episodes, purpose)
        return made._replace(returns=left.pop(0)) if purpose == "trials" else made

    monkeypatch.setattr(EpisodeEnvs, "run", run)


class Record(Callback):
    """The agent after every batch of fine-tuning."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.datamodule.env_steps:
            state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
            learner = [tensor.detach().clone() for tensor in learnt(pl_module.agent_state())]
            self.states.append({"state": state, "learner": learner})


def run(
    folder: Path, trials: Trials, *callbacks: Callback, **options: Any
) -> tuple[Trainer, OffToOnModule, Any]:
    """A fitted tiny run with trials."""
    folder.mkdir(parents=True)
    log = write_log(folder / "log.hdf5", 3, 2)
    options = {"schedule": SCHEDULE, **options}
    trainer, module, data = tiny_run(
        folder / "run", register_toy(), log, callbacks=[trials, *callbacks], **options
    )
    trainer.fit(module, data)
    return trainer, module, data


def rows(folder: Path) -> list[dict[str, str]]:
    """Those of metrics.csv that have a trial."""
    with open(folder / "run" / "metrics.csv") as file:
        return [row for row in csv.DictReader(file) if row["trial/candidate"]]


def same(state: dict[str, torch.Tensor], one: str, other: str) -> bool:
    """Whether two parts' networks are equal."""
    names = [name.removeprefix(f"{one}.") for name in state if name.startswith(f"{one}.net")]
    assert names
    return all(torch.equal(state[f"{one}.{name}"], state[f"{other}.{name}"]) for name in names)


def test_the_improvement_is_the_mean_of_the_differences_with_its_error() -> None:
    gain, error = improvement([5.0, 1.0, 6.0], [2.0, 2.0, 2.0])  # differences 3, −1, 4
    assert gain == 2.0
    assert error == pytest.approx((7 / 3) ** 0.5)  # s² = (1 + 9 + 4) / 2 = 7, over 3 episodes


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(-1e3, 1e3))
def test_a_policy_that_is_better_everywhere_by_the_same_is_so_surely(
    returns: list[float], shift: float
) -> None:
    gain, error = improvement([value + shift for value in returns], returns)
    assert gain == pytest.approx(shift, abs=1e-9)
    assert error == pytest.approx(0, abs=1e-9)


def test_what_is_known_of_trials_is_saved_as_it_is() -> None:
    state = TrialsState([2.0, 4.0], torch.zeros(3), 0.4, env_steps=10)
    state = state.tried(5, 20).held().tried(10, 20).held().retreated()
    assert state.counts == {"promotions": 0, "holds": 2, "retreats": 1, "env_steps": 50}
    assert (state.newest, state.lost, state.alpha) == (10, 0, 0.4)
    state = state.held().promoted([5.0, 7.0], [3, 9], torch.ones(3), 0.5)
    assert (state.returns, state.lost, state.alpha) == ([5.0, 7.0], 0, 0.5)
    content = state.content()
    check(SavedTrials, content)
    assert list(content) == [
        "returns", "snapshot", "alpha", "lost", "newest", "since", "starts",
        "promotions", "holds", "retreats", "env_steps",
    ]  # fmt: skip
    assert content["starts"] == [3, 9]
    assert content.keys() == SavedTrials.model_fields.keys()
    assert TrialsState.of({**content, "of a later version": 1}).content() == content
    assert TrialsState().content() == {}


def test_what_wins_is_deployed_and_what_loses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(
        monkeypatch,
        [[2.0, 4.0], BETTER, [6.0, 7.0], [7.0, 4.0], [6.0, 8.0], [4.0, 2.0], [9.0, 9.0]],
    )
    record, trials = Record(), Trials(episodes=2, steps=1, horizon=6, patience=9)
    _, module, _ = run(tmp_path / "a", trials, record)
    assert trials.counts["promotions"] == 4  # 5, 7 — 6, 7 — 6, 8 — 9, 9
    assert trials.counts["holds"] == 1  # 4, 2 against 6, 8; 7, 4 against 6, 7 is within the error
    assert trials.counts["retreats"] == 0
    ends = [record.states[step - 1]["state"] for step in (2, 4, 6, 8, 10, 12)]
    assert [same(end, "incumbent", "average") for end in ends] == [
        True, True, False, True, False, True,
    ]  # fmt: skip
    before = record.states[0]["state"]  # of the end of pre-training
    assert not same(before, "incumbent", "actor")
    for earlier, later in ((1, 2), (3, 4)):  # not deployed: the incumbent stays what it was
        names = [name for name in before if name.startswith("incumbent.net")]
        assert all(torch.equal(ends[earlier][name], ends[later][name]) for name in names)
    assert module.deployed == "incumbent"
    assert [row["trial/promotions"] for row in rows(tmp_path / "a")] == [
        "1.0", "2.0", "2.0", "3.0", "3.0", "4.0",
    ]  # fmt: skip
    assert [row["trial/incumbent"] for row in rows(tmp_path / "a")][1:3] == ["6.0", "6.5"]


def test_the_better_one_of_learner_and_average_is_the_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [[2.0, 4.0], BETTER, *[WORSE] * 5], better="actor")
    record = Record()
    run(tmp_path / "a", Trials(episodes=2, steps=1, horizon=6, patience=9), record)
    state = record.states[1]["state"]
    assert same(state, "incumbent", "actor")
    assert not same(state, "incumbent", "average")
    assert rows(tmp_path / "a")[0]["trial/candidate"] == "6.0"


def test_two_lost_trials_in_a_row_put_the_learner_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [[2.0, 4.0], BETTER, WORSE, WORSE, WORSE, BETTER, WORSE])
    record, trials = Record(), Trials(episodes=2, steps=1, horizon=6)
    run(tmp_path / "a", trials, record)
    assert trials.counts["retreats"] == 1
    good, put_back, after = record.states[1], record.states[5], record.states[6]
    for name, expected in good["state"].items():
        if name.startswith(("actor", "critics", "incumbent")):  # targets, too
            assert torch.equal(put_back["state"][name], expected), name
            moved = name.startswith("incumbent") or not torch.equal(after["state"][name], expected)
            assert moved or "action" in name, name
    assert len(good["learner"]) == 2 * 4 * 6  # weights, targets and two moments of two networks
    for expected, found in zip(good["learner"], put_back["learner"], strict=True):
        assert torch.equal(found, expected)
    assert same(put_back["state"], "average", "incumbent")


def test_the_best_checkpoint_is_what_trials_chose_not_what_had_luck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations are best in pre-training, and in fine-tuning before the only promotion."""
    scores = iter([9.0, 5.0, 8.0, 4.0, 3.0, 2.0, 1.0, 1.0])
    script(monkeypatch, [[2.0, 4.0], [3.0, 3.0], BETTER, *[WORSE] * 4])
    scripted = EpisodeEnvs.run

    def run_envs(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        made = scripted(self, data, act, episodes, purpose)
        if purpose == "evaluation":
            return made._replace(returns=[next(scores)] * episodes)
        return made

    monkeypatch.setattr(EpisodeEnvs, "run", run_envs)
    trials = Trials(episodes=2, steps=1, horizon=6, confidence=2.0)
    schedule = Schedule(4, 12, 2, evaluation_every=2)
    run(tmp_path / "a", trials, schedule=schedule)
    assert trials.counts["promotions"] == 1
    assert trials.add_to_summary()["trials"]["incumbent_since"] == 4
    folder = tmp_path / "a" / "run" / "checkpoints"
    best, last = (torch.load(folder / name) for name in ("best.ckpt", "last.ckpt"))
    assert best["ReplayDataModule"]["collector"]["env_steps"] == 4
    assert best["callbacks"]["Checkpointing"]["chosen"]
    incumbent = [as_deployed(each)["state_dict"]["actor.net.0.weight"] for each in (best, last)]
    assert torch.equal(*incumbent)
    newest = last["state_dict"]["actor.net.0.weight"]
    assert not torch.equal(newest, incumbent[0])


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
def test_a_trial_counts_once_where_the_evaluation_after_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that puts the learner back: made once more, it would be won, and let α go."""
    online = 0

    def cut(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        nonlocal online
        online += purpose == "evaluation" and data.env_steps > 0
        if online == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return scripted(self, data, act, episodes, purpose)

    with monkeypatch.context() as patch:
        script(patch, [[2.0, 4.0], BETTER, WORSE, WORSE])
        scripted = EpisodeEnvs.run
        patch.setattr(EpisodeEnvs, "run", cut)
        first = Trials(episodes=2, steps=1, horizon=6)
        with pytest.raises(SystemExit):
            run(tmp_path / "a", first)
    assert first.counts["retreats"] == 1
    script(monkeypatch, [WORSE] * 4)  # of which the first is in the place of a hand-over
    trials, folder = Trials(episodes=2, steps=1, horizon=6), tmp_path / "a" / "run"
    trainer, module, data = tiny_run(
        folder, register_toy(), tmp_path / "a" / "log.hdf5", schedule=SCHEDULE, callbacks=[trials]
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last, weights_only=True)  # three trials are left
    counts = [row["trial/holds"] for row in rows(tmp_path / "a")]
    assert counts == ["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]
    assert trials.counts == {"promotions": 1, "holds": 5, "retreats": 2, "env_steps": 13 * 10}


@pytest.mark.parametrize(("tried", "promoted"), [("newest", "actor"), ("average", "average")])
def test_one_of_the_two_policies_alone(
    tried: str, promoted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, real = [[2.0, 4.0], BETTER, *[WORSE] * 5], EpisodeEnvs.run

    def scripted(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        made = real(self, data, act, episodes, purpose)
        return made._replace(returns=left.pop(0)) if purpose == "trials" else made

    monkeypatch.setattr(EpisodeEnvs, "run", scripted)
    record, trials = Record(), Trials(episodes=2, steps=1, tried=tried, patience=None)  # type: ignore[arg-type]
    run(tmp_path / "a", trials, record)
    assert not left
    assert trials.counts == {"promotions": 1, "holds": 5, "retreats": 0, "env_steps": 7 * 10}
    assert same(record.states[1]["state"], "incumbent", promoted)
    assert not same(record.states[1]["state"], "average", "actor")


def test_short_episodes_are_more_but_no_more_than_the_incumbent_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pre-trained policy's have 5 steps, the candidates' 10."""
    starts: list[int] = []

    def scripted(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        if purpose != "trials":
            return Outcomes([1.0] * episodes, [5] * episodes, [None] * episodes)
        starts.append(start)
        returns, lengths = ([9.0, 9.0], [10, 10]) if len(starts) > 3 else ([1.0, 2.0], [5, 5])
        return Outcomes(returns, lengths, [None] * 2)

    monkeypatch.setattr(EpisodeEnvs, "run", scripted)
    trials = Trials(episodes=2, steps=28, tried="newest")
    run(tmp_path / "a", trials, schedule=Schedule(4, 4, 2, evaluation_every=2))
    # 6 episodes of 5 steps make 28; then 4 of 10, compared with 4 of the 6; then 4 with those 4.
    assert starts == [0, 2, 4, 0, 2, 0, 2]
    assert trials.counts == {
        "promotions": 2, "holds": 0, "retreats": 0, "env_steps": 6 * 5 + 2 * 4 * 10,
    }  # fmt: skip


def test_blocks_start_where_the_ones_before_ended(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 1)
    trainer, module, data = tiny_run(
        tmp_path / "run", "Pendulum-v1", log, schedule=Schedule(2, 0, 1)
    )
    trainer.fit(module, data)
    few, many = EpisodeEnvs(), EpisodeEnvs()
    whole = many.run(data, module.act, 4, "trials")
    blocks = [few.run(data, module.act, 2, "trials", start) for start in (0, 2)]
    assert [value for block in blocks for value in block.returns] == whole.returns
    assert len(set(whole.returns)) == 4
    few.close()
    many.close()


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
@pytest.mark.parametrize("episodes", [3, 10])
def test_a_resumed_run_may_have_another_number_of_episodes(
    episodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scripted(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        return Outcomes([1.0 + start] * episodes, [5] * episodes, [None] * episodes)

    monkeypatch.setattr(EpisodeEnvs, "run", scripted)
    run(tmp_path / "a", Trials(steps=1), schedule=Schedule(4, 4, 2, evaluation_every=2))
    trials, folder = Trials(episodes, steps=1), tmp_path / "a" / "run"
    log, longer = tmp_path / "a" / "log.hdf5", Schedule(4, 6, 2, evaluation_every=2)
    trainer, module, data = tiny_run(
        folder, register_toy(), log, schedule=longer, callbacks=[trials]
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    assert trials.counts["promotions"] == 3


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
@pytest.mark.parametrize(
    ("other", "again"), [({}, False), ({"seed": 1}, True), ({"limit": 3}, True)], ids=str
)
def test_from_other_starts_the_incumbent_is_tried_again_before_anything_is_compared(
    other: dict[str, int], again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns of other starts, or of shorter episodes, would lose every trial."""
    worth = [100.0]

    def scripted(
        self: EpisodeEnvs, data: Any, act: Any, episodes: int, purpose: str, start: int = 0
    ) -> Any:
        return Outcomes([worth[0]] * episodes, [5] * episodes, [None] * episodes)

    monkeypatch.setattr(EpisodeEnvs, "run", scripted)
    run(tmp_path / "a", Trials(2, steps=1), schedule=Schedule(4, 4, 2, evaluation_every=2))
    worth[0] = 1.0  # of any policy, from here on
    trials, folder = Trials(2, steps=1), tmp_path / "a" / "run"
    longer = Schedule(4, 6, 2, evaluation_every=2)
    limit = {"max_episode_steps": other["limit"]} if "limit" in other else {}
    trainer, module, data = tiny_run(
        *(folder, register_toy(), tmp_path / "a" / "log.hdf5"),
        schedule=longer,
        callbacks=[trials],
        seed=other.get("seed", 0),
        data=limit,
    )
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    before = saved["callbacks"]["Trials"]
    assert before["starts"] == [0, TOY_LIMIT]
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    made = trials.counts["env_steps"] - before["env_steps"]
    assert made == (3 if again else 2) * 2 * 5
    assert trials.counts["promotions"] - before["promotions"] == again
    assert trials.counts["holds"] == (not again)


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
@pytest.mark.parametrize("at", [1, 2])  # amid the incumbent's episodes, amid the learner's
def test_nothing_changes_where_a_trial_from_other_starts_is_cut(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    trials = Trials(2, steps=1)
    _, module, data = run(tmp_path / "a", trials, schedule=Schedule(4, 4, 2, evaluation_every=2))
    before = trials.state_dict()
    data.seed, data.collector.env_steps, calls = 7, 6, []

    def cut(*_: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise Cut
        return Outcomes([1.0, 2.0], [5, 5], [None] * 2)

    monkeypatch.setattr(EpisodeEnvs, "run", cut)
    with pytest.raises(Cut):
        trials.before_evaluation(None, data, module)  # type: ignore[arg-type]
    assert trials.state_dict() == before


def test_what_is_switched_off_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that only choose what is deployed leave learner and α as they are without them."""
    script(monkeypatch, [[2.0, 4.0], *[WORSE] * 6])
    with_trials, without = Record(), Record()
    run(tmp_path / "a", Trials(episodes=2, steps=1, alpha_rise=None, patience=None), with_trials)
    folder = tmp_path / "b"
    folder.mkdir()
    log = write_log(folder / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        folder / "run", register_toy(), log, callbacks=[without], schedule=SCHEDULE
    )
    trainer.fit(module, data)
    for one, other in zip(with_trials.states, without.states, strict=True):
        assert torch.equal(one["state"]["alpha"], other["state"]["alpha"])
        for expected, found in zip(one["learner"], other["learner"], strict=True):
            assert torch.equal(expected, found)


def test_alpha_is_held_until_the_next_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [[2.0, 4.0], BETTER, WORSE, WORSE, [7.0, 5.0], [6.0, 8.0], [6.0, 8.0]])
    # far, at the end of every episode
    falling = {"kp": 1.0, "kd": 0.0, "ceiling": 0.8, "initial": 0.4}
    ends = Schedule(4, 30, 1, evaluation_every=5)  # of the toy, whose episodes have five steps
    run(tmp_path / "a", Trials(episodes=2, steps=1, patience=9), schedule=ends, alpha=falling)
    with open(tmp_path / "a" / "run" / "metrics.csv") as file:
        alphas = [float(row["control/alpha"]) for row in csv.DictReader(file) if row["eval/return"]]
    # 0 at the first episode's end, where the trial is won; then half of the way from there to 0.8,
    # and half of the rest; a tie and episodes change nothing; what is won lets go.
    assert alphas[-6:] == pytest.approx([0.0, 0.4, 0.6, 0.6, 0.6, 0.0], abs=1e-6)


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("goes_on_with", [True, False])
def test_a_run_that_goes_on_without_trials_has_no_alpha_held(
    goes_on_with: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would let it go."""
    floors: list[float] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            floors.extend(c.floor for c in trainer.callbacks if isinstance(c, AlphaController))

    script(monkeypatch, [[2.0, 4.0], BETTER, *[WORSE] * 12])
    alpha = {"initial": 0.1}
    run(tmp_path / "a", Trials(episodes=2, steps=1, patience=None), alpha=alpha)
    trainer, module, data = tiny_run(
        tmp_path / "b",
        register_toy(),
        tmp_path / "a" / "log.hdf5",
        schedule=replace(SCHEDULE, online_env_steps=SCHEDULE.online_env_steps + 1),
        callbacks=[*([Trials(episodes=2, steps=1, patience=None)] if goes_on_with else []), Look()],
        alpha={**alpha, "ceiling": 0.2},
    )
    last = tmp_path / "a" / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["callbacks"]["AlphaController"]["floor"] > 0.2
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    assert floors[0] == (0.2 if goes_on_with else 0.0)  # it was higher, below a higher ceiling


def test_alpha_is_held_at_its_ceiling_where_pre_training_had_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [[2.0, 4.0], WORSE])
    low = {"kp": 0.0, "kd": 0.0, "ceiling": 0.1, "initial": 0.0}
    ends = Schedule(4, 2, 2, evaluation_every=2)
    _, module, _ = run(tmp_path / "a", Trials(episodes=2, steps=1), schedule=ends, alpha=low)
    assert module.alpha_offline == 0.4
    assert module.alpha.item() == pytest.approx(0.1)


def test_the_average_is_one_of_the_learner(tmp_path: Path) -> None:
    """Against a plain loop in double precision, over 100 updates."""
    horizon, updates = 16, 2
    trials = Trials(episodes=2, steps=1, horizon=horizon, patience=9)
    _, module, _ = run(tmp_path / "a", trials, schedule=Schedule(4, 1, 1))
    module.double()
    rng = np.random.default_rng(0)
    expected = [weight.detach().numpy().copy() for weight in module.actor.weights]
    for average, weight in zip(module.average.weights, module.actor.weights, strict=True):
        average.copy_(weight.detach())
    batch = torch.empty(updates, 3)
    batch.batch_size = batch.shape  # type: ignore[attr-defined]
    module.online_updates = 0
    for step in range(50):
        trials.on_train_batch_start(None, module, batch, step)  # type: ignore[arg-type]
        made = updates * step
        rate = 0.0 if step == 0 else min(1.0, updates / min(made, horizon))
        for mean, weight in zip(expected, module.actor.weights, strict=True):
            mean += rate * (weight.detach().numpy() - mean)
            with torch.no_grad():
                weight.add_(torch.from_numpy(rng.standard_normal(weight.shape)))
        module.online_updates += updates
        for found, mean in zip(module.average.weights, expected, strict=True):
            assert np.abs(found.numpy() - mean).max() < 1e-9
    moved = max(np.abs(weight.detach().numpy()).max() for weight in module.actor.weights)
    assert moved > 10


def test_the_incumbent_is_what_is_evaluated_kept_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [[2.0, 4.0], BETTER, *[WORSE] * 5])
    record = Record()
    trainer, module, _ = run(tmp_path / "a", Trials(episodes=2, steps=1, patience=9), record)
    observation_O = np.array([0.3, -0.2, 0.5], np.float32)
    expected = module.act(observation_O, "incumbent")
    assert np.abs(expected - module.act(observation_O)).max() > 1e-4  # the learner is another
    folder = tmp_path / "a" / "run" / "checkpoints"
    for name in ("last.ckpt", "best.ckpt"):
        loaded = load_policy(folder / name)(observation_O)
        assert loaded == pytest.approx(expected, abs=1e-6)
    scores = [row["eval/return"] for row in rows(tmp_path / "a")]
    assert len(set(scores)) == 1  # the same policy from the same starts
    assert trainer.callbacks[3].history[-1]["eval/return"] == float(scores[-1])  # type: ignore[attr-defined]


def test_one_pre_training_serves_with_and_without_trials(tmp_path: Path) -> None:
    states = []
    for name, callbacks in (("with", [Trials()]), ("without", [])):
        folder = tmp_path / name
        log = write_log(tmp_path / f"{name}.hdf5", 3, 2)
        options = {"schedule": Schedule(6, 0, 1), "callbacks": callbacks}
        trainer, module, data = tiny_run(folder, register_toy(), log, **options)
        trainer.fit(module, data)
        states.append(module.state_dict())
    for name, expected in states[1].items():
        assert torch.equal(states[0][name], expected)
    for start, trials in (("without", [Trials(episodes=2, steps=1)]), ("with", [])):
        options = {"schedule": Schedule(6, 4, 1, evaluation_every=2), "callbacks": trials}
        log = tmp_path / f"{start}.hdf5"
        trainer, module, data = tiny_run(tmp_path / f"{start}2", register_toy(), log, **options)
        path = tmp_path / start / "checkpoints" / "pretrained.ckpt"
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
        assert module.deployed == ("incumbent" if trials else "actor")


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for options in ({"episodes": 1}, {"horizon": 0}, {"alpha_rise": 1.5}, {"patience": 0}):
        (name,) = options
        with pytest.raises(UserError, match=f"Trials.{name} is"):
            Trials(**options)  # type: ignore[arg-type]
    run(tmp_path / "a", Trials(episodes=2, steps=1))
    last = tmp_path / "a" / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["callbacks"]["Trials"]["snapshot"] = torch.zeros(3)
    torch.save(content, tmp_path / "short.ckpt")
    longer = Schedule(4, 14, 2, evaluation_every=2)
    again = Trials(episodes=2, steps=1)
    log = tmp_path / "a" / "log.hdf5"
    trainer, module, data = tiny_run(
        tmp_path / "b", register_toy(), log, schedule=longer, callbacks=[again]
    )
    with pytest.raises(UserError, match=r"snapshot has 3 numbers, this configuration's learner"):
        trainer.fit(module, data, ckpt_path=tmp_path / "short.ckpt", weights_only=True)
