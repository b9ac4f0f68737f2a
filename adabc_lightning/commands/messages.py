"""What a command prints at its end."""

from pathlib import Path

import numpy as np

from adabc_lightning.commands.plan import Plan
from adabc_lightning.env.make import Outcomes
from adabc_lightning.env.observations import described
from adabc_lightning.env.scores import Reference
from adabc_lightning.run.limits import amount
from adabc_lightning.run.outcomes import outcomes
from adabc_lightning.run.schedule import Schedule


def closing_line(history: list[dict[str, float]], schedule: Schedule, folder: Path) -> str:
    """What became of a run: scores, or returns where no references are known, and its folder.

    Args:
        history: evaluations in order, as :func:`~adabc_lightning.run.outcomes.outcomes`.
        schedule: the run's timeline.
        folder: the run's folder.
    """
    unit = "score" if any("eval/score" in point for point in history) else "return"
    found = outcomes(history, schedule.offline_updates, schedule.online_env_steps)
    values = {name: found[unit][name] for name in ("pretrained", "final", "best", "dip")}
    shown = [
        f"{name} {round(value, 1) + 0.0}" for name, value in values.items() if value is not None
    ]
    successes = found.get("success_rate")
    rate = f", success rate {successes['final']:.2g}" if successes else ""
    return f"{unit}: {', '.join(shown) or 'not evaluated'}{rate}; {folder}"


def episode_table(found: Outcomes, reference: Reference | None) -> str:
    """A row per episode, then mean ± standard deviation over the episodes.

    Args:
        found: what became of them.
        reference: what scores are made with; None for no scores.
    """
    returns, lengths, successes = found
    rate = found.success_rate
    scores = None if reference is None else [reference.score(value) for value in returns]
    lines = ["episode      return   score   steps" + ("" if rate is None else " success")]
    for i, (value, steps) in enumerate(zip(returns, lengths, strict=True)):
        score = "      –" if scores is None else f"{scores[i]:7.2f}"
        success = "" if rate is None else f"{'yes' if successes[i] else 'no':>8}"
        lines.append(f"{i:7d} {value:11.2f} {score} {steps:7d}{success}")
    lines.append(f"return {np.mean(returns):.2f} ± {np.std(returns):.2f}")
    if scores is not None:
        lines.append(f"score {np.mean(scores):.2f} ± {np.std(scores):.2f}")
    if rate is not None:
        lines.append(f"success rate {rate:.3g}")
    return "\n".join(lines)


def fine_tuning(plan: Plan) -> str:
    """Environment steps × updates, of which the product is the number of updates."""
    steps, frozen = f"{plan.online_env_steps:,}", plan.frozen_env_steps
    if frozen:
        steps = f"({steps} − {frozen:,} frozen)"
    return f"{steps} environment steps × {plan.updates_per_env_step} updates"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def plan_text(plan: Plan, folder: str, method: str | None) -> str:
    """What a run would do.

    Args:
        plan: of the run.
        folder: where the run would leave its files.
        method: the overlay that has chosen the method, as ``--config`` takes it; None for none.
    """
    rows, kept = plan.transitions, plan.kept_at_hand_over
    data = "no dataset" if plan.dataset is None else plan.dataset
    if plan.to_fetch:
        data += f" (to be fetched: {plan.to_fetch})"
    elif plan.dataset is not None and rows:
        data += f" ({rows:,} transitions)"
    limit, done = plan.max_episode_steps, plan.done
    chosen = f" ({method})" if method else ""
    evaluations, episodes = plan.evaluations, _counted(plan.episodes, "episode")
    lines = [
        f"task          {plan.env_id} (observations of {plan.observation_size}, actions of "
        f"{plan.action_size} numbers, "
        + (f"{limit:,} steps an episode" if limit else "no time limit")
        + f"), {data}",
        f"agent         {plan.method}{chosen}, {plan.num_critics} critics of which "
        f"{plan.subset_size} make a target, {plan.parameters:,} parameters, on {plan.device}",
    ]
    if plan.observation_parts:
        lines.insert(1, f"observations  {described(plan.observation_parts)}")
    if plan.replicas > 1:
        lines.append(f"replicas      {plan.replicas} of them, of which all this is done for each")
    if done.gradient_updates or done.env_steps:
        lines.append(
            f"goes on from  {done.gradient_updates:,} updates, {done.env_steps:,} environment steps"
        )
    if plan.offline_updates:
        lines.append(
            f"pre-training  {plan.offline_updates:,} updates of {plan.batch_size} transitions; "
            f"{_counted(evaluations.offline, 'evaluation')} of {episodes}"
        )
    if kept is not None and rows and plan.online_env_steps:
        lines.append(f"hand-over     keeps {kept:,} of {rows:,} transitions")
    if plan.online_env_steps:
        lines.append(
            f"fine-tuning   {fine_tuning(plan)} = {plan.online_updates:,}; "
            f"{_counted(evaluations.online, 'evaluation')} of {episodes}"
        )
    lines += [f"{each.name:<14}{each.in_words()}" for each in plan.beside]
    lines.append(f"files         about {amount(sum(plan.files.values()))} in {folder}:")
    lines += [f"                {name:<28} {amount(size):>10}" for name, size in plan.files.items()]
    free = plan.memory.free
    taken = {"libraries and dataset, now": plan.memory.now, **plan.memory.to_come}
    known = sum(size for size in taken.values() if size)
    lines.append(
        f"memory        about {amount(known)} in all"
        + ("" if free is None else f"; {amount(free)} are free beside what is taken now")
    )
    lines += [
        f"                {name:<28} {'?' if size is None else amount(size):>10}"
        for name, size in taken.items()
    ]
    return "\n".join(lines)
