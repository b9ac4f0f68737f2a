"""SPOT as plainly as it can be written, in float64; shares no code with the package.

From Wu et al. 2022 and the order of its authors' code: the VAE first, then TD3 with its penalty.
"""

import torch
from torch import Tensor, nn

Network = list[nn.Parameter]


class PlainSPOT:
    """Networks are lists of ``[weight, bias, weight, bias, …]``, given and then its own.

    Args:
        actor, critics, encoder, decoder: the starting weights; a list for each critic.
        low, high: ``[A]`` bounds of the action space.
        gamma, tau, lr, actor_lr, vae_lr, beta, sigma, clip: the method's constants.
    """

    def __init__(
        self,
        actor: list[Tensor],
        critics: list[list[Tensor]],
        encoder: list[Tensor],
        decoder: list[Tensor],
        low: Tensor,
        high: Tensor,
        gamma: float,
        tau: float,
        lr: float,
        actor_lr: float,
        vae_lr: float,
        beta: float,
        sigma: float,
        clip: float,
    ) -> None:
        def own(network: list[Tensor]) -> Network:
            return [nn.Parameter(tensor.detach().clone().double()) for tensor in network]

        self.actor, self.encoder, self.decoder = own(actor), own(encoder), own(decoder)
        self.actor_target = own(actor)
        self.critics = [own(critic) for critic in critics]
        self.critic_targets = [own(critic) for critic in critics]
        self.low, self.high = low.double(), high.double()
        self.gamma, self.tau, self.beta, self.sigma, self.clip = gamma, tau, beta, sigma, clip

        def adam(parameters: Network, lr: float) -> torch.optim.Adam:
            return torch.optim.Adam(parameters, lr=lr, foreach=False, fused=False)

        self.actor_adam = adam(self.actor, actor_lr)
        self.critic_adam = adam([tensor for critic in self.critics for tensor in critic], lr)
        self.vae_adam = adam(self.encoder + self.decoder, vae_lr)

    @staticmethod
    def forward(network: Network, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """One network; ``kept`` multiplies its hidden units before their activation."""
        for layer in range(0, len(network), 2):
            x = x @ network[layer].T + network[layer + 1]
            if layer < len(network) - 2:
                if kept is not None:
                    x = x * kept[layer // 2]
                x = torch.clamp(x, min=0)
        return x

    def penalty(self, observation: Tensor, unit: Tensor, noise: Tensor) -> Tensor:
        """Of actions in [−1, 1], mean over the batch."""
        code = self.forward(self.encoder, torch.cat([observation, unit], 1))
        latent_size = code.shape[1] // 2
        mean, std = code[:, :latent_size], code[:, latent_size:].clamp(-4, 15).exp()
        decoded = self.forward(self.decoder, torch.cat([observation, mean + std * noise], 1))
        error = ((torch.tanh(decoded) - unit) ** 2).mean()
        divergence = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        return error + self.beta * divergence

    def unit(self, action: Tensor) -> Tensor:
        """In action limits."""
        return 2 * (action - self.low) / (self.high - self.low) - 1

    def scaled(self, unit: Tensor) -> Tensor:
        """In action units."""
        return self.low + (unit + 1) * (self.high - self.low) / 2

    def train_vae(self, observation: Tensor, action: Tensor, latent_noise: Tensor) -> None:
        """One update of the first stage."""
        self.vae_adam.zero_grad()
        self.penalty(observation, self.unit(action), latent_noise).backward()
        self.vae_adam.step()

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        noise: Tensor,
        latent_noise: Tensor,
        kept: list[Tensor] | None,
        target_kept: list[Tensor] | None,
        weight: float | None,
    ) -> None:
        """One update of the critics, and, with a weight, of the actor and the targets."""
        with torch.no_grad():
            unit = torch.tanh(self.forward(self.actor_target, next_observation, target_kept))
            limit = (self.high - self.low) / 2
            smoothed = self.scaled(unit) + (self.sigma * noise).clamp(-self.clip, self.clip) * limit
            pair = torch.cat([next_observation, smoothed.clamp(self.low, self.high)], 1)
            values = [self.forward(network, pair)[:, 0] for network in self.critic_targets]
            target = reward + self.gamma * (1 - terminated) * torch.stack(values).amin(0)
        pair = torch.cat([observation, action], 1)
        errors = [(self.forward(critic, pair)[:, 0] - target) ** 2 for critic in self.critics]
        self.critic_adam.zero_grad()
        (sum(errors) / len(errors)).mean().backward()
        self.critic_adam.step()
        if weight is None:
            return

        unit = torch.tanh(self.forward(self.actor, observation, kept))
        q = self.forward(self.critics[0], torch.cat([observation, self.scaled(unit)], 1))[:, 0]
        loss = -q.mean() / q.detach().abs().mean()
        loss = loss + weight * self.penalty(observation, unit, latent_noise)
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()

        with torch.no_grad():
            pairs = [(self.actor_target, self.actor)]
            for slow_network, network in pairs + list(
                zip(self.critic_targets, self.critics, strict=True)
            ):
                for slow, fast in zip(slow_network, network, strict=True):
                    slow += self.tau * (fast - slow)
