"""``experiment --replicas``: all seeds of a cell in one process, and the same rows as without."""

import csv
import json
import re
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from test_experiment import TOY, toy_experiment

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks import Checkpointing
from adabc_lightning.commands.experiment import command
from adabc_lightning.commands.experiment.declaration import read
from adabc_lightning.commands.experiment.folders import prepare
from adabc_lightning.commands.experiment.groups import groups
from adabc_lightning.commands.experiment.plan import Choice, Job, defaults, plan
from adabc_lightning.commands.experiment.store import Store
from adabc_lightning.commands.experiment.worker import Assignment, _place
from adabc_lightning.commands.report.panels import panels
from adabc_lightning.commands.report.runs import find_runs
from adabc_lightning.errors import UserError

CELL = """
seeds: 2
tasks: [toy]
variants:
  adaptive: {}
"""
NOT_THE_NUMBERS = ("seconds", "folder")  # columns of results.csv


class InProcess:
    """An engine that runs each job here and now, for want of seconds to start processes."""

    busy, room = False, True

    def __init__(self, *_: object) -> None:
        self.over: list[tuple[Job, bool]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, job: Job) -> None:
        try:
            well = main(prepare(job)) == 0
        except SystemExit:
            well = False
        self.over.append((job, well))

    def ended(self) -> list[tuple[Job, bool]]:
        over, self.over = self.over, []
        return over

    def stop(self) -> None:
        raise AssertionError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task, an experiment of one cell and what it makes without replicas."""
    folder = tmp_path_factory.mktemp("replicas")
    toy_experiment(folder, pair=CELL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(command, "Processes", InProcess)
        assert main(["experiment", "pair", "--out", "single"]) == 0
        assert main(["experiment", "pair", "--out", "all", "--replicas"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(command, "Processes", InProcess)


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def assert_close(ours: list[dict[str, str]], theirs: list[dict[str, str]]) -> None:
    """Rows whose numbers agree within float error."""
    assert len(ours) == len(theirs)
    for row, expected in zip(ours, theirs, strict=True):
        assert row.keys() == expected.keys()
        for name, value in row.items():
            try:
                wanted: Any = pytest.approx(float(expected[name]), rel=1e-4, abs=1e-5)
                assert float(value) == wanted, name
            except ValueError:
                assert value == expected[name], name


def test_rows_are_those_of_single_runs() -> None:
    ours, theirs = rows_of("all/results.csv"), rows_of("single/results.csv")
    assert [row["seed"] for row in ours] == ["0", "1"]
    assert [row["folder"] for row in ours] == [f"toy/adaptive/seeds/replica_{i}" for i in (0, 1)]
    for mine, its in zip(ours, theirs, strict=True):
        assert_close(*(rows_of(f"{out}/{row['folder']}/metrics.csv")
                       for out, row in (("all", mine), ("single", its))))  # fmt: skip
        records = [json.loads(Path(out, row["folder"], "experiment.json").read_text())
                   for out, row in (("all", mine), ("single", its))]  # fmt: skip
        assert records[0] == records[1]
        for row in (mine, its):
            for name in NOT_THE_NUMBERS:
                del row[name]
    assert_close(ours, theirs)
    # One process made the pre-trainings of all, which are each their own.
    (folder,) = (path for path in Path("all/pretrained/toy").iterdir() if path.is_dir())
    (alone, _) = sorted(path for path in Path("single/pretrained/toy").iterdir() if path.is_dir())
    assert folder.name == alone.name.replace("seed0", "seeds")
    for seed in (0, 1):
        single = alone.with_name(alone.name.replace("seed0", f"seed{seed}"))
        assert_close(
            rows_of(folder / f"replica_{seed}/metrics.csv"), rows_of(single / "metrics.csv")
        )


def test_the_report_has_the_same_curves() -> None:
    (ours,), (theirs,) = (panels(find_runs([Path(out)])[0]) for out in ("all", "single"))
    assert ours.title == theirs.title
    for panel in (ours, theirs):
        (curve,) = panel.curves
        assert curve.label == "adaptive"
        assert [run.summary["seed"] for run in curve.runs] == [0, 1]


def test_goes_on_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Checkpointing._asked

    def ask(self: Checkpointing, data: Any) -> int | None:
        return signal.SIGTERM if data.env_steps == 6 else asked(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointing, "_asked", ask)
        with pytest.raises(SystemExit) as ended:
            main(["experiment", "pair", "--out", "cut", "--replicas"])
        assert ended.value.code == 1
    assert main(["experiment", "pair", "--out", "cut", "--replicas", "--dry-run"]) == 0
    *commands, about = capsys.readouterr().out.splitlines()[-2:]
    last = "--trainer.default_root_dir cut/toy/adaptive/seeds --ckpt_path last"
    assert commands == [f"python -m adabc_lightning fit {last}"]
    # Two seeds, each evaluated after 4 of 8 steps.
    counted = "2 of them left, 8 gradient updates and 8 environment steps: about "
    assert about.startswith(f"# 2 pre-trainings, 2 runs; {counted}")
    assert main(["experiment", "pair", "--out", "cut", "--replicas"]) == 0
    for seed in (0, 1):  # bit for bit
        cut, uncut = (Path(out, f"toy/adaptive/seeds/replica_{seed}") for out in ("cut", "all"))
        assert (cut / "metrics.csv").read_text() == (uncut / "metrics.csv").read_text()
    before = {p: p.stat().st_mtime_ns for p in Path("cut").rglob("*/*") if p.is_file()}
    assert main(["experiment", "pair", "--out", "cut", "--replicas"]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_seeds_that_come_later() -> None:
    """What has run stays as it is, however the new ones are asked for."""
    shutil.copytree("all", "more")
    before = {path: path.stat().st_mtime_ns for path in Path("more/toy").rglob("*.*")}
    assert main(["experiment", "pair", "--out", "more", "--replicas", "--seeds", "4"]) == 0
    assert main(["experiment", "pair", "--out", "more", "--seeds", "5"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = rows_of("more/results.csv")
    places = ["seeds/replica_0", "seeds/replica_1", "seeds2-3/replica_0", "seeds2-3/replica_1"]
    assert [row["folder"] for row in rows] == [f"toy/adaptive/{p}" for p in (*places, "seed4")]
    assert [row["seed"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert {row["finished"] for row in rows} == {"True"}
    # Those of a group behind others are single runs, too.
    shutil.copytree("single", "singles")
    assert main(["experiment", "pair", "--out", "singles", "--seeds", "3"]) == 0
    third = rows_of("singles/toy/adaptive/seed2/metrics.csv")
    assert_close(rows_of("more/toy/adaptive/seeds2-3/replica_0/metrics.csv"), third)
    (panel,) = panels(find_runs([Path("more")])[0])
    assert [run.summary["seed"] for run in panel.curves[0].runs] == [0, 1, 2, 3, 4]


def test_fewer_seeds_than_a_process_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "pair", "--out", "all", "--seeds", "1"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert re.search(r"all/\S+seeds holds seeds 0 to 1, made by one process; --seeds 2 is", message)


@pytest.mark.parametrize(
    ("there", "seeds", "together", "expected"),
    [
        ("", 3, True, [(0, 3)]),
        ("", 2, False, [(0, 1), (1, 2)]),
        ("seed0 seed1", 4, True, [(0, 1), (1, 2), (2, 4)]),
        ("seed1", 4, True, [(0, 1), (1, 2), (2, 4)]),
        ("seeds2-4", 6, True, [(0, 2), (2, 5), (5, 6)]),
        ("seeds2-4", 6, False, [(0, 1), (1, 2), (2, 5), (5, 6)]),
        ("seed5 seeds2-3 other seeds", 2, True, [(0, 2)]),  # of no replicas
    ],
)
def test_groups(
    there: str, seeds: int, together: bool, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    for name in there.split():
        (tmp_path / f"recipe-{name}").mkdir()
        (tmp_path / f"recipe-{name}" / "experiment.json").write_text("{}")
    (tmp_path / "recipe-seed0").mkdir(exist_ok=True)  # nothing has begun there
    places = [(tmp_path, "recipe-"), (tmp_path / "nowhere", "")]
    found = groups(places, seeds, together)
    assert [(group.start, group.stop) for group in found] == expected


def test_how_many_a_process_made(tmp_path: Path) -> None:
    """By its record; by the folders where a run by hand has none. Other names are nobody's."""
    for name in ("seeds", "seeds3-2"):
        (tmp_path / name / "replica_0").mkdir(parents=True)
        (tmp_path / name / "replica_0.bak").mkdir()
        (tmp_path / name / "config.yaml").touch()
    assert groups([(tmp_path, "")], 3, together=True) == [range(1), range(1, 3)]
    record = {"settings": {"model.replicas": 3}, "seed": 0}
    (tmp_path / "seeds" / "experiment.json").write_text(json.dumps(record))
    assert groups([(tmp_path, "")], 5, together=True) == [range(3), range(3, 5)]


