"""Whether a run on several devices comes out even."""

from adabc_lightning.data.symmetric import check_share
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule


def check_even(
    count: int,
    schedule: Schedule,
    batch_size: int,
    offline_fraction: float | None,
    env_steps: int,
) -> None:
    """Whether each device has the same part of everything.

    Args:
        count: K.
        schedule: of the run.
        batch_size: of all together.
        offline_fraction: of a batch, None where it has no fixed share.
        env_steps: those that are made, of a checkpoint.
    Raises: UserError: it has not.
    """
    if offline_fraction is not None:
        check_share(offline_fraction, batch_size, count)
    counts = {"data.batch_size": batch_size}
    if schedule.online_env_steps:  # before, nothing is counted in environment steps
        counts |= {
            "schedule.online_env_steps": schedule.online_env_steps,
            "schedule.evaluation_every": schedule.evaluation_every,
            "schedule.frozen_env_steps": schedule.frozen_env_steps,
            "the checkpoint's count of environment steps": env_steps,
        }
    for name, value in counts.items():
        if value % count:
            raise UserError(
                f"{name} is {value}, for all devices together; on {count} devices it must be "
                f"a multiple of {count}"
            )
