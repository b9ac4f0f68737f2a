"""The Lightning DataModule: dataset, replay ring, environment, and all of their state."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.data.acting import Acting
from adabc_lightning.data.checks import (
    check_even,
    check_reward_online,
    check_room,
    check_without_dataset,
    given_reference,
    warn_if_frozen,
)
from adabc_lightning.data.extras import EXTRAS, with_extras
from adabc_lightning.data.faults import faults
from adabc_lightning.data.formats.source import DoneMeans, Reading
from adabc_lightning.data.hooks import check_callbacks, run_callbacks, take_note
from adabc_lightning.data.learnt import RANGE, Learnt
from adabc_lightning.data.loading import Loading
from adabc_lightning.data.mixture import parts_of
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.opening import check_capacity, open_online
from adabc_lightning.data.packing import AtLimit
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.restoring import content, restore
from adabc_lightning.data.returns import Unfinished, check_in_time, doubts, episode_ends
from adabc_lightning.data.rewards import Reward, check_reward
from adabc_lightning.data.same_run import check_environment
from adabc_lightning.data.samplers import Sampler
from adabc_lightning.data.stream import ExperienceStream
from adabc_lightning.data.symmetric import check_share
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.scores import reference_for
from adabc_lightning.errors import UserError, warn
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import chosen_seed, torch_generator
from adabc_lightning.run.types import AboveZero, NonNegative, Positive, Real, Seconds, declared


@declared("data")
class ReplayDataModule(Acting):
    """Serves batches from the offline data, then from the mixed replay ring.

    Args:
        env_id: Gymnasium id of the environment to fine-tune in, ``module:Name-v0`` for one that a
            module registers, or ``log:FOLDER`` to learn from the episodes that another process
            adds to a folder (:class:`~adabc_lightning.env.robot.Robot`).
        dataset: a file or folder in one of the layouts of docs/data_formats.md, the name of a
            packaged dataset or of one of D4RL's, a Minari id, or None to start without offline
            data; or a list of them, each a name or a mapping with ``path`` and maybe ``weight`` and
            ``filter`` (:class:`~adabc_lightning.data.mixture.Part`).
        schedule: the timeline.
        batch_size: B, transitions per gradient update, on all devices together.
        replay_capacity: rows of the online ring, on all devices together, kept offline rows
            included; None for as many as the run can fill.
        exploration_noise: σ_expl in multiples of the action limit.
        frozen_actions: how the agent acts in ``schedule.frozen_env_steps``: ``"policy"`` as ever,
            ``"uniform"`` by uniform draws from the action range.
        offline_fraction: share of each batch of fine-tuning that is offline rows, exactly; the
            kept ones then lie beside the ring. None for one ring of both.
        reward_scale, reward_shift: what is learnt from is scale · r + shift, per environment step;
            returns are reported raw. ``"return_range"`` for the scale by which the returns of the
            episodes that are used, of all datasets, span 1,000.
        reward: where the offline rows' rewards come from: None or ``"logged"`` for their log,
            ``"success"`` for 1 at each step that it flags so and 0 elsewhere, or a function of
            yours as ``module:name`` (:mod:`adabc_lightning.data.rewards`); before they are scaled.
        reward_online: whether the rows of fine-tuning get that function's rewards, too. Returns and
            scores, and α's with them, stay the environment's own.
        failure_reward: raw reward of a step that has not succeeded, where rewards are sparse:
            for ``mc_return`` (:mod:`adabc_lightning.data.returns`); None where they are dense.
        reference_min, reference_max: raw returns that count as score 0 and 100; None takes
            D4RL's for its tasks (or the Minari dataset's own).
        normalize_observations: whether networks see (s − mean) / (std + 0.001), with mean and
            standard deviation of the offline rows, as TD3+BC has it; fixed from then on, and in
            every checkpoint and exported policy.
        download: whether a dataset of Minari or D4RL may be fetched.
        max_episode_steps: time limit in environment steps, in training, evaluation and the
            controller's first episode; None for the environment's own.
        step_timeout: seconds that one step or reset of an environment, or the next episode of a
            log, may take before the run is ended; None for any.
        terminals_at_limit: ``"timeout"`` where the dataset flags the time limit as a terminal.
        action_scale: what the dataset's actions are multiplied with, where they are logged in
            another unit than the environment's: 0.01 for percent.
        env_kwargs: what the environment's constructor is given, plain values by name.
        observation_keys: which parts of the observations of environment and dataset, where they
            have parts, in this order; None for all, sorted by name
            (:mod:`adabc_lightning.env.observations`).
        done_means: whether an array ``dones`` of the dataset flags terminals or timeouts.
        success_terminates: whether a step that the dataset flags as success is a terminal.
        max_time_gap: steps of the dataset that lie further apart than so many of its periods
            are not of one episode; None for any gap.
        mask: which of a robomimic file's masks chooses its demonstrations; None for all of them.
        seed: the run's seed; None for that of Lightning's ``seed_everything``, or 0.
    Raises: UserError: environment or dataset are missing, broken or do not fit together.
    """

    def __init__(
        self,
        env_id: str = "Hopper-v5",
        dataset: str | list[str | dict[str, Any]] | None = "hopper-medium-replay",
        schedule: Schedule | None = None,
        batch_size: Positive = 256,
        replay_capacity: Positive | None = 250_000,
        exploration_noise: NonNegative = 0.1,
        frozen_actions: Literal["policy", "uniform"] = "policy",
        offline_fraction: Annotated[Real, Field(gt=0, lt=1)] | None = None,
        reward_scale: AboveZero | Literal["return_range"] = 1.0,
        reward_shift: Real = 0.0,
        reward: str | None = None,
        reward_online: bool = False,
        failure_reward: Real | None = None,
        reference_min: float | None = None,
        reference_max: float | None = None,
        normalize_observations: bool = False,
        download: bool = False,
        max_episode_steps: Positive | None = None,
        step_timeout: Seconds | None = None,
        terminals_at_limit: AtLimit = "terminal",
        action_scale: AboveZero = 1.0,
        env_kwargs: dict[str, Any] | None = None,
        observation_keys: list[str] | None = None,
        done_means: DoneMeans | None = None,
        success_terminates: bool = False,
        max_time_gap: float | None = None,
        mask: str | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = schedule or Schedule()
        if dataset is None:
            of_range = reward_scale == RANGE
            check_without_dataset(schedule, offline_fraction, normalize_observations, of_range)
        if offline_fraction is not None:
            check_share(offline_fraction, batch_size, 1)
        given = given_reference(reference_min, reference_max)
        keys = None if observation_keys is None else tuple(observation_keys)
        reading = Reading(
            observation_keys=keys,
            done_means=done_means,
            success_terminates=success_terminates,
            max_time_gap=max_time_gap,
            mask=mask,
            reward=reward,
            action_scale=action_scale,
        )
        self.loading = Loading(parts_of(dataset), download, terminals_at_limit, reading)
        for name in {reward, *self.loading.rewards}:
            check_reward(name)
        if reward_online:
            check_reward_online(reward)
        self.online_reward = Reward(reward) if reward_online and reward else None
        self.learnt = Learnt(reward_scale, reward_shift, normalize_observations)
        self.dataset_name = self.loading.name
        self.fingerprint: str | None = None
        """Of the dataset, also when it is no more."""
        self.batch_size = batch_size
        self.replay_capacity, self.offline_fraction = replay_capacity, offline_fraction
        self.failure_reward = failure_reward
        self.unfinished: Unfinished | None = None
        self.batches = 0
        super().__init__(
            env_id,
            schedule,
            exploration_noise,
            frozen_actions,
            max_episode_steps,
            step_timeout,
            env_kwargs,
            keys,
            chosen_seed(seed),
        )
        self.layout = Layout(self.spec.observation_size, self.spec.action_size)
        check_room(self.layout, self.schedule, batch_size, replay_capacity)
        self.reference = given or (None if self.log else reference_for(env_id))
        self.dataset: OfflineDataset | None = None
        self._faults: list[str] = []
        self.kept: Tensor | None = None
        self.kept_of_each: list[dict[str, Any]] = []
        """Of several datasets, from the hand-over on."""
        # Another one with the same dataset, of which the offline rows need be in memory once.
        self.shares: ReplayDataModule | None = None
        # A callback may put another one here before the online ring is made.
        self.online_sampler: Sampler | None = None

    @property
    def num_batches(self) -> int:
        """Batches drawn so far plus those that are left, also after a change of schedule."""
        counters = self.agent.gradient_updates, self.env_steps
        return self.batches + self.schedule.batches_left(*counters, self.ranks.count)

    @property
    def batch_share(self) -> int:
        """Transitions per update of one rank."""
        return self.batch_size // self.ranks.count

    @property
    def is_first(self) -> bool:
        """Whether this one gives the warnings: of several ranks or replicas only the first does."""
        return self.shares is None and not self.ranks.rank

    def check_devices(self, count: int, env_steps: int = 0) -> None:
        """Whether a run on ``count`` devices comes out even.

        Args:
            count: K.
            env_steps: those that are made, of a checkpoint.
        Raises: UserError: it does not, or it learns from a log.
        """
        if count == 1:
            return
        if self.log is not None:
            raise UserError(
                f"data.env_id is {self.env_id!r}, a log that one process follows; set "
                "trainer.devices (and trainer.num_nodes) to 1"
            )
        check_even(
            count,
            self.schedule,
            batch_size=self.batch_size,
            offline_fraction=self.offline_fraction,
            env_steps=env_steps,
        )

    def setup(self, stage: str) -> None:
        """Loads the dataset and makes the ring and the training environment (``fit`` only)."""
        if stage != "fit":
            return
        if self.batches:
            raise UserError(
                "this data module has been in an earlier fit; make a new one, as of the module, "
                "the callbacks and the Trainer"
            )
        if self.trainer is not None:
            self.ranks = Ranks.join(self.trainer)
            # Found once: that takes longer than a step of some environments.
            check_callbacks(self.trainer)
            self._idlers = run_callbacks(self.trainer)
            self._add_columns()
        self.check_devices(self.ranks.count)
        self.try_env(first=self.is_first)
        self.dataset, end_T = self._load()
        self._fill_columns(end_T)
        rows = torch.empty(0, self.layout.width)
        if self.dataset is not None:
            if self.learnt.normalization is not None and self._has_agent:
                self.agent.actor.normalize(self.learnt.normalization)
            rows = self.dataset.rows
            if self.reference is None:
                self.reference = self.dataset.reference
            check_capacity(self, run_callbacks(self.trainer), len(rows))
        generator = torch_generator(self.seed, "sampler", self.ranks.rank)
        if self.shares is None:
            self.replay = ReplayRing(
                self.layout,
                rows,
                max(1, len(rows)),
                generator,
                self.loading.sampler(self.dataset),
                self._device,
            )
        else:
            self.replay = self.shares.replay.reader(generator)
        if self.dataset is not None:  # the ring's copy is the only one
            self.dataset = replace(self.dataset, rows=self.replay.rows)
            self.fingerprint = self.dataset.fingerprint()
        self.collector = self.make_collector()

    def _load(self) -> tuple[OfflineDataset | None, np.ndarray | None]:
        """The offline rows as they are learnt from; of the dataset's own columns alone.

        Returns: also which of them are an episode's last ``[T]``, where a method's columns need it.
        """
        if self.shares is not None:
            self.learnt.same_as(self.shares.learnt)
            return self.shares.dataset, None
        if self.dataset_name is None:
            self.loading.check_keys(self.spec)
            if self.is_first:
                self.loading.name_unused(self.online_reward is not None)
            return None, None
        dataset = self.loading.load(self.spec)
        if self.is_first and not self.schedule.offline_updates:
            self.loading.name_idle_weights()
        self._find_faults(dataset)
        end_T = episode_ends(dataset) if self.layout.extras else None  # of rows as logged
        self.learnt.offline(dataset)
        if self._begins:
            self._faults += self.learnt.doubts(dataset)
        return dataset, end_T

    def _add_columns(self) -> None:
        """Those that the agent's method needs beside the common ones.

        Raises: UserError: there is no such column, or none in time.
        """
        if not self._has_agent:
            return
        method = self.agent.method
        for name in method.columns:
            if name not in EXTRAS:
                raise UserError(
                    f"model.method {type(method).__name__} needs a column {name!r}; known: "
                    f"{', '.join(EXTRAS)}"
                )
        self.layout = replace(self.layout, extras=tuple(method.columns))
        if self._waits_for_returns:
            limit, schedule = self.spec.max_episode_steps, self.schedule
            check_in_time(schedule, limit, self.ranks.count, type(method).__name__)

    def _fill_columns(self, end_T: np.ndarray | None) -> None:
        """Of the offline rows, once it is known how rewards are scaled."""
        returns = None
        if "mc_return" in self.layout.extras:
            failure = self.failure_reward
            if failure is not None:
                failure = self.learnt.reward(failure)
            returns = Unfinished(self.layout, self.agent.gamma, failure)
        if self._waits_for_returns:
            self.unfinished = returns
        if self.dataset is not None and end_T is not None:
            why = f"model.method {type(self.agent.method).__name__}"
            self.dataset = with_extras(self.dataset, self.layout.extras, end_T, why, returns)
            if returns is not None and self._begins:
                kind = type(self.agent.method).__name__
                self._faults += doubts(self.dataset, self.failure_reward, kind)

    @property
    def _waits_for_returns(self) -> bool:
        """Whether online rows are learnt from when their episode has ended."""
        return "mc_return" in self.layout.extras and self.agent.method.returns_online

    @property
    def _has_agent(self) -> bool:
        """Or whether it is set up without one."""
        return self.trainer is not None and self.trainer.lightning_module is not None

    def train_dataloader(self) -> ExperienceStream:
        """The one stream of the run; where it stands follows from the counters."""
        begun = self._has_agent and self.agent.gradient_updates  # and has said it then
        for sentence in [] if begun else self._faults:
            warn(f"dataset {self.dataset_name!r}: {sentence}")
        self._faults = []
        if self.is_first:
            warn_if_frozen(self.schedule, self.env_steps)
        take_note(self.trainer)
        return ExperienceStream(self)

    def transfer_batch_to_device(
        self, batch: TensorDict, device: torch.device, dataloader_idx: int
    ) -> TensorDict:
        """Nothing to do: the ring is on the device, and moving nothing takes a while, too.

        Returns: the batch itself where it is already on ``device``.
        """
        return batch if batch["reward"].device == device else batch.to(device)

    def hand_over(self) -> None:
        """Ends pre-training: the callbacks choose what is kept and start α, then the ring opens."""
        callbacks = run_callbacks(self.trainer)
        for callback in sorted(callbacks, key=lambda callback: not callback.chooses_rows):
            callback.on_hand_over(self, self.agent)
        open_online(self)
        self.agent.hand_over()

    def keep(self, row: Tensor) -> None:
        """Adds a row ``[width]`` to the ring; where returns are wanted, when its episode ends."""
        self.learnt.apply(row, self.layout)
        if self.unfinished is None:
            self.replay.add(row, self.collector.continues)
            return
        ended = self.collector.finished_episode is not None
        for index, each in enumerate(self.unfinished.add(row, ended)):
            self.replay.add(each, index > 0)

    def check_environment(self, checkpoint: dict[str, Any]) -> None:
        """See :func:`adabc_lightning.data.same_run.check_environment`; the agent asks first."""
        check_environment(self, checkpoint[type(self).__qualname__])

    def state_dict(self) -> dict[str, Any]:
        """See :func:`adabc_lightning.data.restoring.content`."""
        return content(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :func:`adabc_lightning.data.restoring.restore`."""
        restore(self, state_dict)

    def _find_faults(self, dataset: OfflineDataset) -> None:
        """What in the dataset makes training wrong, of the rows as they were read.

        A run that goes on has said it already, and it takes longer than reading the rows.
        """
        if self._begins:
            parts = dataset.observation_parts or self.spec.observation_parts
            limit, normalizes = self.spec.max_episode_steps, self.learnt.normalizes
            self._faults = faults(dataset, limit, parts, normalizes)

    @property
    def _begins(self) -> bool:
        """Whether what is doubtful in the dataset is said here: once, by a run that begins."""
        return not self.ranks.rank and (self.trainer is None or self.trainer.ckpt_path is None)

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
