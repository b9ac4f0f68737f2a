"""Reports: numbers are the summaries', benchmarks stay apart, files are the same every time."""

import csv
import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from paths import REPOSITORY
from rliable import metrics
from test_interruption import files_of

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks.metrics import COLUMNS
from adabc_lightning.callbacks.summary import revision, source_revision
from adabc_lightning.commands.report.across import comparisons, improvement, not_compared
from adabc_lightning.commands.report.latex import escaped
from adabc_lightning.commands.report.panels import benchmark, mixed_sources, panels
from adabc_lightning.commands.report.provenance import differences
from adabc_lightning.commands.report.runs import find_runs
from adabc_lightning.commands.report.series import section
from adabc_lightning.commands.report.table import bootstrapped, interquartile_mean
from adabc_lightning.commands.results import write_results
from adabc_lightning.errors import UserError
from adabc_lightning.run.config_files import merged
from adabc_lightning.run.outcomes import outcomes

NAMES = ("pretrained", "final", "best", "online_mean", "dip", "drawdown")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def write_run(
    folder: Path,
    seed: int = 0,
    *,
    env_id: str = "Hopper-v5",
    dataset: str | None = "hopper-medium-v0",
    record: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    steps: int = 40,
    scored: bool = True,
    start: str | None = "pretrained-seed{}/checkpoints/pretrained.ckpt",
    callbacks: list[dict[str, Any]] | None = None,
    source: str | None = None,
    alpha: bool = True,
    trials: int | None = None,
) -> Path:
    """A run's folder as ``fit`` leaves it: 30 updates, 40 environment steps, made-up scores."""
    rng = np.random.default_rng([seed, *str(folder.relative_to(Path.cwd())).encode()])
    folder.mkdir(parents=True)
    updates = 0 if dataset is None else 30
    points = [(u, 0) for u in range(10, updates + 1, 10)] or [(0, 0)]
    points += [(updates + e, e) for e in range(10, steps + 1, 10)]
    history = []
    for u, e in points:
        value = float(rng.uniform(0, 50))
        point = {"gradient_updates": u, "env_steps": e, "eval/return": 30 * value}
        history.append(point | ({"eval/score": value} if scored else {}))
    config = merged([], options or {})
    config |= {
        "seed_everything": seed,
        "ckpt_path": None if start is None else start.format(seed),
        "trainer": {"max_epochs": seed, "callbacks": callbacks},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for point in history:
            weight = {"control/alpha": 0.4 - point["env_steps"] / 1000} if alpha else {}
            writer.writerow(
                point | weight | {"phase": "online" if point["env_steps"] else "offline"}
            )
    summary = {
        "finished": steps == 40,
        "env_id": env_id,
        "dataset": dataset,
        "seed": seed,
        **outcomes(history, updates, 40),
        "env_steps": steps,
        "versions": {} if source is None else {"source": source},
        **({} if trials is None else {"trials": {"promotions": 1, "env_steps": trials}}),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    if record is not None:
        content = {"kind": "run", "experiment": "fig0", "seed": seed, **record}
        (folder / "experiment.json").write_text(json.dumps(content))
    return folder


def experiment(out: Path) -> Path:
    """Two variants and one without a dataset × two tasks × three seeds; one run is unfinished."""
    for task in ("hopper-medium", "hopper-random"):
        for variant in ("adaptive", "fixed", "scratch"):
            for seed in range(3):
                unfinished = (task, variant, seed) == ("hopper-medium", "fixed", 2)
                write_run(
                    out / task / variant / f"seed{seed}",
                    seed,
                    dataset=None if variant == "scratch" else f"{task}-v0",
                    record={"task": task, "variant": variant},
                    options={"alpha.kp": 0} if variant == "fixed" else {},
                    steps=20 if unfinished else 40,
                )
    alone = out / "pretrained" / "hopper-medium" / "abc-seed0"
    write_run(alone, record={"kind": "pretraining"}, steps=0)
    return out


def summaries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/summary.json"))]


def test_the_table_of_an_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = experiment(tmp_path / "out")
    assert main(["report", "out"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (out / "table.md").read_text()
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["variant"]) for row in rows] == [
        (task, variant)
        for task in ("hopper-medium", "hopper-random")
        for variant in ("adaptive", "fixed", "scratch")
    ]
    for row in rows:
        runs = summaries(out / row["task"] / row["variant"])
        assert (int(row["seeds"]), row["unit"]) == (3, "score")
        assert int(row["unfinished"]) == sum(not run["finished"] for run in runs)
        for name in NAMES:
            values = [run["score"][name] for run in runs]
            assert float(row[name]) == pytest.approx(np.mean(values))
            error = np.std(values, ddof=1) / np.sqrt(3)
            assert float(row[f"{name}_stderr"]) == pytest.approx(error)
        online = [run["score"]["online_mean"] for run in runs]
        low, middle, high = (float(row[name]) for name in ("iqm_low", "iqm", "iqm_high"))
        assert low <= middle <= high
        assert min(online) - 1e-9 <= low
        assert high <= max(online) + 1e-9
    headings = [line for line in printed.out.splitlines() if line.startswith("## ")]
    assert headings == [
        "## hopper-medium: Hopper-v5, hopper-medium-v0 (D4RL v0)",
        "## hopper-random: Hopper-v5, hopper-random-v0 (D4RL v0)",
        "## over 2 tasks (D4RL v0)",
    ]
    finals = [run["score"]["final"] for run in summaries(out / "hopper-medium" / "fixed")]
    mean, error = np.mean(finals), np.std(finals, ddof=1) / np.sqrt(3)
    line, across = [line for line in printed.out.splitlines() if "unfinished" in line]
    assert line.startswith("| fixed | 3 (1 unfinished) | ")
    assert f"| {mean:.1f} ± {error:.1f} |" in line
    assert across.startswith("| fixed | 3 (1 unfinished) | ")
    assert main(["report", "out", "--format", "latex", "--each"]) == 0
    assert "| – seed 2 | at 20 steps | " in (out / "table.md").read_text()
    assert (out / "table.tex").read_text().count("fixed & 3 (1 unfinished) & ") == 2
    assert main(["report", "out", "--out", "page.html"]) == 0
    assert Path("page.html").read_text().count("<td>3 (1 unfinished)</td>") == 2


def test_falls_of_a_run_of_an_earlier_version(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    names = ("drawdown", "swing", "kept")
    expected = {u: {n: summary[u].pop(n) for n in names} for u in ("score", "return")}
    assert expected["score"]["drawdown"] > 0
    (folder / "summary.json").write_text(json.dumps(summary))
    ((run,), _) = find_runs([folder])
    for unit, values in expected.items():
        assert {name: run.summary[unit][name] for name in names} == pytest.approx(values)


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name, seed in (("demo0", 0), ("demo1", 1), ("other", 0)):
        options = {"alpha.kp": 0} if name == "other" else {}
        write_run(tmp_path / "out" / name, seed, options=options)
    for name in ("a", "b"):
        assert main(["report", "out", "--out", name]) == 0
        assert main(["report", "out", "--out", name, "--format", "png,latex"]) == 0
    files = sorted(path.name for path in Path("a").iterdir())
    assert files == ["curves.png", "curves.svg", "table.csv", "table.md", "table.tex"]
    for file in files:
        assert Path("a", file).read_bytes() == Path("b", file).read_bytes(), file


def test_runs_of_one_config_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_run(tmp_path / f"demo{seed}", seed)) for seed in (2, 0, 1)]
    other = write_run(tmp_path / "other", 0, options={"alpha.initial": 0.2})
    assert main(["report", *folders, str(other), folders[0], "--each"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start, falls = (lines.index("|" + " --- |" * columns) + 1 for columns in (8, 5))
    seeds = [f"| – seed {seed}" for seed in range(3)]
    for first in (start, falls):
        names = [line.split(" | ")[0] for line in lines[first : first + 6]]
        assert names == ["| demo", *seeds, "| other", "| – seed 0"]
    score = json.loads((tmp_path / "demo1" / "summary.json").read_text())["score"]
    assert f" {score['final']:.1f} |" in lines[start + 2]
    assert f" {score['drawdown']:.1f} |" in lines[falls + 2]
    assert lines[falls + 2].endswith(f" {score['kept']:.2f} |")
    assert lines[start].startswith("| demo | 3 |")
    level = float(lines[start - 2].split(" | ")[6].removeprefix("steps to "))
    for seed, line in enumerate(lines[start + 1 : start + 4]):
        with open(tmp_path / f"demo{seed}" / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        reached = [row["env_steps"] for row in rows if float(row["eval/score"]) >= level]
        online = [row for row in reached if row != "0"]
        first = "0" if float(rows[2]["eval/score"]) >= level else (online or ["never"])[0]
        assert line.split(" | ")[6] == first
    assert sorted(path.name for path in Path("report").iterdir()) == [
        *("curves.svg", "table.csv", "table.md"),
    ]


def test_steps_in_trials_and_settings_of_callbacks_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = {"class_path": "adabc_lightning.callbacks.Trials", "init_args": {"episodes": 7}}
    for seed, steps in enumerate((1000, 3000)):
        write_run(tmp_path / "out" / f"steady{seed}", seed, callbacks=[trials], trials=steps)
    write_run(tmp_path / "out" / "plain0", 0)
    assert main(["report", "out", "--each", "--format", "latex"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    (head,) = [line for line in lines if line.endswith("| steps in trials |")]
    names = ("| plain0", "| – seed 0", "| steady", "| – seed 0", "| – seed 1")
    rows = lines[lines.index(head) + 2 :][: len(names)]
    assert [row.split(" | ")[0] for row in rows] == list(names)
    assert [row.split("|")[-2].strip() for row in rows] == ["", "", "2,000", "1,000", "3,000"]
    assert "steps in trials" in Path("out", "table.tex").read_text()
    with open(Path("out", "table.csv"), newline="") as file:
        assert [row["trial_env_steps"] for row in csv.DictReader(file)] == ["", "2000.0"]
    (panel,) = panels(find_runs([tmp_path / "out"])[0])
    assert differences(panel) == {"Trials.episodes": ["–", "7"]}
    # Lightning's command line makes a mapping of one that is not in a list.
    write_run(tmp_path / "one" / "a0", 0, callbacks={"class_path": "Trials"})  # type: ignore[arg-type]
    write_run(tmp_path / "one" / "b0", 0)
    (panel,) = panels(find_runs([tmp_path / "one"])[0])
    assert differences(panel) == {"Trials": ["yes", "–"]}


def test_a_method_without_alpha_has_no_curve_of_it(tmp_path: Path) -> None:
    """IQL beside the paper's method, and alone."""
    for name in ("both", "alone"):
        write_run(tmp_path / name / "iql0", 0, options={"alpha.initial": 0.2}, alpha=False)
    write_run(tmp_path / "both" / "paper0", 0)
    for name in ("both", "alone"):
        assert main(["report", name]) == 0
        assert Path(name, "curves.svg").is_file()


def test_benchmarks_stay_apart(tmp_path: Path) -> None:
    datasets = (
        *("hopper-medium-v0", "hopper-medium-v2", "mujoco/hopper/medium-v0"),
        *("hopper-medium-replay", "logs/hopper_medium.hdf5", "hopper-own-v0", None),
    )
    for number, dataset in enumerate(datasets):
        write_run(tmp_path / "runs" / f"run{number}", dataset=dataset)
    runs, empty = find_runs([tmp_path / "runs"])
    assert not empty
    assert [panel.title for panel in panels(runs)] == [
        "Hopper-v5, hopper-medium-v0 (D4RL v0)",
        "Hopper-v5, hopper-medium-v2 (D4RL v2)",
        "Hopper-v5, mujoco/hopper/medium-v0 (Minari)",
        "Hopper-v5, hopper-medium-replay (packaged log)",
        "Hopper-v5, hopper_medium.hdf5 (own file)",
        "Hopper-v5, hopper-own-v0 (Minari)",
        "Hopper-v5, no dataset",
    ]
    assert benchmark("a.csv + b.npz") == "a.csv + b.npz (own file)"
    assert benchmark("hopper-medium-replay") == "hopper-medium-replay (packaged log)"
    assert benchmark("D4RL/pen/expert-v2") == "D4RL/pen/expert-v2 (Minari)"


def test_one_name_for_two_protocols(tmp_path: Path) -> None:
    for out, gamma in (("a", 0.99), ("b", 0.5)):
        folder = tmp_path / out / "t" / "v" / "seed0"
        write_run(folder, record={"task": "t", "variant": "v"}, options={"model.gamma": gamma})
    (panel,) = panels(find_runs([Path("a"), Path("b")])[0])
    assert [curve.label for curve in panel.curves] == ["v (a/t/v)", "v (b/t/v)"]


def test_returns_where_no_references_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", env_id="InvertedPendulum-v5", scored=False)
    assert main(["report", str(folder)]) == 0
    final = json.loads((folder / "summary.json").read_text())["return"]["final"]
    printed = capsys.readouterr().out
    assert f"| {final:.1f} |" in printed
    assert printed.endswith("such tables hold raw returns.\n")


def test_interquartile_mean() -> None:
    middle, low, high = interquartile_mean([0.0, 10.0, 20.0, 1000.0])  # a quarter off each end
    assert middle == 15.0
    assert 0.0 <= low < middle < high <= 1000.0
    assert interquartile_mean([0.0, 10.0, 20.0, 1000.0]) == (middle, low, high)
    assert interquartile_mean([3.0]) == (3.0, None, None)  # one run has no interval
    generator = np.random.default_rng(0)
    for shape in [(1, 1), (2, 1), (3, 7), (5, 2), (10, 4)]:
        drawn = generator.uniform(-100, 100, shape)
        assert interquartile_mean(drawn)[0] == metrics.aggregate_iqm(drawn)
    scores = generator.uniform(0, 100, (3, 7))
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    first = interquartile_mean(scores)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]
    np.random.seed(2)
    assert interquartile_mean(scores) == first


def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run")
    Path("nothing").mkdir()
    Path("folder.html").mkdir()
    for words, message in (
        (["nowhere"], "there is no folder nowhere; give folders of runs"),
        (["nothing"], "there is no run of fit in nothing, which would have a config.yaml and"),
        ([str(run), "--format", "pdf"], "--format: 'pdf' is no format; known: svg, png, latex"),
        ([str(run), "--reach", "far"], "--reach is far; it must be a number"),
        ([str(run), "--reach", "-1e999"], "--reach is -1e999; it must be a number"),
        ([str(run), "--out", "a.html", "--each"], "--each is for table.md; the page has a row"),
        ([str(run), "--out", "folder.html"], "--out: folder.html is a folder; give the name of a"),
        ([str(run), "--out", "run/metrics.csv"], "--out: run/metrics.csv cannot be made"),
        ([], "the following arguments are required: RUNS"),
    ):
        assert main(["report", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert message in printed.err
    (run / "summary.json").unlink()
    assert main(["report", str(run)]) == 2
    assert "no run in" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr("adabc_lightning.commands.report.command.find_spec", lambda name: None)
    assert main(["report", str(run)]) == 2
    assert "pip install 'adabc_lightning[report]'" in capsys.readouterr().err


def labels_and_seeds(*folders: str) -> list[tuple[str, list[int]]]:
    return [
        (curve.label, [run.summary["seed"] for run in curve.runs])
        for panel in panels(find_runs([Path(folder) for folder in folders])[0])
        for curve in panel.curves
    ]


def test_other_references_or_time_limits_are_another_panel(tmp_path: Path) -> None:
    protocols = (
        {},
        {"data.reference_min": -1.5, "data.reference_max": 3000},
        {"data.max_episode_steps": 500},
    )
    for number, options in enumerate(protocols):
        write_run(tmp_path / "runs" / f"run{number}", options=options)
    assert [panel.title for panel in panels(find_runs([Path("runs")])[0])] == [
        "Hopper-v5, hopper-medium-v0 (D4RL v0)",
        "Hopper-v5, hopper-medium-v0 (D4RL v0), score 0 = -1.5, score 100 = 3000",
        "Hopper-v5, hopper-medium-v0 (D4RL v0), at most 500 steps per episode",
    ]


def test_a_seed_counts_once(tmp_path: Path) -> None:
    for out in ("a", "b"):  # the same experiment twice
        for seed in range(2):
            write_run(tmp_path / out / "v" / f"seed{seed}", seed, record={"variant": "v"})
    assert labels_and_seeds("a", "b") == [("v (a/v)", [0, 1]), ("v (b/v)", [0, 1])]
    for name, seed, start in (
        ("x0", 0, "m/p0.ckpt"),
        ("x1", 1, "m/p1.ckpt"),
        ("y0", 0, "n/p.ckpt"),
    ):
        write_run(tmp_path / "c" / name, seed, start=start)
    assert labels_and_seeds("c") == [("x", [0, 1]), ("y0", [0])]
    write_run(tmp_path / "c" / "x2", 2, start="last")  # gone on with: of which is not known
    write_run(tmp_path / "d" / "x0", 0, start="m/p0.ckpt")
    write_run(tmp_path / "d" / "x1", 1, start="last")
    assert labels_and_seeds("d") == [("x", [0, 1])]
    write_run(tmp_path / "d" / "z", 1, start="last")
    with pytest.raises(UserError, match=r"^d/x1 and d/z both hold seed 1 of one config; leave"):
        labels_and_seeds("d")


def test_callbacks_are_part_of_the_method(tmp_path: Path) -> None:
    part = {"class_path": "adabc_lightning.callbacks.BalancedReplay", "init_args": {}}
    write_run(tmp_path / "runs" / "plain0", 0)
    write_run(tmp_path / "runs" / "plain1", 1)
    for number, steps in ((2, 10), (3, 20)):
        callbacks = [{**part, "init_args": {"balanced_steps": steps}}]
        write_run(tmp_path / "runs" / f"balanced{number}", number, callbacks=callbacks)
    assert labels_and_seeds("runs") == [
        ("balanced2", [2]),
        ("balanced3", [3]),
        ("plain", [0, 1]),
    ]


def test_revisions_of_the_code(tmp_path: Path) -> None:
    for folder, source in (("a0", "aaa"), ("a1", "bbb"), ("a2", None)):
        write_run(tmp_path / "mixed" / folder, int(folder[1]), source=source)
    for folder, source in (("a0", "aaa"), ("a1", "aaa"), ("a2", None)):
        write_run(tmp_path / "same" / folder, int(folder[1]), source=source)
    (line,) = mixed_sources(panels(find_runs([Path("mixed")])[0]))
    assert line == (
        "made by different revisions of the code (aaa, bbb): "
        "a, Hopper-v5, hopper-medium-v0 (D4RL v0)"
    )
    assert mixed_sources(panels(find_runs([Path("same")])[0])) == []
    for folder in ("same/a0", "same/a1"):  # gone on with, both of them
        rewrite(tmp_path / folder, revisions=["aaa", "bbb"])
    (line,) = mixed_sources(panels(find_runs([Path("same")])[0]))
    assert line.startswith("made by different revisions of the code (aaa then bbb): a, ")
    assert source_revision() == source_revision(REPOSITORY / "adabc_lightning")
    for name, text in (("p", "x = 1"), ("q", "x = 1"), ("r", "x = 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(text)
        (tmp_path / name / ".#a.py").symlink_to("user@host.1234")  # an editor's
        (tmp_path / name / "folder.py").mkdir()
    one, same, other = (source_revision(tmp_path / name) for name in "pqr")
    assert one == same != other


def test_what_the_user_allows_is_part_of_the_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for number, text in enumerate(("x = 1", "x = 2")):
        name = f"parts_{number}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setenv("ADABC_ALLOW", f"{name},not_imported,gymnasium,{name}")
        assert revision() == source_revision()
        import_module(name)
        own, _, theirs = revision().partition(f" + {name} ")
        assert own == source_revision()
        seen.append(theirs)
    assert len(set(seen)) == 2


def test_data_that_changed_under_one_name(tmp_path: Path) -> None:
    for folder, digest in (("a0", "aaa"), ("a1", "bbb"), ("a2", None)):
        run = write_run(tmp_path / "runs" / folder, int(folder[1]))
        rewrite(run, dataset_fingerprint=digest)
    (line,) = mixed_sources(panels(find_runs([Path("runs")])[0]))
    assert line.startswith("made of different data under one name (aaa, bbb): a, Hopper-v5")


@pytest.mark.parametrize(
    "wrong", [{"revisions": None}, {"revisions": [1]}, {"dataset_fingerprint": ["a"]}]
)
def test_damaged_provenance_is_one_sentence(wrong: dict[str, Any], tmp_path: Path) -> None:
    rewrite(write_run(tmp_path / "runs" / "a0", 0), **wrong)
    runs, left_out = find_runs([Path("runs")])
    assert not runs
    (name,) = wrong
    assert f"summary.json is damaged: {name} is " in left_out[0]


def rewrite(folder: Path, **more: Any) -> None:
    """Adds to a run's summary."""
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("summary.json", '{"finished": tr', "summary.json is damaged: it is no JSON"),
        ("summary.json", "[1]", "summary.json is damaged: it holds no mapping"),
        ("summary.json", '{"finished": true}', "summary.json is damaged: it has no 'env_id'"),
        ("config.yaml", "", "config.yaml is damaged: it has no 'data'"),
        ("config.yaml", "null", "config.yaml is damaged: it has no 'data'"),
        ("config.yaml", "data: null", "config.yaml is damaged: data is null; it must be a mapping"),
        ("config.yaml", "data: [", "config.yaml is not YAML"),
        ("metrics.csv", "a,b\n1,2\n", "metrics.csv is damaged: it has no column 'eval/return'"),
        ("experiment.json", "{", "experiment.json is damaged: it is no JSON"),
    ],
)
def test_a_damaged_file_is_one_line(
    file: str, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run")
    Path("run", file).write_text(content)
    assert main(["report", "run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


def in_json(text: str, **values: Any) -> str:
    """A JSON file with these values at their paths, ``score__final``."""
    content = json.loads(text)
    for path, value in values.items():
        *parts, last = path.split("__")
        place = content
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return json.dumps(content)


def in_yaml(text: str, **values: Any) -> str:
    """The same of a config."""
    return yaml.safe_dump(json.loads(in_json(json.dumps(yaml.safe_load(text)), **values)))


NUMBER = "it must be a number between ±1e+100"
COUNT = "it must be a whole number, 0 or more and below 2⁵³"
PLAIN = "it must be made of numbers, texts, true or false, null, lists and mappings of them"
BROKEN: list[tuple[str, dict[str, Any] | Any, str]] = [
    ("summary.json", lambda _: '{"a":' * 100_000, "is damaged: its values are nested too deeply"),
    ("summary.json", lambda _: f'{{"a": {"9" * 5000}}}', "is damaged: it is no JSON"),
    ("summary.json", {"finished": "no"}, "finished is 'no'; it must be true or false"),
    ("summary.json", {"versions": [1]}, "versions is a list of 1; it must be a mapping or null"),
    ("summary.json", {"versions__source": {"a": 1}}, "versions/source is a mapping of 1; it must"),
    ("summary.json", {"score__final": 10**400}, f"; {NUMBER} or null"),
    ("summary.json", {"score__kept": float("nan")}, f"score/kept is nan; {NUMBER} or null"),
    ("summary.json", {"return__best": float("inf")}, f"return/best is inf; {NUMBER} or null"),
    ("summary.json", {"return": {"final": True}}, f"return/final is True; {NUMBER} or null"),
    ("summary.json", {"seed": 10**400}, COUNT),
    ("summary.json", {"seed": -1}, f"seed is -1; {COUNT}"),
    ("summary.json", {"env_steps": 1.5}, f"env_steps is 1.5; {COUNT}"),
    ("summary.json", {"trials__env_steps": "x"}, f"trials/env_steps is 'x'; {COUNT} or null"),
    ("summary.json", {"trials__env_steps": [1]}, "trials/env_steps is a list of 1; it must be"),
    ("summary.json", {"env_id": "x" * 100_000}, "it must be a text of at most 1,000 letters"),
    ("summary.json", lambda text: text.replace("dataset", "data"), "it has no 'dataset'"),
    ("experiment.json", {"variant": {"a": 1}}, "variant is a mapping of 1; it must be a text of"),
    ("experiment.json", {"task": ["a"]}, "task is a list of 1; it must be a text of at most"),
    ("experiment.json", {"experiment": {}}, "experiment is a mapping of 0; it must be a text of"),
    ("config.yaml", {"trainer": 3}, "trainer is 3; it must be a mapping or null"),
    ("config.yaml", {"trainer__callbacks": 3}, "trainer.callbacks is 3; it must be a list of"),
    (
        "config.yaml",
        {"trainer__callbacks": [{"class_path": "a", "init_args": 3}]},
        "trainer.callbacks is a list of 1; it must be a list of classes and their init_args",
    ),
    ("config.yaml", {"ckpt_path": [1]}, "ckpt_path is a list of 1; it must be a text or null"),
    ("config.yaml", {"data__reference_min": "abc"}, f"data.reference_min is 'abc'; {NUMBER}"),
    ("config.yaml", {"data__reference_max": float("inf")}, "data.reference_max is inf; it must"),
    ("config.yaml", {"data__max_episode_steps": [1]}, "data.max_episode_steps is a list of 1; it"),
    ("config.yaml", {"alpha": {}}, "it has no 'alpha.ceiling'"),
    ("config.yaml", {"alpha__ceiling": None}, f"alpha.ceiling is null; {NUMBER}"),
    ("config.yaml", {"alpha__initial": "abc"}, f"alpha.initial is 'abc'; {NUMBER} or null"),
    ("config.yaml", lambda text: f"{text}\nx: !!timestamp 2001-01-01", f"a date; {PLAIN}"),
    ("config.yaml", lambda text: f"{text}\nx: !!binary aGk=", f"a bytes; {PLAIN}"),
    ("config.yaml", lambda text: f"{text}\nx: !!set {{a, b}}", f"a set; {PLAIN}"),
    ("config.yaml", lambda text: f"{text}\nx: 0x{'f' * 5000}", "number of more than 300 digits"),
    ("metrics.csv", {3: ("env_steps", "")}, f"env_steps is missing in row 4; {COUNT}"),
    ("metrics.csv", {3: ("env_steps", "inf")}, f"env_steps is inf in row 4; {COUNT}"),
    ("metrics.csv", {3: ("gradient_updates", "-1")}, "gradient_updates is -1 in row 4; it must"),
    ("metrics.csv", {0: ("eval/return", "-inf")}, f"eval/return is -inf in row 1; {NUMBER}"),
    ("metrics.csv", {0: ("eval/score", "1e308")}, f"eval/score is 1e+308 in row 1; {NUMBER}"),
]


@pytest.mark.parametrize(("file", "change", "message"), BROKEN)
def test_a_run_that_does_not_fit_is_left_out_with_one_sentence(
    file: str, change: Any, message: str, tmp_path: Path
) -> None:
    for name in ("bad", "fine"):
        write_run(tmp_path / "runs" / name, record={"task": "t", "variant": "v"})
    path = tmp_path / "runs" / "bad" / file
    path.write_text(changed(path.read_text(), file, change))
    runs, (sentence,) = find_runs([Path("runs")])
    assert [run.folder.name for run in runs] == ["fine"]
    assert f"runs/bad/{file}" in sentence
    assert message in sentence
    assert len(sentence) < 250


def changed(text: str, file: str, change: Any) -> str:
    """A file's text with a function's or a mapping's changes."""
    if callable(change):
        return change(text)
    if file.endswith(".json"):
        return in_json(text, **change)
    if file.endswith(".yaml"):
        return in_yaml(text, **change)
    rows = list(csv.DictReader(text.splitlines()))
    for row, (name, value) in change.items():
        rows[row][name] = value
    return "\n".join(",".join(cells) for cells in (rows[0], *(row.values() for row in rows))) + "\n"


@pytest.mark.parametrize("name", ["summary.json", "experiment.json", "config.yaml"])
def test_a_pipe_is_no_file_of_a_run(name: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    runs, (sentence,) = find_runs([Path("run")])
    assert not runs
    assert sentence.endswith(f"run/{name} cannot be read: it is no file")


def test_what_a_run_need_not_have_is_shown_all_the_same(tmp_path: Path) -> None:
    """Unusual, but no mistakes: keys that are numbers, no trainer, infinite losses, odd texts."""
    folder = write_run(tmp_path / "run")
    more = {"versions": None, "trials": "x", "commands": ["a", {}], "warnings": ["b", [[]]]}
    rewrite(folder, **more, score={}, machine=[1], datasets=[{"name": [[]]}])
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"trainer": None, 1: {2: [3]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"model": 3}))
    other = write_run(tmp_path / "other")
    rows = (other / "metrics.csv").read_text().replace("control/alpha", "x").splitlines()
    lines = [f"{rows[0]},loss/a\x9b", f"{rows[1]},inf", *(f"{row},1e308" for row in rows[2:])]
    (other / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert main(["report", "run", "other", "--out", "page.html", "--format", "svg"]) == 0
    text = Path("page.html").read_text()
    data = json.loads(
        text.partition('type="application/json">')[2].partition("</script>")[0],
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert "\x9b" not in text
    assert len(data[0]["curves"]) == 2


NAMES_OF_OTHERS = [
    "=HYPERLINK(1)", "-1", "@x", "$\\foo$", "$x_{$", "$$", "_x", "a\ud800", "\x1b[2Jx",
    "<script>x</script>", "![a](http://x)", "",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")
def test_names_are_shown_letter_by_letter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no formulas, neither TeX's nor a spreadsheet's, no HTML and no pictures."""
    for module in ("table", "across"):
        monkeypatch.setattr(f"adabc_lightning.commands.report.{module}.REPETITIONS", 10)
    for number, name in enumerate(NAMES_OF_OTHERS):
        for task in ("$$", "=1"):
            folder = tmp_path / "runs" / str(number) / f"task{task == '=1'}"
            write_run(folder, record={"task": task, "variant": name}, env_id="$\\x$\ud800",
                      dataset=f"{'y' * 3000 if task == '=1' else '@<b>' + chr(27)}-v0")  # fmt: skip
    assert main(["report", "runs", "--format", "svg,latex"]) == 0
    assert main(["report", "runs", "--out", "page.html"]) == 0
    capsys.readouterr()
    for name in ("table.csv", "across.csv"):
        with open(Path("runs", name), newline="") as file:
            rows = list(csv.DictReader(file))
        assert {"'=HYPERLINK(1)", "'-1", "'@x", "a\\ud800", "\\x1b[2Jx"} <= {
            row["variant"] for row in rows
        }
        texts = [cell for row in rows for cell in row.values() if cell]
        assert not [text for text in texts if text.startswith(("=", "+", "@"))]
        assert not [text for text in texts if text.startswith("-") and not float(text) < 0]
    for name in ("curves", "across"):
        drawn = Path("runs", f"{name}.svg").read_text()
        assert {"$\\foo$", "$x_{$", "$$", "_x"} <= set(re.findall("<!-- (.*?) -->", drawn))
    table = Path("runs", "table.md").read_text()
    assert "| &lt;script>x&lt;/script> |" in table
    assert "| ![a]&#40;http://x) |" in table
    assert "## $$: $\\x$\\ud800, @&lt;b>\\x1b-v0 (Minari)" in table
    assert "<" not in table
    assert "](" not in table


def test_names_in_results_are_no_formulas(tmp_path: Path) -> None:
    record = {"task": "=1+1", "variant": "\x1b@"}
    folder = write_run(tmp_path / "out" / "t" / "v" / "seed0", record=record, dataset="-x")
    rewrite(folder, gradient_updates=3, seconds={"online": -1.0})
    write_results(tmp_path / "out")
    with open("out/results.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["task"], row["variant"], row["dataset"]) == ("'=1+1", r"\x1b@", "'-x")
    assert row["seconds"] == "-1.0"


@pytest.mark.parametrize("page", [False, True])
def test_what_is_left_out_is_said_and_the_rest_is_reported(
    page: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {
        "summary": ("summary.json", '{"finished": tr', "summary.json is damaged: it is no JSON"),
        "score": ("summary.json", None, "summary.json is damaged: score/final is 'x'"),
        "empty": ("metrics.csv", "", "metrics.csv is damaged: it is empty"),
        "header": ("metrics.csv", f"{','.join(COLUMNS)}\n", "metrics.csv holds no evaluation"),
        "new": ("summary.json", "{}", "left out, not evaluated yet: runs/new"),
    }
    write_run(tmp_path / "runs" / "fine")
    for name, (file, content, _) in broken.items():
        folder = write_run(tmp_path / "runs" / name)
        if content is None:
            summary = json.loads((folder / file).read_text())
            summary["score"]["final"] = "x"
            content = json.dumps(summary)
        (folder / file).write_text(content)
    write_run(tmp_path / "runs" / "other").rename(os.fsdecode(b"runs/\xff\x1b[31m"))
    out = ["--out", "page.html"] if page else []
    assert main(["report", "runs", *out]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(broken) + 1
    for *_, why in broken.values():
        assert sum(why in line for line in lines) == 1, why
    assert r"left out, runs/\udcff\x1b[31m has a name that is not UTF-8; rename it" in lines
    text = Path("page.html" if page else "runs/table.md").read_text()
    assert "fine" in text
    assert "header" not in text.partition("<style>")[0]


def test_control_characters_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steer = "\x1b[2J\u202e\x9b"
    write_run(tmp_path / "runs" / f"a{steer}", env_id=f"Hop{steer}-v5")
    for out in ([], ["--out", "page.html"]):
        assert main(["report", "runs", *out]) == 0
        printed = capsys.readouterr()
        text = Path(out[-1] if out else "runs/table.md").read_text()
        for shown in (printed.out, printed.err, text):
            assert not set(steer[0] + steer[-2:]) & set(shown)
        assert r"Hop\x1b[2J\u202e\x9b-v5" in text


def test_over_all_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rliable import metrics

    (group,) = comparisons(panels(find_runs([experiment(tmp_path / "out")])[0]))
    assert list(group.scores) == ["adaptive", "fixed", "scratch"]
    for variant, scores in group.scores.items():
        folders = [tmp_path / "out" / task / variant for task in ("hopper-medium", "hopper-random")]
        columns = [[run["score"]["online_mean"] for run in summaries(f)] for f in folders]
        np.testing.assert_array_equal(scores, np.transpose(columns))  # [runs, tasks]
    rng = np.random.default_rng(0)
    for runs in (3, 4):
        x, y = rng.integers(0, 5, (3, 6)).astype(float), rng.integers(0, 4, (runs, 6)).astype(float)
        value, low, high = improvement(x, y)
        assert value == pytest.approx(metrics.probability_of_improvement(x, y))
        assert low < value < high
        assert improvement(x, y) == (value, low, high)
    assert improvement(x + 9, y) == (1.0, 1.0, 1.0)
    main(["report", "out", "--format", "svg"])
    assert "P(better than adaptive)" in Path("out/across.svg").read_text()
    main(["report", "out", "--out", "page.html", "--format", "png"])
    assert Path("page-across.png").stat().st_size > 0
    Path("out/curves.svg").unlink()
    with files_of(20_000):
        assert main(["report", "out", "--format", "svg"]) == 2
    assert "curves.svg cannot be written: File too large\n" in capsys.readouterr().err
    assert not list(Path("out").glob("*curves*"))
    # Folders in another order for one task, and another variant before the others.
    out = tmp_path / "out"
    folders = [out / "hopper-random" / "scratch", out / "hopper-medium", out / "hopper-random"]
    (turned,) = comparisons(panels(find_runs(folders)[0]))
    for variant, scores in turned.scores.items():
        np.testing.assert_array_equal(scores[:, ::-1], group.scores[variant])
    main(["report", "out", "--first", "fixed", "--format", "svg"])
    assert "| variant | runs per task | IQM | P(better than fixed) |" in capsys.readouterr().out
    assert "P(better than fixed)" in Path("out/across.svg").read_text()
    assert main(["report", "out", "--first", "fixt"]) == 2
    assert "--first is 'fixt', no variant of these runs; did you mean 'fixed'?" in (
        capsys.readouterr().err
    )
    # Other seeds on one task: a table of the others, and that is said.
    moved = tmp_path / "out" / "hopper-random" / "fixed" / "seed2"
    moved.rename(tmp_path / "elsewhere")
    (smaller,) = comparisons(panels(find_runs([tmp_path / "out"])[0]))
    assert set(smaller.scores) == set(group.scores) - {"fixed"}
    sentence = (
        "fixed is in no table over tasks (D4RL v0): hopper-medium has 3 seeds of fixed, "
        "hopper-random 2."
    )
    assert main(["report", "out"]) == 0
    assert f"\n\n{sentence}\n" in capsys.readouterr().out
    assert main(["report", "out", "--out", "page.html"]) == 0
    assert sentence in Path("page.html").read_text()


def test_why_tasks_are_in_no_table_over_tasks(tmp_path: Path) -> None:
    def said() -> list[str]:
        return not_compared(panels(find_runs([tmp_path / "out"])[0]))

    def add(task: str, variant: str, seed: int, **options: Any) -> Path:
        folder = tmp_path / "out" / task / variant / f"seed{seed}"
        record = {"task": task, "variant": variant}
        return write_run(folder, seed, dataset=f"{task}.hdf5", record=record, **options)

    for task, seeds in (("hop", (0, 1)), ("maze", (0, 2))):
        for seed in seeds:
            add(task, "RLPD", seed)
    assert said() == ["No table over tasks (own file): hop has other seeds of RLPD than maze."]
    for task, seed in (("hop", 2), ("maze", 1)):
        add(task, "RLPD", seed)
    assert said() == []
    add("run", "other", 0)  # shares no variant: nobody looks for it there
    assert said() == []
    add("run", "RLPD", 0)
    assert said() == ["run is in no table over tasks (own file): hop has no other."]
    add("maze", "IQL", 0, steps=0)
    add("hop", "IQL", 0)
    assert said()[0] == (
        "No table over tasks (own file): a run of IQL on maze has no evaluation of fine-tuning yet."
    )
    # Another variant of one task leaves those that both have in a table.
    for task in ("x", "y"):
        for variant in ("one", "two", *(["three"] if task == "x" else [])):
            folder, record = tmp_path / "more" / task / variant, {"task": task, "variant": variant}
            write_run(folder / "seed0", dataset=f"{task}.hdf5", record=record)
    shown = panels(find_runs([tmp_path / "more"])[0])
    (group,) = comparisons(shown)
    assert list(group.scores) == ["one", "two"]
    sentence = "three is in no table over tasks (own file): y has none."
    assert not_compared(shown) == [sentence]
    assert main(["report", str(tmp_path / "more"), "--format", "latex"]) == 0
    assert f"% {sentence}\n" in (tmp_path / "more" / "table.tex").read_text()
    # Nor does a run of something else beside them take it away.
    write_run(tmp_path / "more" / "alone", dataset="x.hdf5")
    (group,) = comparisons(panels(find_runs([tmp_path / "more"])[0]))
    assert list(group.scores) == ["one", "two"]
    # Two datasets under one task's name are told apart.
    for dataset, seeds in (("a", 2), ("b", 1)):
        for variant, count in (("one", 1), ("two", 1), ("three", seeds)):
            for seed in range(count):
                folder = tmp_path / "twice" / dataset / variant / f"seed{seed}"
                record = {"task": "hop", "variant": variant}
                write_run(folder, seed, dataset=f"{dataset}.hdf5", record=record)
    (said_of_three,) = not_compared(panels(find_runs([tmp_path / "twice"])[0]))
    assert "has 2 seeds of three, hop: " in said_of_three
    write_run(tmp_path / "plain" / "a" / "v" / "seed0", record={"task": "a", "variant": "v"})
    other = {"env_id": "Own-v0", "scored": False}
    record = {"task": "b\x1b", "variant": "v"}
    write_run(tmp_path / "plain" / "b" / "v" / "seed0", record=record, **other)  # type: ignore[arg-type]
    assert not_compared(panels(find_runs([tmp_path / "plain"])[0])) == [
        "No table over tasks (D4RL v0): b\\x1b has no scores, only returns."
    ]


def test_the_table_over_tasks_is_in_every_format(tmp_path: Path) -> None:
    (group,) = comparisons(panels(find_runs([experiment(tmp_path / "out")])[0]))
    assert main(["report", "out", "--first", "fixed", "--format", "latex"]) == 0
    with open("out/across.csv", newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["fixed", "adaptive", "scratch"]
    assert (rows["fixed"]["unfinished"], rows["fixed"]["better_than"]) == ("1", "")
    fixed = group.scores["fixed"]
    table = Path("out/table.md").read_text().partition("## over 2 tasks")[2]
    tex = Path("out/table.tex").read_text().partition(r"\caption{over 2 tasks (D4RL v0)}")[2]
    for variant in ("adaptive", "scratch"):
        row, scores = rows[variant], group.scores[variant]
        assert (row["benchmark"], row["tasks"], row["runs_per_task"]) == ("D4RL v0", "2", "3")
        iqm = tuple(float(row[name]) for name in ("iqm", "iqm_low", "iqm_high"))
        assert iqm == interquartile_mean(scores)
        names = ("probability", "probability_low", "probability_high")
        better = tuple(float(row[name]) for name in names)
        assert better == improvement(scores, fixed)  # of the row over the first, as in the figure
        assert row["better_than"] == "fixed"
        shown = [f"{a:.{n}f} [{b:.{n}f}, {c:.{n}f}]" for n, (a, b, c) in ((1, iqm), (2, better))]
        assert f"| {variant} | 3 | {shown[0]} | {shown[1]} |" in table
        assert f"{variant} & 3 & {shown[0]} & {shown[1]} \\\\" in tex
    assert "P(better than fixed)" in tex


def test_an_experiment_s_order_is_the_declared_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = experiment(tmp_path / "out")
    write_run(out / "hopper-random" / "late" / "seeds" / "replica_0",
              record={"task": "hopper-random", "variant": "late"},
              dataset="hopper-random-v0", options={"model.gamma": 0.9})  # fmt: skip
    order = {"tasks": ["hopper-random", "hopper-medium"], "variants": ["late", "scratch", "fixed"]}
    (out / "order.json").write_text(json.dumps(order))

    def shown(*folders: str) -> list[tuple[str | None, list[str]]]:
        found = panels(find_runs([Path(folder) for folder in folders])[0])
        return [(panel.task, [curve.label for curve in panel.curves]) for panel in found]

    variants = ["scratch", "fixed", "adaptive"]  # the last one is not declared
    declared = [("hopper-random", ["late", *variants]), ("hopper-medium", variants)]
    assert shown("out") == declared
    assert shown("out/hopper-medium", "out/hopper-random") == declared[::-1]
    write_run(tmp_path / "alone")
    assert shown(".") == [(None, ["alone"]), *declared]
    assert main(["report", "out", "--first", "fixed"]) == 0
    printed = capsys.readouterr().out
    late = "late is in no table over tasks (D4RL v0): hopper-medium has none."
    assert printed.endswith(f"\n{late}\n")
    _, _, over = printed.partition("| variant | runs per task")
    assert [line.split(" | ")[0] for line in over.splitlines()[2:5]] == [
        *("| fixed", "| scratch", "| adaptive")
    ]
    assert labels_and_seeds("out")[0][0] == "late"
    (out / "order.json").write_text('{"tasks": "all"}')
    assert main(["report", "out"]) == 2
    assert "order.json is damaged: tasks is no list of names\n" in capsys.readouterr().err


def test_folders_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    numbers = ("0", "0.05", "0.1", "0.25", "0.5", "1", "2", "10")
    for name in numbers:
        write_run(tmp_path / "runs" / name, options={"alpha.target": 1 + float(name)})
    (panel,) = panels(find_runs([Path("runs")])[0])
    assert [curve.label for curve in panel.curves] == list(numbers)


def test_headings_of_two_files_of_one_name_differ(tmp_path: Path) -> None:
    names = ("a/hop/log.hdf5", "b/hop/log.hdf5", "b/maze/log.hdf5", "c/x.csv + d/y.csv")
    for number, dataset in enumerate(names):
        write_run(tmp_path / "runs" / f"run{number}", dataset=dataset)
    assert [panel.title for panel in panels(find_runs([Path("runs")])[0])] == [
        "Hopper-v5, a/hop/log.hdf5 (own file)",
        "Hopper-v5, b/hop/log.hdf5 (own file)",
        "Hopper-v5, maze/log.hdf5 (own file)",
        "Hopper-v5, x.csv + y.csv (own file)",
    ]


def test_titles_fit_their_panels_and_say_whose_score_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adabc_lightning.commands.report import figure

    own = {"data.reference_min": -1.5, "data.reference_max": 12.0, "data.max_episode_steps": 200}
    for task, env_id, options in (
        ("plain", "Hopper-v5", {}),
        ("a-long-name", "Hopper-v5", own),
        ("wide", f"{'W' * 60}-v3", own),
    ):
        record = {"task": task, "variant": "v"}
        write_run(tmp_path / "out" / task / "v" / "seed0", env_id=env_id, record=record,
                  options=options, dataset="log.hdf5")  # fmt: skip
    drawn = []
    monkeypatch.setattr(figure, "save", lambda made, path: drawn.append(made))
    shown = panels(find_runs([Path("out")])[0])
    figure.draw(shown, Path("curves.svg"))
    (made,) = drawn
    made.draw_without_rendering()
    boxes = [part._suptitle.get_window_extent() for part in made.subfigs]
    for part, box in zip(made.subfigs, boxes, strict=True):
        assert part.bbox.x0 <= box.x0
        assert box.x1 <= part.bbox.x1
    axes = {panel.task: part.axes[0] for panel, part in zip(shown, made.subfigs, strict=True)}
    assert [axis.get_ylabel() for axis in axes.values()] == ["score", "D4RL score", "score"]
    assert len({round(axis.get_window_extent().height) for axis in axes.values()}) == 1
    charts = {panel.task: section(panel, 24)["charts"][0]["title"] for panel in shown}
    assert charts == {"plain": "D4RL score", "a-long-name": "Score", "wide": "Score"}


def test_pdflatex_reads_every_letter() -> None:
    assert escaped("α_β |λ| − ± 10%") == r"$\alpha$\_$\beta$ $|$$\lambda$$|$ $-$ $\pm$ 10\%"
    assert escaped("στγμεπ Ω µ ς ά Α é x² a₁") == (
        r"$\sigma$$\tau$$\gamma$$\mu$$\varepsilon$$\pi$ $\Omega$ $\mu$ $\varsigma$ $\alpha$ A é "
        "x$^{2}$ a$_{1}$"
    )
    greek = [chr(code) for code in range(0x391, 0x3CA) if chr(code).isalpha()]
    assert all(escaped(letter).isascii() for letter in greek)


def test_one_task_under_two_protocols_is_not_two_tasks(tmp_path: Path) -> None:
    for task in ("a", "b"):
        for limit in (None, 500):
            for seed in range(2):
                write_run(
                    tmp_path / "out" / f"{task}{limit}" / f"seed{seed}",
                    seed,
                    dataset=f"hopper-{'medium' if task == 'a' else 'random'}-v0",
                    options={"data.max_episode_steps": limit},
                )
    shown = panels(find_runs([tmp_path / "out"])[0])
    for panel in shown:
        panel.curves[0].label = "one"
    assert [group.scores["one"].shape for group in comparisons(shown)] == [(2, 2), (2, 2)]
    both = [panel for panel in shown if panel.dataset == "hopper-medium-v0"]
    assert len(both) == 2
    assert comparisons(both) == []


def test_bootstrapped_measures() -> None:
    levels = np.array([0.0, 1.5, 9.0])
    scores_RT = np.array([[1.0, 2.0], [1.0, 3.0], [2.0, 2.0]])
    share, low, high = bootstrapped(scores_RT, lambda x: (x[..., None] > levels).mean((0, 1)))
    np.testing.assert_allclose(share, [1.0, 4 / 6, 0.0])
    assert low[1] == 0.5  # the second task always passes: strata are tasks
    assert low[1] < share[1] < high[1] <= 1.0
    np.testing.assert_array_equal((low[0], high[0], low[2], high[2]), (1, 1, 0, 0))
