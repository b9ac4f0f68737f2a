"""AWAC as plainly as it can be written: the truth the tests compare with.

REDQ+AdaptiveBC's is :mod:`adabc_lightning.commands.bench.plain`, a benchmark's baseline, too.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adabc_lightning.agent.networks import Actor, CriticEnsemble
from adabc_lightning.commands.bench.plain import plain_mlp


class PlainAWAC:
    """Advantage-weighted actor-critic with two critics, from Nair et al. 2020 and jaxrl.

    Args:
        observation_size, action_size: O, A.
        hidden, actor_hidden: units of the hidden layers of the critics and of the actor.
        low, high: ``[A]`` bounds of the action space.
        gamma, tau, lr, beta: discount; step of the targets; of every Adam; temperature.
        weight_decay: of the actor's AdamW.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        actor_hidden: Sequence[int],
        low: Sequence[float],
        high: Sequence[float],
        gamma: float,
        tau: float,
        lr: float,
        beta: float,
        weight_decay: float,
    ) -> None:
        dtype = torch.float64
        self.low, self.high = torch.tensor(low, dtype=dtype), torch.tensor(high, dtype=dtype)
        self.gamma, self.tau, self.beta = gamma, tau, beta
        self.mean = plain_mlp([observation_size, *actor_hidden, action_size], dtype)
        self.log_std = nn.Parameter(torch.zeros(action_size, dtype=dtype))
        self.critics = [
            plain_mlp([observation_size + action_size, *hidden, 1], dtype) for _ in range(2)
        ]
        self.critic_targets = copy.deepcopy(self.critics)
        self.actor_adam = torch.optim.AdamW(
            [*self.mean.parameters(), self.log_std],
            lr=lr,
            weight_decay=weight_decay,
            foreach=False,
            fused=False,
        )
        self.critic_adam = torch.optim.Adam(
            [parameter for critic in self.critics for parameter in critic.parameters()],
            lr=lr,
            foreach=False,
            fused=False,
        )

    @torch.no_grad()
    def load(self, actor: Actor, critics: CriticEnsemble) -> None:
        """Copies the package's weights into the networks and the critics' targets."""
        mine = [*self.mean.parameters(), self.log_std]
        for parameter, weight in zip(mine, actor.weights, strict=True):
            parameter.copy_(weight)
        for member, networks in enumerate(zip(self.critics, self.critic_targets, strict=True)):
            for network in networks:
                for parameter, weight in zip(network.parameters(), critics.weights, strict=True):
                    parameter.copy_(weight[member])

    def policy(self, observation: Tensor) -> torch.distributions.Normal:
        """The Gaussian in action limits, [−1, 1] per dimension."""
        std = self.log_std.clamp(-10, 2).exp()
        return torch.distributions.Normal(torch.tanh(self.mean(observation)), std)

    def action(self, observation: Tensor, noise: Tensor) -> Tensor:
        """One sample in action units, clipped to the range."""
        with torch.no_grad():
            policy = self.policy(observation)
            unit = (policy.loc + policy.scale * noise).clamp(-1, 1)
            return self.low + (unit + 1) * (self.high - self.low) / 2

    def q(self, networks: Sequence[nn.Module], observation: Tensor, action: Tensor) -> Tensor:
        """The smaller of the two values, ``[B]``."""
        pair = torch.cat([observation, action], 1)
        return torch.minimum(*(network(pair)[:, 0] for network in networks))

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        noise: Tensor,
        policy_noise: Tensor,
    ) -> None:
        """One update of critics, actor and targets; ``noise`` is a′'s, ``policy_noise`` a_π's."""
        with torch.no_grad():
            next_action = self.action(next_observation, noise)
            next_value = self.q(self.critic_targets, next_observation, next_action)
            target = reward + self.gamma * (1 - terminated) * next_value
        pair = torch.cat([observation, action], 1)
        errors = [(critic(pair)[:, 0] - target) ** 2 for critic in self.critics]
        self.critic_adam.zero_grad()
        ((errors[0] + errors[1]) / 2).mean().backward()
        self.critic_adam.step()

        with torch.no_grad():
            value = self.q(self.critics, observation, self.action(observation, policy_noise))
            advantage = self.q(self.critics, observation, action) - value
            weight = torch.exp(advantage / self.beta - torch.logsumexp(advantage / self.beta, 0))
        unit_action = 2 * (action - self.low) / (self.high - self.low) - 1
        log_prob = self.policy(observation).log_prob(unit_action).sum(1)
        self.actor_adam.zero_grad()
        (-(weight * log_prob).sum()).backward()
        self.actor_adam.step()

        with torch.no_grad():
            for target_network, network in zip(self.critic_targets, self.critics, strict=True):
                for slow, fast in zip(
                    target_network.parameters(), network.parameters(), strict=True
                ):
                    slow.copy_(self.tau * fast + (1 - self.tau) * slow)
