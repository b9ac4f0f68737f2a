"""The offline rows of a run, from the value of ``data.dataset``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.actions import check_task
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import LOGGED, Reading
from adabc_lightning.data.mixture import Part, filtered, mixed, sampler_for
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.packing import AtLimit
from adabc_lightning.data.samplers import UniformSampler
from adabc_lightning.errors import UserError, warn


@dataclass(frozen=True)
class Loading:
    """Which datasets a run has, and how they are read.

    Args:
        parts: of ``data.dataset``.
        download, terminals_at_limit: see :func:`~adabc_lightning.data.datasets.load_dataset`.
        reading: what only the user knows of them.
    """

    parts: Sequence[Part]
    download: bool
    terminals_at_limit: AtLimit
    reading: Reading

    @property
    def name(self) -> str | None:
        """Of all together; None where there is none."""
        return " + ".join(part.path for part in self.parts) or None

    def load(self, spec: EnvironmentSpec) -> OfflineDataset:
        """All rows, as they were logged.

        Args:
            spec: the environment's sizes, bounds and time limit.
        Raises: UserError: a dataset is missing or broken, or of another task.
        """
        found = []
        for part in self.parts:
            dataset = load_dataset(
                part.path,
                max_episode_steps=spec.max_episode_steps,
                download=self.download,
                terminals_at_limit=self.terminals_at_limit,
                reading=self._reading(part),
            )
            dataset = filtered(dataset, part.filter)
            check_task(dataset, spec)
            found.append(dataset)
        self.check_keys(spec, found)
        return mixed(found)

    def _reading(self, part: Part) -> Reading:
        return replace(
            self.reading,
            reward=part.reward or self.reading.reward,
            action_scale=part.action_scale or self.reading.action_scale,
        )

    @property
    def rewards(self) -> list[str]:
        """Where each dataset's rewards come from, in order."""
        return [self._reading(part).reward or LOGGED for part in self.parts]

    def check_keys(self, spec: EnvironmentSpec, found: Sequence[OfflineDataset] = ()) -> None:
        """Whether ``data.observation_keys`` has anything to choose from.

        Args:
            spec: of the environment.
            found: the datasets.
        Raises: UserError: it is set, and no observations have parts.
        """
        keys = self.reading.observation_keys
        if keys and not spec.observation_parts and not any(d.observation_parts for d in found):
            raise UserError(
                f"data.observation_keys is {', '.join(keys)}, but no observations of "
                f"{spec.env_id!r} or of the dataset have parts; set it to null"
            )

    def name_unused(self, reward_used: bool) -> None:
        """Says, where there is no dataset, which keys say in vain how it is read.

        Args:
            reward_used: whether environment steps have the rewards of ``data.reward``.
        """
        used = {"observation_keys"} | ({"reward"} if reward_used else set())
        keys = [
            f"data.{field.name}"
            for field in fields(Reading)
            if field.name not in used and getattr(self.reading, field.name) != field.default
        ]
        if keys:
            verb = "has" if len(keys) == 1 else "have"
            warn(f"{', '.join(keys)} {verb} no effect: data.dataset is null")

    def name_idle_weights(self) -> None:
        """Says, where there is no pre-training, that weights of datasets are its batches' alone."""
        if any(part.weight is not None for part in self.parts):
            warn(
                "the weights in data.dataset have no effect: they are shares of the batches of "
                "pre-training, and schedule.offline_updates is 0"
            )

    def sampler(self, dataset: OfflineDataset | None) -> UniformSampler:
        """What draws batches from these rows."""
        if dataset is None or not dataset.sources:
            return UniformSampler()
        return sampler_for(self.parts, [origin.rows for origin in dataset.sources])
