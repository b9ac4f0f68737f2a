"""Equation 2 against a run worked out by hand, and what must hold for any run."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.agent.control import next_alpha, next_return_average
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.callbacks import AlphaController, Metrics
from adabc_lightning.data.collector import Episode
from adabc_lightning.env.scores import Reference

# The same examples every time, however slow the machine is.
steady = settings(max_examples=100, deadline=None, derandomize=True)
RATE = 0.05
paper = partial(next_alpha, target=1.05, kp=3e-5, kd=1e-4, ceiling=0.4)

# (steps T, return) → (α, R_avg) after the episode, from α = 0.39, R_avg = 0.5.
# P = T · 3e-5 · (R_avg − 1.05),  D = T · 1e-4 · max(0, R_avg − R)
SCRIPT = [
    # P = 1000 · 3e-5 · −0.55 = −0.0165, D = 0: 0.39 − 0.0165; R_avg stays
    ((1000, 0.5), (0.3735, 0.5)),
    # P = −0.0165, D = 1000 · 1e-4 · 0.4 = 0.04: + 0.0235; 0.05 · 0.1 + 0.95 · 0.5
    ((1000, 0.1), (0.397, 0.48)),
    # P = 200 · 3e-5 · −0.57 = −0.00342, D = 0, as 0.9 is above average: 0.045 + 0.456
    ((200, 0.9), (0.39358, 0.501)),
    # P = 500 · 3e-5 · −0.549 = −0.008235, D = 500 · 1e-4 · 0.501 = 0.02505: 0.410395 is cut
    ((500, 0.0), (0.4, 0.47595)),
    # P = 1000 · 3e-5 · −0.57405 = −0.0172215, D = 0; a return of 21: 1.05 + 0.4521525
    ((1000, 21.0), (0.3827785, 1.5021525)),
    # above target: P = 100 · 3e-5 · 0.4521525 = 0.0013564575, D = 0; 0.1 + 1.427044875
    ((100, 2.0), (0.3841349575, 1.527044875)),
    # both: P = 100 · 3e-5 · 0.477044875 = 0.001431134625, D = 100 · 1e-4 · 0.527044875
    #   = 0.00527044875; 0.05 + 1.45069263125
    ((100, 1.0), (0.390836540875, 1.50069263125)),
]


def test_scripted_run() -> None:
    alpha, average = 0.39, 0.5
    for (steps, current), expected in SCRIPT:
        alpha = paper(alpha, return_average=average, return_current=current, episode_steps=steps)
        average = next_return_average(average, current, RATE)
        assert (alpha, average) == pytest.approx(expected, rel=1e-12)
        assert alpha <= 0.4  # exactly, also where rounding is allowed above


def test_alpha_falls_to_zero_and_comes_back() -> None:
    # P = 1000 · 3e-5 · (0.05 − 1.05) = −0.03 would lead below zero
    alpha = paper(0.02, return_average=0.05, return_current=0.05, episode_steps=1000)
    assert alpha == 0.0
    # P = 1000 · 3e-5 · (0.8 − 1.05) = −0.0075, D = 1000 · 1e-4 · (0.8 − 0.5) = 0.03
    alpha = paper(alpha, return_average=0.8, return_current=0.5, episode_steps=1000)
    assert alpha == pytest.approx(0.0225)


returns, gains = st.floats(-2, 3), st.floats(0, 1)
episode = st.fixed_dictionaries(
    {
        "alpha": st.floats(0, 10),
        "return_average": returns,
        "return_current": returns,
        "episode_steps": st.integers(1, 1000),
        "target": returns,
        "kp": gains,
        "kd": gains,
        "ceiling": st.floats(0, 10),
    }
)


@steady
@given(episode)
def test_alpha_stays_between_zero_and_its_ceiling(arguments: dict[str, float]) -> None:
    assert 0 <= next_alpha(**arguments) <= arguments["ceiling"]


@steady
@given(
    episode,
    st.floats(0, 1),
    st.sampled_from(
        [("alpha", 1), ("return_average", 1), ("return_current", -1), ("target", -1), ("kd", 1)]
    ),
)
def test_alpha_is_monotone(
    arguments: dict[str, float], increase: float, effect: tuple[str, int]
) -> None:
    name, sign = effect
    changed = {**arguments, name: arguments[name] + increase}
    assert sign * next_alpha(**changed) >= sign * next_alpha(**arguments)


@steady
@given(returns, returns, st.floats(0, 1))
def test_average_lies_between(average: float, current: float, rate: float) -> None:
    low, high = sorted((average, current))
    assert low - 1e-12 <= next_return_average(average, current, rate) <= high + 1e-12


@steady
@given(
    st.lists(st.tuples(st.floats(-2000, 5000), st.integers(1, 1000), st.booleans()), max_size=20),
    st.fixed_dictionaries(
        {
            **{"kp": gains, "kd": gains, "target": returns, "ceiling": st.floats(0, 10)},
            **{"average_rate": st.floats(0, 1), "times_episode_length": st.booleans()},
        }
    ),
    returns,
)
def test_the_callback_against_a_plain_loop(
    steps: list[tuple[float, int, bool]], options: dict[str, Any], start: float
) -> None:
    """After any steps, of which some end an episode: α, R_avg, and what the metrics get."""
    controller, metrics = AlphaController(**options), Metrics()
    controller.return_average = start
    agent: Any = SimpleNamespace(alpha=torch.tensor(controller.alpha), method=TD3BC())
    data = SimpleNamespace(reference=Reference(-20.0, 3000.0), collector=SimpleNamespace())
    trainer: Any = SimpleNamespace(datamodule=data, callbacks=[metrics])
    alpha, average = options["ceiling"], start
    for raw, length, ends in steps:
        data.finished_episodes = [Episode(raw, length)] if ends else []
        if ends:
            current = (raw + 20) / 3020
            factor = length if options["times_episode_length"] else 1
            alpha += factor * options["kp"] * (average - options["target"])
            if average > current:
                alpha += factor * options["kd"] * (average - current)
            alpha = 0.0 if alpha < 0 else min(alpha, options["ceiling"])
            average += options["average_rate"] * (current - average)
        if len(steps) % 2:  # as after a kill at this very step
            saved, controller = controller.state_dict(), AlphaController(**options)
            controller.load_state_dict(saved)
        controller.on_train_batch_end(trainer, agent, None, None, 0)
        assert controller.alpha == pytest.approx(alpha, rel=1e-9, abs=1e-9)
        assert agent.alpha.item() == pytest.approx(alpha, rel=1e-6, abs=1e-6)
        assert controller.return_average == pytest.approx(average, rel=1e-9, abs=1e-9)
        assert ("online/episode_return" in metrics.pending) == ends
        metrics.pending.clear()
        alpha, average = controller.alpha, controller.return_average  # no sum of roundings
