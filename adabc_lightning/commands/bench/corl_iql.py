"""IQL in the style of CORL's single file, as a baseline for two critics: eager, a module each.

Networks, a target and an Adam each, losses fetched at every update, Polyak tensor by tensor, a
cosine schedule of the actor's rate, transitions as five tensors on the device whose indices NumPy
draws. In CORL's order, with the value from before its step in the critics' target and in the
policy's weights. Written anew from that description.
"""

import copy

import numpy as np
import torch
from torch import nn

from adabc_lightning.commands.bench.authors import synthetic_columns
from adabc_lightning.commands.bench.corl import network, polyak_update


class CorlIQL:
    """IQL on synthetic transitions, with an action range of [−1, 1].

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
        critic = (observation_size + action_size, *hidden, 1)
        self.actor = network((observation_size, *hidden, action_size), nn.Tanh()).to(device)
        self.log_std = nn.Parameter(torch.zeros(action_size, device=device))
        self.value = network((observation_size, *hidden, 1)).to(device)
        self.critic_1, self.critic_2 = network(critic).to(device), network(critic).to(device)
        self.critic_1_target = copy.deepcopy(self.critic_1).requires_grad_(False)
        self.critic_2_target = copy.deepcopy(self.critic_2).requires_grad_(False)
        critics = [*self.critic_1.parameters(), *self.critic_2.parameters()]
        self.actor_adam = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=3e-4)
        self.value_adam = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.critic_adam = torch.optim.Adam(critics, lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_adam, 1_000_000)
        self.data = [
            torch.tensor(column, device=device) for column in synthetic_columns(sizes, rows)
        ]

    def update(
        self, batch_size: int, beta: float = 3.0, expectile: float = 0.7
    ) -> dict[str, float]:
        """Samples, and makes one update of value, critics, targets and actor.

        Args:
            batch_size: B.
            beta: inverse temperature.
            expectile: of the value.
        Returns: the losses.
        """
        index = np.random.randint(0, len(self.data[0]), size=batch_size)
        observation, action, reward, next_observation, terminated = (
            column[index] for column in self.data
        )
        losses = {}
        given = torch.cat([observation, action], 1)
        with torch.no_grad():
            next_value = self.value(next_observation)
            lowest = torch.min(self.critic_1_target(given), self.critic_2_target(given))
        advantage = lowest - self.value(observation)
        loss = (torch.abs(expectile - (advantage < 0).float()) * advantage**2).mean()
        losses["value"] = loss.item()
        self.value_adam.zero_grad()
        loss.backward()
        self.value_adam.step()

        target = reward + (1 - terminated) * 0.99 * next_value
        loss = nn.functional.mse_loss(self.critic_1(given), target)
        loss = (loss + nn.functional.mse_loss(self.critic_2(given), target)) / 2
        losses["critic"] = loss.item()
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        polyak_update(self.critic_1_target, self.critic_1)
        polyak_update(self.critic_2_target, self.critic_2)

        weight = torch.exp(beta * advantage.detach()).clamp(max=100.0)
        std = torch.exp(self.log_std.clamp(-20, 2))
        policy = torch.distributions.Normal(self.actor(observation), std)
        log_prob = policy.log_prob(action).sum(1, keepdim=True)
        loss = (-weight * log_prob).mean()
        losses["actor"] = loss.item()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        self.schedule.step()
        return losses
