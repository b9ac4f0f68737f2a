"""Environment steps that a run makes beside training and evaluation. Imports no PyTorch."""

from adabc_lightning.commands.experiment.plan import IDLE_OFFLINE, Job, defaults
from adabc_lightning.run.interaction import trials


def trial_steps(job: Job) -> int | None:
    """At most, of all its seeds; None where nobody knows how long an episode may last."""
    config = {**defaults(), **job.record["settings"]}
    given = [config.get(key) or () for key in ("trainer.callbacks", "trainer.callbacks+")]
    found = [each for some in given for each in some if each["class_path"] in IDLE_OFFLINE]
    online = config["schedule.online_env_steps"]
    if not found or not online:
        return 0
    options = found[-1].get("init_args") or {}
    size = {key: options[key] for key in ("episodes", "steps", "tried") if key in options}
    evaluations = -(-online // config["schedule.evaluation_every"])
    limit = config["data.max_episode_steps"]
    if limit is None:
        from adabc_lightning.env.make import episode_limit  # takes a while

        limit = episode_limit(config["data.env_id"])
    most = trials(evaluations, True, limit, **size).env_steps[1]
    return None if most is None else most * len(job.records)
