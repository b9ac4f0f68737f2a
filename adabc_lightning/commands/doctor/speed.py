"""A few seconds of the chosen config: how fast it is here, and how long it will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lightning import Callback, Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Checkpointing, Evaluation, Guard, Metrics, Progress, Summary
from adabc_lightning.callbacks.folder import RunFolder
from adabc_lightning.commands import fit
from adabc_lightning.commands.command_line import CommandLine
from adabc_lightning.commands.plan import Plan
from adabc_lightning.commands.preview import Preview
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.run.schedule import OFFLINE, ONLINE
from adabc_lightning.run.trainer import callbacks_of

NEVER = 10**12  # updates or steps between evaluations
MOST_STEPS = 100  # of an episode where the environment has no limit: it might never end
SOME = 50  # frozen steps, where learning follows
FROZEN = "frozen"  # part of fine-tuning
FEWEST = 3  # batches of a phase; the first one warms up
# They write, or run episodes; what they take is estimated apart.
LEFT_OUT = (Checkpointing, Evaluation, Guard, Metrics, Progress, RunFolder, Summary)


@dataclass(frozen=True)
class Speed:
    """Per second of wall time, each None where it was not measured.

    Args:
        offline_updates: gradient updates of pre-training.
        online_env_steps: environment steps of fine-tuning, with the updates after each.
        evaluation_steps: steps of an evaluation's episodes side by side.
        frozen_env_steps: environment steps of fine-tuning without updates.
    """

    offline_updates: float | None
    online_env_steps: float | None
    evaluation_steps: float | None
    frozen_env_steps: float | None = None


class Stopwatch(Callback):
    """Cuts the phases short and notes how far they came.

    Args:
        modules: data modules, of each replica.
        seconds: that each phase may take after its first batch, which may have to compile; a
            batch that has begun is finished, and each phase makes a few of them however slow they
            are.
    """

    def __init__(self, modules: Sequence[ReplayDataModule], seconds: float) -> None:
        self.modules, self.seconds = modules, seconds
        self.marks: dict[str, list[tuple[float, int]]] = {OFFLINE: [], FROZEN: [], ONLINE: []}

    def on_train_start(self, *_: Any) -> None:
        """The timeline has no evaluations here."""
        self._change(evaluation_every=NEVER)

    def _leave_few_frozen(self) -> None:
        """Before those steps that learn; the agents have chosen their engine by the real number."""
        data = self.modules[0]
        frozen, needed = data.schedule.frozen_env_steps, SOME
        if data.unfinished is not None:  # an episode must have ended before the first update
            needed = max(SOME, data.spec.max_episode_steps or 0)
        if needed < frozen < data.schedule.online_env_steps:
            self._change(frozen_env_steps=needed)

    def _change(self, **keys: int) -> None:
        for data in self.modules:
            data.schedule = replace(data.schedule, **keys)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends the phase when its time is over."""
        if not any(self.marks.values()):
            self._leave_few_frozen()
        data = self.modules[0]
        schedule, agent, steps = data.schedule, data.agent, data.env_steps
        phase = OFFLINE if not steps else FROZEN if steps <= schedule.frozen_env_steps else ONLINE
        marks = self.marks[phase]
        # .item() waits for an accelerator, which answers before it is done.
        agent.actor.weights[0].flatten()[0].item()
        now = time.perf_counter()
        marks.append((now, steps or agent.gradient_updates))
        if now - marks[0][0] < self.seconds or len(marks) < FEWEST:
            return
        if phase == OFFLINE and schedule.online_env_steps:
            self._change(offline_updates=agent.gradient_updates)
        elif phase != FROZEN or schedule.frozen_env_steps >= schedule.online_env_steps:
            trainer.should_stop = True

    def rate(self, phase: str) -> float | None:
        """Updates (offline) or environment steps (frozen, online) per second."""
        marks = self.marks[phase]
        if len(marks) < 2:
            return None
        (start, first), (end, last) = marks[0], marks[-1]
        return (last - first) / (end - start)


def evaluation_rate(
    data: ReplayDataModule, agent: OffToOnModule, episodes: int, seconds: float
) -> float:
    """Steps per second of so many environments side by side, as evaluations run them.

    Episodes that end begin anew, so that it is the speed while none has ended.
    """
    envs = [CheckedEnv(data.make_env(), data.step_timeout) for _ in range(episodes)]
    observations = [env.reset(seed=index) for index, env in enumerate(envs)]
    start, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - start < seconds:
        actions = agent.act(np.stack(observations))
        for index, (env, action) in enumerate(zip(envs, actions, strict=True)):
            observations[index], _, terminated, truncated = env.step(action)
            if terminated or truncated:
                observations[index] = env.reset()
        steps += 1
    rate = steps / (time.perf_counter() - start)
    for env in envs:
        env.close()
    return rate


def measure(command_line: CommandLine, seconds: float) -> tuple[Plan, Speed]:
    """Runs a config for about so long.

    Args:
        command_line: ``fit`` of the config, dry, its dataset on this machine.
        seconds: of all measurements together.
    Returns: the plan of the run, and its speed.
    Raises: UserError: the run cannot start.
    """
    trainer, replicas = command_line.trainer, command_line.replicas
    runs: list[Any] = [trainer] if replicas is None else replicas.replicas
    if replicas is None:
        modules, agent = [command_line.datamodule], command_line.model
    else:
        modules = [replica.datamodule for replica in runs]
        agent = runs[0].lightning_module
    for module in modules:
        if module.spec.max_episode_steps is None and module.log is None:
            module.max_episode_steps = MOST_STEPS
    preview, watch = Preview(runs[0].callbacks, stops=False), Stopwatch(modules, 0.4 * seconds)
    for run in runs:
        run.callbacks = [each for each in run.callbacks if not isinstance(each, LEFT_OUT)]
    runs[0].callbacks.insert(0, preview)
    of_all = [] if replicas is None else [replicas.callback]
    callbacks_of(trainer)[:] = [*(of_all or runs[0].callbacks), watch]
    fit.start(command_line)
    episodes = command_line.config_init.evaluation.episodes
    steps = evaluation_rate(modules[0], agent, episodes, 0.2 * seconds)
    speed = Speed(watch.rate(OFFLINE), watch.rate(ONLINE), steps, watch.rate(FROZEN))
    return preview.plan.times(len(runs)), speed


def expected_seconds(plan: Plan, speed: Speed) -> tuple[float | None, float | None, float | None]:
    """How long the run takes: its phases, and at most its evaluations and what is beside them.

    Args:
        plan: of the run.
        speed: of this machine.
    Returns: seconds of each, None for what is unknown: nothing was measured, or an episode may
        last for ever.
    """
    phases = 0.0
    for count, rate in (
        (plan.offline_updates, speed.offline_updates),
        (plan.frozen_env_steps, speed.frozen_env_steps or speed.online_env_steps),
        (plan.online_env_steps - plan.frozen_env_steps, speed.online_env_steps),
    ):
        if count and rate is None:
            return None, None, None
        phases += count / rate if rate else 0.0
    # The replicas take turns in all but the updates.
    limit, evaluations = plan.max_episode_steps, plan.evaluations
    if limit is None or speed.evaluation_steps is None:
        return phases, None, None
    steps = limit * plan.replicas * (evaluations.offline + evaluations.online)
    rounds = plan.replicas * sum(each.rounds or 0 for each in plan.beside)  # known as the limit is
    return phases, steps / speed.evaluation_steps, rounds / speed.evaluation_steps
