"""Environment steps that a run makes beside training and evaluation. Imports no PyTorch."""

from collections.abc import Mapping

from adabc_lightning.commands.experiment.plan import Job, class_of, defaults
from adabc_lightning.run.interaction import TRIALS, trials
from adabc_lightning.run.schedule import Schedule


def trial_steps(job: Job) -> int | None:
    """At most, of all its seeds; None where nobody knows how long an episode may last."""
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
