"""Several replicas, and which of them is at work."""

from collections.abc import Iterator, Sequence

from adabc_lightning.replicas.replica import Replica


class Group:
    """R replicas in their order.

    Args:
        replicas: one or more.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = list(replicas)
        self.failed: Replica | None = None

    def each(self) -> Iterator[Replica]:
        """One after the other; remembers which one it was that failed."""
        for replica in self.replicas:
            self.failed = replica
            yield replica
        self.failed = None
