"""What a plan says of trials holds for every run of them."""

import inspect
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adabc_lightning.callbacks import Trials
from adabc_lightning.callbacks.trials_state import TrialsState
from adabc_lightning.run.interaction import TRIED, trials
from adabc_lightning.run.schedule import Schedule


@given(
    st.integers(2, 4),
    st.integers(1, 30),
    st.sampled_from(["both", "newest"]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.data(),
)
def test_no_run_makes_less_or_more(
    episodes: int, steps: int, tried: Any, evaluations: int, limit: int, data: st.DataObject
) -> None:
    made, rounds = [], []

    def run(_: Any, __: Any, count: int, *___: Any) -> tuple[list[float], list[int]]:
        lengths = data.draw(st.lists(st.integers(1, limit), min_size=count, max_size=count))
        made.extend(lengths)
        rounds.append(max(lengths))
        return [0.0] * count, lengths

    callback = Trials(episodes, steps, tried=tried)
    callback._envs = SimpleNamespace(run=run)  # type: ignore[assignment]
    agent: Any = SimpleNamespace(act=print)
    callback._state = TrialsState(callback._try(None, agent, "actor")[0])  # type: ignore[arg-type]
    for _ in range(evaluations):
        results = [callback._try(None, agent, name)[0] for name in TRIED[tried]]  # type: ignore[arg-type]
        if data.draw(st.booleans()):  # promoted
            callback._state = TrialsState(results[0])
    planned = callback.planned_interaction(Schedule(1, evaluations, 1, 0, 1), 0, limit)
    assert planned is not None
    assert planned.episodes[0] <= len(made) <= planned.episodes[1]
    assert planned.env_steps[0] <= sum(made) <= planned.env_steps[1]  # type: ignore[operator]
    assert sum(rounds) <= planned.rounds  # type: ignore[operator]


def test_by_hand() -> None:
    planned = trials(3, False, None, 5, 12, "newest")
    assert planned.in_words() == "3: 15 to 45 episodes, 15 or more environment steps"
    assert planned.rounds is None
    goes_on = Trials().planned_interaction(Schedule(9, 100, evaluation_every=10), 25, 1000)
    assert goes_on is not None
    assert goes_on.about == "8 of two policies"  # after 30, 40, … 100
    assert Trials().planned_interaction(Schedule(9, 0), 0, 1000) is None


def test_the_defaults_are_the_callbacks() -> None:
    """Plans of experiments import no PyTorch, so neither the callback."""
    own, its = (inspect.signature(each).parameters for each in (trials, Trials))
    for name in ("episodes", "steps", "tried"):
        assert own[name].default == its[name].default
