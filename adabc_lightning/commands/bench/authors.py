"""The update in the style of the authors' code, as a baseline: batched, but none of the savings.

Stacked weights through ``einsum``, the targets of all N critics though two are drawn, gradients
for the critics' weights in the actor's step as well, Adam and Polyak tensor by tensor, a batch
gathered from five NumPy arrays. Written anew from that description.
"""

import copy
import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from adabc_lightning.commands.bench.plain import squashed_mlp


class _Ensemble(nn.Module):
    """N ReLU networks on one input, stacked as the authors stack theirs."""

    def __init__(self, members: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = 1 / math.sqrt(fan_in)
            weight = torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x_BI: Tensor) -> Tensor:
        """``[N, B]``."""
        x = torch.einsum("bi,nih->nbh", x_BI, self.weights[0]) + self.biases[0]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            x = torch.einsum("nbi,nih->nbh", torch.relu(x), weight) + bias
        return x.squeeze(-1)


def synthetic_columns(sizes: tuple[int, int], rows: int) -> list[np.ndarray]:
    """Observations ``[rows, O]``, actions ``[rows, A]``, rewards ``[rows, 1]``, next observations
    and terminals (none) of random transitions, float32.

    Args:
        sizes: O, A.
        rows: how many.
    """
    (observation_size, action_size), rng = sizes, np.random.default_rng(0)
    widths = (observation_size, action_size, 1, observation_size)
    columns = [rng.standard_normal((rows, width), dtype=np.float32) for width in widths]
    return [*columns, np.zeros((rows, 1), np.float32)]


class AuthorsStyle:
    """REDQ + AdaptiveBC on synthetic transitions, with an action range of [−1, 1].

    Args:
        sizes: O, A.
        hidden: units of each hidden layer.
        num_critics, subset_size: N, M.
        rows: transitions to sample from.
        device: of networks and batches; the transitions stay in NumPy.
    """

    def __init__(
        self,
        sizes: tuple[int, int],
        hidden: tuple[int, ...],
        num_critics: int,
        subset_size: int,
        rows: int,
        device: torch.device,
    ) -> None:
        observation_size, action_size = sizes
        self.num_critics, self.subset_size, self.device = num_critics, subset_size, device
        self.actor = squashed_mlp((observation_size, *hidden, action_size)).to(device)
        self.critics = _Ensemble(num_critics, (observation_size + action_size, *hidden, 1))
        self.critics.to(device)
        self.targets = copy.deepcopy(self.critics), copy.deepcopy(self.actor)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.data = synthetic_columns(sizes, rows)
        self.updates = 0

    def update(self, batch_size: int, alpha: float) -> None:
        """Samples, and makes one update; every second one of the actor and the targets, too."""
        index = np.random.randint(0, len(self.data[0]), batch_size)
        observation, action, reward, next_observation, terminated = (
            torch.as_tensor(column[index], device=self.device) for column in self.data
        )
        critic_targets, actor_target = self.targets
        with torch.no_grad():
            noise = (torch.randn_like(action) * 0.2).clamp(-0.5, 0.5)
            next_action = (actor_target(next_observation) + noise).clamp(-1, 1)
            next_q_NB = critic_targets(torch.cat([next_observation, next_action], 1))
            drawn = np.random.choice(self.num_critics, self.subset_size, replace=False)
            lowest_B = next_q_NB[drawn].min(0).values
            target_B = reward[:, 0] + 0.99 * (1 - terminated[:, 0]) * lowest_B
        q_NB = self.critics(torch.cat([observation, action], 1))
        loss = nn.functional.mse_loss(q_NB, target_B.expand_as(q_NB))
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        self.updates += 1
        if self.updates % 2:
            return
        policy_action = self.actor(observation)
        value_B = self.critics(torch.cat([observation, policy_action], 1)).mean(0)
        cloning = nn.functional.mse_loss(policy_action, action)
        loss = -value_B.mean() / value_B.abs().mean().detach() + alpha * cloning
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        for target, source in zip(self.targets, (self.critics, self.actor), strict=True):
            polyak_update(target, source)


def polyak_update(target: nn.Module, source: nn.Module) -> None:
    """A target's step, tensor by tensor."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.data.copy_(0.995 * slow.data + 0.005 * fast.data)
