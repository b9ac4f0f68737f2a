"""What a checkpoint holds, checked entry by entry before anything is made of it.

A file without foreign objects may still hold a text where a number belongs, or a tensor of 10¹²
numbers in four bytes. What a check cannot know, such as the sizes of this run's networks, is left
to those who take the entries.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adabc_lightning.errors import UserError
from adabc_lightning.run.checks import (
    both,
    count,
    flag,
    listing,
    mapping,
    number,
    optional,
    record,
    refuse,
    tensor,
    text,
)


def _counters(value: Any, where: str) -> None:
    """Lightning's account of its loops: mappings of counters, at any depth that it has."""
    if isinstance(value, dict) and where.count("/") < 10:
        for key, item in value.items():
            _counters(item, f"{where}/{key!s:.40}")
    elif not isinstance(value, bool):
        count(value, where)


FLOATS = (torch.float32, torch.float64)
_WEIGHTS = tensor(None, *FLOATS, torch.float16, torch.bfloat16)
_GENERATOR = tensor(1, torch.uint8)
_NUMBERS = mapping(number)
_NUMPY_GENERATOR = record({"bit_generator": text})
_ADAM = record(
    {
        "state": mapping(
            record({"step": tensor(0), "exp_avg": _WEIGHTS, "exp_avg_sq": _WEIGHTS}), int
        ),
        "param_groups": listing(record({"params": listing(count)})),
    }
)
_ENVIRONMENT = record(
    {
        "physics": tensor(1, torch.float64),
        "model": mapping(tensor(None, *FLOATS)),
        "measured": _NUMBERS,
        "generator": _NUMPY_GENERATOR,
        "elapsed_steps": listing(count),
    },
    may_lack=["measured"],  # in checkpoints of earlier versions
)
_LOG = record({"env_steps": count, "episodes": count, "step": count})
_SIMULATION = {
    "env_steps": count,
    "reset_seed": optional(count),
    "noise": _NUMPY_GENERATOR,
    "observation": optional(tensor(1)),
    "return": number,
    "steps": count,
    "env": optional(_ENVIRONMENT),
}


def _collector(value: Any, where: str) -> None:
    """Where a run is in its environment, or in a log that others write."""
    (_LOG if isinstance(value, dict) and "episodes" in value else record(_SIMULATION))(value, where)


_RING = {
    "offline": tensor(2, torch.float32),  # beside the ring, where batches have a share of them
    "pending": tensor(2, torch.float32),  # of the episode under way, where returns are wanted
    "rows": tensor(2, torch.float32),
    "capacity": count,
    "writer": record({"_cursor": count, "_write_count": count}),
    "sampler": record(
        {"priorities": tensor(1, torch.float64), "entry_priority": number, "largest": number},
        may_lack=["priorities", "entry_priority", "largest"],  # of uniform draws
    ),
    "generator": _GENERATOR,
}


def _episode(value: Any, where: str) -> None:
    """Return and steps."""
    if len(value) != 2:
        refuse(value, where, "a return and a number of steps")


_POINT = {"gradient_updates": count, "env_steps": count, "eval/return": number}
_CALLBACKS = {
    "AlphaController": record({"alpha": number, "return_average": optional(number)}),
    "Guard": record({"warnings": listing(text)}),
    "Evaluation": record(
        {
            "history": listing(both(record(_POINT), _NUMBERS)),
            "seconds": number,
            "logged": listing(both(listing(number), _episode)),
        },
        may_lack=["logged"],
    ),
    "HandoverDiagnostics": record(
        {
            "smallest": optional(number),
            "visited": optional(tensor(2, torch.float32)),
            "warnings": listing(text),
        }
    ),
    "Metrics": record(
        {
            "size": count,
            "last_progress": count,
            "episodes": count,
            "pending": _NUMBERS,
            "latest": _NUMBERS,
        }
    ),
    "Summary": record(
        {
            "seconds": record({"offline": number, "online": number}),
            "evaluation_seconds": number,
            "commands": listing(text),
        },
        may_lack=["commands"],
    ),
    "Checkpointing": record({"best_return": optional(number), "best_is_online": flag}),
    "BalancedReplay": record(
        {
            "offline_rows": count,
            "generator": _GENERATOR,
        }
    ),
}
_POLICY = {
    "agent": record({"gradient_updates": count}),
    "ReplayDataModule": record(
        {
            "env_id": text,
            "max_episode_steps": optional(count),
            "collector": record({"env_steps": count}),
        },
        may_lack=["max_episode_steps"],
    ),
    "state_dict": mapping(_WEIGHTS),
}
_DRAWS = record({"generator": _GENERATOR})
_RUN = {
    "pytorch-lightning_version": text,
    "agent": record(
        {
            "seed": count,
            "generator": _GENERATOR,
            "sums": mapping(tensor(0, *FLOATS)),
            "counts": mapping(count),
        }
    ),
    "ReplayDataModule": record(
        {
            "batches": count,
            "seed": count,
            "dataset": optional(text),
            "dataset_name": optional(text),
            "collector": _collector,
            "replay": _DRAWS,
            "ranks": listing(
                record(
                    {"collector": record(_SIMULATION), "replay": record({"generator": _GENERATOR})}
                )
            ),
        },
        may_lack=["dataset_name", "ranks"],  # those but rank zero, of a run on several devices
    ),
    "optimizer_states": listing(_ADAM),
    "lr_schedulers": listing(count),
    "callbacks": record(_CALLBACKS, may_lack=_CALLBACKS),  # a run may have others
    "loops": record({"fit_loop": mapping(_counters)}),
}

