"""Experiments: the plan of every packaged one, and a tiny one that is run, cut and gone on with."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from paths import REPOSITORY
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.agent import products
from adabc_lightning.commands.experiment import rehearsal
from adabc_lightning.commands.experiment.declaration import packaged_experiments, read, slug
from adabc_lightning.commands.experiment.folders import prepare, unfinished, waits_for
from adabc_lightning.commands.experiment.plan import Choice, defaults, plan
from adabc_lightning.commands.experiment.rehearsal import rehearse
from adabc_lightning.commands.results import SCORES
from adabc_lightning.env.scores import REFERENCES
from adabc_lightning.run.config_files import merged, resolve
from adabc_lightning.run.schedule import Schedule

# runs (tasks × variants × seeds), pre-trainings (tasks × recipes × seeds)
COUNTS = {
    "fig1": (4 * 3 * 3, 4 * 1 * 3),
    "fig2": (12 * 5 * 5, 12 * 4 * 5),
    "fig3": (4 * 2 * 3, 4 * 1 * 3),
    "fig4": (4 * 5 * 3, 4 * 1 * 3),
    "fig5": (4 * 7 * 3, 4 * 1 * 3),
    "fig6": (4 * 3 * 3, 4 * 3 * 3),
    "fig7": (6 * 2 * 3, 6 * 1 * 3),
    "small": (1 * 21 * 3, 1 * 5 * 3),
    "small --config small": (1 * 21 * 3, 1 * 5 * 3),  # `make small`
    "small_random --config small": (1 * 2 * 3, 1 * 2 * 3),
    "methods --config small": (2 * 18 * 3, 2 * 11 * 3),
    "mid": (5 * 9 * 3, 5 * 5 * 3),
    "falls --config small": (4 * 6 * 5, 4 * 1 * 5),
    "steady_parts --config small": (1 * 7 * 3, 1 * 2 * 3),
    "falls --config small --replicas": (4 * 6, 4 * 1),  # processes, of five seeds each
    "falls --config small_adroit --tasks pen-expert": (1 * 6 * 5, 1 * 1 * 5),
}
TOY = """
inherit: base.yaml
schedule: {offline_updates: 6, online_env_steps: 8, updates_per_env_step: 1, evaluation_every: 4}
data: {env_id: InvertedPendulum-v5, dataset: log.hdf5, batch_size: 8, replay_capacity: 150,
  reference_min: 0.0, reference_max: 10.0}
model: {hidden_sizes: [8], num_critics: 3}
downsampling: {minimum: 10}
evaluation: {episodes: 1}
trainer: {accelerator: cpu}
"""
PAIR = """
seeds: 2
tasks: [toy]
variants:
  adaptive: {}
  Fixed α: {options: {alpha.kp: 0, alpha.kd: 0, alpha.initial: 0.1, downsampling.keep: 1.0}}
"""


def toy_experiment(folder: Path, toy: str = TOY, pair: str = PAIR) -> None:
    """A toy task and an experiment of two variants."""
    write_log(folder / "log.hdf5", 4, 1)
    (folder / "toy.yaml").write_text(toy)
    (folder / "pair.yaml").write_text(pair)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with them."""
    monkeypatch.chdir(tmp_path)
    toy_experiment(tmp_path)


def dry_run(capsys: pytest.CaptureFixture[str], line: str) -> list[list[str]]:
    """The words after ``fit`` of each command of a plan."""
    assert main(["experiment", *shlex.split(line), "--dry-run"]) == 0
    *commands, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("# ")
    prefix = "python -m adabc_lightning fit "
    assert all(command.startswith(prefix) for command in commands)
    return [shlex.split(command.removeprefix(prefix)) for command in commands]


def value(words: list[str], option: str) -> str | None:
    """The last value of an option."""
    found = [words[i + 1] for i, word in enumerate(words) if word == option]
    return found[-1] if found else None


def test_a_method_may_be_a_file_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/idea.yaml").write_text("inherit: method/td3_bc\nmodel: {gamma: 0.5}\n")
    Path("idea.yaml").write_text(Path("mine/idea.yaml").read_text())
    Path("td3_bc.yaml").write_text("model: {gamma: 0.5}\n")  # no method, but of the name of one
    methods = ("mine/idea.yaml", "mine/idea", "idea.yaml", "td3_bc", "td3_bc.yaml", "method/td3_bc")
    for number, method in enumerate(methods):
        Path(f"own{number}.yaml").write_text(
            f"seeds: 1\ntasks: [toy]\nvariants: {{idea: {{method: {method}}}}}\n"
        )
        for words in dry_run(capsys, f"own{number}"):
            assert config_of(words)["model"].get("gamma", 0.99) == (0.99 if number > 2 else 0.5)
            assert config_of(words)["model"]["num_critics"] == 2


