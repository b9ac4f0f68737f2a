"""TD3+BC and IQL in the style of CORL's single files, as baselines for two critics: eager.

A module, a target and an Adam each, losses fetched at every update, Polyak tensor by tensor;
transitions as five tensors on the device, their indices drawn by NumPy. Written anew from this
description and those of the classes.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from adabc_lightning.commands.bench.authors import polyak_update, synthetic_columns
from adabc_lightning.commands.bench.plain import plain_mlp, squashed_mlp


class _Agent:
    """An actor, two critics with a target each, and synthetic transitions, actions in [−1, 1].

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
        self.actor = squashed_mlp((observation_size, *hidden, action_size)).to(device)
        self.critic_1, self.critic_2 = plain_mlp(critic).to(device), plain_mlp(critic).to(device)
        self.critic_1_target = copy.deepcopy(self.critic_1).requires_grad_(False)
        self.critic_2_target = copy.deepcopy(self.critic_2).requires_grad_(False)
        self.data = [
            torch.tensor(column, device=device) for column in synthetic_columns(sizes, rows)
        ]

    def sample(self, batch_size: int) -> list[Tensor]:
        """Observations, actions, rewards, next observations and ends, ``[B, …]`` each."""
        index = np.random.randint(0, len(self.data[0]), size=batch_size)
        return [column[index] for column in self.data]


class CorlStyle(_Agent):
    """TD3+BC: the smaller target of both critics, the actor by the first one alone."""

    def __init__(
        self, sizes: tuple[int, int], hidden: tuple[int, ...], rows: int, device: torch.device
    ) -> None:
        super().__init__(sizes, hidden, rows, device)
        self.actor_target = copy.deepcopy(self.actor)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_1_adam = torch.optim.Adam(self.critic_1.parameters(), lr=3e-4)
        self.critic_2_adam = torch.optim.Adam(self.critic_2.parameters(), lr=3e-4)
        self.updates = 0

    def update(self, batch_size: int) -> dict[str, float]:
        """Samples, and makes one update; every second one of the actor and the targets, too.

        Returns: the losses.
        """
        observation, action, reward, next_observation, terminated = self.sample(batch_size)
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
        weight = 2.5 / value.abs().mean().detach()  # α of TD3+BC
        loss = -weight * value.mean() + nn.functional.mse_loss(policy_action, action)
        losses["actor"] = loss.item()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        polyak_update(self.critic_1_target, self.critic_1)
        polyak_update(self.critic_2_target, self.critic_2)
        polyak_update(self.actor_target, self.actor)
        return losses


class CorlIQL(_Agent):
    """IQL, with a cosine schedule of the actor's rate.

    In CORL's order, with the value from before its step in the critics' target and in the policy's
    weights.
    """

    def __init__(
        self, sizes: tuple[int, int], hidden: tuple[int, ...], rows: int, device: torch.device
    ) -> None:
        super().__init__(sizes, hidden, rows, device)
        self.log_std = nn.Parameter(torch.zeros(sizes[1], device=device))
        self.value = plain_mlp((sizes[0], *hidden, 1)).to(device)
        critics = [*self.critic_1.parameters(), *self.critic_2.parameters()]
        self.actor_adam = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=3e-4)
        self.value_adam = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.critic_adam = torch.optim.Adam(critics, lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_adam, 1_000_000)

    def update(self, batch_size: int) -> dict[str, float]:
        """Samples, and makes one update of value, critics, targets and actor.

        Returns: the losses.
        """
        observation, action, reward, next_observation, terminated = self.sample(batch_size)
        losses = {}
        given = torch.cat([observation, action], 1)
        with torch.no_grad():
            next_value = self.value(next_observation)
            lowest = torch.min(self.critic_1_target(given), self.critic_2_target(given))
        advantage = lowest - self.value(observation)
        loss = (torch.abs(0.7 - (advantage < 0).float()) * advantage**2).mean()  # expectile 0.7
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

        weight = torch.exp(3.0 * advantage.detach()).clamp(max=100.0)  # β 3
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
