"""D4RL-normalised scores.

The reference returns are D4RL's (Fu et al. 2020, ``d4rl/infos.py``); they are the same for
every version and quality of a task. Gymnasium's v5 environments have no references of their
own, so Minari's MuJoCo datasets fall back to this table.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """Returns that count as score 0 and 100, in raw reward units per episode."""

    minimum: float
    maximum: float

    def fraction(self, episode_return: float) -> float:
        """(R − min) / (max − min), the unit of Eq. 2: 0 is a random policy, 1 an expert."""
        return (episode_return - self.minimum) / (self.maximum - self.minimum)

    def score(self, episode_return: float) -> float:
        """100 · fraction, the unit of D4RL's tables and of ``eval/score``."""
        return 100.0 * self.fraction(episode_return)


def saved_reference(reference: Reference | None) -> list[float] | None:
    """What a checkpoint holds of the returns that a run counts as 0 and 100."""
    return None if reference is None else [reference.minimum, reference.maximum]


REFERENCES = {
    "hopper": Reference(-20.272305, 3234.3),
    "halfcheetah": Reference(-280.178953, 12135.0),
    "walker2d": Reference(1.629008, 4592.3),
    "pen": Reference(96.262799, 3076.8331017826877),
    "door": Reference(-56.512833, 2880.5693087298737),
    "hammer": Reference(-274.856578, 12794.134825156867),
    "relocate": Reference(-6.425911, 4233.877797728884),
}


def reference_for(env_id: str) -> Reference | None:
    """The references of an environment id such as ``Hopper-v5`` or ``AdroitHandPen-v1``.

    Args:
        env_id: a Gymnasium id, with or without a namespace, or Gymnasium's own module before it.
    Returns: its references, or None for an environment D4RL does not know.
    """
    known = env_id.removeprefix("gymnasium:").removeprefix("gymnasium_robotics:")
    name = known.rsplit("/", 1)[-1].rsplit("-v", 1)[0].lower()
    return REFERENCES.get(name.removeprefix("adroithand"))
