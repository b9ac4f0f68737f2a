"""Balanced Replay (Lee et al. 2021): offline rows that look like online ones are drawn more."""

from typing import Annotated, Any

import torch
from lightning import Trainer
from pydantic import Field
from torch import Tensor, nn
from torchrl.modules import MLP

from adabc_lightning.agent.losses import density_ratio_loss, density_ratio_priority
from adabc_lightning.agent.method import Trained
from adabc_lightning.agent.mlp import Weights, mlp
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.state import Part
from adabc_lightning.agent.update import step_adam
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.priorities import PrioritySampler
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import Count, Generator, Saved
from adabc_lightning.run.seeding import stream_seed, torch_generator
from adabc_lightning.run.types import NonNegative, Positive, Real, Sizes, declared


class DensityRatio(nn.Module):
    """w(s, a) ≥ 0, an estimate of d_online / d_offline: ReLU(MLP), its last bias starts at 1.

    Args:
        input_size: O + A.
        hidden_sizes: units of each hidden layer.
    """

    def __init__(self, input_size: int, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.net = MLP(
            in_features=input_size,
            out_features=1,
            num_cells=list(hidden_sizes),
            activation_class=nn.ReLU,
        )
        nn.init.ones_(self.net[-1].bias)

    @property
    def weights(self) -> Weights:
        """The live parameters, in layer order."""
        return tuple(self.net.parameters())


def density_ratio(input_BI: Tensor, weights: Weights) -> Tensor:
    """The ratio w of rows (s, a) ``[B, O + A]``.

    Returns: ``[B]``.
    """
    return mlp(input_BI, weights).squeeze(-1).relu()


class SavedBalancedReplay(Saved):
    """See :meth:`BalancedReplay.state_dict`."""

    offline_rows: Count
    generator: Generator


@declared("BalancedReplay")
class BalancedReplay(RunCallback):
    """Adds the density-ratio network to the agent, trains it, and sets the ring's priorities.

    After the G updates of an environment step the network makes G steps of its own, each on
    fresh uniform rows of both kinds, and sets the priorities of the rows that the agent had
    learnt from. The original sets them after every single update; here the G batches of one
    environment step are drawn at once, so a priority may be up to G − 1 updates old.

    Args:
        online_fraction: f, the share of online rows in a batch that new rows' entry priority
            aims at after ``balanced_steps`` environment steps.
        balanced_steps: environment steps, see there.
        batch_size: rows of each kind per step of the network.
        hidden_sizes: units of the network's hidden layers.
        learning_rate: of its Adam.
    Raises: UserError: a value outside its range, or a ring that would overwrite offline rows.
    """

    def __init__(
        self,
        online_fraction: Annotated[Real, Field(ge=0, lt=1)] = 0.5,
        balanced_steps: Positive = 1000,
        batch_size: Positive = 256,
        hidden_sizes: Sizes = (256, 256),
        learning_rate: NonNegative = 3e-4,
    ) -> None:
        self.online_fraction, self.balanced_steps = online_fraction, balanced_steps
        self.batch_size, self.hidden_sizes = batch_size, tuple(hidden_sizes)
        self.learning_rate = learning_rate
        self.offline_rows = 0
        self._part: Part | None = None

    def setup(self, trainer: Trainer, pl_module: OffToOnModule, stage: str) -> None:
        """Makes the network and gives the data module the sampler of its online ring."""
        if stage != "fit":
            return
        data = data_of(trainer)
        if trainer.world_size > 1:
            raise UserError(
                "Balanced Replay keeps one ring with priorities of its own, on one device; set "
                "trainer.devices (and trainer.num_nodes) to 1"
            )
        if data.offline_fraction is not None:
            raise UserError(
                f"data.offline_fraction is {data.offline_fraction}, and Balanced Replay says which "
                "rows are drawn, too; leave one of them out"
            )
        if data.replay_capacity is not None:
            raise UserError(
                f"data.replay_capacity is {data.replay_capacity}; Balanced Replay keeps every "
                "row, so it must be null"
            )
        self.generator = torch_generator(data.seed, "density ratio")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(data.seed, "density ratio weights"))
            sizes = data.spec.observation_size + data.spec.action_size
            network = DensityRatio(sizes, self.hidden_sizes)
        pl_module.add_part("density_ratio", Trained(network, self.learning_rate))
        self.sampler = data.online_sampler = PrioritySampler()

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """The entry priority: with M offline rows of priority 1, p₀ = M·f / ((1 − f)·steps)."""
        self.offline_rows = len(data.replay) if data.kept is None else len(data.kept)
        share = self.online_fraction / (1 - self.online_fraction)
        self.sampler.entry_priority = self.offline_rows * share / self.balanced_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step of the network and new priorities for each of the G batches, in order."""
        data = data_of(trainer)
        if not self.offline_rows or not batch.batch_size[0]:  # before the hand-over there are none
            return
        if self._part is None:  # the optimisers are made by now, and stay
            self._part = pl_module.part("density_ratio")
        part, priorities = self._part, []
        for step in batch:
            offline_BI = self._draw(data, 0, self.offline_rows)
            online_BI = self._draw(data, self.offline_rows, len(data.replay))
            ratio = density_ratio(torch.cat([offline_BI, online_BI]), part.weights)
            loss = density_ratio_loss(*ratio.split(self.batch_size))
            step_adam(part, torch.autograd.grad(loss, part.weights))
            pl_module.add_metrics({"loss/density_ratio": loss.detach()})
            with torch.no_grad():
                learnt_BI = torch.cat([step["observation"], step["action"]], -1)
                priority_B = density_ratio_priority(
                    density_ratio(learnt_BI, part.weights), density_ratio(offline_BI, part.weights)
                )
            priorities.append(priority_B)
        # Moved to where the ring's priorities are at once; in order, the last of a row counts.
        for index_B, priority_B in zip(
            batch["index"].cpu(), torch.stack(priorities).cpu(), strict=True
        ):
            self.sampler.update_priority(index_B, priority_B)

    def _draw(self, data: ReplayDataModule, first: int, end: int) -> Tensor:
        """Uniform rows with ``first <= index < end``: their (s, a), ``[batch_size, O + A]``."""
        index = torch.randint(first, end, (self.batch_size,), generator=self.generator)
        rows = data.layout.unpack(data.replay.rows[index])
        return torch.cat([rows["observation"], rows["action"]], -1)

    def tensors(self) -> dict[str, Tensor]:
        """The priorities ``[T]``, for ``Guard``."""
        if not self.offline_rows:  # before the hand-over there are none
            return {}
        return {"the ring's priorities": torch.from_numpy(self.sampler.priorities)}

    def state_dict(self) -> dict[str, Any]:
        """Generator and count; the network is the agent's, the priorities are the ring's."""
        return {"offline_rows": self.offline_rows, "generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.offline_rows = state_dict["offline_rows"]
        if not self.offline_rows:  # nothing is learnt yet; another seed has a start of its own
            return
        self.generator.set_state(state_dict["generator"])
