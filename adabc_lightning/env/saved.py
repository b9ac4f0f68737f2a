"""What a checkpoint holds of an environment, and what a kept policy says about its own."""

from typing import Annotated, Any

import torch
from pydantic import PlainValidator, TypeAdapter
from torch import Tensor

from adabc_lightning.agent.saved import AgentProgress, SavedActor
from adabc_lightning.env.observations import is_parts
from adabc_lightning.env.options import is_plain
from adabc_lightning.run.saved import (
    FLOATS,
    Count,
    Listing,
    Named,
    Number,
    NumpyGenerator,
    Saved,
    Text,
    absent,
    plain,
    tensor,
    wrong,
)


def _is_attribute(value: Any) -> Any:
    return value if type(value) in (bool, int, float) else tensor().func(value)  # type: ignore[call-arg]


_attribute = PlainValidator(_is_attribute)


class SavedEnvironment(Saved):
    """As :class:`adabc_lightning.env.state.Bookmark` makes it."""

    physics: Annotated[Tensor, tensor(1, torch.float64)]
    model: Named[Annotated[Tensor, tensor(None, *FLOATS)]]
    measured: Named[Number] = absent()  # in checkpoints of earlier versions
    attributes: Named[Annotated[Any, _attribute]] = absent()  # not in those
    poses: Named[Annotated[Tensor, tensor(2, torch.float64)]] = absent()
    generator: NumpyGenerator
    generators: Named[NumpyGenerator] = absent()
    elapsed_steps: Listing[Count]


class SavedOwnState(Saved):
    """As above, of an environment that has ``state_dict`` and ``load_state_dict``."""

    own: Named[Annotated[Any, _attribute]]
    attributes: Named[Annotated[Any, _attribute]] = absent()  # of wrappers, where they have some
    generator: NumpyGenerator
    elapsed_steps: Listing[Count]


def saved_environment(state: Any) -> type[Saved]:
    """The model of an environment's state."""
    return SavedOwnState if isinstance(state, dict) and "own" in state else SavedEnvironment


_env_kwargs = plain(lambda value: isinstance(value, dict) and is_plain(value), "a plain mapping")
_parts = plain(is_parts, "a list of names and sizes")


class Steps(Saved):
    """Environment steps of fine-tuning, those of all ranks."""

    env_steps: Count


class _Evaluated(Saved):
    history: Listing[Named[Number]]


class _Callbacks(Saved):
    Evaluation: _Evaluated = absent()


class _Trained(AgentProgress):
    seed: Count | None = absent()


def _is_reference(value: Any) -> Any:
    numbers = TypeAdapter(Listing[Number]).validate_python(value)
    return numbers if len(numbers) in (0, 2) else wrong("a minimum and a maximum")


class SavedTraining(Saved):
    """Where a policy was trained."""

    env_id: Text
    max_episode_steps: Count | None
    env_kwargs: Annotated[Any, _env_kwargs] = absent()  # in checkpoints of 0.1.0
    observation_parts: Annotated[Any, _parts] | None = absent()
    reference: Annotated[Any, PlainValidator(_is_reference)] | None = absent()
    dataset_name: Text | None = absent()  # in kept policies
    collector: Steps


class SavedPolicy(SavedActor):
    """What ``collect``, ``export`` and ``rollout`` need of a checkpoint: a kept policy has it."""

    agent: _Trained
    callbacks: _Callbacks = absent()
    ReplayDataModule: SavedTraining
