"""ReBRAC as plainly as it can be written, in float64; shares no code with the package.

From Tarasov et al. 2023 and the order of its authors' code, fine-tuning included.
"""

import torch
from torch import Tensor, nn

Network = list[nn.Parameter]


class PlainReBRAC:
    """The actor is ``[weight, bias, …]``, a critic's hidden layers have scale and shift behind.

    Args:
        actor, critics: the starting weights; a list for each critic.
        low, high: ``[A]`` bounds of the action space.
        gamma, tau, lr, sigma, clip: the method's constants.
    """

    def __init__(
        self,
        actor: list[Tensor],
        critics: list[list[Tensor]],
        low: Tensor,
        high: Tensor,
        gamma: float,
        tau: float,
        lr: float,
        sigma: float,
        clip: float,
    ) -> None:
        def own(network: list[Tensor]) -> Network:
            return [nn.Parameter(tensor.detach().clone().double()) for tensor in network]

        self.actor, self.actor_target = own(actor), own(actor)
        self.critics = [own(critic) for critic in critics]
        self.critic_targets = [own(critic) for critic in critics]
        self.low, self.high = low.double(), high.double()
        self.gamma, self.tau, self.sigma, self.clip = gamma, tau, sigma, clip

        def adam(parameters: Network) -> torch.optim.Adam:
            return torch.optim.Adam(parameters, lr=lr, foreach=False, fused=False)

        self.actor_adam = adam(self.actor)
        self.critic_adam = adam([tensor for critic in self.critics for tensor in critic])

    def unit(self, action: Tensor) -> Tensor:
        """In action limits."""
        return 2 * (action - self.low) / (self.high - self.low) - 1

    def policy(self, network: Network, observation: Tensor) -> Tensor:
        """In action units."""
        x = observation
        for layer in range(0, len(network) - 2, 2):
            x = torch.clamp(x @ network[layer].T + network[layer + 1], min=0)
        unit = torch.tanh(x @ network[-2].T + network[-1])
        return self.low + (unit + 1) * (self.high - self.low) / 2

    @staticmethod
    def q(network: Network, observation: Tensor, action: Tensor) -> Tensor:
        """``[B]``; hidden layers are normalised after their activation."""
        x = torch.cat([observation, action], 1)
        for layer in range(0, len(network) - 2, 4):
            weight, bias, scale, shift = network[layer : layer + 4]
            x = torch.clamp(x @ weight.T + bias, min=0)
            centred = x - x.mean(1, keepdim=True)
            variance = (centred**2).mean(1, keepdim=True)
            x = centred / torch.sqrt(variance + 1e-6) * scale + shift
        return (x @ network[-2].T + network[-1])[:, 0]

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        next_action: Tensor,
        next_action_known: Tensor,
        noise: Tensor,
        critic_weight: float,
        actor_weight: float | None,
    ) -> None:
        """One update of the critics, and, with its weight, of the actor and the targets."""
        with torch.no_grad():
            limit = (self.high - self.low) / 2
            smoothed = self.policy(self.actor_target, next_observation)
            smoothed = smoothed + (self.sigma * noise).clamp(-self.clip, self.clip) * limit
            smoothed = smoothed.clamp(self.low, self.high)
            away = ((self.unit(smoothed) - self.unit(next_action)) ** 2).sum(1) * next_action_known
            values = [
                self.q(network, next_observation, smoothed) for network in self.critic_targets
            ]
            value = torch.stack(values).amin(0) - critic_weight * away
            target = reward + self.gamma * (1 - terminated) * value
        errors = [(self.q(critic, observation, action) - target) ** 2 for critic in self.critics]
        self.critic_adam.zero_grad()
        (sum(errors) / len(errors)).mean().backward()
        self.critic_adam.step()
        if actor_weight is None:
            return

        with torch.no_grad():  # towards the actor that has not moved yet
            pairs = [(self.actor_target, self.actor)]
            pairs += list(zip(self.critic_targets, self.critics, strict=True))
            for slow_network, network in pairs:
                for slow, fast in zip(slow_network, network, strict=True):
                    slow += self.tau * (fast - slow)

        chosen = self.policy(self.actor, observation)
        lowest = torch.stack([self.q(critic, observation, chosen) for critic in self.critics])
        lowest = lowest.amin(0)
        away = ((self.unit(chosen) - self.unit(action)) ** 2).sum(1)
        self.actor_adam.zero_grad()
        (actor_weight * away - lowest / lowest.detach().abs().mean()).mean().backward()
        self.actor_adam.step()
