"""One seed per run, one independent stream per purpose."""

import os
import zlib

import numpy as np
import torch


def chosen_seed(seed: int | None) -> int:
    """A seed as given; None for that of Lightning's ``seed_everything``, or 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed


def stream_seed(seed: int, purpose: str, rank: int = 0) -> int:
    """A 63-bit seed for one named stream of a run.

    Streams of different purposes, seeds or global ranks are independent, so a new consumer
    of randomness never shifts the numbers of another.

    Args:
        seed: the run's seed, ≥ 0.
        purpose: name of the stream, such as ``"sampler"``.
        rank: global rank of the process.
    """
    entropy = [seed, rank, zlib.crc32(purpose.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def torch_generator(seed: int, purpose: str, rank: int = 0) -> torch.Generator:
    """A CPU generator seeded with :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, rank))


def episode_streams(seed: int, part: int, episode: int) -> tuple[int, np.random.Generator]:
    """What is random in one episode of a collected dataset, whatever else is collected.

    Args:
        seed: the dataset's seed, ≥ 0.
        part: index of the policy within the dataset.
        episode: index of the episode within the part.
    Returns: a 31-bit seed for the environment's reset, and a generator for the actions.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(b"collect"), part, episode])
    reset_seed = int(sequence.generate_state(1, np.uint64)[0]) % 2**31
    return reset_seed, np.random.default_rng(sequence.spawn(1)[0])
