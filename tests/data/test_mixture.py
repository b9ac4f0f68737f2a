"""Several datasets as one: which rows are there, how often each is drawn, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import ENV, Cut
from tiny import TOY_LIMIT, register_toy, tiny_run

from adabc_lightning.__main__ import main
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.mixture import Part, ShareSampler, filtered, mixed, parts_of, sampler_for
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.origins import Origin, in_words, kept_of_each
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

TOY = register_toy()


def log(
    path: Path, episodes: int, level: float, width: int = 3, success: bool = True, actions: int = 2
) -> str:
    """Episodes to the time limit; the return of number i is ``level + i``, every third succeeds."""
    rows = episodes * TOY_LIMIT
    last = np.arange(1, rows + 1) % TOY_LIMIT == 0
    columns = {
        "observations": np.full((rows, width), level),
        "next_observations": np.full((rows, width), level),
        "actions": np.zeros((rows, actions)),
        "rewards": last * (level + np.arange(rows) // TOY_LIMIT),
        "terminals": np.zeros(rows, bool),
        "timeouts": last,
    }
    if success:
        columns["success"] = last & (np.arange(rows) // TOY_LIMIT % 3 == 0)
    np.savez(path, **columns)
    return str(path)


def test_filters_leave_whole_episodes(tmp_path: Path) -> None:
    dataset = load_dataset(log(tmp_path / "a.npz", 10, 0))
    best = filtered(dataset, "best 30 %")
    assert best.episode_return_E.tolist() == [7, 8, 9]
    assert best.episode_T.tolist() == np.repeat([0, 1, 2], TOY_LIMIT).tolist()
    assert (best.terminals, best.timeouts, len(best.rows)) == (0, 3, 3 * TOY_LIMIT)
    won = filtered(dataset, "success")
    assert won.episode_return_E.tolist() == [0, 3, 6, 9]
    assert filtered(dataset, "best 0.1%").episode_return_E.tolist() == [9]
    assert filtered(dataset, None) is dataset
    blind = load_dataset(log(tmp_path / "b.npz", 10, 0, success=False))
    with pytest.raises(UserError, match="has no 'success' to filter by"):
        filtered(blind, "success")


def test_mixed_datasets_say_where_rows_come_from(tmp_path: Path) -> None:
    a, b = (load_dataset(log(tmp_path / f"{i}.npz", 2 + i, 10 * i)) for i in (0, 1))
    both = mixed([a, b])
    assert torch.equal(both.rows, torch.cat([a.rows, b.rows]))
    assert both.sources == ((a.name, 2 * TOY_LIMIT, 2), (b.name, 3 * TOY_LIMIT, 3))
    assert both.episode_return_E.tolist() == [0, 1, 10, 11, 12]
    assert both.episode_T.tolist() == np.repeat(range(5), TOY_LIMIT).tolist()
    assert both.name == f"{a.name} + {b.name}"
    assert mixed([a]) is a
    wide = load_dataset(log(tmp_path / "wide.npz", 2, 0, width=4))
    with pytest.raises(UserError, match=r"observations of 3 numbers .* and of 4 .* do not mix"):
        mixed([a, wide])


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((0.5, None, None), (0.5, 0.1, 0.4)),
        ((3, 1, 1), (0.6, 0.2, 0.2)),
        ((0.5, 0.25, 0.25), (0.5, 0.25, 0.25)),
    ],
)
def test_shares_of_a_batch(weights: tuple, shares: tuple) -> None:
    rows = (100, 10, 40)
    sampler = sampler_for([Part("x", weight) for weight in weights], rows)
    assert isinstance(sampler, ShareSampler)
    assert sampler.shares == pytest.approx(shares)
    index = sampler.draw(150, 100_000, torch.Generator().manual_seed(0))
    count = torch.bincount(index, minlength=150).double() / 100_000
    for share, part in zip(shares, count.split(rows), strict=True):
        assert part.sum().item() == pytest.approx(share, abs=0.006)
        assert part.min() > 0.5 * share / len(part)
    assert not isinstance(sampler_for([Part("x"), Part("y")], (1, 2)), ShareSampler)


def test_a_run_on_several_datasets(tmp_path: Path, capfd) -> None:
    good, poor = log(tmp_path / "good.npz", 10, 1), log(tmp_path / "poor.npz", 40, 0)
    entries: list[str | dict[str, Any]] = [
        {"path": good, "weight": 0.75, "filter": "best 50 %"}, poor,
    ]  # fmt: skip
    schedule = Schedule(2, 0, 1, evaluation_every=2)
    data = ReplayDataModule(TOY, entries, schedule, batch_size=8)
    assert data.dataset_name == f"{good} + {poor}"
    dataset = data.loading.load(data.spec)
    assert dataset.sources == ((good, 5 * TOY_LIMIT, 5), (poor, 40 * TOY_LIMIT, 40))
    trainer, module, _ = tiny_run(tmp_path / "run", TOY, None, schedule=Schedule(0, 1, 1))
    references = {"reference_min": 0.0, "reference_max": 10.0}
    data = ReplayDataModule(TOY, entries, schedule, batch_size=8, **references)
    trainer.fit(module, data)
    batch = data.replay.sample(1, 4000)
    drawn = (batch["observation"][..., 0] == 1).double().mean().item()
    assert drawn == pytest.approx(0.75, abs=0.03)
    words = ["fit", "--config", "quick", "--data.env_id", TOY, "--dry-run", "--data.dataset"]
    words += [f"[{poor}, {{path: {good}, weight: 0.5}}]", "--alpha.kp", "0", "--alpha.kd", "0"]
    assert main(words) == 0, capfd.readouterr().err
    assert f"{poor} + {good}" in capfd.readouterr().out
    data = ReplayDataModule(TOY, entries, Schedule(0, 1, 1), batch_size=8)
    data.setup("fit")
    assert "warning: the weights in data.dataset have no effect: they" in capfd.readouterr().err


def test_kept_of_each_by_hand() -> None:
    """Two datasets of three and two rows; rows 1, 1, 2 and 4 are kept."""
    origins, episode_T = [Origin("a", 3, 2), Origin("b", 2, 1)], torch.tensor([0, 1, 1, 2, 2])
    kept = kept_of_each(origins, episode_T, torch.tensor([4, 1, 2, 1]))
    names = ("transitions", "episodes", "kept_transitions", "kept_episodes")
    assert [tuple(entry[name] for name in names) for entry in kept] == [(3, 2, 3, 1), (2, 1, 1, 1)]
    assert in_words(kept) == (
        "the hand-over keeps 3 of 3 transitions (1 of 2 episodes) of a, 1 of 2 transitions (1 of 1 "
        "episodes) of b"
    )
    every = kept_of_each(origins, episode_T, None)
    assert [entry["kept_transitions"] for entry in every] == [3, 2]
    assert kept_of_each([], episode_T, None) == []


def test_a_hand_over_says_what_it_keeps_of_each(tmp_path: Path, capsys) -> None:
    sizes = {"width": 4, "actions": 1}
    good = log(tmp_path / "good.npz", 4, 1, **sizes)  # type: ignore[arg-type]
    poor = log(tmp_path / "poor.npz", 16, 0, **sizes)  # type: ignore[arg-type]
    schedule = Schedule(2, 6, 1, evaluation_every=3)

    def run(name: str, ckpt: Path | None = None, dataset: Any = (good, poor)) -> Path:
        folder = tmp_path / name
        options: dict[str, Any] = {"dataset": dataset if isinstance(dataset, str) else [*dataset]}
        trainer, module, _ = tiny_run(folder, ENV, None, schedule=Schedule(0, 1, 1))
        references = {"reference_min": 0.0, "reference_max": 10.0}
        data = ReplayDataModule(ENV, schedule=schedule, batch_size=8, **options, **references)
        trainer.callbacks.insert(0, Cut(folder, (3,)))
        trainer.fit(module, data, ckpt_path=ckpt, weights_only=True)
        return folder

    folder = run("uncut")
    summary = json.loads((folder / "summary.json").read_text())
    kept = summary["datasets"]
    assert [entry["name"] for entry in kept] == [good, poor]
    assert [entry["transitions"] for entry in kept] == [4 * TOY_LIMIT, 16 * TOY_LIMIT]
    assert sum(entry["kept_transitions"] for entry in kept) == 10 * TOY_LIMIT
    rows = torch.load(folder / "cut3.ckpt", weights_only=True)["ReplayDataModule"]["replay"]["rows"]
    ones = int((rows[: 10 * TOY_LIMIT, 0] == 1).sum())  # the level of the good one
    assert kept[0]["kept_transitions"] == ones > 0
    assert in_words(kept) in capsys.readouterr().err.splitlines()
    (tmp_path / "again").mkdir()
    shutil.copy(folder / "metrics.csv", tmp_path / "again")
    again = run("again", folder / "cut3.ckpt")  # behind the hand-over: the checkpoint knows
    assert json.loads((again / "summary.json").read_text())["datasets"] == kept
    assert (again / "metrics.csv").read_text() == (folder / "metrics.csv").read_text()
    assert "the hand-over keeps" not in capsys.readouterr().err
    alone = run("alone", dataset=good)
    assert "datasets" not in json.loads((alone / "summary.json").read_text())
    state = torch.load(alone / "cut3.ckpt", weights_only=True)["ReplayDataModule"]
    assert "kept_of_each" not in state
    assert "the hand-over keeps" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], "data.dataset is an empty list"),
        ({"observations": [[0.0]]}, "data.dataset is a dict in memory, but rows are read from fi"),
        ("", "data.dataset is an empty text; give a dataset, or null for none"),
        ([""], "has no path; give a file or a dataset's name"),
        ([{"weight": 1}], "has no path; give a file or a dataset's name"),
        ([{"path": "x", "wieght": 1}], "has the key 'wieght'; did you mean 'weight'?"),
        ([{"path": "x", "weight": 0}], "the weight of 'x' is 0; it must be a positive number"),
        ([{"path": "x", "weight": float("nan")}], "it must be a positive number"),
        ([{"path": "x", "weight": True}], "it must be a positive number"),
        ([{"path": "x", "filter": "worst 5 %"}], "it must be success, or a share such as"),
        ([{"path": "x", "filter": "best 0 %"}], "it must be success, or a share such as"),
        ([{"path": "x", "weight": 1.0}, "y"], "add up to 1 and leave nothing for those without"),
        ([3], "has the entry 3; it must be a name or a mapping"),
    ],
)
def test_a_wrong_entry_is_one_sentence(entries: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parts_of(entries)
    assert sentence in str(caught.value)
