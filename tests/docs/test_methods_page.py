"""docs/methods.md, its picture and experiments/methods.yaml leave no method out."""

import re
import sys
from xml.etree import ElementTree

import pytest
import yaml
from paths import REPOSITORY

from adabc_lightning.agent import methods
from adabc_lightning.agent.method import Shape
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.experiment.declaration import find_experiment, read
from adabc_lightning.commands.experiment.plan import defaults
from adabc_lightning.run.config_files import merged, resolve

sys.path.insert(0, str(REPOSITORY / "docs" / "site"))

import methods_picture

OVERLAYS = {path.stem for path in REPOSITORY.glob("configs/method/*.yaml")}
PAGE = (REPOSITORY / "docs/methods.md").read_text(encoding="utf-8")
SHAPE = Shape(EnvironmentSpec("Toy-v0", 3, (-1.0,), (1.0,), 5), 2, 2, [4], [4], 1e-3, 0.0)
FAMILIES = {"td3bc": "TD3BC", "cal_ql": "CalQL", "rebrac": "ReBRAC"} | {
    name.lower(): name for name in ("AWAC", "CQL", "IQL", "SPOT", "RLPD", "WSRL")
}
# What the protocol scales; everything else of a method is its overlay's.
SIZES = {"data.batch_size", "model.hidden_sizes", "model.actor_hidden_sizes"} | {
    f"model.method.init_args.{name}" for name in ("vae_width", "vae_updates")
}
SIZES |= {"schedule.frozen_env_steps"}


def test_what_each_measures_is_explained() -> None:
    page = (REPOSITORY / "docs/use.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"### The columns of metrics\.csv\n(.*?)\n### ", page, re.DOTALL)
    for name in methods.__all__:
        for metric in getattr(methods, name).metrics:
            assert f"`{metric}`" in table, (name, metric)


def test_each_overlay_has_a_row_and_a_paragraph() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    assert sorted(named) == sorted(OVERLAYS)
    linked = re.findall(r"\]\(\.\./configs/method/(\w+)\.yaml\)", PAGE)
    assert sorted(linked) == sorted(OVERLAYS)


@pytest.mark.parametrize("family", methods_picture.FAMILIES, ids=lambda family: family.file)
def test_a_picture_is_the_script_s_and_on_the_page(family: methods_picture.Family) -> None:
    file = methods_picture.file(family)
    content = file.read_text(encoding="utf-8")
    assert content == methods_picture.drawing(family)
    assert len(content.encode()) < 10_000
    assert PAGE.count(f"](pictures/{file.name})") == 1
    ElementTree.fromstring(content)


@pytest.mark.parametrize("family", methods_picture.FAMILIES, ids=lambda family: family.file)
def test_the_picture_has_the_parts_that_a_method_states(family: methods_picture.Family) -> None:
    parts = getattr(methods, FAMILIES[family.file])().parts(SHAPE)
    assert {step.part for step in family.steps} == set(parts)
    targets = {f"{part}′" for part, trained in parts.items() if trained.target}
    read = {box for step in family.steps for box in step.reads if box.endswith("′")}
    assert read <= targets


def test_every_method_of_the_package_has_a_picture() -> None:
    assert set(FAMILIES.values()) == set(methods.__all__) - {"SAC"}  # the base of some
    assert set(FAMILIES) == {family.file for family in methods_picture.FAMILIES}


def test_the_experiment_has_every_method_once() -> None:
    content = yaml.safe_load((REPOSITORY / "experiments/methods.yaml").read_text(encoding="utf-8"))
    named = [variant["method"] for variant in content["variants"].values()]
    assert sorted(named) == sorted(name for name in OVERLAYS if not name.endswith("_adroit"))


@pytest.mark.parametrize("name", sorted(n for n in OVERLAYS if n.endswith("_adroit")))
def test_on_the_pen_the_experiment_takes_adroit_s_values(name: str) -> None:
    path = find_experiment("methods")
    method = name.removesuffix("_adroit")
    (variant,) = [v for v in read(path, defaults()).variants if v.method == method]
    task = ["--config", "pen-expert", "--config", "small_adroit", "--config"]
    options = variant.options_of("pen-expert")
    sizes = dict.fromkeys(SIZES)
    run = merged(resolve("fit", [*task, f"method/{method}.yaml"])[0], {**options, **sizes})
    theirs = merged(resolve("fit", [*task, f"method/{name}.yaml"])[0], sizes)
    assert run == theirs


@pytest.mark.parametrize("method", ["iql", "cal_ql", "wsrl", "rlpd"])
def test_at_the_paper_s_sizes_the_pen_has_adroit_s_networks_and_values(method: str) -> None:
    task = ["--config", "pen-expert", "--config", "mid", "--config"]
    theirs, _ = resolve("fit", [*task, f"method/{method}_adroit.yaml"])
    variants = [v for v in read(find_experiment("mid"), defaults()).variants if v.method == method]
    for variant in variants:
        options = variant.options_of("pen-expert")
        # Their lengths follow the schedule, and one variant is about G.
        own = {key: value for key, value in options.items() if key.startswith("schedule.")}
        run = merged(resolve("fit", [*task, f"method/{method}.yaml"])[0], options)
        assert run == merged(theirs, own)


@pytest.mark.parametrize(
    ("task", "spot", "rebrac"),
    [
        ("hopper-medium-replay", 0.1, (0.05, 0.5)),
        ("hopper-medium", 0.1, (0.01, 0.01)),
        ("hopper-medium-expert", 0.2, (0.1, 0.01)),
        ("walker2d-medium-replay", 0.2, (0.05, 0.01)),
        ("walker2d-medium-expert", 0.5, (0.01, 0.01)),
        ("halfcheetah-medium", 0.05, (0.001, 0.01)),
        ("halfcheetah-medium-expert", 1.0, (0.01, 0.1)),
        ("pen-expert", 1.0, (0.01, 0.01)),
    ],
)
def test_what_sources_tune_by_dataset(task: str, spot: float, rebrac: tuple[float, float]) -> None:
    """λ of SPOT's code, β₁ and β₂ of ReBRAC's, whatever task an experiment is asked for."""
    path = find_experiment("methods")
    variants = {variant.name: variant for variant in read(path, defaults()).variants}

    def of(name: str, key: str) -> float:
        words = ["--config", "hopper", "--config", f"method/{variants[name].method}.yaml"]
        options = variants[name].options_of(task)
        config = merged(resolve("fit", words)[0], options)
        return config["model"]["method"]["init_args"][key]

    assert of("SPOT", "weight") == spot
    assert (of("ReBRAC", "actor_weight"), of("ReBRAC", "critic_weight")) == rebrac
