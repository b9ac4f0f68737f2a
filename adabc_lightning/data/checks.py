"""What the data's options must be beside the limits that the constructor declares."""

from adabc_lightning.data.formats.source import LOGGED, SUCCESS
from adabc_lightning.data.learnt import RANGE
from adabc_lightning.data.symmetric import check_share
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError, warn
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.schedule import Schedule


def check_without_dataset(
    schedule: Schedule,
    offline_fraction: float | None,
    normalize_observations: bool,
    scale_of_range: bool,
) -> None:
    """Whether a run without offline data asks for nothing that needs them.

    Raises: UserError: it does.
    """
    if offline_fraction is not None:
        raise UserError(
            f"data.dataset is null but data.offline_fraction is {offline_fraction}; give "
            "a dataset or set it to null"
        )
    if normalize_observations:
        raise UserError(
            "data.normalize_observations is true but data.dataset is null; mean and standard "
            "deviation are those of a dataset, give one or set it to false"
        )
    if scale_of_range:
        raise UserError(
            f"data.reward_scale is {RANGE} but data.dataset is null; the range is that of the "
            "returns of a dataset, give one or a number"
        )
    if schedule.offline_updates:
        raise UserError(
            "data.dataset is null but schedule.offline_updates is "
            f"{schedule.offline_updates}; give a dataset or set it to 0"
        )


def check_reward_online(reward: str | None) -> None:
    """Whether the offline rows' rewards can be those of the environment's steps, too.

    Raises: UserError: they are no function.
    """
    if reward in (None, LOGGED, SUCCESS):
        raise UserError(
            f"data.reward_online is true and data.reward is {reward or 'null'}; it must be a "
            "function as module:name to be that of the environment's steps, too"
        )


def given_reference(low: float | None, high: float | None) -> Reference | None:
    """The raw returns that count as score 0 and 100, where they are given.

    Raises: UserError: only one is, or they are not in order.
    """
    if (low is None) != (high is None):
        raise UserError("data.reference_min and data.reference_max must be given together")
    if low is None or high is None:
        return None
    if not low < high:
        raise UserError(f"data.reference_min {low} must be below data.reference_max {high}")
    return Reference(low, high)


def check_room(
    layout: Layout, schedule: Schedule, batch_size: int, replay_capacity: int | None
) -> None:
    """Whether batches and ring fit into this machine's memory.

    Raises: UserError: they do not.
    """
    batches = max(schedule.offline_chunk, schedule.updates_per_env_step)
    check_memory(
        batches * batch_size * layout.width, f"data.batch_size {batch_size}, drawn at once"
    )
    check_memory((replay_capacity or 0) * layout.width, f"data.replay_capacity {replay_capacity}")


def check_even(
    count: int,
    schedule: Schedule,
    batch_size: int,
    offline_fraction: float | None,
    env_steps: int,
) -> None:
    """Whether everything divides evenly among the devices.

    Args:
        count: K.
        schedule: of the run.
        batch_size: of all together.
        offline_fraction: of a batch, None where it has no fixed share.
        env_steps: those that are made, of a checkpoint.
    Raises: UserError: it does not.
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


def warn_if_frozen(schedule: Schedule, env_steps: int) -> None:
    """Says it where all of fine-tuning is frozen: a curve without a dip is no stability then.

    Args:
        schedule: of the run.
        env_steps: of fine-tuning, made already.
    """
    frozen, online = schedule.frozen_env_steps, schedule.online_env_steps
    if env_steps < online <= frozen and schedule.updates_per_env_step:
        warn(
            f"schedule.frozen_env_steps is {frozen:,} and schedule.online_env_steps {online:,}: "
            "fine-tuning makes no update, its scores are those of the policy that it starts from; "
            "lower schedule.frozen_env_steps to learn in it"
        )
