"""The command line: what it runs, what it leaves behind, and one line for whatever is wrong."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml

from adabc_lightning.__main__ import main
from adabc_lightning.agent import methods
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.metrics import COLUMNS
from adabc_lightning.commands import method_keys, parser
from adabc_lightning.commands.method_keys import keys_of
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import check_run, read_run
from adabc_lightning.run import loggers as loggers_module
from adabc_lightning.run.checkpoint_files import is_whole
from adabc_lightning.run.config_files import load, packaged_folder
from adabc_lightning.run.folder import checkpoint_to_resume, fresh_folder
from adabc_lightning.run.loggers import Logging, make_loggers
from adabc_lightning.run.nested import dotted
from adabc_lightning.run.words import in_words

SIZES = shlex.split(
    "--schedule.offline_updates 20 --schedule.online_env_steps 10"
    " --schedule.updates_per_env_step 2 --schedule.evaluation_every 10 --evaluation.episodes 2"
    " --model.hidden_sizes [8] --data.batch_size 16 --trainer.enable_progress_bar false"
)
TINY = ["fit", "--config", "hopper", *SIZES]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def process(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A whole command as a user runs it, without a terminal, a home or a W&B account."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**own, "HOME": str(cwd), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run: every logger, a value that refers to another."""
    home = tmp_path_factory.mktemp("cli")
    (home / "link.yaml").write_text("alpha:\n  ceiling: ${model.alpha_offline}\n")
    result = process(
        *("-m", "adabc_lightning", *TINY, "--config", "link.yaml"),
        *("--model.alpha_offline", "0.7", "--logging.tensorboard", "true"),
        cwd=home,
    )
    assert result.returncode == 0, result.stderr
    said, *more = result.stderr.splitlines()
    assert not more, result.stderr
    assert said.startswith("hopper-medium-replay (99,970 transitions) → Hopper-v5, on cpu, 1 ")
    (folder,) = (home / "runs").iterdir()
    assert folder.name.startswith("Hopper-v5-seed0-")
    assert result.stdout.startswith("score: pretrained ")
    page = f"report: runs/{folder.name}/report.html"
    assert result.stdout.endswith(f"; runs/{folder.name}\n{page}\n")
    assert {path.name for path in home.iterdir()} <= {"link.yaml", "runs", ".cache", ".config"}
    return folder


def test_fit_leaves_its_results(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "metrics.csv", "summary.json", "checkpoints", "tensorboard", "wandb"),
        *(".lock", "report.html"),
    }
    (command,) = json.loads((run / "summary.json").read_text())["commands"]
    assert command.startswith("python -m adabc_lightning fit --config hopper --schedule.offline_")
    assert command.endswith(" --model.alpha_offline 0.7 --logging.tensorboard true")
    page = (run / "report.html").read_text()
    score = json.loads((run / "summary.json").read_text())["score"]["final"]
    assert f'data-field="final" data-value="{score!r}"' in page
    assert command.replace("'", "&#x27;") in page
    checkpoints = {path.name for path in (run / "checkpoints").iterdir()}
    assert checkpoints == {"pretrained.ckpt", "best.ckpt", "last.ckpt", "previous.ckpt"}
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    at_hand_over = rows.pop(2)
    assert at_hand_over["gradient_updates"] == "20"
    assert at_hand_over["diagnostics/q_gap"]
    assert not at_hand_over["eval/score"]
    evaluated = [(row["phase"], row["gradient_updates"], row["env_steps"]) for row in rows]
    assert evaluated == [("offline", "10", "0"), ("offline", "20", "0"), ("online", "40", "10")]
    assert all(row["eval/score"] for row in rows)


