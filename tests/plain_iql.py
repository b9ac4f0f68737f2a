"""IQL as plainly as it can be written, in float64; shares no code with the package.

From Kostrikov et al. 2021 and the order of its authors' JAX code: value, policy, critics, targets.
"""

import math

import torch
from torch import Tensor, nn


class PlainIQL:
    """Networks are lists of ``[weight, bias, weight, bias, …]``, given and then its own.

    Args:
        actor: layers, then the log standard deviation.
        critics: a list for each of them.
        value: layers.
        low, high: ``[A]`` bounds of the action space.
        gamma, tau, lr, beta, expectile, largest, log_std: the method's constants.
    """

    def __init__(
        self,
        actor: list[Tensor],
        critics: list[list[Tensor]],
        value: list[Tensor],
        low: Tensor,
        high: Tensor,
        gamma: float,
        tau: float,
        lr: float,
        beta: float,
        expectile: float,
        largest: float,
        log_std: tuple[float, float],
    ) -> None:
        def own(network: list[Tensor]) -> list[nn.Parameter]:
            return [nn.Parameter(tensor.detach().clone().double()) for tensor in network]

        self.actor, self.value = own(actor), own(value)
        self.critics = [own(critic) for critic in critics]
        self.targets = [[tensor.detach().clone() for tensor in critic] for critic in self.critics]
        self.low, self.high = low.double(), high.double()
        self.gamma, self.tau, self.beta = gamma, tau, beta
        self.expectile, self.largest, self.log_std = expectile, largest, log_std

        def adam(parameters: list[nn.Parameter]) -> torch.optim.Adam:
            return torch.optim.Adam(parameters, lr=lr, foreach=False, fused=False)

        self.actor_adam, self.value_adam = adam(self.actor), adam(self.value)
        self.critic_adam = adam([tensor for critic in self.critics for tensor in critic])

    @staticmethod
    def forward(network: list, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """One network; ``kept`` multiplies its hidden units, layer by layer."""
        for layer in range(0, len(network), 2):
            x = x @ network[layer].T + network[layer + 1]
            if layer < len(network) - 2:
                x = torch.clamp(x, min=0)
                if kept is not None:
                    x = x * kept[layer // 2]
        return x

    def lowest(self, observation: Tensor, action: Tensor) -> Tensor:
        """The smallest of the targets' values, ``[B]``."""
        pair = torch.cat([observation, action], 1)
        return torch.stack([self.forward(target, pair)[:, 0] for target in self.targets]).amin(0)

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        kept: list[Tensor] | None = None,
    ) -> None:
        """One update of everything."""
        q = self.lowest(observation, action).detach()
        error = q - self.forward(self.value, observation)[:, 0]
        weight = torch.full_like(error, self.expectile)
        weight[error < 0] = 1 - self.expectile
        self.value_adam.zero_grad()
        (weight * error**2).mean().backward()
        self.value_adam.step()

        with torch.no_grad():
            value = self.forward(self.value, observation)[:, 0]
            weight = torch.exp(self.beta * (q - value))
            weight = torch.where(weight > self.largest, self.largest, weight)
        mean = torch.tanh(self.forward(self.actor[:-1], observation, kept))
        unit_action = 2 * (action - self.low) / (self.high - self.low) - 1
        log_std = self.actor[-1].clamp(*self.log_std)
        distance = (unit_action - mean) / log_std.exp()
        log_prob = (-(distance**2) / 2 - log_std - math.log(2 * math.pi) / 2).sum(1)
        self.actor_adam.zero_grad()
        (-(weight * log_prob)).mean().backward()
        self.actor_adam.step()

        with torch.no_grad():
            next_value = self.forward(self.value, next_observation)[:, 0]
            target = reward + self.gamma * (1 - terminated) * next_value
        pair = torch.cat([observation, action], 1)
        errors = [(self.forward(critic, pair)[:, 0] - target) ** 2 for critic in self.critics]
        self.critic_adam.zero_grad()
        (sum(errors) / len(errors)).mean().backward()
        self.critic_adam.step()

        with torch.no_grad():
            for target_network, critic in zip(self.targets, self.critics, strict=True):
                for slow, fast in zip(target_network, critic, strict=True):
                    slow += self.tau * (fast - slow)
