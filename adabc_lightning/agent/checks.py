"""What an agent's options must be beside the limits that the constructor declares."""

from collections.abc import Collection
from typing import Literal

from adabc_lightning.agent.contract import check_method
from adabc_lightning.agent.method import Method, Shape
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.limits import check_memory


def check_shape(shape: Shape) -> None:
    """Whether there can be such networks.

    Raises: UserError: there are too few critics for the subset.
    """
    if not 1 <= shape.subset_size <= shape.num_critics:
        raise UserError(
            f"model.subset_size is {shape.subset_size} and model.num_critics {shape.num_critics}; "
            "it must be 1 ≤ subset_size ≤ num_critics"
        )


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Whether a value is one of those that are known.

    Args:
        key: below ``model``.
        value: of that key.
        choices: what it may be.
    Raises: UserError: it is not.
    """
    if value not in choices:
        raise UserError(f"model.{key} is {value!r}; {nearest(value, choices)}")


def check_ensemble(shape: Shape, replicas: int) -> None:
    """Whether the ensembles of so many agents fit into this machine.

    Raises: UserError: they do not.
    """
    # Weights, targets, gradients and Adam's two moments of the ensemble's widest layers.
    widest = max(shape.hidden_sizes) * (max(shape.hidden_sizes) + shape.spec.observation_size)
    what = f"an ensemble of model.num_critics {shape.num_critics}"
    check_memory(5 * replicas * shape.num_critics * widest, what)


def chosen_method(
    method: Method | None,
    target_noise: float,
    target_noise_clip: float,
    normalizer: Literal["policy", "data"],
) -> Method:
    """The method that is given, or TD3BC.

    Args:
        method: None for the default one.
        target_noise, target_noise_clip, normalizer: of :class:`TD3BC`.
    Raises: UserError: another method is given, and values of these.
    """
    of_these = TD3BC(target_noise, target_noise_clip, normalizer)
    if method is None:
        return of_these
    check_method(method)
    if vars(of_these) != vars(TD3BC()):
        raise UserError(
            "model.target_noise, model.target_noise_clip and model.normalizer are for the "
            f"default method; model.method is {type(method).__name__}, give it its own keys"
        )
    return method


def chosen_delay(policy_delay: int | None, method: Method) -> int:
    """``model.policy_delay`` as given; None for 2, or for 1 where it changes nothing.

    Raises: UserError: another one than 1 is given, and changes nothing.
    """
    after, phases = method.delayed_after, (False, True)
    differs = any(after(1, 2, 2, online) != after(1, 2, 1, online) for online in phases)
    delays = differs and type(method).delayed is not Method.delayed
    if policy_delay is None:
        return 2 if delays else 1
    if policy_delay != 1 and not delays:
        raise UserError(
            f"model.policy_delay is {policy_delay}, but of model.method {type(method).__name__} "
            "no step waits for it; set it to 1"
        )
    return policy_delay
