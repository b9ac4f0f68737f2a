"""The methods, a file each."""

from adabc_lightning.agent.methods.awac import AWAC
from adabc_lightning.agent.methods.cal_ql import CalQL
from adabc_lightning.agent.methods.cql import CQL
from adabc_lightning.agent.methods.iql import IQL
from adabc_lightning.agent.methods.rebrac import ReBRAC
from adabc_lightning.agent.methods.rlpd import RLPD
from adabc_lightning.agent.methods.sac import SAC
from adabc_lightning.agent.methods.spot import SPOT
from adabc_lightning.agent.methods.td3bc import TD3BC
from adabc_lightning.agent.methods.wsrl import WSRL

__all__ = ["AWAC", "CQL", "IQL", "RLPD", "SAC", "SPOT", "TD3BC", "WSRL", "CalQL", "ReBRAC"]
