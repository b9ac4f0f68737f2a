"""A conditional VAE of the data's actions, whose evidence bound says how well they support one.

Dimensions: B batch, O observation, A action, L latent; actions are in action limits, [−1, 1].
"""

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from adabc_lightning.agent.constraints import standard_divergence, support_penalty
from adabc_lightning.agent.mlp import Weights, mlp

_LOG_STD_RANGE = -4.0, 15.0  # of the encoder, for numbers that stay finite (SPOT's code)


class VAE(nn.Module):
    """Encoder (s, a) → N(μ, σ²) and decoder (s, z) → a, as SPOT's; PyTorch's initialisation.

    Args:
        observation_size, action_size: O, A.
        latent_size: L.
        width: units of each of the two hidden layers of both.
    """

    def __init__(
        self, observation_size: int, action_size: int, latent_size: int, width: int
    ) -> None:
        super().__init__()

        def net(inputs: int, outputs: int) -> MLP:
            return MLP(inputs, outputs, num_cells=[width, width], activation_class=nn.ReLU)

        self.encoder = net(observation_size + action_size, 2 * latent_size)
        self.decoder = net(observation_size + latent_size, action_size)

    @property
    def weights(self) -> Weights:
        """The live parameters: the encoder's layers, then as many of the decoder."""
        return (*self.encoder.parameters(), *self.decoder.parameters())


def action_penalty(
    observation_BO: Tensor, action_BA: Tensor, noise_BL: Tensor, weights: Weights, beta: float
) -> Tensor:
    """:func:`~adabc_lightning.agent.constraints.support_penalty` of actions, one latent sample.

    Args:
        observation_BO: s.
        action_BA: a, in action limits; its gradient passes the encoder and the comparison.
        noise_BL: standard normal draws.
        weights: of a :class:`VAE`.
        beta: weight of the divergence.
    Returns: ``[B]``; its mean over the data is what the VAE is trained to lower.
    """
    half = len(weights) // 2
    encoder, decoder = weights[:half], weights[half:]
    mean_BL, log_std_BL = mlp(torch.cat([observation_BO, action_BA], -1), encoder).chunk(2, -1)
    log_std_BL = log_std_BL.clamp(*_LOG_STD_RANGE)
    latent_BL = mean_BL + torch.exp(log_std_BL) * noise_BL
    decoded_BA = torch.tanh(mlp(torch.cat([observation_BO, latent_BL], -1), decoder))
    return support_penalty(decoded_BA, action_BA, standard_divergence(mean_BL, log_std_BL), beta)
