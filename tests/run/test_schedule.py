"""The timeline, driven as the trainer drives it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

# The same examples every time, however slow the machine is.
steady = settings(max_examples=60, deadline=None, derandomize=True)
schedules = st.builds(
    Schedule,
    offline_updates=st.integers(0, 60),
    online_env_steps=st.integers(1, 30),
    updates_per_env_step=st.integers(0, 4),
    evaluation_every=st.integers(1, 25),
    offline_chunk=st.integers(1, 12),
) | st.builds(Schedule, st.integers(1, 60), st.just(0), evaluation_every=st.integers(1, 25))


def drive(schedule: Schedule, updates: int = 0, steps: int = 0) -> list[tuple[str, int, int]]:
    """(phase, gradient updates, environment steps) after each batch, until nothing is left."""
    tape = []
    while not schedule.finished(updates, steps):
        phase = schedule.phase(updates, steps)
        if phase == "offline":
            updates += schedule.next_chunk(updates)
        else:
            steps += 1
            updates += schedule.updates_per_env_step
        tape.append((phase, updates, steps))
        assert len(tape) <= 100, "the timeline does not end"
    return tape


def due(every: int, total: int) -> list[int]:
    """Every multiple and the end."""
    return sorted({*range(every, total + 1, every), *([total] if total else [])})


def test_a_timeline_by_hand() -> None:
    schedule = Schedule(
        offline_updates=7,
        online_env_steps=3,
        updates_per_env_step=2,
        evaluation_every=5,
        offline_chunk=3,
    )
    tape = drive(schedule)
    offline = [("offline", updates, 0) for updates in (3, 5, 7)]  # cut at 5 and at the end
    assert tape == [*offline, ("online", 9, 1), ("online", 11, 2), ("online", 13, 3)]
    assert [schedule.evaluation_due(*counters) for _, *counters in tape] == [
        False, True, True, False, False, True,
    ]  # fmt: skip
    assert schedule.batches_left(0, 0) == 6
    assert schedule.total_updates == 13


def test_defaults_are_the_papers() -> None:
    schedule = Schedule()
    assert schedule.offline_updates == 1_000_000
    assert schedule.online_env_steps == 250_000
    assert schedule.updates_per_env_step == 10
    assert schedule.evaluation_every == 5_000
    assert schedule.total_updates == 3_500_000


@steady
@given(schedules)
def test_totals_and_order(schedule: Schedule) -> None:
    tape = drive(schedule)
    offline = [updates for phase, updates, _ in tape if phase == "offline"]
    online = [steps for phase, _, steps in tape if phase == "online"]
    assert tape == sorted(tape, key=lambda entry: entry[0])  # offline first, never again
    assert max(offline, default=0) == schedule.offline_updates
    assert online == list(range(1, schedule.online_env_steps + 1))
    assert tape[-1][1:] == (schedule.total_updates, schedule.online_env_steps)
    chunks = [after - before for before, after in zip([0, *offline], offline, strict=False)]
    assert all(1 <= chunk <= schedule.offline_chunk for chunk in chunks)


@steady
@given(schedules)
def test_evaluations(schedule: Schedule) -> None:
    evaluated = {"offline": [], "online": []}
    tape = drive(schedule)
    left = [schedule.evaluations_left(*counters) for counters in [(0, 0), *(t[1:] for t in tape)]]
    for (phase, updates, steps), before, after in zip(tape, left, left[1:], strict=False):
        is_due = schedule.evaluation_due(updates, steps)
        if is_due:
            evaluated[phase].append(updates if phase == "offline" else steps)
        gone = (is_due, 0) if phase == "offline" else (0, is_due)
        assert (before[0] - after[0], before[1] - after[1]) == gone
    assert left[-1] == (0, 0)
    every = schedule.evaluation_every
    assert evaluated["offline"] == due(every, schedule.offline_updates)
    assert evaluated["online"] == due(every, schedule.online_env_steps)


@steady
@given(schedules)
def test_each_batch_takes_one_from_those_left(schedule: Schedule) -> None:
    tape = drive(schedule)
    counters = [(0, 0)] + [(updates, steps) for _, updates, steps in tape]
    left = [schedule.batches_left(*pair) for pair in counters]
    assert left == list(range(len(tape), -1, -1))


@steady
@given(schedules, st.data())
def test_a_run_resumed_anywhere_meets_every_evaluation(
    schedule: Schedule, data: st.DataObject
) -> None:
    # Anywhere, not only at the end of a chunk: the checkpoint's chunks may have been longer.
    start = data.draw(st.integers(0, schedule.offline_updates))
    tape = drive(schedule, start)
    assert len(tape) == schedule.batches_left(start, 0)
    evaluations = due(schedule.evaluation_every, schedule.offline_updates)
    reached = [updates for _, updates, _ in tape]
    assert {updates for updates in evaluations if updates > start} <= set(reached)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("offline_updates", -1, "must be 0 or more"),
        ("online_env_steps", -3, "must be 0 or more"),
        ("updates_per_env_step", -2, "must be 0 or more"),
        ("evaluation_every", 0, "must be 1 or more"),
        ("offline_chunk", 0, "must be 1 or more"),
    ],
)
def test_counts_out_of_range(name: str, value: int, right: str) -> None:
    with pytest.raises(UserError) as raised:
        Schedule(**{name: value})
    assert str(raised.value) == f"schedule.{name} is {value}; it {right}"


def test_nothing_to_do() -> None:
    with pytest.raises(UserError, match="both 0; one of them must be 1 or more") as raised:
        Schedule(offline_updates=0, online_env_steps=0)
    assert "\n" not in str(raised.value)


def test_there_is_no_way_back_to_pre_training() -> None:
    longer = Schedule(offline_updates=2000, online_env_steps=20, evaluation_every=5)
    assert longer.phase(1100, 10) == "online"
    assert longer.batches_left(1100, 10) == 10
    assert not longer.finished(1100, 10)
    assert longer.finished(1200, 20)
    assert [longer.evaluation_due(1110, steps) for steps in (9, 10, 11)] == [False, True, False]