def test_what_a_run_store_has_counts() -> None:
    out = Path("fresh")
    names = [f"toy/adaptive/seeds/replica_{i}/experiment.json" for i in range(2)]
    stored = frozenset(out / name for name in (*names, "toy/adaptive/seeds/experiment.json"))
    choice = Choice(out, replicas=True, stored=stored)
    planned = plan(replace(read(Path("pair.yaml"), defaults()), seeds=4), choice)
    assert [job.folder.name for job in planned if job.record["kind"] == "run"] == [
        *("seeds", "seeds2-3")
    ]


def test_the_same_seeds_of_two_processes(tmp_path: Path) -> None:
    for name in ("seed1", "seeds1-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    with pytest.raises(UserError, match=r"seeds1-2 and \S+seed1 hold the same seeds"):
        groups([(tmp_path, "")], 3, together=True)


def test_a_config_that_has_changed_since(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("all", "changed")
    config = Path("changed/toy/adaptive/seeds/config.yaml")
    config.write_text(config.read_text().replace("num_critics: 3", "num_critics: 4"))
    assert main(["experiment", "pair", "--out", "changed", "--replicas"]) == 2
    said = "changed/toy/adaptive/seeds holds a run with other model.num_critics than planned; remo"
    assert said in capsys.readouterr().err


def test_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever cannot be replicated runs singly; of one seed there is nothing to replicate."""

    def planned(words: str) -> list[str]:
        assert main(["experiment", *shlex.split(words), "--replicas", "--dry-run"]) == 0
        *commands, _ = capsys.readouterr().out.splitlines()
        return [
            f"{words[words.index('--trainer.default_root_dir') + 1]}"
            f" {words[words.index('--model.replicas') + 1] if '--model.replicas' in words else 1}"
            for words in map(shlex.split, commands)
            if "--ckpt_path" in words
        ]

    Path("e.yaml").write_text(
        "seeds: 2\ntasks: [toy, robot]\nvariants:\n"
        "  a: {options: {alpha.kp: 0}}\n  two: {options: {trainer.devices: 2}}\n"
    )
    Path("robot.yaml").write_text(TOY.replace("InvertedPendulum-v5", "log:folder"))
    assert planned("e --out o") == [
        *("o/toy/a/seeds 2", "o/toy/two/seed0 1", "o/toy/two/seed1 1"),
        *("o/robot/a/seed0 1", "o/robot/a/seed1 1", "o/robot/two/seed0 1", "o/robot/two/seed1 1"),
    ]
    assert planned("pair --out o --seeds 1") == ["o/toy/adaptive/seed0 1"]
    assert planned("pair --out o --seeds 3") == ["o/toy/adaptive/seeds 3"]


def test_a_worker_without_the_folder_fetches_what_it_starts_from(tmp_path: Path) -> None:
    """Of the pre-training of all the one checkpoint, and nothing of each replica's."""
    pytest.importorskip("fsspec")
    url, out = f"file://{tmp_path}/store", Path("all")
    pretraining, run = plan(read(Path("pair.yaml"), defaults()), Choice(out, replicas=True))
    name = pretraining.folder.relative_to(out).as_posix()
    Store(url).push(pretraining.folder, name)
    assignment = Assignment(run, out, "", Path.cwd(), {}, url, "")
    with _place(assignment) as (job, _):
        assert job.needs is not None
        found = [p.relative_to(job.needs.folder) for p in job.needs.folder.rglob("*.ckpt")]
        assert found == [Path("checkpoints/pretrained.ckpt")]
        assert str(job.needs.folder / found[0]) in job.words
        assert list(job.records) == [job.folder / f"replica_{seed}" for seed in (0, 1)]
        assert not job.folder.is_relative_to(out)