_REPLICAS = {
    "pytorch-lightning_version": text,
    "lr_schedulers": listing(count),
    "loops": record({"fit_loop": mapping(_counters)}),
    "replicas": listing(record({"agent": record({})})),  # each is a checkpoint; not of others
}


def check_content(content: Any, *, policy_only: bool = False) -> None:
    """Whether a checkpoint's entries are what a run writes.

    Args:
        content: of the file.
        policy_only: whether only what a kept policy has is looked at.
    Raises: UserError: the first entry that is missing or wrong, by its path.
    """
    if isinstance(content, dict) and "replicas" in content and not policy_only:
        record(_REPLICAS)(content, "")
        for index, replica in enumerate(content["replicas"]):
            try:
                _check_run(replica)
            except UserError as error:
                raise UserError(f"in replicas/{index}, {error}") from error
        counters = [
            (r["agent"]["gradient_updates"], r["ReplayDataModule"]["collector"]["env_steps"])
            for r in content["replicas"]
        ]
        if len(set(counters)) != 1:
            raise UserError("the replicas are not equally far")
        return
    if policy_only:
        record(_POLICY)(content, "")
    else:
        _check_run(content)


def _check_run(content: Any) -> None:
    """The same of one agent's, whole."""
    record(_POLICY)(content, "")
    record(_RUN)(content, "")
    agent, data = content["agent"], content["ReplayDataModule"]
    if agent["sums"].keys() != agent["counts"].keys() or not all(agent["counts"].values()):
        raise UserError("agent/sums and agent/counts disagree")
    env_steps = data["collector"]["env_steps"]
    others = [(f"ReplayDataModule/ranks/{i}", part) for i, part in enumerate(data.get("ranks", ()))]
    for where, part in others:
        if part["collector"]["env_steps"] != env_steps:
            refuse(part["collector"]["env_steps"], f"{where}/collector/env_steps", f"{env_steps}")
    if env_steps:
        for where, part in [("ReplayDataModule", data), *others]:
            record(_RING, may_lack=["offline", "pending"])(part["replay"], f"{where}/replay")
            _check_ring(part["replay"], f"{where}/replay")
            for name in {"rows", "offline", "pending"} & part["replay"].keys():
                if part["replay"][name].shape[1] != data["replay"]["rows"].shape[1]:
                    whose = "as wide as rank zero's ring"
                    refuse(part["replay"][name], f"{where}/replay/{name}", whose)
        kept = content["callbacks"].get("BalancedReplay", {}).get("offline_rows", 0)
        if kept and kept >= len(data["replay"]["rows"]):
            raise UserError(f"callbacks/BalancedReplay/offline_rows is {kept}, but the ring has "
                            f"{len(data['replay']['rows'])} rows")  # fmt: skip


def _check_ring(ring: dict[str, Any], where: str) -> None:
    """Rows, cursor and capacity are those of one ring."""
    rows, capacity, written = len(ring["rows"]), ring["capacity"], ring["writer"]["_write_count"]
    if rows + len(ring.get("pending", ())) == 0 or rows != min(written, capacity):
        raise UserError(
            f"{where} has {rows} rows and room for {capacity}, but {written} were written"
        )
    if ring["writer"]["_cursor"] != written % capacity:
        raise UserError(
            f"{where}/writer/_cursor is {ring['writer']['_cursor']}; after {written} rows in a "
            f"ring of {capacity} it must be {written % capacity}"
        )
    priorities = ring["sampler"].get("priorities")
    if priorities is not None:
        if len(priorities) != rows or not bool((priorities >= 0).all()):  # also catches NaN
            refuse(priorities, f"{where}/sampler/priorities", f"{rows} numbers, 0 or more")
        if not 0 < float(priorities.sum()) < math.inf:
            raise UserError(f"{where}/sampler/priorities have no positive, finite sum")


def check_adam(state: Any, parameters: Sequence[Tensor], where: str) -> None:
    """Whether the saved state of an Adam is that of one with these parameters.

    Args:
        state: of the checkpoint.
        parameters: of any shape ``[*]``, in the optimiser's order.
        where: the state's path, for the message.
    Raises: UserError: it is not.
    """
    _ADAM(state, where)
    indices = list(range(len(parameters)))
    groups, moments = state["param_groups"], state["state"]
    if [group["params"] for group in groups] != [indices]:
        raise UserError(f"{where}/param_groups is not one group of {len(indices)} parameters")
    if moments and sorted(moments) != indices:
        raise UserError(f"{where}/state is not of {len(indices)} parameters")
    for index, entry in moments.items():
        shape = parameters[index].shape
        for name in ("exp_avg", "exp_avg_sq"):
            if entry[name].shape != shape:
                refuse(entry[name], f"{where}/state/{index}/{name}", f"of shape {list(shape)}")
