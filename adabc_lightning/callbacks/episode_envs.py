"""Where whole episodes without noise are made, for evaluations and before them."""

from itertools import chain

import gymnasium

from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.make import Outcomes, PolicyFunction, evaluate
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.run.seeding import stream_seed


class EpisodeEnvs:
    """Environments for whole episodes without noise, one for each; made once."""

    def __init__(self) -> None:
        self._envs: list[gymnasium.Env] = []

    def run(
        self,
        data: ReplayDataModule,
        act: PolicyFunction,
        episodes: int,
        purpose: str,
        start: int = 0,
    ) -> Outcomes:
        """Raw returns, lengths and successes of episodes that start alike every time.

        Args:
            data: of the run; its ranks have a part of the episodes each, in order, and all of
                them the results.
            act: the policy.
            episodes: how many; the same in every call.
            purpose: names the stream of seeds that the starts come from.
            start: how many starts of that stream to skip.
        """
        ranks = data.ranks
        first, end = (episodes * rank // ranks.count for rank in (ranks.rank, ranks.rank + 1))
        if not self._envs:
            self._envs = [data.make_env() for _ in range(first, end)]
        own = Outcomes([], [], [])
        if self._envs:  # there are fewer episodes than ranks
            seed = stream_seed(data.seed, purpose) % 2**31 + start + first
            own = evaluate(act, self._envs, end - first, seed, data.step_timeout, data.idle)
        parts = ranks.gather(own)
        return Outcomes(*(list(chain(*lists)) for lists in zip(*parts, strict=True)))

    def close(self) -> None:
        """Closes them."""
        for env in self._envs:
            CheckedEnv(env).close()
        self._envs = []
