"""How long an experiment will take, judged by the summaries of what has run of it."""

import json
from pathlib import Path

import pytest

from adabc_lightning.__main__ import main
from adabc_lightning.commands.experiment.declaration import Declaration, Variant
from adabc_lightning.commands.experiment.plan import Choice, Job, plan

TOY = """
inherit: base.yaml
schedule: {offline_updates: 1000, online_env_steps: 500, updates_per_env_step: 2}
data: {dataset: log.hdf5}
"""
PAIR = """
seeds: 2
tasks: [toy]
variants:
  adaptive: {}
  Fixed α: {options: {alpha.kp: 0, alpha.kd: 0}}
  wide: {options: {model.num_critics: 20}}
"""
ALL = "4 pre-trainings, 6 runs; "


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a task and an experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "pair.yaml").write_text(PAIR)


def jobs() -> dict[str, Job]:
    """Of both seeds: the pre-trainings of two networks, and the runs, by their labels' words."""
    variants = [
        Variant("adaptive"),
        Variant("Fixed α", options={"alpha.kp": 0, "alpha.kd": 0}),
        Variant("wide", options={"model.num_critics": 20}),
    ]
    planned = plan(Declaration("pair", 2, ["toy"], variants), Choice(Path("out")))
    named = {}
    for job in planned:
        kind = job.record["kind"]
        what = "wide" if "model.num_critics" in job.record["settings"] else "narrow"
        variant = job.record.get("variant", what)
        named[f"{kind} {variant} {job.record['seed']}"] = job
    assert len(named) == 10
    return named


def summarise(
    job: Job, updates: int, env_steps: int, seconds: tuple[float, float, float], finished: bool
) -> None:
    job.folder.mkdir(parents=True)
    offline, online, evaluation = seconds
    summary = {
        "finished": finished,
        "gradient_updates": updates,
        "env_steps": env_steps,
        "seconds": {"offline": offline, "online": online, "evaluation": evaluation},
    }
    (job.folder / "summary.json").write_text(json.dumps(summary))
    if finished and job.record["kind"] == "pretraining":
        (job.folder / "checkpoints").mkdir()
        (job.folder / "checkpoints" / "pretrained.ckpt").touch()


def last_line(capsys: pytest.CaptureFixture[str], words: str = "--jobs 1") -> str:
    assert main(["experiment", "pair", "--out", "out", *words.split(), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    return printed.splitlines()[-1].removeprefix("# ")


def test_before_anything_has_run_the_work_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    # 4 × 1,000 + 6 × 500 × 2
    assert last_line(capsys) == (
        f"{ALL}10 of them left, 10,000 gradient updates and 3,000 environment steps; how "
        "long that takes is not known, since none like these has run in out (doctor measures a "
        "config)"
    )


def test_the_pace_is_that_of_what_has_run(capsys: pytest.CaptureFixture[str]) -> None:
    named = jobs()
    summarise(named["pretraining narrow 0"], 1000, 0, (900.0, 0.0, 100.0), finished=True)
    # Its seconds contain those of the pre-training: 4,000 of its own, 400 of 500 steps made.
    summarise(named["run adaptive 0"], 1800, 400, (900.0, 3800.0, 300.0), finished=False)
    # Left: 1,000 s of the run cut short, 3 × 5,000 s, one pre-training of 1,000 s; 4 wide ones.
    counts = f"{ALL}9 of them left, 8,200 gradient updates and 2,600 environment steps: about "
    aside = "at the pace of those in out, without 4 jobs that are unlike any of those"
    assert last_line(capsys) == f"{counts}4 h 43 min, 1 at a time, {aside}"
    # Seed by seed: one worker has two runs of 5,000 s.
    assert last_line(capsys, "--jobs 2") == f"{counts}2 h 47 min, 2 at a time, {aside}"
    # However many at a time, the second seed needs its pre-training and then a run.
    assert last_line(capsys, "--jobs 9") == f"{counts}1 h 40 min, 9 at a time, {aside}"
    chosen = last_line(capsys, "--jobs 1 --variants adaptive --only runs")
    assert chosen.endswith(
        "2 of them left, 1,200 gradient updates and 600 environment steps: about 1 h 40 min, 1 at "
        "a time, at the pace of those in out"
    )


def test_other_seeds_come_before_other_variants(capsys: pytest.CaptureFixture[str]) -> None:
    named = jobs()
    for seed in (0, 1):
        summarise(named[f"pretraining narrow {seed}"], 1000, 0, (900.0, 0.0, 0.0), finished=True)
    for variant, seconds in (("adaptive", 1200.0), ("Fixed α", 3000.0)):
        job = named[f"run {variant} 0"]
        summarise(job, 2000, 500, (900.0, seconds, 0.0), finished=True)
    line = last_line(capsys, "--jobs 1 --variants adaptive")
    assert "about 20 min, 1 at a time" in line
    # Its own seed, not their mean; of a variant that has not run it would be that.
    line = last_line(capsys, "--jobs 1 --variants fixed")
    assert "about 50 min, 1 at a time" in line


def test_trials_come_on_top(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proof.yaml").write_text(
        "seeds: 2\ntasks: [toy]\nvariants:\n  plain: {}\n  proven: {method: steady}\n"
    )

    def said(*words: str) -> str:
        assert main(["experiment", "proof", "--dry-run", "--out", "out", *words]) == 0
        return capsys.readouterr().out

    # Hopper's episodes have 1,000 steps at most: one policy at the hand-over and two before the
    # evaluation after 500 steps make less than 2,000, and then five episodes; with both seeds.
    most = 2 * 3 * (1999 + 5 * 1000)
    assert f"and 2,000 environment steps, and at most {most:,} in trials;" in said()
    assert f"at most {most:,} in trials;" in said("--replicas")
    assert "in trials" not in said("--variants", "plain")
    (tmp_path / "toy.yaml").write_text(TOY.replace("data: {", "data: {env_id: Nothing-v0, "))
    assert "environment steps, and more in trials, whose episodes" in said()
