"""TD3+BC in the style of CORL's single file, as a baseline for two critics: eager, a module each.

Two critics with a target and an Adam of their own, the smaller target of both, the actor by the
first critic alone, losses fetched at every update, Polyak tensor by tensor; transitions as five
tensors on the device, their indices drawn by NumPy. Written anew from that description.
"""

import copy
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from adabc_lightning.commands.bench.authors import synthetic_columns


def network(sizes: tuple[int, ...], *last: nn.Module) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them, and what comes last."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *last)


class CorlStyle:
    """TD3+BC on synthetic transitions, with an action range of [−1, 1].

    Args:
        sizes: O, A.
        hidden: units of each hidden layer.
        rows: transitions to sample from.
        device: of networks and transitions.
    """

    def __init__(
        self, sizes: tuple[int, int], hidden: tuple[int, ...], rows: int, device: torch.device
    ) -> None:
        observation_size, action_size = sizes
        self.device = device
        critic = (observation_size + action_size, *hidden, 1)
        self.actor = network((observation_size, *hidden, action_size), nn.Tanh()).to(device)
        self.critic_1, self.critic_2 = network(critic).to(device), network(critic).to(device)
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_1_target = copy.deepcopy(self.critic_1)
        self.critic_2_target = copy.deepcopy(self.critic_2)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_1_adam = torch.optim.Adam(self.critic_1.parameters(), lr=3e-4)
        self.critic_2_adam = torch.optim.Adam(self.critic_2.parameters(), lr=3e-4)
        self.data = [
            torch.tensor(column, device=device) for column in synthetic_columns(sizes, rows)
        ]
        self.updates = 0

    def update(self, batch_size: int, alpha: float = 2.5) -> dict[str, float]:
        """Samples, and makes one update; every second one of the actor and the targets, too.

        Args:
            batch_size: B.
            alpha: TD3+BC's, weight of the value.
        Returns: the losses.
        """
        index = np.random.randint(0, len(self.data[0]), size=batch_size)
        observation, action, reward, next_observation, terminated = (
            column[index] for column in self.data
        )
        with torch.no_grad():
            noise = (torch.randn_like(action) * 0.2).clamp(-0.5, 0.5)
            next_action = (self.actor_target(next_observation) + noise).clamp(-1, 1)
            next_input = torch.cat([next_observation, next_action], 1)
            lowest = torch.min(self.critic_1_target(next_input), self.critic_2_target(next_input))
            target = reward + (1 - terminated) * 0.99 * lowest
        given = torch.cat([observation, action], 1)
        loss = nn.functional.mse_loss(self.critic_1(given), target)
        loss = loss + nn.functional.mse_loss(self.critic_2(given), target)
        losses = {"critic": loss.item()}
        self.critic_1_adam.zero_grad()
        self.critic_2_adam.zero_grad()
        loss.backward()
        self.critic_1_adam.step()
        self.critic_2_adam.step()
        self.updates += 1
        if self.updates % 2:
            return losses
        policy_action = self.actor(observation)
        value = self.critic_1(torch.cat([observation, policy_action], 1))
        weight = alpha / value.abs().mean().detach()
        loss = -weight * value.mean() + nn.functional.mse_loss(policy_action, action)
        losses["actor"] = loss.item()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        polyak_update(self.critic_1_target, self.critic_1)
        polyak_update(self.critic_2_target, self.critic_2)
        polyak_update(self.actor_target, self.actor)
        return losses


def polyak_update(target: nn.Module, source: nn.Module) -> None:
    """A target's step, tensor by tensor."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.data.copy_(0.995 * slow.data + 0.005 * fast.data)
