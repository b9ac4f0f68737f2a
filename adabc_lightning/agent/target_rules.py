"""Whether a function can be the rule that makes one target of several critics'."""

import torch

from adabc_lightning.agent.losses import TargetRule
from adabc_lightning.errors import UserError, one_line


def check_target_rule(target_rule: TargetRule, subset_size: int, num_critics: int) -> None:
    """Tries a rule on a few values.

    Args:
        target_rule: of ``model.target_rule``.
        subset_size, num_critics: M, N.
    Raises: UserError: it fails, makes something else, or needs an order that a subset has not.
    """
    some_q_MB = torch.arange(3.0 * subset_size).view(subset_size, 3).square()
    try:
        value_B = target_rule(some_q_MB)
        shape = value_B.shape
    except ValueError as error:
        raise UserError(f"model.target_rule and model.subset_size disagree: {error}") from error
    except Exception as error:  # somebody else's function
        raise UserError(f"model.target_rule does not work: {one_line(str(error))}") from error
    if shape != (3,):
        raise UserError(
            f"model.target_rule makes {list(shape)} of values of shape [{subset_size}, 3]; "
            "it must make one value per transition, [3]"
        )
    if not value_B.isfinite().all():
        raise UserError(
            f"model.target_rule makes {value_B.tolist()} of finite values; it must make one finite "
            "value per transition"
        )
    ordered = not torch.allclose(value_B, target_rule(some_q_MB.roll(1, 0)))
    if ordered and subset_size < num_critics:
        raise UserError(
            "model.target_rule tells critics apart by their order, which a random subset "
            f"({subset_size} of {num_critics}) does not keep; set model.subset_size to "
            "model.num_critics"
        )
