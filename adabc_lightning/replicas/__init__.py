"""R agents in one process: each with its own data, α, random numbers and files, and one loop.

A replica is a whole single run, its module, data module and callbacks, as it would be with its
seed alone; none of them knows of the others. What they share is Lightning's loop, in which they
go in step, the offline rows, and the gradient update (:mod:`adabc_lightning.replicas.stacked`).
"""

from adabc_lightning.replicas.assembly import Replicas

__all__ = ["Replicas"]
