"""How much is made in the environment beside training and evaluation. Imports no PyTorch."""

from dataclasses import dataclass

TRIALS = "adabc_lightning.callbacks.Trials"
"""How configs name the callback that makes trials."""
TRIED = {"both": ("average", "actor"), "newest": ("actor",), "average": ("average",)}
"""Parts of the agent, whose policies a trial tries in turn."""


@dataclass(frozen=True)
class Interaction:
    """What a run still makes of it.

    Args:
        name: one word, for plans.
        about: how often, for plans.
        episodes: the least and the most.
        env_steps: the least and the most; None where an episode may last for ever.
        rounds: the most steps of environments side by side, which its time goes by; None where
            an episode may last for ever.
    """

    name: str
    about: str
    episodes: tuple[int, int]
    env_steps: tuple[int, int | None]
    rounds: int | None

    def in_words(self) -> str:
        """How often and how much."""
        episodes, steps = (f"{low:,}" for low, _ in (self.episodes, self.env_steps))
        most = self.env_steps[1]
        steps += " or more" if most is None else f" to {most:,}"
        return (
            f"{self.about}: {episodes} to {self.episodes[1]:,} episodes, {steps} environment steps"
        )


def trials(
    evaluations: int,
    hand_over: bool,
    limit: int | None,
    episodes: int = 5,
    steps: int = 2000,
    tried: str = "both",
) -> Interaction:
    """Those of :class:`~adabc_lightning.callbacks.trials.Trials`, whose options the last three are.

    A policy makes E episodes, then E more, until it has made the steps or has been tried from as
    many starts as the incumbent. So it makes less than ``steps`` before its last E episodes, and
    only where they are short does it need more of them.

    Args:
        evaluations: of fine-tuning that are ahead, with a trial before each.
        hand_over: whether it is ahead, with a trial of the pre-trained policy.
        limit: of an episode, in environment steps; None for none.
    """
    policies = len(TRIED[tried])
    tries = hand_over + evaluations * policies
    least = episodes * (1 if limit is None else -(-steps // (episodes * limit)))
    most = episodes * -(-steps // episodes)
    # The incumbent's starts may be few: its episodes were long, those of a candidate need not be.
    fewest = hand_over * max(steps, least) + evaluations * policies * least
    both = " of two policies" if policies > 1 else ""
    return Interaction(
        "trials",
        f"{evaluations:,}{both}" + ", and one at the hand-over" * hand_over,
        (tries * least, tries * most),
        (fewest, None if limit is None else tries * (steps - 1 + episodes * limit)),
        None if limit is None else tries * (steps - 1 + limit),
    )
