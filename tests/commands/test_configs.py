"""Every packaged config runs, and every command of README and docs/use.md does what it says."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from paths import REPOSITORY
from tiny import shapes, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.commands.method_keys import check_one_method
from adabc_lightning.data.datasets import packaged_datasets
from adabc_lightning.errors import UserError
from adabc_lightning.run.config_files import (
    merged,
    packaged_configs,
    packaged_folder,
    resolve,
    with_ancestors,
)

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
USE = (REPOSITORY / "docs" / "use.md").read_text(encoding="utf-8")

# Appended to any fit: a few updates of small networks, whatever the config says. The four devices
# of docs/use.md divide them.
TINY = shlex.split(
    "--schedule.offline_updates 8 --schedule.online_env_steps 4 --schedule.updates_per_env_step 1"
    " --schedule.evaluation_every 4 --model.hidden_sizes [8] --data.batch_size 8"
    " --evaluation.episodes 1 --trainer.enable_progress_bar false"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def command_lines() -> list[list[str]]:
    """The ``python -m adabc_lightning`` lines of both pages' ``sh`` blocks, in order, each once."""
    blocks = re.findall(r"```sh\n(.*?)```", README + USE, re.DOTALL)
    lines = dict.fromkeys(line for block in blocks for line in block.splitlines())
    prefix = "python -m adabc_lightning "
    return [shlex.split(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


def test_what_configs_shows_of_each_is_a_sentence() -> None:
    """Its first line, whatever follows."""
    cut = [name for name, text in packaged_configs().items() if not text.endswith((".", ")"))]
    assert not cut


def complete_configs() -> list[str]:
    """Packaged configs that name a task; overlays and methods are stacked on one of these."""
    found = packaged_configs().items()
    return [
        name
        for name, about in found
        if not name.startswith("method/") and not about.startswith("Overlay")
    ]


def test_the_overlays_say_that_they_are() -> None:
    flat = {name for name in packaged_configs() if "/" not in name}
    assert flat - set(complete_configs()) == {
        "quick.yaml",
        "small.yaml",
        "mid.yaml",
        "compiled.yaml",
        "small_adroit.yaml",
        "adroit.yaml",
    }


@pytest.mark.parametrize("name", complete_configs())
def test_every_packaged_config_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = merged(with_ancestors(packaged_folder() / name), {})["data"]
    extra = ["--data.max_episode_steps", "10", "--trainer.default_root_dir", "run"]
    if keys["dataset"] not in packaged_datasets():
        sizes = shapes(keys["env_id"])
        extra += ["--data.dataset", str(write_log(tmp_path / "log.hdf5", *sizes))]
    status = main(["fit", "--config", name, *TINY, *extra])
    assert status == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


MINE = "{model: {method: {class_path: adabc_lightning.agent.methods.IQL}}}"


def test_a_method_that_is_inherited_is_laid_over_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text("inherit: hopper\nmodel: {num_critics: 3}\n")
    Path("idea.yaml").write_text("inherit: [base, method/td3_bc]\nmodel: {gamma: 0.5}\n")
    found, _ = resolve("fit", ["--config", "task", "--config", "idea"])
    names = [path.stem for path in found]
    assert names[0] == "base"
    assert names[-3:] == ["task", "td3_bc", "idea"]
    assert len(set(names)) == len(names)
    assert merged(found, {})["model"]["num_critics"] == 2
    # and so are its heirs: the nearest wins
    Path("idea.yaml").write_text("inherit: method/td3_bc\nmodel: {num_critics: 7}\n")
    Path("better.yaml").write_text("inherit: idea\nmodel: {gamma: 0.5}\n")
    Path("both.yaml").write_text("inherit: [method/td3_bc, hopper]\nmodel: {num_critics: 5}\n")
    for words, critics in (("task better", 7), ("better task", 3), ("both", 5)):
        arguments = [word for name in words.split() for word in ("--config", name)]
        model = merged(resolve("fit", arguments)[0], {})["model"]
        assert model["num_critics"] == critics, words


@pytest.mark.parametrize(
    ("files", "names", "two"),
    [
        ({"a": "{inherit: [hopper, method/iql]}"}, ["a"], None),
        ({"a": "{inherit: [hopper, method/iql]}"}, ["a", "method/iql"], None),
        ({"a": "{inherit: [hopper, method/iql]}", "b": "{inherit: a}"}, ["b"], None),
        ({"a": "{inherit: method/iql, " + MINE[1:]}, ["hopper", "a"], None),
        ({"a": "{inherit: [method/iql, method/cql]}"}, ["a"], "method/iql and --config method/cql"),
        ({"a": "{inherit: method/iql}"}, ["a", "method/cql"], "method/iql and --config method/cql"),
        (
            {"a": "{inherit: method/iql}"},
            ["a", "method/td3_bc"],
            "method/iql and --config method/td3",
        ),
        ({"a": MINE}, ["method/cql", "a"], "method/cql and --config a.yaml"),
        ({"a": MINE}, ["a", "method/td3_bc"], "a.yaml and --config method/td3_bc"),
        ({"a": MINE, "b": MINE}, ["a", "b"], "a.yaml and --config b.yaml"),
    ],
)
def test_two_methods_at_once_are_seen_wherever_they_hide(
    files: dict[str, str],
    names: list[str],
    two: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(f"{name}.yaml").write_text(content)
    found, _ = resolve("fit", [word for name in names for word in ("--config", name)])
    if two is None:
        check_one_method(found)
        return
    with pytest.raises(UserError) as caught:
        check_one_method(found)
    assert two in str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.usefixtures("as_a_user")
def test_every_command_of_readme_and_use_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = command_lines()
    says = {
        "fit": "score",
        "validate": "score",
        "experiment": "# ",
        "report": "comparison.html",
        "collect": "50 transitions",
        "doctor": "no problems",
        "inspect": "transitions",
        "export": "its actions are the policy's",
        "rollout": "return",
    }
    assert {command[0] for command in commands} == set(says)
    log = str(write_log(tmp_path / "log.hdf5", *shapes("Hopper-v5")))
    mine = {"my_log.csv": log, "my_package:Name-v0": "Hopper-v5", "my_package": "gymnasium"}
    for command in commands:
        command = [mine.get(word, word) for word in command]
        tiny = {"fit": TINY, "collect": ["--steps", "50"], "doctor": ["--seconds", "0"]}.get(
            command[0], []
        )
        if "--video" in command:  # which needs OpenGL
            place = command.index("--video")
            del command[place : place + 2]
        assert command[0] != "experiment" or "--dry-run" in command  # the plan, not hours
        if not any("runs/demo1" in word for word in command):  # seconds that one run shows
            monkeypatch.setenv("WANDB_MODE", "disabled")
        else:
            monkeypatch.delenv("WANDB_MODE", raising=False)
        if "--trainer.devices" in command:  # each is a process that runs the command's own line
            line = [sys.executable, "-m", "adabc_lightning", *command, *tiny]
            done = subprocess.run(line, capture_output=True, text=True, timeout=300)
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            status = main([*command, *tiny])
            out, err = capsys.readouterr()
        assert status == 0, err
        planned = command[0] == "fit" and "--dry-run" in command
        assert ("hand-over     keeps" if planned else says[command[0]]) in out
    assert (tmp_path / "runs" / "demo1" / "summary.json").exists()
    assert (tmp_path / "runs" / "demo1" / "wandb" / "dataset-card.json").exists()
    assert "demo1" in (tmp_path / "comparison.html").read_text()


def test_the_readme_s_python_example_runs() -> None:
    configured, block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    tiny = dict(zip(*[iter(word.removeprefix("--") for word in TINY)] * 2, strict=True))
    source = configured.replace("keys={", f"keys={tiny!r} | {{")
    assert source != configured
    namespace: dict = {}
    exec(compile(source, "README.md", "exec"), namespace)
    assert namespace["policy"].card["env_id"] == "Hopper-v5"
    assert Path("runs/mine/report.html").exists()
    small = "Schedule(4, 3, 1, evaluation_every=2)"
    source = block.replace("Schedule(20_000, online_env_steps=10_000)", small)
    assert source != block
    source = source.replace("Evaluation()", "Evaluation(episodes=1)")
    exec(compile(source, "README.md", "exec"), namespace)
    assert namespace["agent"].gradient_updates == 7


def test_the_make_targets_exist_and_run_the_real_command() -> None:
    targets = re.findall(r"(?:^|`)make (?:\w+=\S+ )*(\w+)(?:`|$)", README + USE, re.MULTILINE)
    assert set(targets) == {"demo", "test", "docs"}
    for target in targets:
        subprocess.run(
            ["make", "-n", "-o", ".venv/.ready", target],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
        )
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert "-m adabc_lightning fit --config hopper.yaml --config quick.yaml" in makefile


@pytest.mark.usefixtures("as_a_user")
def test_the_demo_s_command_runs_as_a_process(tmp_path: Path) -> None:
    words = ["fit", "--config", "hopper.yaml", "--config", "quick.yaml", *TINY]
    result = subprocess.run(
        [sys.executable, "-m", "adabc_lightning", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "report.html",
        "checkpoints",
        "wandb",
    }


def test_the_dockerfile_copies_all_that_the_wheel_is_built_from() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for folder in (*wheel["packages"], *wheel["force-include"]):
        assert f"COPY {folder} {folder}" in dockerfile