def config_of(words: list[str]) -> dict[str, Any]:
    """What a command's configs and options resolve to."""
    files, rest = resolve("fit", words)
    options = {
        option.removeprefix("--"): yaml.safe_load(text)
        for option, text in zip(rest[::2], rest[1::2], strict=True)
    }
    return merged(files, options)


def test_every_packaged_experiment_is_counted() -> None:
    assert set(packaged_experiments()) == {line.split()[0] for line in COUNTS}
    for name, about in packaged_experiments().items():
        kind = name.partition("_")[0].capitalize()
        assert about.startswith(f"Fig. {name[-1]}: " if name.startswith("fig") else f"{kind}: ")


@pytest.mark.parametrize("line", COUNTS)
def test_the_plan_of_a_packaged_experiment(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = dry_run(capsys, line)
    alone = [words for words in commands if value(words, "--schedule.online_env_steps") == "0"]
    runs = [words for words in commands if words not in alone]
    assert (len(runs), len(alone)) == COUNTS[line]
    folders = [value(words, "--trainer.default_root_dir") for words in commands]
    assert len(set(folders)) == len(folders)
    for i, words in enumerate(commands):  # what a run starts from stands before it
        if checkpoint := value(words, "--ckpt_path"):
            pretraining = folders.index(checkpoint.removesuffix("/checkpoints/pretrained.ckpt"))
            assert pretraining < i
            assert commands[pretraining] in alone
            assert value(commands[pretraining], "--seed_everything") == value(
                words, "--seed_everything"
            )


def test_a_command_of_the_plan_can_be_typed_as_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADABC_ALLOW", "theirs")
    commands = dry_run(capsys, "pair --allow mine --allow=mine.too")
    assert commands
    assert all(words[-4:] == ["--allow", "mine", "--allow", "mine.too"] for words in commands)


def test_paper_scale(capsys: pytest.CaptureFixture[str]) -> None:
    for words in dry_run(capsys, "fig2 --seeds 1 --tasks walker2d-random"):
        config = config_of(words)
        scratch = "redq-scratch" in str(value(words, "--trainer.default_root_dir"))
        alone = value(words, "--schedule.online_env_steps") == "0"
        schedule = config["schedule"]
        assert schedule["offline_updates"] == (0 if scratch else 1_000_000)
        assert schedule["online_env_steps"] == (0 if alone else 250_000)
        assert (config["data"]["dataset"] is None) == scratch
        assert (value(words, "--ckpt_path") is None) == (alone or scratch)


def test_ratios_of_fig5_are_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    kept = set()
    for words in dry_run(capsys, "fig5 --seeds 1 --tasks hopper-random"):
        if "--ckpt_path" not in words:  # the pre-training, before the hand-over
            continue
        config = config_of(words)
        assert config["data"]["replay_capacity"] is None
        assert config["downsampling"]["minimum"] == 0
        kept.add((config["downsampling"]["method"], config["downsampling"]["keep"]))
    ratios = (0.05, 0.1, 0.5)
    expected = {(m, keep) for m in ("random", "best") for keep in ratios} | {("random", 1.0)}
    assert kept == expected


@pytest.mark.parametrize(("task", "r_max"), [("walker2d", 10.271), ("hopper", 6.918)])
def test_target_of_fig7(task: str, r_max: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Eq. 2's step for returns divided by r_max·T, with the target 1."""
    line = f"fig7 --seeds 1 --tasks {task}-medium-expert --variants r-max-t"
    alpha = config_of(dry_run(capsys, line)[-1])["alpha"]
    reference, highest = REFERENCES[task], 1000 * r_max
    average, current = 2000.0, 1500.0
    proportional = alpha["kp"] * (reference.fraction(average) - alpha["target"])
    assert proportional == pytest.approx(3e-5 * (average / highest - 1), rel=1e-5)
    drop = alpha["kd"] * (reference.fraction(average) - reference.fraction(current))
    assert drop == pytest.approx(1e-4 * (average - current) / highest, rel=1e-5)


def test_scale_overlays_and_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("method").mkdir()
    Path("method/mine.yaml").write_text("model: {tau: 0.25}\n")
    Path("small.yaml").write_text(
        "model: {tau: 0.5, gamma: 0.5}\nschedule: {updates_per_env_step: 7}\nalpha: {kp: 7.0}\n"
    )
    Path("own.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  mine: {method: mine, options: {alpha.kp: 3}, options_for: {'x*, t*': {alpha.kd: 5}}}\n"
        "  none: {method: mine, options: {data.dataset: null, schedule.offline_updates: 0}}\n"
        "  other: {method: mine, options: {data.dataset: other.hdf5}}\n"
    )
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "toy.hdf5", 4, 1)
    line = "own --config small.yaml --scale 0.5 --data-dir data --out o"
    alone, mine, none, _, other = dry_run(capsys, line)
    assert config_of(other)["data"]["dataset"] == "other.hdf5"  # a variant's own, whatever is there
    config = config_of(mine)
    assert config["model"]["tau"] == 0.25  # the method wins over the overlay ...
    assert (config["alpha"]["kp"], config["alpha"]["kd"]) == (3, 5)  # ... the variant over both
    assert (config["model"]["gamma"], config["schedule"]["updates_per_env_step"]) == (0.5, 7)
    assert config["data"]["dataset"] == "data/toy.hdf5"
    schedule = config["schedule"]
    assert (schedule["offline_updates"], schedule["online_env_steps"]) == (3, 4)
    assert schedule["evaluation_every"] == 2
    assert config_of(alone)["schedule"] == {**schedule, "online_env_steps": 0}
    nothing = config_of(none)
    assert nothing["data"]["dataset"] is None
    assert nothing["schedule"]["offline_updates"] == 0
    assert value(none, "--ckpt_path") is None
    tiniest = config_of(dry_run(capsys, line.replace("0.5", "0.001"))[1])["schedule"]
    assert (tiniest["offline_updates"], tiniest["evaluation_every"]) == (1, 1)


def test_keys_of_fit_hold_for_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Also over what the file gives to all; what is not given stays."""
    Path("long.yaml").write_text(LONG.replace("OPTION", "alpha.kp: 0"))
    line = "experiment long --dry-run --seeds 1 --schedule.offline_updates 7 --model.tau=0.5"
    assert main([*line.split(), "--model.hidden_sizes", "[4, 4]"]) == 0
    *commands, total = capsys.readouterr().out.splitlines()
    assert len(commands) == 3  # kp is the hand-over's: one pre-training
    words = "--schedule.offline_updates 7", "--model.tau 0.5", "--model.hidden_sizes '[4, 4]'"
    assert all(each in command for each in words for command in commands)
    assert "--alpha.kp 0" in commands[2]
    assert total.startswith("# 1 pre-trainings, 2 runs; 3 of them left")


def test_callbacks_that_are_none_are_for_fit_to_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    trials = "adabc_lightning.callbacks.Trials"
    given = ("3", "{steps: a}", "{tried: 3}", "{episodes: 0}")
    wrong = [f"[{{class_path: {trials}, init_args: {value}}}]" for value in given]
    for value in ("[a]", "[1]", "abc", "[{init_args: {}}]", f"[{trials}]", *wrong):
        assert main(["experiment", "pair", "--dry-run", "--trainer.callbacks", value]) == 0
        assert "--trainer.callbacks" in capsys.readouterr().out.splitlines()[0]


def test_what_pretraining_cannot_depend_on_is_shared_and_the_rest_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = "alpha.kp: 1, downsampling.method: best, data.replay_capacity: null"
    shared += ", data.exploration_noise: 0.3, schedule.updates_per_env_step: 3"
    shared += ", schedule.frozen_env_steps: 4, data.frozen_actions: uniform"
    shared += ", data.offline_fraction: 0.5"
    for options, recipes in (
        (shared, 1),
        ("model.alpha_offline: 0.1", 2),
        ("model.subset_size: 1", 2),
        ("data.batch_size: 9", 2),
        ("schedule.evaluation_every: 3", 2),
        ("evaluation.episodes: 3", 2),
    ):
        Path("e.yaml").write_text(
            f"seeds: 1\ntasks: [toy]\nvariants: {{a: {{}}, b: {{options: {{{options}}}}}}}\n"
        )
        assert len(dry_run(capsys, "e")) == 2 + recipes, options


def test_what_is_shared_changes_no_pre_training(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    made = []
    for data, frozen in (
        ({}, 0),
        ({"offline_fraction": 0.5, "frozen_actions": "uniform", "exploration_noise": 0.3}, 4),
    ):
        schedule = Schedule(6, 0, 2, frozen, evaluation_every=3)
        trainer, module, datamodule = tiny_run(
            tmp_path / str(frozen), register_toy(), log, schedule=schedule, data=data
        )
        trainer.fit(module, datamodule)
        made.append(module.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())


def test_shared_pretraining_is_not_refused_for_one_variants_hand_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("e.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  a: {options: {downsampling.keep: 1.0, data.replay_capacity: 9, alpha.initial: 9,\n"
        "    model.tau: 0.5, data.download: true}}\n"
        "  b: {options: {model.tau: 0.5}}\n"
    )
    alone, first, _ = dry_run(capsys, "e")
    config = config_of(alone)
    assert (config["downsampling"]["keep"], config["alpha"]["initial"]) == (0.05, None)
    assert config["data"]["replay_capacity"] is None  # not refused, whatever a config keeps
    assert (config["model"]["tau"], config["data"]["download"]) == (0.5, True)
    assert config_of(first)["data"]["replay_capacity"] == 9


def test_replicas_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("e.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n  five: {options: {model.replicas: 5}}\n"
    )
    assert main(["experiment", "e"]) == 2
    said = "five on toy: model.replicas is 5; an experiment makes a run for each of its seeds"
    assert said in capsys.readouterr().err


def test_tasks_given_as_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    for name in ("one", "two"):
        Path("sub", f"{name}.yaml").write_text(TOY.replace("log.hdf5", "../log.hdf5"))
    tasks = f"toy.yaml,{tmp_path}/sub/one,sub/two,toy"
    runs = [
        w for w in dry_run(capsys, f"pair --seeds 1 --out o --tasks {tasks}") if "--ckpt_path" in w
    ]
    folders = [value(words, "--trainer.default_root_dir") for words in runs]
    expected = [f"o/{t}/{v}/seed0" for t in ("toy", "one", "two") for v in ("adaptive", "fixed-α")]
    assert folders == [folder.replace("fixed-α", slug("Fixed α")) for folder in expected]


def test_arguments_of_a_method_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    Path("e.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  2.0: {method: awac}\n"
        "  3.0: {method: awac, options: {model.method.init_args.beta: 3.0}}\n"
    )
    betas = [config_of(w)["model"]["method"]["init_args"]["beta"] for w in dry_run(capsys, "e")]
    assert betas == [2.0, 2.0, 3.0, 3.0]


def test_the_plan_imports_no_pytorch() -> None:
    script = """
import sys
from adabc_lightning.__main__ import main
assert main(["experiment", "fig4", "--dry-run"]) == 0
heavy = {"torch", "lightning", "numpy", "gymnasium", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


MISTAKES = [
    ("fig22", "there is no experiment 'fig22'", "did you mean 'fig2'?"),
    ("fig4 --tasks walker2d-mediun", "config 'walker2d-mediun.yaml'", "mean 'walker2d-medium'?"),
    ("pair --variants adaptiv", "is no variant of pair", "did you mean 'adaptive'?"),
    ("pair --config nowhere", "config 'nowhere' is neither in", ""),
    ("pair --data-dir nowhere", "--data-dir: there is no folder nowhere", ""),
    ("pair --out log.hdf5", "--out: log.hdf5 is no folder", ""),
    ("pair --out log.hdf5/sub --dry-run", "--out: log.hdf5/sub is no folder", ""),
    ("pair --tasks toy,sub/toy.yaml", "toy and sub/toy would share the folder toy", ""),
    ("beta", "no key 'model.method.beta'", "did you mean 'model.method.init_args.beta'?"),
    ("pair --scale 0", "--scale is 0; it must be a number above 0", ""),
    ("pair --seeds 0", "--seeds is 0; it must be a whole number from 1 to 10,000", ""),
    ("pair --sceds 1", "there is no option --sceds", "did you mean '--seeds'?"),
    ("no_seeds", "no_seeds.yaml: seeds is None; it must be a whole number from 1 to 10,000", ""),
    ("field", "there is no field 'variant'", "did you mean 'variants'?"),
    ("key", "variant 'a': options: there is no key 'alpha.initia'", "'alpha.initial'?"),
    ("method", "config 'method/nowhere.yaml' is neither in", ""),
    ("lost", "config 'nowhere.yaml' is neither in", ""),
    ("foreign", "environment 'lift:Lift-v0' names lift", "add --allow lift"),
    ("nested", "write alpha with a dot, alpha.initial", ""),
    ("seed", "seed_everything is each run's own, from seeds; leave it out", ""),
    ("root", "trainer.default_root_dir is each run's own, below --out; leave it out", ""),
    ("twins", "variants 'a-b' and 'A b' would share the folder a-b", "; rename one"),
    ("greek", "variants 'β' and 'γ' would share the folder variant", "; rename one"),
    ("one", "variants '1' and '1' would share the folder 1", ""),
    ("text", "text.yaml: seeds is '3'; it must be a whole number from 1 to 10,000", ""),
    ("pair --model.tua 1", "the command line: there is no key 'model.tua'", "'model.tau'?"),
    ("pair --model.tau", "--model.tau has no value; write --model.tau VALUE", ""),
    ("pair --model.tau={", "--model.tau is '{', which is no YAML", ""),
    ("pair --model.tau --dry-run", "--model.tau has no value; write --model.tau VALUE", ""),
    ("pair --model.tau=" + "1" * 5000, "--model.tau is '11111", "which is no YAML"),
    ("pair --model.tau=!!int\tabc", "which is no YAML", ""),
    ("loop", "config loop.yaml has more than", "an alias in it (*name) may refer to itself"),
    ("pair --seeds 1000000000", "--seeds is 1000000000; it must be a whole number from 1 to", ""),
    ("pair --schedule.offline_updates abc", "schedule.offline_updates is 'abc'; it must be", ""),
    ("pair --schedule.online_env_steps null", "schedule.online_env_steps is None; it must", ""),
    ("pair --scale 0.5 --schedule.evaluation_every .inf", "evaluation_every is inf; it must", ""),
    ("up", "task '..' would have no folder of its own; rename it", ""),
    ("many", "many.yaml: seeds is 1000000000; it must be a whole number from 1 to 10,000", ""),
    ("bytes", "config bytes.yaml holds a bytes; it must be made of numbers, texts,", ""),
    ("pair --model.tau=!!binary\taGk=", "model.tau must be a number, a text, true or", ""),
    ("pair --tasks flat", "adaptive on flat: schedule must map keys to values", ""),
    ("pair --tasks lists", "trainer must map keys to values", ""),
    ("pair --seed_everything 3", "seed_everything is each run's own, from seeds; leave it out", ""),
    ("pair --ckpt_path x", "ckpt_path is each run's own, that of its pre-training", ""),
    ("pair --alpha.kp 1", "variant 'Fixed α' has its own; leave the option out", ""),
    ("kinds --model.num_critics 7", "variants 'a' and 'b' differ in it; leave the option out", ""),
    ('kinds --model.method={"class_path":"x"}', "variants 'a' and 'b' differ in it", ""),
    ('parent --model.method={"class_path":"x"}', "variant 'a' has its own", ""),
    ("pair --config null.yaml", "adaptive on toy: schedule must map keys to values", ""),
    ("pair --config model.yaml", "adaptive on toy: model must map keys to values", ""),
]
FILES = {
    "no_seeds.yaml": "{tasks: [toy], variants: {a: {}}}",
    "field.yaml": "{seeds: 1, tasks: [toy], variant: {a: {}}}",
    "key.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {alpha.initia: 1}}}}",
    "beta.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {model.method.beta: 1}}}}",
    "foreign.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {data.env_id: "
    "'lift:Lift-v0'}}}}",
    "nested.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {alpha: {initial: 1}}}}}",
    "seed.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {seed_everything: 7}}}}",
    "root.yaml": "{seeds: 1, tasks: [toy], variants: "
    "{a: {options: {trainer.default_root_dir: x}}}}",
    "method.yaml": "{seeds: 1, tasks: [toy], variants: {a: {method: nowhere}}}",
    "lost.yaml": "{seeds: 1, tasks: [nowhere], variants: {a: {}}}",
    "twins.yaml": "{seeds: 1, tasks: [toy], variants: {a-b: {}, A b: {}}}",
    "greek.yaml": "{seeds: 1, tasks: [toy], variants: {β: {}, γ: {}}}",
    "one.yaml": "{seeds: 1, tasks: [toy], variants: {1: {}, '1': {}}}",
    "up.yaml": "{seeds: 1, tasks: [...yaml], variants: {a: {}}}",
    "...yaml": TOY,
    "many.yaml": "{seeds: 1000000000, tasks: [toy], variants: {a: {}}}",
    "bytes.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {model.tau: !!binary aGk=}}}}",
    "loop.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: {model.tau: &a [*a]}}}}",
    "kinds.yaml": "{seeds: 1, tasks: [toy], variants: {a: {}, b: {method: iql}}}",
    "parent.yaml": "{seeds: 1, tasks: [toy], variants: {a: {options: "
    "{model.method.init_args.expectile: 0.9}}}}",
    "null.yaml": "schedule:",
    "model.yaml": "model:",
    "flat.yaml": "{inherit: toy.yaml, schedule: 3}",
    "lists.yaml": "{inherit: toy.yaml, trainer: [3]}",
    "text.yaml": "{seeds: '3', tasks: [toy], variants: {a: {}}}",
}


@pytest.mark.parametrize(("line", "what", "hint"), MISTAKES)
def test_a_mistake_is_one_line(
    line: str, what: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in FILES.items():
        Path(name).write_text(content)
    before = sorted(os.listdir())
    assert main(["experiment", *line.split(" ")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert what in printed.err
    assert hint in printed.err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("task", ["pen-expert", "door-expert", "hammer-expert", "relocate-expert"])
def test_methods_has_every_adroit_tasks_own_values(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the overlays NAME_adroit, and the frozen steps of the small protocol."""
    line = f"methods --config small_adroit --tasks {task} --seeds 1 --variants"
    for variant in ("IQL", "CQL", "Cal-QL", "SPOT", "ReBRAC", "RLPD", "WSRL"):
        *_, run = dry_run(capsys, f"{line} {variant}")
        found = config_of(run)
        name = variant.lower().replace("-", "_")
        overlay = REPOSITORY / "configs/method" / f"{name}_adroit.yaml"
        wanted = yaml.safe_load(overlay.read_text(encoding="utf-8"))["model"]["method"]["init_args"]
        if variant == "ReBRAC":  # β₁ by dataset, as the overlay says
            weights = {"pen": 0.01, "door": 0.05, "hammer": 0.01, "relocate": 0.05}
            wanted["actor_weight"] = weights[task.removesuffix("-expert")]
        for key, value in wanted.items():
            if key not in ("vae_width", "vae_updates"):  # sizes, which are small ones
                assert found["model"]["method"]["init_args"][key] == value, (variant, key)
        assert found["data"].get("reward_scale", 1.0) == 1.0
        frozen = {"Cal-QL": 100 if task.startswith("pen") else 200, "RLPD": 300, "WSRL": 300}
        assert found["schedule"].get("frozen_env_steps", 0) == frozen.get(variant, 0), variant


def test_slugs() -> None:
    names = ["alpha 0.1", "REDQ (scratch)", "REDQ+AdaptiveBC", "../.."]
    assert [slug(name) for name in names] == [
        "alpha-0.1",
        "redq-scratch",
        "redq+adaptivebc",
        "variant",
    ]


def start(*words: str) -> subprocess.Popen[str]:
    """An experiment as a process."""
    arguments = [sys.executable, "-m", "adabc_lightning", "experiment", "pair", "--out", "out"]
    return subprocess.Popen([*arguments, *words], stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_cut_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    # Cut in the middle: long enough a fine-tuning that the signal meets it.
    long = ["--config", "long.yaml", "--jobs", "2", "--seeds", "1"]
    Path("long.yaml").write_text("schedule: {online_env_steps: 400}\n")
    process = start(*long)
    first = out / "toy" / "adaptive" / "seed0"
    wait_for(first / "summary.json", process)
    second = start(*long)
    assert second.wait(60) == 2
    assert "an experiment is at work in out" in second.communicate()[1]
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped; the same command goes on" in said
    assert "Traceback" not in said + first.with_name("seed0.log").read_text()
    assert not json.loads((first / "summary.json").read_text())["finished"]

    process = start(*long)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    (pretrained,) = {path.name.split("-seed")[0] for path in (out / "pretrained" / "toy").iterdir()}
    assert len(list((out / "pretrained" / "toy").glob(f"{pretrained}-seed?"))) == 1  # shared
    log = first.with_name("seed0.log").read_text()
    assert "stopped by SIGTERM, saved; go on with" in log

    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [(row["task"], row["variant"], row["seed"]) for row in rows]
    assert cells == [("toy", variant, "0") for variant in ("Fixed α", "adaptive")]
    for row in rows:
        folder = out / row["folder"]
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["finished"]
        assert row["finished"] == "True"
        assert row["unit"] == "score"
        for name in SCORES:
            known = summary["score"][name]
            assert row[name] == ("" if known is None else str(known))
        checkpoint = yaml.safe_load((folder / "config.yaml").read_text())["ckpt_path"]
        assert checkpoint in (
            "last",
            f"out/pretrained/toy/{pretrained}-seed{row['seed']}/checkpoints/pretrained.ckpt",
        )

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*/*") if path.is_file()}
    words = ["experiment", "pair", "--out", "out", *long]
    assert main([*words, "--dry-run"]) == 0  # nothing is left
    assert "0 of them left" in capsys.readouterr().out.splitlines()[0]
    assert main(words) == 0
    assert "nothing is left to run; out/results.csv has a row" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # Another protocol does not go on with these runs.
    for more in ([], ["--dry-run"]):
        assert main(["experiment", "pair", "--out", "out", *more]) == 2
        message = capsys.readouterr()
        assert "holds a run with other schedule.online_env_steps; choose anoth" in message.err
        assert not message.out


def test_a_failure_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pair.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  bad: {options: {model.subset_size: 9}}\n"
        "  scratch: {options: {data.dataset: null, schedule.offline_updates: 0}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "pair", "--out", "out", "--jobs", "1"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "toy bad seed 0: not run: its pre-training failed" in said
    assert "3/3 toy scratch seed 0: pretrained" in said
    (log,) = Path("out/pretrained/toy").glob("*.log")
    assert f"failed: toy pre-training {log.name.split('-')[0]} seed 0, see {log}" in said
    assert f"failed: toy bad seed 0, see {log}" in said
    assert "subset_size" in log.read_text()


FIT = """\
import json, sys
from pathlib import Path
import yaml
from adabc_lightning.run.config_files import merged, resolve
files, rest = resolve("fit", sys.argv[4:])
options = {o.removeprefix("--"): yaml.safe_load(v) for o, v in zip(rest[::2], rest[1::2])}
config = merged(files, options)
config = {"seed_everything": 0, "ckpt_path": None, **config}
folder = Path(config["trainer"]["default_root_dir"])
(folder / "checkpoints").mkdir(parents=True)
(folder / "checkpoints" / "pretrained.ckpt").touch()
config["trainer"]["devices"] = 1  # as fit, which adds the Trainer's defaults
(folder / "config.yaml").write_text(yaml.safe_dump(config))
scores = dict.fromkeys(("pretrained", "final", "best", "dip", "online_mean"), 1.0)
names = ("dataset", "env_id", "gradient_updates", "env_steps")
summary = {"finished": True, "score": scores, "seconds": {}} | dict.fromkeys(names)
(folder / "summary.json").write_text(json.dumps(summary))
if Path("meanwhile.yaml").exists() and "--ckpt_path" not in rest:
    Path("meanwhile.yaml").rename("toy.yaml")
"""


@pytest.fixture
def quick_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of Python: a ``fit`` that resolves its configs and trains nothing.

    A ``meanwhile.yaml`` becomes the task's config once the first pre-training has ended.
    """
    script = tmp_path / "quick_fit"
    script.write_text(f"#!{sys.executable}\n{FIT}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return script


def here(words: list[str], *, input: str, **_: Any) -> subprocess.CompletedProcess:
    """The rehearsal's program in this process."""
    assert words[:3] == [sys.executable, "-m", rehearsal.__name__]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")  # as there; here they are errors, and kept
        warnings.showwarning = lambda *what: sys.stderr.write(warnings.formatwarning(*what[:4]))
        patch.setattr(sys, "stdin", StringIO(input))
        rehearsal._main(Path(words[3]))
    return subprocess.CompletedProcess(words, 0)


LONG = """\
seeds: 2
tasks: [toy]
options: {schedule.offline_updates: 60000}
variants:
  right: {}
  wrong: {options: {OPTION}}
"""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("alpha.initial: 0.5", "alpha.initial is 0.5; it must be between 0 and 0.4"),
        ("model.tau: 7", "model.tau is 7; it must be between 0 and 1"),
        (  # not before the dataset is read
            "data.replay_capacity: 2",
            "downsampling keeps 10 transitions, data.replay_capacity is 2; keep fewer or make the "
            "ring larger",
        ),
    ],
)
def test_what_fit_would_refuse_is_said_before_anything_runs(
    option: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not option.startswith("alpha"):  # one of them as it is; a process takes seconds to start
        monkeypatch.setattr(subprocess, "run", here)
    Path("long.yaml").write_text(LONG.replace("OPTION", option))
    assert main(["experiment", "long", "--out", "out"]) == 2
    planning, error = capsys.readouterr().err.splitlines()
    assert planning == "planning 2 runs before the first begins"
    assert error == f"error: wrong on toy: {said}"
    assert not Path("out").exists()


def test_what_fit_would_warn_of_is_said_once_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "gain", lambda *_: 0.25)
    Path("long.yaml").write_text(LONG.replace("OPTION", "model.precision: bf16, model.tau: 1"))
    three = f"{Path('long.yaml').read_text()}  third: {{options: {{model.precision: bf16}}}}\n"
    Path("long.yaml").write_text(three)
    jobs = plan(read(Path("long.yaml"), defaults()), Choice(Path("out")))
    monkeypatch.setattr(subprocess, "run", here)
    rehearse(jobs)
    planning, gaps, slow = capsys.readouterr().err.splitlines()
    assert planning == "planning 3 runs before the first begins"
    assert gaps.startswith("warning: dataset 'log.hdf5': 114 next observations inside episodes are")
    assert gaps.endswith("(right on toy and 2 more)")
    assert slow == (
        "warning: model.precision is bf16, but this machine multiplies in it at 0.25 × float32's "
        "speed; float32 would be faster (wrong on toy and 1 more)"
    )


def test_what_is_right_can_begin_and_what_is_short_begins_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("long.yaml").write_text(LONG.replace("OPTION", "model.tau: 1"))
    jobs = plan(read(Path("long.yaml"), defaults()), Choice(Path("out")))
    monkeypatch.setattr(subprocess, "run", here)
    rehearse(jobs)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process"))
    short = plan(read(Path("pair.yaml"), defaults()), Choice(Path("out")))
    rehearse(short)


def test_a_config_that_changes_meanwhile(
    quick_fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("meanwhile.yaml").write_text(TOY.replace("num_critics: 3", "num_critics: 4"))
    words = ["experiment", "pair", "--out", "out", "--jobs", "1", "--seeds", "1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "adaptive seed 0: failed: ran with other model.num_critics than planned" in said
    log = Path("out/toy/adaptive/seed0.log")
    assert f"failed: toy adaptive seed 0, see {log}" in said
    assert "a config has changed since" in log.read_text()
    Path("toy.yaml").write_text(TOY)
    assert main(words) == 2  # nor does it count as finished now
    message = capsys.readouterr().err
    assert "seed0 holds a run with other model.num_critics than planned; remove it" in message
    assert message.count("\n") == 1


def test_the_order_for_reports_is_the_declared_one(quick_fit: Path) -> None:
    """Of all that were run there, whichever were chosen; no run's record knows of it."""
    Path("pair.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  Mine: {}\n  iql: {method: iql}\n  0.1: {options: {alpha.initial: 0.1}}\n"
    )
    Path("sub").mkdir()
    Path("sub/again.yaml").write_text(TOY)
    words = ["experiment", "pair", "--out", "out", "--jobs", "1"]
    assert main([*words, "--tasks", "sub/again.yaml", "--variants", "iql"]) == 0
    order = json.loads(Path("out/order.json").read_text())
    assert order == {"tasks": ["toy", "again"], "variants": ["Mine", "iql", "0.1"]}
    record = json.loads(Path("out/again/iql/seed0/experiment.json").read_text())
    assert list(record) == ["kind", "experiment", "task", "variant", "settings", "seed"]
    Path("out/order.json").unlink()  # of an earlier version: the same command writes it
    assert main([*words, "--tasks", "sub/again.yaml", "--variants", "iql"]) == 0
    assert json.loads(Path("out/order.json").read_text()) == order
    Path("pair.yaml").write_text("seeds: 1\ntasks: [toy]\nvariants: {new: {}, Mine: {}}\n")
    assert main(words) == 0
    order = json.loads(Path("out/order.json").read_text())
    assert order == {"tasks": ["toy", "again"], "variants": ["new", "Mine", "iql", "0.1"]}


def test_what_a_pre_training_leaves_out_is_as_planned(quick_fit: Path) -> None:
    """``fit`` writes down the callbacks that do nothing in it, and keys of any depth."""
    Path("pair.yaml").write_text(
        "seeds: 1\ntasks: [toy]\nvariants:\n"
        "  steady: {method: steady, options: {data.env_kwargs: {a: {b: {c: 1}}}}}\n"
    )
    assert main(["experiment", "pair", "--out", "out", "--jobs", "1"]) == 0


def test_a_run_that_has_saved_something_needs_no_pre_training(quick_fit: Path) -> None:
    """Which may have been removed since: it is large."""
    jobs = plan(read(Path("pair.yaml"), defaults()), Choice(Path("out")))
    first, run, *_ = jobs
    assert waits_for(run) is first
    (run.folder / "checkpoints").mkdir(parents=True)
    torch.save({}, run.folder / "checkpoints" / "last.ckpt")
    assert waits_for(run) is None
    assert first not in unfinished([first, run])


@pytest.mark.parametrize("more", [[], ["--config", "last"]])
def test_what_a_killed_start_left_is_removed(more: list[str]) -> None:
    """Whatever the words of its command are."""
    job, *_ = plan(read(Path("pair.yaml"), defaults()), Choice(Path("out")))
    job = replace(job, words=[*job.words, *more])
    prepare(job)
    (job.folder / "checkpoints").mkdir()
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt"):
        (job.folder / name).touch()
    assert prepare(job) == ["fit", *job.words]
    assert {path.name for path in job.folder.iterdir()} <= {"experiment.json", ".lock"}
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt"):
        (job.folder / name).parent.mkdir(exist_ok=True)
        (job.folder / name).touch()
    assert prepare(job)[-2:] == ["--ckpt_path", "last"]
    assert (job.folder / "metrics.csv").is_file()


def test_runs_made_by_hand_are_taken_over(
    quick_fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pair.yaml").write_text(
        "seeds: 1\ntasks: [toy]\noptions: {alpha.kp: '3e-6', downsampling.keep: 1}\nvariants:\n"
        "  awac: {method: awac, options: {model.method.init_args.beta: 3.0}}\n"
        "  balanced: {method: balanced_replay}\n"
    )
    alone, awac, *_ = dry_run(capsys, "pair --out out")
    for words in (alone, awac):
        subprocess.run([quick_fit, "-m", "adabc_lightning", "fit", *words], check=True)
    assert main(["experiment", "pair", "--out", "out"]) == 0
    said = capsys.readouterr().err
    assert "taken over: toy awac seed 0" in said
    assert "2/2 toy balanced seed 0" in said  # the others were finished
    with open("out/results.csv", newline="") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["awac", "balanced"]
    assert main(["experiment", "pair", "--out", "out"]) == 0

    for key, other in (("seed_everything", 3), ("ckpt_path", "other.ckpt"), ("model", {})):
        config = Path("out/toy/awac/seed0/config.yaml")
        before = config.read_text()
        (config.parent / "experiment.json").unlink(missing_ok=True)
        config.write_text(yaml.safe_dump(yaml.safe_load(before) | {key: other}))
        assert main(["experiment", "pair", "--out", "out"]) == 2
        message = capsys.readouterr().err
        assert f"holds a run of somebody else's, with other {key}" in message
        config.write_text(before)
    config.with_name("summary.json").write_text('{"finished": tr')
    assert main(["experiment", "pair", "--out", "out"]) == 2
    error = "error: out/toy/awac/seed0/summary.json is damaged: it is no JSON\n"
    assert capsys.readouterr().err == error
    assert not config.with_name("experiment.json").exists()  # nor is it taken over
