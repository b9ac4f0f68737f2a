"""The methods, a file each."""

from adabc_lightning.agent.methods.awac import AWAC
from adabc_lightning.agent.methods.iql import IQL
from adabc_lightning.agent.methods.rebrac import ReBRAC
from adabc_lightning.agent.methods.spot import SPOT
from adabc_lightning.agent.methods.td3bc import TD3BC

__all__ = ["AWAC", "IQL", "SPOT", "TD3BC", "ReBRAC"]
