"""How much is left of an experiment, and how long that takes by what has run of it.

Imports no PyTorch.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adabc_lightning.commands.experiment.plan import Job, class_of, defaults
from adabc_lightning.run.durations import spoken
from adabc_lightning.run.interaction import TRIALS, trials
from adabc_lightning.run.record import load_json
from adabc_lightning.run.schedule import Schedule

# Settings on which it depends how long an update or an environment step takes: where these are the
# same, the pace is about the same, too.
PACE = (
    "model.",
    "trainer.",
    "evaluation.",
    "data.batch_size",
    "data.env_id",
    "schedule.updates_per_env_step",
    "schedule.evaluation_every",
)


@dataclass(frozen=True)
class Left:
    """What a job still has to do.

    Args:
        updates, env_steps: gradient updates and environment steps, of all its seeds together.
        share: of the whole job, between 0 and 1.
    """

    updates: int
    env_steps: int
    share: float


def left(job: Job) -> Left:
    """What is left of a job; of one cut short, counted from its last evaluation."""
    summaries = [load_json(folder / "summary.json") for folder in job.records]
    before = 0 if job.needs is None else job.needs.updates // len(job.needs.records)
    updates = sum(max(0, s.get("gradient_updates", 0) - before) for s in summaries)
    env_steps = sum(s.get("env_steps", 0) for s in summaries)
    whole, done = (job.env_steps, env_steps) if job.env_steps else (job.updates, updates)
    share = max(0.0, 1 - done / whole) if whole else 0.0
    return Left(max(0, job.updates - updates), max(0, job.env_steps - env_steps), share)


def in_words(jobs: Sequence[Job], ahead: Sequence[Job], out: Path, parallel: int | None) -> str:
    """How much is ahead, and about how long it takes.

    Args:
        jobs: all of the experiment, by whose summaries it is judged.
        ahead: those that are to be run.
        out: folder of all runs, for the words.
        parallel: how many run at the same time; None where that is not known.
    """
    counts = [left(job) for job in ahead]
    work = (
        f"{sum(count.updates for count in counts):,} gradient updates and "
        f"{sum(count.env_steps for count in counts):,} environment steps{_in_trials(ahead, counts)}"
    )
    if not ahead:
        return work
    known = {job.folder: seconds for job in jobs if (seconds := _whole_seconds(job))}
    needed, unlike = {}, 0
    for job, count in zip(ahead, counts, strict=True):
        whole = _like(job, jobs, known)
        unlike += whole is None
        needed[job.folder] = (whole or 0.0) * count.share
    if not any(needed.values()):
        return (
            f"{work}; how long that takes is not known, since none like these has run in {out} "
            "(doctor measures a config)"
        )
    workers = min(parallel or 1, len(ahead))
    how = f"{workers} at a time" if parallel else "one after the other"
    but = f", without {unlike} jobs that are unlike any of those" if unlike else ""
    seconds = _until_all_have_ended(ahead, needed, workers)
    return f"{work}: about {spoken(seconds)}, {how}, at the pace of those in {out}{but}"


def _in_trials(ahead: Sequence[Job], counts: Sequence[Left]) -> str:
    """Environment steps that come on top of those of training; of a run that is begun, all its."""
    most = 0
    for job, count in zip(ahead, counts, strict=True):
        if not count.share:
            continue
        steps = _trial_steps(job)
        if steps is None:
            return ", and more in trials, whose episodes have no known time limit"
        most += steps
    return f", and at most {most:,} in trials" if most else ""


def _trial_steps(job: Job) -> int | None:
    """At most, of all a job's seeds; None where nobody knows how long an episode may last."""
    config = {**defaults(), **job.record["settings"]}
    given = [config.get(key) for key in ("trainer.callbacks", "trainer.callbacks+")]
    listed = [each for some in given if isinstance(some, list) for each in some]
    found = [each for each in listed if class_of(each) == TRIALS]
    if not found or not config["schedule.online_env_steps"]:
        return 0
    options = (found[-1].get("init_args") if isinstance(found[-1], Mapping) else None) or {}
    if not isinstance(options, Mapping):
        return None  # and fit says so
    size = {key: options[key] for key in ("episodes", "steps", "tried") if key in options}
    keys = ("offline_updates", "online_env_steps", "evaluation_every")
    schedule = Schedule(**{key: config[f"schedule.{key}"] for key in keys})
    _, evaluations = schedule.evaluations_left(0, 0)
    limit = config["data.max_episode_steps"]
    if limit is None:
        from adabc_lightning.env.make import episode_limit  # takes a while

        limit = episode_limit(config["data.env_id"])
    try:
        most = trials(evaluations, True, limit, **size).env_steps[1]
    except (TypeError, ValueError, LookupError, ZeroDivisionError):  # of options that fit refuses
        return None
    return None if most is None else most * len(job.records)


def _whole_seconds(job: Job) -> float | None:
    """What a job takes from its start to its end, by as much of it as has run; None for nothing."""
    share = 1 - left(job).share if _size(job) else 0.0
    seconds = _seconds(job)
    if job.needs is not None:  # its seconds are in what goes on from it, too
        before = _seconds(job.needs)
        seconds = {**seconds, "offline": 0.0}
        seconds["evaluation"] = max(0.0, seconds.get("evaluation", 0) - before.get("evaluation", 0))
    total = sum(seconds.values())
    return total / share if share and total else None


def _seconds(job: Job) -> dict[str, float]:
    """By phase, of the first replica: they train together."""
    return dict(load_json(next(iter(job.records)) / "summary.json").get("seconds", {}))


def _like(job: Job, jobs: Sequence[Job], known: dict[Path, float]) -> float | None:
    """Seconds of a whole job, by those of its kind that have run: as a mean per step of theirs."""
    alike = [other for other in jobs if other.folder in known and _pace(other) == _pace(job)]
    same = [other for other in alike if other.record["settings"] == job.record["settings"]]
    chosen = same or alike  # other seeds, or what differs only in what hardly costs time
    if not chosen:
        return None
    return _size(job) * sum(known[o.folder] for o in chosen) / sum(_size(o) for o in chosen)


def _pace(job: Job) -> tuple[str, dict[str, Any]]:
    settings = job.record["settings"]
    return job.record["kind"], {k: v for k, v in settings.items() if k.startswith(PACE)}


def _size(job: Job) -> int:
    return job.env_steps or job.updates


def _until_all_have_ended(ahead: Sequence[Job], needed: dict[Path, float], workers: int) -> float:
    """In their order, each as soon as a worker is free and its pre-training has ended."""
    free = [0.0] * workers
    ends: dict[Path, float] = {}
    for job in ahead:
        ready = 0.0 if job.needs is None else ends.get(job.needs.folder, 0.0)
        ends[job.folder] = max(heapq.heappop(free), ready) + needed[job.folder]
        heapq.heappush(free, ends[job.folder])
    return max(ends.values())
