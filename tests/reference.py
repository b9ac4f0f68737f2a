"""The update of the paper as plainly as it can be written: the truth the tests compare with.

Separate ``nn.Sequential`` networks in a Python loop, one Adam each, gradients by autograd.
Written from the paper's Equations 1, 3 and 4 and nothing of the package's losses or update.
In float32 it is also the slow baseline of the benchmarks.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from adabc_lightning.networks import Actor, CriticEnsemble


def plain_mlp(sizes: Sequence[int], dtype: torch.dtype) -> nn.Sequential:
    """Linear layers with a ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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
    ) -> None:
        self.low, self.high = torch.tensor(low, dtype=dtype), torch.tensor(high, dtype=dtype)
        self.gamma, self.tau, self.policy_delay = gamma, tau, policy_delay
        self.sigma, self.clip, self.normalizer = sigma, clip, normalizer
        self.updates = 0

        self.actor = plain_mlp([observation_size, *hidden, action_size], dtype)
        self.critics = [
            plain_mlp([observation_size + action_size, *hidden, 1], dtype)
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
        """Equation 3."""
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
        """Equation 4, normalised as in Equation 1."""
        policy_action = self.policy(self.actor, observation)
        value = self.mean_q(observation, policy_action)
        divisor = value if self.normalizer == "policy" else self.mean_q(observation, action)
        cloning = ((policy_action - action) ** 2).mean()
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