def test_wandb_is_offline_without_an_account_and_tensorboard_has_events(run: Path) -> None:
    (log,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    name = log.stem.removeprefix("run-")
    logged = log.read_bytes()
    assert f"checkpoint-{name}".encode() in logged
    assert b"dataset-hopper-medium-replay" in logged
    card = json.loads((run / "wandb" / "dataset-card.json").read_text())
    assert (card["transitions"], card["episodes"]) == (99_970, 1500)
    assert card["return_mean"] == pytest.approx(150.22, abs=0.005)  # as in assets/README.md
    assert card["return_max"] == pytest.approx(2879.89, abs=0.005)
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_interpolation_follows_overrides(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["alpha_offline"] == 0.7
    assert config["alpha"]["ceiling"] == 0.7
    assert "inherit" not in config


def test_validate_needs_the_checkpoint_only(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    title, *episodes, returns, scores = printed.out.splitlines()
    assert title.split() == ["episode", "return", "score", "steps"]
    assert [line.split()[0] for line in episodes] == ["0", "1"]
    mean = sum(float(line.split()[1]) for line in episodes) / 2
    assert returns.startswith("return ")
    assert float(returns.split()[1]) == pytest.approx(mean, abs=0.01)
    assert scores.startswith("score ")
    assert " ± " in scores
    assert os.listdir() == []


def test_validate_checks_the_sizes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["validate", "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    resume = "resume with the method, networks and environment of the run; without --config it has"
    for change, said in {
        "--model.hidden_sizes=[9]": "with model.hidden_sizes [8], not [9]",
        "--data.env_id=Walker2d-v5": "on observations of 11 and actions of 3 numbers, environment "
        "'Walker2d-v5' has 17 and 6",
    }.items():
        assert main([*words, change]) == 2
        line = f"error: the checkpoint was trained {said}; {resume} them\n"
        assert capsys.readouterr().err == line


def test_a_run_is_never_written_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main([*TINY, "--trainer.default_root_dir", str(run)]) == 2
    assert "already holds a run; go on with it by --ckpt_path last" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_last_of_a_fresh_folder_is_the_beginning_and_of_a_run_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    resume = ["--trainer.default_root_dir", "new", "--ckpt_path", "last"]
    assert main(["fit", *resume]) == 2  # a folder misspelt, or what should start there?
    assert "there is no run in new to go on with" in capsys.readouterr().err
    assert not Path("new").exists()
    assert main([*TINY, *resume]) == 0
    first = capsys.readouterr()
    assert first.err.startswith("no checkpoint in new yet: starting from the beginning\n")
    rows = Path("new/metrics.csv").read_bytes()
    assert main(["fit", *resume]) == 0  # by its own config
    again = capsys.readouterr()
    assert again.out == first.out
    assert Path("new/metrics.csv").read_bytes() == rows
    assert not Path("new/wandb").exists()  # WANDB_MODE=disabled


def test_the_command_of_a_run_that_had_saved_nothing_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    where = ["--trainer.default_root_dir", "new"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OffToOnModule, "training_step", kill)
        with pytest.raises(Killed):
            main([*TINY, *where])
    first = json.loads(Path("new/summary.json").read_text())
    assert (len(first["commands"]), first["finished"]) == (1, False)
    assert main(["fit", *where, "--ckpt_path", "last"]) == 0
    summary = json.loads(Path("new/summary.json").read_text())
    assert summary["commands"][:1] == first["commands"]
    assert summary["commands"][1].endswith("--ckpt_path last")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("method/redq_scratch own", "own.yaml, after --config method/redq_scratch, sets schedule."),
        ("own method/redq_scratch", None),
        ("heir", None),  # inherits the method, and means what it says
        ("method/iql hopper", None),  # of what all inherit nothing is overruled
    ],
)
def test_a_file_that_undoes_the_method_before_it_is_named(
    line: str, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.yaml").write_text("schedule: {offline_updates: 3}\n")
    Path("heir.yaml").write_text("inherit: method/redq_scratch\nschedule: {offline_updates: 3}\n")
    words = [word for name in line.split() for word in ("--config", name)]
    with pytest.raises(SystemExit):  # once it is printed
        main(["fit", *words, "--print_config"])
    error = capsys.readouterr().err
    if said is None:
        assert error == ""
    else:
        assert said in error
        assert (
            "offline_updates 3, not 0; where the method's values are meant, give it last" in error
        )


@pytest.mark.parametrize(
    ("method", "length", "said"), [("rlpd", 20, 1), ("rlpd", 0, 0), ("iql", 20, 0)]
)
def test_a_pre_training_of_what_starts_from_nothing_is_named(
    method: str, length: int, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--schedule.offline_updates", str(length), "--schedule.frozen_env_steps", "0"]
    assert main([*TINY, "--config", f"method/{method}", *more, "--dry-run"]) == 0
    sentence = (
        "warning: --config method/rlpd starts from nothing (schedule.offline_updates 0); here it "
        "is pre-trained for 20 updates\n"
    )
    assert capsys.readouterr().err.count(sentence) == said


def test_another_environment_is_named_before_what_it_entails(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cal-QL would ask for longer frozen steps first, for the episodes of the other one."""
    start = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    other = ["--data.env_id", "Walker2d-v5", "--schedule.frozen_env_steps", "0"]
    assert main([*TINY, "--config", "method/cal_ql", *start, *other]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the checkpoint was trained in 'Hopper-v5', data.env_id is 'Walker2d-v5'; resume in "
        "the environment of the run"
    )


def test_what_is_called_otherwise_elsewhere_has_a_name_here() -> None:
    base = load(packaged_folder() / "base.yaml")
    assert {key for key in parser.ELSEWHERE.values() if not key.startswith("trainer.")} <= {
        "seed_everything", *dict(dotted(base)),
    }  # fmt: skip
    known = {key for name in methods.__all__ for key in keys_of(f"{methods.__name__}.{name}") or ()}
    assert set(method_keys.ELSEWHERE.values()) <= known
    assert not set(method_keys.ELSEWHERE) & (known - {"temperature"})  # CQL's is another


def test_help_says_how_a_method_s_keys_and_one_s_own_parts_come_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("fit", "validate", "collect", "export", "rollout", "experiment", "report"):
        with suppress(SystemExit):
            main([command, "--help"])
        assert "--allow PACKAGE" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", "--model.method.help", "IQL"])
    said = " ".join(capsys.readouterr().out.split())
    assert "of the value, in (0, 1); 0.5 is the mean. (type: a number above 0 and below 1, " in said
    assert "Annotated" not in said


def test_a_run_s_folder_stands_for_its_newest_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, "run")
    rows = Path("run/metrics.csv").read_bytes()
    here = ["--trainer.default_root_dir", "run"]
    assert main(["fit", "--ckpt_path", "run", *here]) == 0  # as last
    assert Path("run/metrics.csv").read_bytes() == rows
    assert main(["fit", "--ckpt_path", "run", "--trainer.default_root_dir", "finished"]) == 0
    assert is_whole(Path("finished/checkpoints/last.ckpt"))  # though nothing was left to do
    longer = ["--schedule.online_env_steps", "20", "--trainer.default_root_dir", "new"]
    assert main(["fit", "--ckpt_path", "run", *longer]) == 0
    made = [read_run(Path(name, "checkpoints", "last.ckpt")) for name in ("run", "new")]
    assert [c["agent"]["gradient_updates"] for c in made] == [40, 60]
    capsys.readouterr()
    assert main(["validate", "--ckpt_path", "run"]) == 0
    best = capsys.readouterr().out
    assert main(["validate", "--ckpt_path", "run/checkpoints/best.ckpt"]) == 0
    assert capsys.readouterr().out == best


def test_default_folders_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "NOW")
    monkeypatch.setattr("os.getpid", lambda: 7)
    for expected in ("Hopper-v5-seed3-NOW-7", "Hopper-v5-seed3-NOW-7-2", "Hopper-v5-seed3-NOW-7-3"):
        folder = fresh_folder("Hopper-v5", 3)
        assert folder == Path("runs", expected)
        folder.mkdir(parents=True)
    assert fresh_folder("module:Name/Env-v0", 0) == Path("runs/module-Name-Env-v0-seed0-NOW-7")


def resolved(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as done:
        main(["fit", *words, "--print_config"])
    assert done.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_base_yaml_is_the_code_s_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    defaults = resolved(capsys)
    assert defaults["model"]["policy_delay"] is None  # in code: what the method can have
    defaults["model"]["policy_delay"] = 2  # the default method's
    assert resolved(capsys, "--config", "base") == defaults
    base = yaml.safe_load((packaged_folder() / "base.yaml").read_text(encoding="utf-8"))
    elsewhere = {"trainer", "ckpt_path"}  # Lightning's own
    assert set(base) == set(defaults) - elsewhere
    for group, keys in base.items():
        if isinstance(keys, dict):
            assert set(keys) == set(defaults[group]), group


def test_options_win_over_files_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("model:\n  gamma: 0.5\n  tau: ${model.gamma}\n")
    config = resolved(capsys, "--model.gamma", "0.6", "--config", "a.yaml")
    assert (config["model"]["gamma"], config["model"]["tau"]) == (0.6, 0.6)
    config = resolved(capsys, "--config=a.yaml", "--alpha.ceiling=${model.gamma}")
    assert (config["model"]["gamma"], config["alpha"]["ceiling"]) == (0.5, 0.5)


def test_numbers_are_read_as_people_mean_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("numbers.yaml").write_text(
        "seed_everything: 010\nmodel: {gamma: 1e-3}\nlogging: {wandb_name: on}\n"
    )
    Path("empty.yaml").touch()
    Path("commented.yaml").write_text("# model:\n#   gamma: 0.5\n")
    Path("heir.yaml").write_text("inherit: numbers\n")
    files = ["--config", "heir.yaml", "--config", "empty.yaml", "--config", "commented.yaml"]
    config = resolved(capsys, *files, "--model.tau", "1e-2", "--alpha.kp", "010")
    assert (config["seed_everything"], config["model"]["gamma"]) == (10, 1e-3)
    assert (config["model"]["tau"], config["alpha"]["kp"]) == (1e-2, 10.0)
    assert config["logging"]["wandb_name"] == "on"


def test_help_and_listing_import_no_pytorch(tmp_path: Path) -> None:
    script = """
import sys
from adabc_lightning.__main__ import main
words = [[], ["--help"], ["--version"], ["configs"], ["fit", "--help"], ["validate", "-h"]]
assert [main(line) for line in words] == [0] * len(words)
assert main(["fit", "--config", "nowhere"]) == main(["ft"]) == main(["train"]) == 2
heavy = {"torch", "lightning", "numpy", "gymnasium", "pydantic", "wandb"} & set(sys.modules)
assert not heavy, heavy
"""
    result = process("-c", script, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for phrase in ("pre-train on a dataset", "hopper.yaml", "offline_updates: 1000000"):
        assert phrase in result.stdout
    said = result.stderr.splitlines()
    assert said[1] == "error: 'ft' is no command; did you mean 'fit'?"
    assert said[2] == "error: 'train' is no command; did you mean 'fit'?"


# Words after a tiny fit (or a whole command line, where they start with a command), and what the
# one line must say. Files that a case needs stand beside it.
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
OTHERS = "lightning.pytorch.callbacks"
MISTAKES = [
    # keys
    ("--model.gama 0.9", "there is no key 'model.gama'; did you mean 'model.gamma'?"),
    ("--model.gama=0.9", "there is no key 'model.gama'; did you mean 'model.gamma'?"),
    ("--data.batchsize 3", "there is no key 'data.batchsize'; did you mean 'data.batch_size'?"),
    ("--alpa.kp 3", "there is no key 'alpa.kp'; did you mean 'alpha.kp'?"),
    ("--scheduel.updates 3", "there is no key 'scheduel.updates'; did you mean 'schedule'?"),
    ("--trainer.max_epoch 3", "no key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
    ("--gama 0.9", "there is no key 'gama'; did you mean 'model.gamma'?"),
    ("--alpha.foo 3", "alpha has: kp, kd, target, ceiling, initial, average_rate"),
    ("--foo 3", "known: seed_everything, trainer, model, data, schedule, logging, "),
    ("--model.gamma.x 3", "there is no key 'model.gamma.x'; did you mean 'model.gamma'?"),
    ("--model 3", "model takes no value; it has keys: num_critics, subset_size, "),
    ("--data.seed 3", "there is no key 'data.seed'; data has: env_id, dataset, "),
    ("--model.gamma", "--model.gamma needs a value"),
    ("model.gamma=0.9", "'model.gamma=0.9' has no meaning here; write --model.gamma=0.9"),
    ("extra", "there is no key 'extra'; known: "),
    ("-x", "there is no key 'x'; known: "),
    ("--config", "--config needs the name of a config file"),
    ("--print_config=foo", 'Invalid option "foo" for --print_config'),
    # types
    ("--model.gamma abc", "model.gamma is abc; it must be a number"),
    ("--model.gamma null", "model.gamma is null; it must be a number"),
    ("--schedule.offline_updates 1.5", "schedule.offline_updates is 1.5; it must be a whole"),
    ("--schedule.offline_updates null", "schedule.offline_updates is null; it must be a whole"),
    ("--seed 3", "there is no key 'seed'; did you mean 'seed_everything'?"),
    ("--utd_ratio 3", "no key 'utd_ratio'; did you mean 'schedule.updates_per_env_step'?"),
    ("--model.discount 0.9", "there is no key 'model.discount'; did you mean 'model.gamma'?"),
    (
        "--ckpt_path policy.onnx",
        "policy.onnx is a file of an export; give its folder, .",
    ),
    ("--config iql", "there is no config 'iql'; did you mean 'method/iql'?"),
    ("--model.hidden_sizes 8", "model.hidden_sizes is 8; it must be a list of whole numbers"),
    ("--model.hidden_sizes [8,a]", "it must be a list of whole numbers"),
    ("--data.observation_keys [1]", "data.observation_keys is [1]; it must be a list of texts or"),
    ("--data.done_means .nan", "data.done_means is .nan; it must be terminal, timeout or null"),
    ("--logging.wandb bogus", "logging.wandb is bogus; it must be auto, online, offline or dis"),
    ("--logging.tensorboard on", "logging.tensorboard is on; it must be true or false"),
    ("--config yes.yaml", "logging.tensorboard is yes; it must be true or false"),
    ("--config grouped.yaml", "schedule.offline_updates is 1_000; it must be a whole number"),
    ("--model.hidden_sizes [8,1:30]", "it must be a list of whole numbers"),
    ("--trainer.callbacks {a:", "trainer.callbacks"),
    ("--logging.tensorboard 3", "logging.tensorboard is 3; it must be true or false"),
    ("--seed_everything true", "seed_everything is true; it must be a whole number"),
    ("--trainer.max_epochs abc", "trainer.max_epochs is abc; it must be a whole number or null"),
    ("--trainer.callbacks Foo", "is Foo; it must be a list of Callback, a Callback or null"),
    # ranges
    ("--seed_everything -1", "seed_everything is -1; it must be between 0 and 4294967295"),
    ("--model.gamma 1.5", "model.gamma is 1.5; it must be between 0 and 1"),
    ("--model.subset_size 11", "1 ≤ subset_size ≤ num_critics"),
    ("--schedule.evaluation_every 0", "schedule.evaluation_every is 0; it must be 1 or more"),
    ("--downsampling.method foo", "downsampling.method is foo; it must be random or best"),
    ("--evaluation.episodes 0", "evaluation.episodes is 0; it must be between 1 and 10000"),
    ("--data.replay_capacity 100", "downsampling keeps 50000 transitions, data.replay_capacity"),
    # methods
    (
        "--model.method foo",
        "(adabc_lightning.agent.methods has AWAC, CQL, CalQL, IQL, RLPD, ReBRAC, SAC, SPOT, TD3BC,",
    ),
    (
        "--model.method adabc_lightning.agent.methods.AWAK",
        "SAC, SPOT, TD3BC, WSRL) or null",
    ),
    ("--model.method AWAC --model.method.beta -1", "model.method.beta is -1; it must"),
    ("--config method/awac --model.method.beta -1", "model.method.beta is -1; it must be"),
    (
        "--config method/iql --model.method CQL",
        "the config files choose the method IQL and --model.method chooses CQL",
    ),
    (
        "--config method/awac --model.method.bata 1",
        "model.method has no key 'bata' with AWAC; did you mean 'beta'?",
    ),
    (
        "--config method/cql --model.method.cql_alpha 1",
        "model.method has no key 'cql_alpha' with CQL; did you mean 'weight'?",
    ),
    (
        "--config method/cal_ql --model.method.wieght 1",
        "model.method has no key 'wieght' with CalQL; did you mean 'weight'?",
    ),
    (
        "--config method/rlpd --model.method.weight 1",
        "model.method has no key 'weight' with RLPD; known: actor_learning_rate, ",
    ),
    ("--config method/cql --model.method.samples x", "model.method.samples is x; it must be a wh"),
    ("--model.method.weight 1", "model.method has no key 'weight', as no method is named"),
    ("--config keys.yaml", "keys.yaml: model.method has no key 'expectile', as no method is named"),
    (
        "--config keys.yaml --config method/cql",
        "keys.yaml: model.method has no key 'expectile', as no method is named; give --config met",
    ),
    (
        "--config method/cql --config keys.yaml",
        "keys.yaml: model.method has no key 'expectile' with CQL; known: weight, ",
    ),
    (
        "--config method/iql --model.method.init_args {expectile:0.8}",
        "model.method.init_args takes no value; give its keys one by one, such as --model.method.",
    ),
    (
        '--model.method {"class_path":"adabc_lightning.agent.methods.AWAC","init_args":{"bata":1}}',
        "--model.method: model.method has no key 'bata' with AWAC; did you mean 'beta'?",
    ),
    (
        "--config method/cql --config method/awac",
        "--config method/cql and --config method/awac each choose a method; give one of them",
    ),
    ("--model.target_rule foo", "model.target_rule must be the dotted path of a function whose"),
    (
        "--model.target_rule adabc_lightning.agent.losses.foo",
        "losses.foo; it must be the dotted path",
    ),
    (
        "--model.target_rule adabc_lightning.agent.losses.critic_loss",
        "target_rule does not work: critic",
    ),
    (
        "--model.target_rule adabc_lightning.agent.losses.behavior_cloning",
        "target_rule does not work",
    ),
    ("--config odd.yaml", "5 critics do not make two groups"),
    ("--config method/awacc", "did you mean 'method/awac'?"),
    ("--config method/balanced_replay --data.replay_capacity 9", "it must be null"),
    ("--config full.yaml", "BalancedReplay.online_fraction is 1.0; it must be at least 0 and"),
    # environments and datasets
    ("--data.env_id Hoper-v5", "'Hoper-v5' is not registered; did you mean 'Hopper-v5'?"),
    ("--data.env_id robot-of-mine-v0", "my_package:Name-v0, and with --allow my_package"),
    ("--data.env_id CartPole-v1", "only a Box of one dimension and of floats"),
    ("--data.env_id nomodule:X-v0", "environment 'nomodule:X-v0' names nomodule, and only"),
    ("--data.env_id Walker2d-v5", "must be of the same task"),
    ("--data.dataset hopper-medium", "did you mean 'hopper-medium-replay'?"),
    ("--data.dataset garbage.ckpt", "garbage.ckpt is not a readable HDF5 file"),
    ("--data.dataset null", "data.dataset is null but schedule.offline_updates is 20"),
    # config files
    ("--config nowhere", "config 'nowhere' is neither in "),
    ("--config twice.yaml", "'kp' is given in line 2 and again in line 3; leave one of them"),
    ("--config typo.yaml", "typo.yaml: there is no key 'model.gama'; did you mean 'model.gamma'?"),
    ("--config top.yaml", "top.yaml: there is no key 'alpa'; did you mean 'alpha'?"),
    ("--config deep.yaml", "deep.yaml: there is no key 'trainer.max_epoch'; did you mean"),
    ("--config flat.yaml", "flat.yaml: model takes no value; it has keys: num_critics, "),
    ("--config empty_group.yaml", "empty_group.yaml: model takes no value; it has keys: "),
    ("--config type.yaml", "model.gamma is abc; it must be a number"),
    ("--config list.yaml", "list.yaml holds a list; it must map keys to values"),
    ("--config lost.yaml", "model.tau cannot be resolved: there is no key 'model.gama'; did you"),
    ("--config circle.yaml", "model.tau cannot be resolved: Recursive interpolation detected"),
    # checkpoints and folders
    ("--ckpt_path nowhere.ckpt", "there is no checkpoint nowhere.ckpt"),
    ("--ckpt_path .", ". is a folder without a run's checkpoint"),
    ("--ckpt_path garbage.ckpt", "garbage.ckpt is no readable checkpoint"),
    ("--trainer.default_root_dir s3://bucket/a", "s3:/bucket/a is a URL; it must be a file or"),
    ("--ckpt_path last", "--ckpt_path last needs --trainer.default_root_dir"),
    ("--trainer.default_root_dir list.yaml/x", "but no folder can be made there"),
    ("validate --ckpt_path garbage.ckpt", "garbage.ckpt lies in no run's folder, whose"),
    ("validate --config hopper --ckpt_path garbage.ckpt", "is no readable checkpoint"),
    ("validate --ckpt_path .", ". lies in no run's folder, whose config would be taken"),
    ("--trainer.precision 16-mixed", "trainer.precision is 16-mixed; only 32-true is supported"),
    ("validate --config hopper", "validate needs --ckpt_path, a checkpoint of a run"),
    # Lightning
    pytest.param("--trainer.accelerator gpu", "No supported gpu backend found", marks=needs_no_gpu),
    ("--trainer.accelerator foo", "trainer: You selected an invalid accelerator name"),
    ("--trainer.accelerator cpu --trainer.devices 0", "not a valid input using cpu accelerator"),
    ("--trainer.accelerator cpu --trainer.devices 3", "on 3 devices it must be a multiple of 3"),
    ("--trainer.precision 16-true", "trainer.precision is 16-true; only 32-true is supported"),
    ("--trainer.gradient_clip_val 1", "gradient clipping is not supported"),
    # commands
    (f"--trainer.callbacks+ {OTHERS}.EarlyStopping", "needs trainer.callbacks.init_args.monitor"),
    (
        f"--trainer.callbacks+ {OTHERS}.EarlyStopping --trainer.callbacks.monitor a "
        "--trainer.callbacks.mode up",
        f"error: {OTHERS}.EarlyStopping: `mode` can be min, max, got up",
    ),
    ("configs hopper", "configs takes no arguments, but 'hopper' is given"),
]
FILES = {
    "typo.yaml": "model: {gama: 0.9}",
    "top.yaml": "alpa: {kp: 3}",
    "deep.yaml": "trainer: {max_epoch: 3}",
    "flat.yaml": "model: 3",
    "empty_group.yaml": "seed_everything: 1\nmodel:\n",
    "type.yaml": "model: {gamma: abc}",
    "list.yaml": "[1, 2]",
    "yes.yaml": "logging: {tensorboard: yes}",
    "grouped.yaml": "schedule: {offline_updates: 1_000}",
    "twice.yaml": "alpha:\n  kp: 1\n  kp: 2\n",
    "lost.yaml": 'model: {tau: "${model.gama}"}',
    "circle.yaml": 'model: {tau: "${model.tau}"}',
    "odd.yaml": "model: {num_critics: 5, subset_size: 5, target_rule: "
    "adabc_lightning.agent.losses.minimum_of_group_means}",
    "keys.yaml": "model: {method: {init_args: {expectile: 0.8}}}",
    "full.yaml": "inherit: method/balanced_replay\ntrainer: {callbacks: [{class_path: "
    "adabc_lightning.callbacks.BalancedReplay, init_args: {online_fraction: 1.0}}]}",
    "garbage.ckpt": "garbage",
    "policy.onnx": "of an export",
}


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    line: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, content in FILES.items():
        Path(name).write_text(content)
    words = line.split()
    whole = words[0] in ("validate", "configs")
    assert main(words if whole else [*TINY, *words]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert set(os.listdir()) == set(FILES)


def test_a_checkpoint_of_something_else() -> None:
    torch.save({"state_dict": {}}, "other.ckpt")
    with pytest.raises(UserError, match=r"other.ckpt is no checkpoint of adabc_lightning"):
        read_run(Path("other.ckpt"))
    Path("run").mkdir()
    Path("run/config.yaml").touch()  # a run that was killed at once, or a user's own file
    with pytest.raises(UserError, match="run already holds a run"):
        checkpoint_to_resume(Path("run"), None, check_run)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (None | bool | str, "true or false, text or null"),
        (Literal["a", "b", "c"], "a, b or c"),
        (list[str] | dict[str, int], "a list of texts or a mapping"),
        (Path, "a Path"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert in_words(kind) == words


class FakeWandb(types.ModuleType):
    """Weights & Biases with credentials or not, whose ``init`` can fail."""

    def __init__(self, logged_in: bool, fails: Callable[[str], bool]) -> None:
        super().__init__("wandb")
        self.logged_in, self.fails, self.modes = logged_in, fails, []
        self.Settings = lambda **options: options
        self.setup = lambda settings: None

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt
        assert not verify
        return self.logged_in

    def init(self, *, mode: str, **_: Any) -> Any:
        self.modes.append(mode)
        if self.fails(mode):
            raise ConnectionError("no network\nat all")
        return types.SimpleNamespace(define_metric=lambda *_, **__: None)


@pytest.mark.parametrize(
    ("wanted", "environment", "logged_in", "failing", "modes", "said"),
    [
        ("auto", None, True, [], ["online"], ""),
        ("auto", None, False, [], ["offline"], ""),
        ("auto", "offline", True, [], ["offline"], ""),
        ("auto", "disabled", True, [], [], ""),
        ("disabled", None, True, [], [], ""),
        ("online", "disabled", False, [], ["offline"], "goes on offline: not logged in, which `wa"),
        ("auto", "online", False, [], ["offline"], "goes on offline: not logged in, which `wa"),
        ("auto", None, True, ["online"], ["online", "offline"], "goes on offline: no network at"),
        ("auto", None, False, ["offline"], ["offline"], "is off: no network at all"),
    ],
)
def test_wandb_never_asks_and_never_fails_a_run(
    wanted: Literal["auto", "online", "disabled"],
    environment: str | None,
    logged_in: bool,
    failing: list[str],
    modes: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = FakeWandb(logged_in, failing.__contains__)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(loggers_module, "WandbLogger", lambda experiment, save_dir: experiment)
    if environment is None:
        monkeypatch.delenv("WANDB_MODE", raising=False)
    else:
        monkeypatch.setenv("WANDB_MODE", environment)
    loggers = make_loggers(Logging(wandb=wanted), Path("run"))
    assert fake.modes == modes
    assert len(loggers) == (bool(modes) and modes[-1] not in failing)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == bool(said)


def test_a_run_that_goes_on_is_one_run_at_every_logger(run: Path) -> None:
    """Killed after its last checkpoint, before TensorBoard and W&B knew of an end."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path("run")
    shutil.copytree(run, folder)
    known = folder / "wandb" / "run-id"
    known.write_text(known.read_text().splitlines()[0])  # or it would be a copy, another run
    last = folder / "checkpoints" / "last.ckpt"
    shutil.copy(folder / "checkpoints" / "pretrained.ckpt", last)
    words = ["--ckpt_path", "last", "--trainer.default_root_dir", "run"]
    result = process("-m", "adabc_lightning", "fit", *words, cwd=Path.cwd())
    assert result.returncode == 0, result.stderr
    assert len(list((folder / "tensorboard").glob("events.*"))) == 2
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    for name in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(name)]
        assert len(set(steps)) == len(steps), name
    assert [event.step for event in events.Scalars("eval/return")] == [10, 20, 50]
    assert [event.step for event in events.Scalars("diagnostics/q_gap")] == [10, 20, 50]
    ids = {path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*")}
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 2
    assert [*ids, str(folder.resolve()), "adabc_lightning"] == known.read_text().splitlines()
    assert not result.stderr.count("\n") > 1


def test_tensorboard_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'adabc_lightning\[tensorboard\]'"):
        Logging(tensorboard=True)


@pytest.mark.parametrize("unbuffered", ["", "1"])  # written at once, or at the end
def test_a_reader_that_has_read_enough_ends_a_command_silently(unbuffered: str) -> None:
    line = [sys.executable, "-m", "adabc_lightning", "configs"]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_another_broken_pipe_is_no_reader_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_another(*arguments: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("adabc_lightning.__main__.answer", break_another)
    with pytest.raises(BrokenPipeError):
        main(["configs"])


def test_fit_alone_asks_for_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 2
    assert capsys.readouterr().err.startswith("error: fit needs a config, such as --config hopper")


def test_a_dry_run_makes_no_logger_and_names_a_callback_of_choices(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"--trainer.callbacks+ {OTHERS}.Timer --trainer.logger lightning.pytorch.loggers."
    logger = f"{words}CSVLogger --trainer.logger.save_dir logs --dry-run"
    assert main(["fit", "--config", "hopper", "--config", "quick", *logger.split()]) == 0
    assert not list(tmp_path.iterdir())


def test_configs_answers_help(capsys) -> None:
    assert main(["configs", "--help"]) == 0
    assert "hopper.yaml" in capsys.readouterr().out
