"""The update of the paper as plainly as it can be written: slow, and the truth tests compare with.

Separate ``nn.Sequential`` networks in a Python loop, one Adam each, gradients by autograd.
Written from the paper's Equations 1, 3 and 4 and nothing of the package's losses or update.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from adabc_lightning.agent.networks import Actor, CriticEnsemble


def plain_mlp(sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear layers with a ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def squashed_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with a ReLU between them, and a tanh."""
    return nn.Sequential(*plain_mlp(sizes), nn.Tanh())


class PlainAgent:
    """TD3 + BC with an ensemble of N critics.

    Args:
        dtype: of every weight; batches must have it, too.
        num_critics, observation_size, action_size: N, O, A.
        hidden: units of the hidden layers of actor and critics.
        low, high: ``[A]`` bounds of the action space.
        gamma, tau: discount; step of the targets.
        policy_delay: critic updates per update of the actor and the targets.
        lr: of every Adam.
        sigma, clip: target noise and its clip, in action limits.
        normalizer: ``"policy"`` (authors' code) or ``"data"`` (paper).
        device: of the weights and the batches.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        num_critics: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        low: Sequence[float],
        high: Sequence[float],
        gamma: float,
        tau: float,
        policy_delay: int,
        lr: float,
        sigma: float,
        clip: float,
        normalizer: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.low, self.high = (
            torch.tensor(bound, dtype=dtype, device=device) for bound in (low, high)
        )
        self.gamma, self.tau, self.policy_delay = gamma, tau, policy_delay
        self.sigma, self.clip, self.normalizer = sigma, clip, normalizer
        self.updates = 0

        self.actor = plain_mlp([observation_size, *hidden, action_size], dtype).to(device)
        self.critics = [
            plain_mlp([observation_size + action_size, *hidden, 1], dtype).to(device)
            for _ in range(num_critics)
        ]
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_targets = copy.deepcopy(self.critics)

        self.actor_adam, *self.critic_adams = (
            torch.optim.Adam(network.parameters(), lr=lr, foreach=False, fused=False)
            for network in (self.actor, *self.critics)
        )

    @torch.no_grad()
    def load(self, actor: Actor, critics: CriticEnsemble) -> None:
        """Copies the package's weights into the networks and their targets."""
        for network in (self.actor, self.actor_target):
            for parameter, weight in zip(network.parameters(), actor.weights, strict=True):
                parameter.copy_(weight)
        for member, networks in enumerate(zip(self.critics, self.critic_targets, strict=True)):
            for network in networks:
                for parameter, weight in zip(network.parameters(), critics.weights, strict=True):
                    parameter.copy_(weight[member])

    def policy(self, network: nn.Module, observation: Tensor) -> Tensor:
        """tanh, scaled from [−1, 1] to [low, high]."""
        return self.low + (torch.tanh(network(observation)) + 1) * (self.high - self.low) / 2

    def q(self, network: nn.Module, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) of one critic, ``[B]``."""
        return network(torch.cat([observation, action], 1))[:, 0]

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        noise: Tensor,
        subset: Tensor,
        alpha: Tensor | float,
    ) -> None:
        """One critic update and, every ``policy_delay``-th time, one of actor and targets.

        Args:
            observation, action, reward, next_observation, terminated: a batch, B first.
            noise: standard normal draws ``[B, A]`` for the target action.
            subset: indices ``[M]`` of the critics drawn for the target.
            alpha: weight of the behaviour-cloning term.
        """
        self.updates += 1
        self.update_critics(
            observation, action, reward, next_observation, terminated, noise, subset
        )
        if self.updates % self.policy_delay == 0:
            self.update_actor(observation, action, alpha)
            self.update_targets()

    def update_critics(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        noise: Tensor,
        subset: Tensor,
    ) -> None:
        """Equation 3, on batches ``[B, O]``, ``[B, A]`` and ``[B]``."""
        with torch.no_grad():
            half_range = (self.high - self.low) / 2
            epsilon = torch.clamp(self.sigma * noise, -self.clip, self.clip) * half_range
            next_action = self.policy(self.actor_target, next_observation) + epsilon
            next_action = next_action.clamp(self.low, self.high)
            next_values = [
                self.q(self.critic_targets[member], next_observation, next_action)
                for member in subset.tolist()
            ]
            lowest = torch.stack(next_values).min(0).values
            target = reward + self.gamma * (1 - terminated) * lowest

        errors = [(self.q(critic, observation, action) - target) ** 2 for critic in self.critics]
        # The mean over members, too: each member's gradient is 1/N of its own mean's.
        loss = torch.stack(errors).mean()
        for adam in self.critic_adams:
            adam.zero_grad()
        loss.backward()
        for adam in self.critic_adams:
            adam.step()

    def update_actor(self, observation: Tensor, action: Tensor, alpha: Tensor | float) -> None:
        """Equation 4, normalised as in Equation 1, on a batch ``[B, O]`` and ``[B, A]``."""
        policy_action = self.policy(self.actor, observation)
        value = self.mean_q(observation, policy_action)
        divisor = value if self.normalizer == "policy" else self.mean_q(observation, action)
        cloning = (((policy_action - action) / ((self.high - self.low) / 2)) ** 2).mean()
        loss = -value.mean() / divisor.abs().mean().detach() + alpha * cloning
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()

    def mean_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Mean of all N critics, ``[B]``."""
        return torch.stack([self.q(critic, observation, action) for critic in self.critics]).mean(0)

    @torch.no_grad()
    def update_targets(self) -> None:
        """Polyak averaging, tensor by tensor."""
        pairs = zip(
            [self.actor_target, *self.critic_targets], [self.actor, *self.critics], strict=True
        )
        for target, source in pairs:
            for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
                slow.copy_(self.tau * fast + (1 - self.tau) * slow)
