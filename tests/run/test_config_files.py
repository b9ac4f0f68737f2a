"""Finding, inheriting and stacking config files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from adabc_lightning.__main__ import main
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.config_files import (
    find_config,
    load,
    merged,
    packaged_configs,
    packaged_folder,
    resolve,
    with_ancestors,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str = "") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file.resolve()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_name_is_a_file_here_or_a_packaged_config() -> None:
    packaged = packaged_folder() / "hopper.yaml"
    assert find_config("hopper.yaml", Path.cwd()) == packaged
    assert find_config("hopper", Path.cwd()) == packaged
    own = write("hopper.yaml")
    assert find_config("hopper", Path.cwd()) == own
    other = write("sub/mine.yaml")
    assert find_config("sub/mine.yaml", Path.cwd()) == other
    assert find_config(str(other), Path.cwd()) == other


def test_an_unknown_name_gets_the_nearest_one_or_the_list() -> None:
    with pytest.raises(UserError, match=r"^config 'hoper' is neither .*; did you mean 'hopper'\?$"):
        find_config("hoper", Path.cwd())
    with pytest.raises(UserError, match="known: adroit, base, compiled, door-expert, "):
        find_config("zzz.yaml", Path.cwd())


def test_packaged_configs_say_what_they_are_in_their_first_line() -> None:
    configs = packaged_configs()
    assert {"base.yaml", "hopper.yaml", "halfcheetah.yaml", "walker2d.yaml"} <= set(configs)
    assert all(configs.values()), configs


def test_ancestors_come_first_and_once() -> None:
    write("base.yaml")
    write("task.yaml", "inherit: base")
    write("other.yaml", "inherit: [base.yaml]")
    method = write("method.yaml", "inherit: [task, other]\nmodel: {gamma: 0.9}")
    assert names(with_ancestors(method)) == ["base.yaml", "task.yaml", "other.yaml", "method.yaml"]


def test_parents_are_looked_up_beside_the_file_then_among_the_packaged() -> None:
    write("base.yaml")  # in the working folder: not beside the file that inherits
    child = write("sub/child.yaml", "inherit: [base, sibling]")
    sibling = write("sub/sibling.yaml")
    assert with_ancestors(child) == [packaged_folder() / "base.yaml", sibling, child]


def test_an_overlay_wins_over_what_a_later_file_inherits() -> None:
    write("overlay.yaml")
    files, _ = resolve("fit", ["--config", "overlay.yaml", "--config", "hopper"])
    assert names(files) == ["base.yaml", "overlay.yaml", "hopper.yaml"]


def test_a_file_can_inherit_the_packaged_one_of_its_own_name() -> None:
    own = write("hopper.yaml", "inherit: hopper.yaml")
    assert with_ancestors(own) == [
        packaged_folder() / "base.yaml",
        packaged_folder() / "hopper.yaml",
        own,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inherit: a.yaml", r"a.yaml inherits from itself: a.yaml → a.yaml$"),
        ("inherit: b.yaml", r"a.yaml inherits from itself: a.yaml → b.yaml → a.yaml$"),
        ("inherit: nowhere", r"config 'nowhere' is neither in "),
        (f"inherit: {'9x' * 3000}", r"config '9x.*' is neither in "),
        ("model: &a {gamma: *a}", r"an alias in it \(\*name\) may refer to itself$"),
        (
            "model: !!timestamp 2001-99-99",
            r"a.yaml holds a value that cannot be read: month must be in",
        ),
        (
            "model: !!timestamp 2001-01-01",
            r"a.yaml holds a date; it must be made of numbers, ",
        ),
        ("model: [{gamma: !!binary aGk=}]", r"a.yaml holds a bytes; it must be made of"),
        ("model: !!set {a, b}", r"a.yaml holds a set; it must be made of"),
        ("model: !!omap [a: 1]", r"a.yaml holds a tuple; it must be made of"),
        ("!!timestamp 2001-01-01: 1", r"a.yaml holds a date; it must be made of"),
        (f"model: 0x{'f' * 5000}", r"a.yaml holds a whole number of more than 300 digits$"),
        ("inherit: 3", r"a.yaml: inherit must be a config's name or a list of names$"),
        ("inherit: [3]", r"a.yaml: inherit must be a config's name or a list of names$"),
        ("model:\n  gamma: [0.9\n", r"a.yaml is not YAML: line 3: "),
        ("model: &x {gamma: *y}", r"a.yaml is not YAML: line 1: "),
        ("model: !!python/object:os.system {}", r"a.yaml is not YAML: line 1: "),
        (
            "model:\n  gamma: 1\n  tau: 1\n  gamma: 2",
            r"a.yaml: 'gamma' is given in line 2 and again in line 4; leave one of them$",
        ),
        ("- model", r"a.yaml holds a list; it must map keys to values$"),
        ("model", r"a.yaml holds a single value; it must map keys to values$"),
    ],
)
def test_a_broken_file_is_named(text: str, message: str) -> None:
    path = write("a.yaml", text)
    write("b.yaml", "inherit: a.yaml")
    with pytest.raises(UserError, match=message) as caught:
        with_ancestors(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    Path("a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a.yaml is not YAML: it is no text$"):
        load(Path("a.yaml"))
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        load(Path("."))


def test_a_pipe_is_not_waited_for() -> None:
    os.mkfifo("a.yaml")
    with pytest.raises(UserError, match=r"config a.yaml cannot be read: it is no file$"):
        load(Path("a.yaml"))


def test_names_may_be_numbers() -> None:
    """A variant of an experiment's, the epoch of a callback's schedule."""
    assert load(write("a.yaml", "variants: {0.5: 1, 3: {null: 2}}")) == {
        "variants": {0.5: 1, 3: {None: 2}}
    }


def test_an_empty_file_changes_nothing() -> None:
    assert load(write("a.yaml", "# nothing\n")) == {}


def test_options_are_kept_and_files_expanded_wherever_they_stand() -> None:
    mine = write("mine.yaml")
    words = ["--model.gamma", "0.9", "--config", "hopper", "-c", "mine", "--alpha.kp=0"]
    files, options = resolve("fit", words)
    assert names(files) == ["base.yaml", "hopper.yaml", "mine.yaml"]
    assert options == ["--model.gamma", "0.9", "--alpha.kp=0"]
    assert resolve("fit", ["--config=mine"]) == ([mine], [])


def test_a_stacked_method_does_not_bring_the_defaults_back() -> None:
    write("method.yaml", "inherit: base.yaml")
    files, _ = resolve("fit", ["--config", "walker2d", "--config", "method"])
    assert names(files) == ["base.yaml", "walker2d.yaml", "method.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config"], "--config needs the name of a config file"),
        (["--config="], "--config needs the name of a config file"),
        (["--config", "--model.gamma", "1"], "--config needs the name of a config file"),
        (["--inherit", "base"], "inherit is a key of config files"),
    ],
)
def test_config_options_without_a_name(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve("fit", words)


def test_a_checkpoint_brings_the_config_of_its_run() -> None:
    config, checkpoint = write("run/config.yaml"), write("run/checkpoints/best.ckpt")
    assert resolve("validate", ["--ckpt_path", str(checkpoint)])[0] == [config]
    assert resolve("validate", [f"--ckpt_path={checkpoint}"])[0] == [config]
    assert resolve("fit", ["--ckpt_path", str(checkpoint)])[0] == [config]
    last = ["--ckpt_path", "last", "--trainer.default_root_dir", "run"]
    assert resolve("fit", last)[0] == [config]
    with pytest.raises(UserError, match="there is no run in new to go on with"):
        resolve("fit", ["--ckpt_path", "last", "--trainer.default_root_dir", "new"])
    given = resolve("validate", ["--ckpt_path", str(checkpoint), "--config", "base"])[0]
    assert names(given) == ["base.yaml"]


def test_a_checkpoint_behind_a_link_brings_it_too() -> None:
    config, checkpoint = write("run/config.yaml"), write("scratch/checkpoints/best.ckpt")
    Path("run", "checkpoints").symlink_to(checkpoint.parent)  # they are large
    assert resolve("fit", ["--ckpt_path", "run/checkpoints/best.ckpt"])[0] == [config]
    direct = write("other/config.yaml"), write("other/checkpoints/best.ckpt")
    Path("link.ckpt").symlink_to(direct[1])
    write("run/checkpoints/policies/000000004.ckpt")
    kept = "run/checkpoints/policies/000000004.ckpt"
    assert resolve("validate", ["--ckpt_path", kept])[0] == [config]
    for command in ("fit", "validate"):
        assert resolve(command, ["--ckpt_path", "link.ckpt"])[0] == [direct[0]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ckpt_path", "last"], "there is no checkpoint last; validate takes the run's folder"),
        ([], "validate needs --ckpt_path, a checkpoint of a run"),
        (["--ckpt_path"], "validate needs --ckpt_path, a checkpoint of a run"),
        (["--ckpt_path", "nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["--ckpt_path", "lone.ckpt"], "lone.ckpt lies in no run's folder, whose config"),
    ],
)
def test_validate_without_a_run(words: list[str], message: str) -> None:
    write("lone.ckpt")
    with pytest.raises(UserError, match=message):
        resolve("validate", words)


def test_fit_does_not_take_the_defaults_for_a_lone_checkpoint() -> None:
    checkpoint = write("lone.ckpt")
    write("config.yaml")  # of nothing that it belongs to
    Path("below").mkdir()
    os.chdir("below")
    for name in ("../lone.ckpt", str(checkpoint)):
        with pytest.raises(UserError, match=r"lone\.ckpt lies in no run's folder, whose config"):
            resolve("fit", ["--ckpt_path", name])
    os.chdir("..")
    for more in ([], ["--trainer.default_root_dir", "new"]):
        with pytest.raises(UserError, match=r"lone\.ckpt lies in no run's folder, whose config"):
            resolve("fit", ["--ckpt_path", "lone.ckpt", *more])
    files = resolve("fit", ["--ckpt_path", "lone.ckpt", "--config", "base"])[0]
    assert names(files) == ["base.yaml"]


def test_nearest() -> None:
    assert nearest("hopper-V5", ["Hopper-v5", "Ant-v5"]) == "did you mean 'Hopper-v5'?"
    assert nearest("zzz", ["a", "b"]) == "known: a, b"
    assert nearest("zzz", []) == "nothing is known here"
    many = nearest("zzz", [f"name{i}" for i in range(100)])
    assert many.startswith("known: name0, name1, ")
    assert many.endswith("… (100 in all)")


def contained(part: Any, whole: Any) -> bool:
    """Whether a config holds another one; ``fit`` adds defaults of the Trainer and of classes."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            contained(value, whole.get(name.removesuffix("+"))) for name, value in part.items()
        )
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(contained, part, whole))
    return part == whole


