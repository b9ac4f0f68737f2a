"""Several datasets side by side: what they are as one, and where they do not seem to fit."""

from collections.abc import Sequence
from itertools import combinations

from adabc_lightning.commands.inspect.findings import first_few, unlike
from adabc_lightning.data.mixture import mixed
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.env.observations import labelled


def to_lines(datasets: Sequence[OfflineDataset]) -> list[str]:
    """What ``data.dataset`` would be as a list of them.

    Args:
        datasets: two or more.
    Returns: lines for a terminal, the findings last.
    Raises: UserError: their sizes differ; says in what.
    """
    whole = mixed(datasets)
    total, episodes = len(whole.rows), len(whole.episode_return_E)
    lines = [f"together: {total:,} transitions, {episodes:,} episodes"]
    for dataset in datasets:
        share, returns = len(dataset.rows) / total, dataset.episode_return_E
        lines.append(
            f"  {100 * share:5.1f} % of {dataset.name}, return {returns.mean():.2f} ± "
            f"{returns.std(correction=0):.2f}"
        )
    found = []
    for one, other in combinations(datasets, 2):
        for field in ("observation", "action"):
            column = one.layout.columns[field]
            columns = unlike(one.rows[:, column].numpy(), other.rows[:, column].numpy())
            if columns:
                parts = one.observation_parts or other.observation_parts
                names = first_few([labelled(f"{field}_{i}", parts) for i in columns])
                found.append(
                    f"{names} of {other.name} is unlike that of {one.name}; units or order of the "
                    "columns may differ"
                )
    return [*lines, *(f"  - {sentence}" for sentence in found)]
