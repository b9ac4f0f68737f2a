"""What a run would do: a plan's counts, files and memory."""

from dataclasses import dataclass, replace

from adabc_lightning.run.interaction import Interaction


@dataclass(frozen=True)
class Done:
    """What a checkpoint has behind it; zeros at the start of a run.

    Args:
        gradient_updates: of both phases.
        env_steps: of fine-tuning.
    """

    gradient_updates: int
    env_steps: int


@dataclass(frozen=True)
class Evaluations:
    """How many are ahead.

    Args:
        offline: of pre-training.
        online: of fine-tuning.
    """

    offline: int
    online: int


@dataclass(frozen=True)
class Memory:
    """Bytes, each None where it is not known.

    Args:
        now: of this process, as Linux says: libraries and dataset.
        to_come: name → what comes to it, at most.
        free: beside what is taken now.
    """

    now: int | None
    to_come: dict[str, int | None]
    free: int | None


@dataclass(frozen=True)
class Plan:
    """What is ahead of a run, or of each of several replicas; None for what cannot be known yet.

    Args:
        env_id: Gymnasium id, or a log.
        observation_size: O, numbers of an observation.
        observation_parts: name and size of each part of it; None where it has none.
        action_size: A, numbers of an action.
        max_episode_steps: time limit in environment steps; None for none.
        dataset: its name or path; None for none.
        to_fetch: what has to be fetched before the number of transitions is known.
        transitions: of the dataset, or in the ring of a run that goes on.
        kept_at_hand_over: those that the hand-over keeps; None, too, where it lies behind.
        method: class of the method.
        num_critics, subset_size: critics, and those of them that make a target.
        parameters: numbers that are trained.
        device: that they are on.
        done: what the run goes on from.
        offline_updates: gradient updates of pre-training.
        online_env_steps: environment steps of fine-tuning.
        frozen_env_steps: those of them without updates.
        updates_per_env_step: G, of each of the others.
        online_updates: gradient updates of fine-tuning.
        batch_size: B, transitions of an update.
        evaluations: by phase.
        beside: what callbacks make in the environment beside training and evaluation.
        episodes: of an evaluation.
        files: name → about how many bytes at the end of the run; loggers' own files aside.
        memory: of the process.
        replicas: agents of which each does all this; files and memory are those of all.
    """

    env_id: str
    observation_size: int
    observation_parts: tuple[tuple[str, int], ...] | None
    action_size: int
    max_episode_steps: int | None
    dataset: str | None
    to_fetch: str | None
    transitions: int | None
    kept_at_hand_over: int | None
    method: str
    num_critics: int
    subset_size: int
    parameters: int
    device: str
    done: Done
    offline_updates: int
    online_env_steps: int
    frozen_env_steps: int
    updates_per_env_step: int
    online_updates: int
    batch_size: int
    evaluations: Evaluations
    beside: list[Interaction]
    episodes: int
    files: dict[str, int]
    memory: Memory
    replicas: int = 1

    def times(self, replicas: int) -> "Plan":
        """That of several replicas, from that of one: files and memory are as many times."""
        if replicas == 1:
            return self
        files = {f"replica_*/{name}": replicas * size for name, size in self.files.items()}
        for name in ("last.ckpt", "previous.ckpt", "pretrained.ckpt"):
            if f"replica_*/checkpoints/{name}" in files:
                files[f"checkpoints/{name}"] = files[f"replica_*/checkpoints/{name}"]
        files["metrics.csv"] = files.get("replica_*/metrics.csv", 0)
        to_come = {
            name: size if size is None else replicas * size
            for name, size in self.memory.to_come.items()
        }
        memory = replace(self.memory, to_come=to_come)
        return replace(self, replicas=replicas, files=files, memory=memory)
