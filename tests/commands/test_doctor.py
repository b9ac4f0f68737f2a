"""``doctor``: what it finds is there, what is broken it says, and it leaves nothing behind."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from borders import Line, register
from test_plan import PLAN
from tiny import register_toy, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.agent import products
from adabc_lightning.commands.doctor import machine, rendering
from adabc_lightning.commands.doctor.command import _contents, _duration, chosen
from adabc_lightning.commands.doctor.data import datasets, minari_datasets, user_files
from adabc_lightning.commands.doctor.finding import Finding
from adabc_lightning.commands.plan import Memory
from adabc_lightning.run.interaction import Interaction

KEY = "0123456789abcdef" * 2 + "01234567"
SMALL = shlex.split(
    "--config hopper --model.hidden_sizes [8] --model.num_critics 3 --data.batch_size 8"
    " --model.engine eager --schedule.offline_updates 4000000 --schedule.updates_per_env_step 2"
)
TRIALS = Interaction("trials", "5", (5, 9), (5, 900), rounds=700)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder without datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_it_reports_in_json_and_leaves_nothing_behind(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    result = subprocess.run(
        [sys.executable, "-m", "adabc_lightning", "doctor", "--json", "--seconds", "2", *SMALL],
        env={**own, "HOME": str(tmp_path), "WANDB_API_KEY": KEY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert KEY not in result.stdout + result.stderr
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["ok"]
    found = {finding["about"]: finding for finding in report["findings"]}
    assert {"machine", "packages", "accelerator", "bfloat16", "W&B", "datasets"} <= found.keys()
    assert found["W&B"]["found"] == "logging.wandb auto: logged in, online"
    assert found["MuJoCo"]["state"] == "ok"
    plan, speed = report["plan"], report["speed"]
    assert plan["transitions"] == 99_970
    assert plan["evaluations"] == {"offline": 800, "online": 50}
    phases = 4_000_000 / speed["offline_updates"] + 250_000 / speed["online_env_steps"]
    assert report["seconds"]["phases"] == pytest.approx(phases)
    evaluations = 850 * 1000 / speed["evaluation_steps"]
    assert report["seconds"]["evaluations_at_most"] == pytest.approx(evaluations)
    # Its home's caches are the libraries'; see test_cli for the same of fit.
    assert {path.name for path in tmp_path.iterdir()} <= {".cache", ".config"}


def test_a_config_that_cannot_run_is_a_problem() -> None:
    (found,) = chosen([], ["--data.dataset", "none.hdf5"], 1.0, {})
    assert found.state == "problem"
    assert "is no file" in str(found.remedy)
    (found,) = chosen([], ["--data.env_id", "Hoper-v5"], 1.0, {})
    assert "did you mean 'Hopper-v5'?" in str(found.remedy)


@pytest.mark.parametrize(
    ("logging", "wanted"), [("null", "auto"), ("3", "auto"), ("{wandb: x}", "x")]
)
def test_a_logging_that_is_no_mapping_is_a_problem_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    logging: str,
    wanted: str,
) -> None:
    (tmp_path / "odd.yaml").write_text(f"logging: {logging}\n")
    asked: list[str] = []
    nothing = Finding("nothing", "looked at")

    def look(wanted: str) -> Finding:
        asked.append(wanted)
        return nothing

    module = "adabc_lightning.commands.doctor.command"
    for name in ("accelerators", "products", "bfloat16", "rendering", "simulation"):
        monkeypatch.setattr(f"{module}.{name}", lambda *_: nothing)
    monkeypatch.setattr(f"{module}.weights_and_biases", look)
    assert main(["doctor", "--config", "odd.yaml", "--seconds", "0"]) == 1
    assert asked == [wanted]
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "problem " in each]
    assert line.endswith("odd cannot run")


def test_the_status_is_1_where_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for state, status, last in (("problem", 1, "1 problem"), ("note", 0, "no problems")):
        finding = Finding("thing", "what is there", state, "do this.")  # type: ignore[arg-type]
        monkeypatch.setattr(
            "adabc_lightning.commands.doctor.command.examine",
            lambda *_, found=finding: iter([found]),
        )
        assert main(["doctor"]) == status
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"{state:<8}thing         what is there"
        assert lines[1] == "          → do this."
        assert lines[-1] == last


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--jsn", "there is no option --jsn; did you mean '--json'?"),
        ("--ckpt_path last", "there is no option --ckpt_path"),
        ("--seconds -1", "must be a number between 0 and 600"),
        ("--data-dir nowhere", "there is no folder nowhere"),
        ("--config nosuch", "config 'nosuch' is neither in"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words.split()]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""


def test_a_dataset_to_be_fetched_is_planned_and_not_measured(tmp_path: Path) -> None:
    keys = ["--data.dataset", "hopper-medium-v0", "--data.download", "true"]
    report: dict[str, Any] = {"speed": None}
    *_, last = chosen([], keys, 1.0, report)
    assert (last.about, last.state) == ("speed", "note")
    assert report["plan"]["transitions"] is None
    assert report["speed"] is None
    assert list(tmp_path.iterdir()) == []


def test_frozen_steps_are_measured_apart_and_replicas_together(tmp_path: Path) -> None:
    keys = shlex.split(
        f"--data.env_id {register_toy()} --data.dataset {write_log(tmp_path / 'log.hdf5', 3, 2)}"
        " --data.batch_size 8 --model.hidden_sizes [8,8] --model.num_critics 2 --model.replicas 2"
        " --schedule.frozen_env_steps 5000 --downsampling.minimum 10 --model.engine eager"
        " --data.reference_min 0 --data.reference_max 9"
    )
    report: dict[str, Any] = {}
    found = {each.about: each.found for each in chosen([], keys, 0.5, report)}
    assert "then (250,000 − 5,000 frozen) environment steps × 10 updates" in found["config"]
    assert found["speed"].endswith("environment steps/s), in each of 2 replicas")
    speed, plan = report["speed"], report["plan"]
    assert speed["frozen_env_steps"] > speed["online_env_steps"]  # which make 20 updates, too
    assert plan["replicas"] == 2
    assert plan["evaluations"] == {"offline": 200, "online": 50}


def test_a_plan_in_json() -> None:
    contents = _contents(replace(PLAN, beside=[TRIALS]))
    assert contents["done"] == {"gradient_updates": 0, "env_steps": 0}
    assert contents["memory"] == {"now": 1000, "batches": 7, "online ring": None, "free": None}
    (trials,) = contents["beside"]
    assert trials["text"] == "5: 5 to 9 episodes, 5 to 900 environment steps"
    assert "replicas" not in contents
    contents = _contents(PLAN.times(2))
    assert contents["replicas"] == 2


def test_expected_seconds() -> None:
    from adabc_lightning.commands.doctor.speed import Speed, expected_seconds

    plan = replace(PLAN, beside=[TRIALS])
    assert expected_seconds(plan, Speed(10.0, 2.0, 100.0)) == (100 + 150, 8 * 50 / 100, 7)
    assert expected_seconds(plan.times(3), Speed(10.0, 2.0, 100.0))[1:] == (12, 21)
    assert expected_seconds(plan, Speed(None, 2.0, 100.0)) == (None, None, None)
    frozen = replace(plan, frozen_env_steps=100)
    assert expected_seconds(frozen, Speed(10.0, 2.0, 100.0, 50.0))[0] == 100 + 2 + 100
    assert expected_seconds(frozen, Speed(10.0, 2.0, 100.0))[0] == 100 + 150  # too few to measure
    alone = replace(plan, offline_updates=0, max_episode_steps=None)
    assert expected_seconds(alone, Speed(None, 2.0, 100.0)) == (150, None, None)
    assert _duration(150, 4, 70, ["trials"]) == (
        "2 min, up to 4 s of evaluations, and up to 70 s of trials"
    )
    assert _duration(150, 4, 0, []) == "2 min, and up to 4 s of evaluations"
    assert _duration(150, None, None, ["trials"]) == (
        "2 min, and the evaluations and trials, whose episodes have no time limit"
    )


def test_datasets_of_every_place(tmp_path: Path) -> None:
    for name in ("mujoco/hopper/medium-v0", "mine-v1"):
        (tmp_path / "minari" / name / "data").mkdir(parents=True)
    (tmp_path / "d4rl").mkdir()
    (tmp_path / "d4rl" / "hopper_medium.hdf5").write_bytes(b"cut off")
    (tmp_path / "d4rl" / "relocate-v0_expert_clipped.hdf5").touch()
    assert sorted(minari_datasets(tmp_path / "minari")) == ["mine-v1", "mujoco/hopper/medium-v0"]
    own = tmp_path / "own"
    own.mkdir()
    write_log(own / "log.hdf5", 3, 2)
    (own / "text.hdf5").write_text("no HDF5")
    found = list(datasets(own))
    text = "\n".join(finding.line() for finding in found)
    assert "hopper-medium-replay" in text
    assert f"relocate-expert-v0 in {tmp_path / 'd4rl'}" in text
    assert "of another size than D4RL's: hopper-medium-v0" in text
    assert f"log.hdf5 (120) in {own}" in text
    assert [finding.about for finding in found if finding.state != "ok"] == ["D4RL", "text.hdf5"]
    assert [finding.about for finding in user_files(tmp_path / "d4rl")][-1] == "--data-dir"


def test_a_missing_package_is_a_problem_and_an_extra_s_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = ["numpy>=99", "no_such_package", "nor_this>=1; extra == 'report'", "h5py>=3"]
    monkeypatch.setattr(machine, "requires", lambda _: declared)
    packages, extras = machine.packages()
    assert packages.state == "problem"
    assert "no_such_package missing" in packages.found
    assert "(needed: >=99)" in packages.found
    assert (extras.state, extras.found) == ("note", "not installed: report")


def test_the_packages_of_this_environment_are_as_declared() -> None:
    assert next(iter(machine.packages())).state == "ok"


@pytest.mark.parametrize(
    ("mode", "wanted", "login", "words"),
    [
        (None, "auto", True, "logged in, online"),
        (None, "auto", False, "not logged in, offline"),
        (None, "offline", True, "offline, though logged in"),
        ("disabled", "auto", True, "WANDB_MODE is disabled, logging.wandb auto: off"),
        ("disabled", "offline", False, "offline, though not logged in"),
    ],
)
def test_weights_and_biases(
    mode: str | None, wanted: str, login: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr("adabc_lightning.run.loggers.logged_in", lambda: login)
    finding = machine.weights_and_biases(wanted)
    assert words in finding.found
    assert (finding.state == "note") is (wanted == "auto" and not login)


def test_a_broken_login_is_a_note_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise ValueError(f"the key {KEY} is too short")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("adabc_lightning.run.loggers.logged_in", broken)
    finding = machine.weights_and_biases("auto")
    assert finding.state == "note"
    assert KEY not in finding.line()


@pytest.mark.parametrize(
    ("ratio", "found"),
    [
        (4.0, "its matrix products take 1/4.0 of float32's time; --model.precision bf16 takes"),
        (1.25, "little or nothing to gain: its matrix products take 0.8 × float32's time"),
        (0.5, "little or nothing to gain: its matrix products take 2.0 × float32's time"),
    ],
)
def test_what_bfloat16_would_gain(
    ratio: float, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "gain", lambda dtype, device: ratio)
    assert machine.bfloat16().found.startswith(found)


def test_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rendering.simulation().state == "ok"
    assert not rendering.works("no-such-backend")
    monkeypatch.setattr(rendering, "works", lambda backend: backend == "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    finding = rendering.rendering()
    assert finding.state == "note"
    assert "MUJOCO_GL=osmesa" in str(finding.remedy)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.rendering().state == "ok"
    monkeypatch.setattr(rendering, "works", lambda backend: False)
    assert rendering.rendering().state == "note"


def test_a_backend_that_hangs_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "PICTURE", "import time; time.sleep(60)")
    monkeypatch.setattr(rendering, "SECONDS", 0.5)
    assert not rendering.works("egl")


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from adabc_lightning.commands.doctor import command

    plan = replace(PLAN, files={"a": 100}, memory=Memory(now=1, to_come={"ring": 50}, free=40))
    assert command._room(plan).state == "problem"
    plan = replace(plan, memory=replace(plan.memory, free=60))
    assert command._room(plan).state == "ok"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=99))
    assert command._room(plan).state == "problem"


def test_libraries_that_cannot_be_imported_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrl", None)
    finding = machine.importable()
    assert finding is not None
    assert finding.state == "problem"


def test_an_environment_without_a_time_limit_is_a_note(tmp_path: Path) -> None:
    keys = shlex.split(
        f"--data.env_id {register(Line, None)} --data.dataset null --schedule.offline_updates 0"
        " --schedule.online_env_steps 100 --schedule.evaluation_every 50 --alpha.initial 0.2"
        " --data.reference_min 0 --data.reference_max 1 --model.hidden_sizes [8]"
        " --model.num_critics 3 --data.batch_size 8 --model.engine eager"
    )
    found = {finding.about: finding for finding in chosen([], keys, 0.2, {})}  # and comes to an end
    assert found["time limit"].state == "note"
    assert "set data.max_episode_steps" in str(found["time limit"].remedy)