@pytest.mark.parametrize(
    ("task", "method", "options"),
    [
        ("hopper-random", "awac", {"model.method.init_args.beta": 3.5, "alpha.kp": 1e-5}),
        ("walker2d-medium", "balanced_replay", {"data.reference_min": None}),
        ("own", "redq_scratch", {"model.hidden_sizes": [8], "alpha.initial": 0.1}),
    ],
)
def test_merged_is_what_fit_resolves(
    task: str, method: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    part = "{class_path: adabc_lightning.callbacks.BalancedReplay, init_args: {balanced_steps: 7}}"
    write("own.yaml", f"inherit: pen-expert\ntrainer: {{max_time: null, callbacks+: [{part}]}}\n")
    names = ["--config", task, "--config", "small", "--config", f"method/{method}"]
    config = merged(resolve("fit", names)[0], options)
    words = [word for key, value in options.items() for word in (f"--{key}", json.dumps(value))]
    with pytest.raises(SystemExit) as ended:
        main(["fit", *names, *words, "--print_config"])
    assert ended.value.code in (None, 0)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert contained(config, printed)
    assert set(printed) - set(config) <= {"ckpt_path", "trainer"}
    for group in set(config) - {"trainer"}:
        assert not isinstance(config[group], dict) or set(config[group]) == set(printed[group])
    assert len(printed["trainer"]["callbacks"] or []) == (0 if method == "awac" else 1)
    config["model"]["gamma"] = 0.123
    assert not contained(config, printed)


def test_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {gamma: 0.5}\ntrainer: {callbacks: [A]}\n")
    (tmp_path / "b.yaml").write_text(
        "inherit: base.yaml\nmodel: {tau: '${model.gamma}'}\ntrainer: {callbacks+: [B]}\n"
    )
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    config = merged(files, {"model.gamma": 0.6, "alpha.initial": None, "new.group.key": [1]})
    assert (config["model"]["gamma"], config["model"]["tau"]) == (0.6, 0.6)
    assert config["trainer"]["callbacks"] == ["A", "B"]
    assert config["new"] == {"group": {"key": [1]}}
    assert config["model"]["num_critics"] == 10  # base.yaml's, though a.yaml does not inherit it
    assert "inherit" not in config
    more = merged([tmp_path / "b.yaml", tmp_path / "b.yaml"], {"trainer.callbacks+": ["C"]})
    assert more["trainer"] == {"callbacks+": ["B", "C"]}  # below is the Trainer's default
    assert merged([tmp_path / "b.yaml", tmp_path / "a.yaml"], {})["trainer"] == {"callbacks": ["A"]}
    (tmp_path / "c.yaml").write_text("model: {tau: '${model.gama}'}\n")
    with pytest.raises(UserError, match=r"model\.tau cannot be resolved: .*model\.gama"):
        merged([tmp_path / "c.yaml"], {})
