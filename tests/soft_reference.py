"""SAC, RLPD, CQL, Cal-QL and WSRL as plainly as they can be written, in float64; no package code.

One network at a time, one action at a time, PyTorch's own optimisers and autograd.
"""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

F64 = torch.float64


def net(sizes: Sequence[int], norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers.append(nn.Linear(inputs, outputs, dtype=F64))
        if norm:
            layers.append(nn.LayerNorm(outputs, eps=1e-6, dtype=F64))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], dtype=F64))


class PlainSoft:
    """An agent whose constants are what they are called.

    Its networks take the package's weights by :meth:`load`. ``kind`` is the source whose policy and
    temperature it has: "sac", "cql" with learnt scalars of log σ, or "wsrl" with a normalised actor
    and a softplus.
    """

    kind: str

    def __init__(self, **constants: Any) -> None:
        self.__dict__.update(constants)
        o, a = self.observation_size, self.action_size
        self.low, self.high = (torch.tensor(end, dtype=F64) for end in (self.low, self.high))
        self.trunk = net([o, *self.hidden, 1], self.kind == "wsrl")[:-1]
        self.mean = nn.Linear(self.hidden[-1], a, dtype=F64)
        self.log_std = nn.Linear(self.hidden[-1], a, dtype=F64)
        self.critics = [net([o + a, *self.hidden, 1], self.norm) for _ in range(self.n)]
        self.factor = nn.Parameter(torch.ones((), dtype=F64))
        self.offset = nn.Parameter(-torch.ones((), dtype=F64))
        start = math.log(math.e - 1) if self.kind == "wsrl" else 0.0
        self.raw_alpha = nn.Parameter(torch.tensor(start, dtype=F64))
        self.log_multiplier = nn.Parameter(torch.ones((), dtype=F64))

    def load(self, actor: Sequence[Tensor], critics: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self.actor_parameters(), actor, strict=True):
                parameter.copy_(weight.reshape(parameter.shape))
            for member, critic in enumerate(self.critics):
                for parameter, weight in zip(critic.parameters(), critics, strict=True):
                    parameter.copy_(weight[member])
        self.targets = copy.deepcopy(self.critics)
        plain = {"foreach": False, "fused": False}
        self.actor_adam = torch.optim.Adam(self.actor_parameters(), self.actor_lr, **plain)
        self.critic_adam = torch.optim.Adam(
            [p for critic in self.critics for p in critic.parameters()], self.lr, **plain
        )
        self.alpha_adam = torch.optim.Adam([self.raw_alpha], self.actor_lr, **plain)
        self.multiplier_adam = torch.optim.Adam([self.log_multiplier], self.lr, **plain)

    def actor_parameters(self) -> list[nn.Parameter]:
        layers = [p for m in (self.trunk, self.mean, self.log_std) for p in m.parameters()]
        return [*layers, self.factor, self.offset] if self.kind == "cql" else layers

    def alpha(self) -> Tensor:
        raw = self.raw_alpha
        return torch.log(1 + torch.exp(raw)) if self.kind == "wsrl" else torch.exp(raw)

    def action(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Action in action units, log-density of it in action limits."""
        features = self.trunk(observation)
        mean, log_std = self.mean(features), self.log_std(features)
        if self.kind == "cql":
            log_std = self.factor * log_std + self.offset
        smallest, largest = (1e-5, 10) if self.kind == "wsrl" else (math.exp(-20), math.exp(2))
        std = log_std.exp().clamp(smallest, largest)
        normal = torch.distributions.Normal(mean, std)
        raw = mean + std * noise
        unit = torch.tanh(raw)
        log_prob = (normal.log_prob(raw) - torch.log(1 - unit**2)).sum(-1)
        return self.low + (unit + 1) * (self.high - self.low) / 2, log_prob

    @staticmethod
    def values(networks: Sequence[nn.Module], observation: Tensor, action: Tensor) -> Tensor:
        pair = torch.cat([observation, action], 1)
        return torch.stack([network(pair)[:, 0] for network in networks])

    def target(self, batch: Any, noises: Tensor, subset: Tensor) -> Tensor:
        """Best of the noises' actions; each by the smallest of the drawn targets."""
        with torch.no_grad():
            drawn = [self.targets[i] for i in subset.tolist()]
            best = log_prob_of_best = None
            for noise in noises.unbind(1):
                action, log_prob = self.action(batch["next_observation"], noise)
                value = self.values(drawn, batch["next_observation"], action).amin(0)
                if best is None:
                    best, log_prob_of_best = value, log_prob
                else:
                    better = value > best
                    best = torch.where(better, value, best)
                    log_prob_of_best = torch.where(better, log_prob, log_prob_of_best)
            if self.backup_entropy:
                best = best - self.alpha() * log_prob_of_best
            return batch["reward"] + self.gamma * (1 - batch["terminated"]) * best

    def actor_loss(self, batch: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = self.action(batch["observation"], noise)
        q = self.values(self.critics, batch["observation"], action)
        value = q.mean(0) if self.actor_value == "mean" else q.amin(0)
        return (self.alpha().detach() * log_prob - value).mean(), log_prob.mean().detach()

    def follow(self) -> None:
        with torch.no_grad():
            for slow_net, fast_net in zip(self.targets, self.critics, strict=True):
                pairs = zip(slow_net.parameters(), fast_net.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.copy_((1 - self.tau) * slow + self.tau * fast)

    def step(self, adam: torch.optim.Optimizer, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()

    def soft_critics(self, batch: Any, draws: dict[str, Tensor]) -> None:
        y = self.target(batch, draws["target_noise"].unsqueeze(1), draws["subset"])
        q = self.values(self.critics, batch["observation"], batch["action"])
        self.step(self.critic_adam, ((q - y) ** 2).mean())
        self.follow()

    def soft_actor(self, batch: Any, draws: dict[str, Tensor]) -> None:
        loss, log_prob = self.actor_loss(batch, draws["policy_noise"])
        self.step(self.actor_adam, loss)
        wanted = self.entropy_per_action * self.action_size
        self.step(self.alpha_adam, self.alpha() * (-log_prob - wanted))

    def gaps(self, batch: Any, draws: dict[str, Tensor]) -> Tensor:
        """Of every critic (or the drawn ones) and row."""
        s, density = batch["observation"], []
        actions = []
        half, middle = (self.high - self.low) / 2, (self.high + self.low) / 2
        for share in draws["uniform"].unbind(1):
            actions.append((2 * share - 1) * half + middle)
            density.append(torch.full_like(batch["reward"], math.log(0.5**self.action_size)))
        with torch.no_grad():
            for name, key in (("observation", "current_noise"), ("next_observation", "next_noise")):
                for noise in draws[key].unbind(1):
                    action, log_prob = self.action(batch[name], noise)
                    actions.append(action)
                    density.append(log_prob)
        which = draws["heads"].tolist() if "heads" in draws else range(self.n)
        result = []
        for critic in (self.critics[i] for i in which):
            data = critic(torch.cat([s, batch["action"]], 1))[:, 0]
            terms = []
            for k, (action, log_density) in enumerate(zip(actions, density, strict=True)):
                q = critic(torch.cat([s, action], 1))[:, 0]
                if self.calibrate and k >= draws["uniform"].shape[1]:
                    q = torch.where(q > batch["mc_return"], q, batch["mc_return"])
                terms.append(q - log_density if self.importance else q)
            if not self.importance:
                terms.append(data)
            total = sum(torch.exp(term / self.temperature) for term in terms)
            gap = self.temperature * torch.log(total) - data
            result.append(torch.where(gap > self.floor, gap, torch.full_like(gap, self.floor)))
        return torch.stack(result)

    def conservative(self, batch: Any, draws: dict[str, Tensor], weight: float) -> None:
        y = self.target(batch, draws["target_noise"], draws["subset"])
        actor_loss, log_prob = self.actor_loss(batch, draws["policy_noise"])
        scale = self.alpha() if self.kind == "wsrl" else self.raw_alpha
        alpha_loss = -scale * (log_prob + self.entropy_per_action * self.action_size)
        q = self.values(self.critics, batch["observation"], batch["action"])
        gap = self.gaps(batch, draws)
        multiplier_loss = None
        if self.target_gap is not None:
            multiplier = self.log_multiplier.exp().clamp(0, 1e6)
            multiplier_loss = -(multiplier * weight * (gap.detach() - self.target_gap)).mean()
            weight = weight * multiplier.detach()
        critic_loss = ((q - y) ** 2).mean() + weight * gap.mean()
        # All gradients before any step.
        actor, critics = self.actor_parameters(), self.critic_adam.param_groups[0]["params"]
        gradients = [
            (self.actor_adam, actor, torch.autograd.grad(actor_loss, actor)),
            (self.alpha_adam, [self.raw_alpha], torch.autograd.grad(alpha_loss, self.raw_alpha)),
            (self.critic_adam, critics, torch.autograd.grad(critic_loss, critics)),
        ]
        if multiplier_loss is not None:
            mine = torch.autograd.grad(multiplier_loss, self.log_multiplier)
            gradients.append((self.multiplier_adam, [self.log_multiplier], mine))
        for adam, parameters, grads in gradients:
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad
            adam.step()
        self.follow()
