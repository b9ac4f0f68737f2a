"""A run of Python's from configs is the command's."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from tiny import register_toy, write_log

from adabc_lightning import ConfiguredRun, load_policy
from adabc_lightning.__main__ import main
from adabc_lightning.agent.methods import RLPD
from adabc_lightning.callbacks import AlphaController, summary
from adabc_lightning.errors import UserError
from adabc_lightning.run.allowed import allowed_packages


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a tiny run."""
    monkeypatch.chdir(tmp_path)
    return {
        "data.env_id": register_toy(),
        "data.dataset": write_log(tmp_path / "log.hdf5", 3, 2),
        "data.batch_size": 8,
        "data.reference_min": 0,
        "data.reference_max": 10,
        "model.num_critics": 2,
        "model.hidden_sizes": [8, 8],
        "schedule.offline_updates": 6,
        "schedule.online_env_steps": 6,
        "schedule.evaluation_every": 3,
        "evaluation.episodes": 1,
        "seed_everything": np.int64(3),
        "model.gamma": np.float32(0.5),
        "trainer.enable_progress_bar": False,
        "trainer.default_root_dir": Path("python"),
    }


def test_it_writes_what_the_command_writes(keys: dict[str, Any], tmp_path: Path) -> None:
    run = ConfiguredRun("quick", keys=keys)
    assert run.agent.num_critics == 2
    assert (run.data.seed, run.agent.seed, run.folder) == (3, 3, Path("python"))
    history = run.fit()
    assert (history[0]["gradient_updates"], history[0]["env_steps"]) == (3, 0)
    assert history[-1]["env_steps"] == 6
    others = keys | {"trainer.default_root_dir": "command"}
    words = [f"--{key}={value}" for key, value in others.items()]
    assert main(["fit", "--config", "quick", *words]) == 0
    for name in ("metrics.csv", "config.yaml"):
        python, command = (tmp_path / place / name for place in ("python", "command"))
        assert python.read_text().replace("python", "command") == command.read_text()
    assert load_policy("python").card["seed"] == 3
    assert main(["report", "python", "command", "--out", "page.html"]) == 2  # one run twice
    assert main(["report", "python", "--out", "page.html"]) == 0
    assert main(["validate", "--ckpt_path", "python"]) == 0


CONTROLLER = """
from adabc_lightning.callbacks import AlphaController

class Nothing(AlphaController):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.datamodule.finished_episodes:
            pl_module.alpha.fill_(0.125)

class Another(Nothing):
    pass
"""


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_controller_of_ones_own_takes_the_packaged_ones_place(
    keys: dict[str, Any],
    replicas: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("their_controller.py").write_text(CONTROLLER)
    monkeypatch.syspath_prepend(".")
    keys |= {
        "trainer.callbacks": [{"class_path": "their_controller.Nothing"}],
        "model.replicas": replicas,
    }
    run = ConfiguredRun("quick", keys=keys, allow=["their_controller"])
    said = capsys.readouterr().err
    assert "their_controller.Nothing, of trainer.callbacks, takes the place of the callback" in said
    assert "the keys alpha.* are for" in said
    run.fit()
    folders = sorted(run.folder.glob("replica_?")) or [run.folder]
    assert len(folders) == replicas
    for folder in folders:
        rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
        values = [row["control/alpha"] for row in rows if row["control/alpha"]]
        assert values[-1] == "0.125"

        checkpoint = torch.load(run.folder / "checkpoints/last.ckpt")
        for one in checkpoint.get("replicas", [checkpoint]):  # whoever has the place has its state
            assert "AlphaController" in one["callbacks"]
            assert "Nothing" not in one["callbacks"]

    keys["trainer.callbacks"] += [{"class_path": "their_controller.Another"}]
    keys["trainer.default_root_dir"] = "another"
    with pytest.raises(UserError, match="has Nothing and Another; a run has one AlphaController"):
        ConfiguredRun("quick", keys=keys, allow=["their_controller"])


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
def test_only_code_that_has_trained_a_run_is_named(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def revisions(**more: Any) -> list[str]:
        ConfiguredRun("quick", keys=keys | more).fit()
        return json.loads(Path("python/summary.json").read_text())["revisions"]  # type: ignore[no-any-return]

    first = revisions()
    assert len(first) == 1
    monkeypatch.setattr(summary, "revision", lambda: "other")
    assert revisions(ckpt_path="last") == first  # it had ended
    longer = {"ckpt_path": "last", "schedule.online_env_steps": 9}
    assert revisions(**longer) == [*first, "other"]


def test_a_second_controller_in_python_is_refused(keys: dict[str, Any]) -> None:
    class Own(AlphaController):
        pass

    run = ConfiguredRun("quick", keys=keys)
    run.trainer.callbacks.insert(0, Own())
    with pytest.raises(UserError, match="Own and AlphaController are of one kind, AlphaController"):
        run.fit()


def test_a_method_is_its_config(keys: dict[str, Any]) -> None:
    keys |= {"schedule.offline_updates": 0, "schedule.frozen_env_steps": 2}
    del keys["model.num_critics"]
    run = ConfiguredRun("quick", "method/rlpd", keys=keys)
    assert isinstance(run.agent.method, RLPD)
    assert (run.agent.num_critics, run.agent.shape.critic_norm) == (10, "before")
    assert (run.data.offline_fraction, run.data.schedule.updates_per_env_step) == (0.5, 20)


@pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
def test_callbacks_may_be_added_and_a_run_goes_on(keys: dict[str, Any]) -> None:
    class Count(Callback):
        batches = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.batches += 1

    count = Count()
    run = ConfiguredRun("quick", keys=keys)
    run.trainer.callbacks.append(count)  # type: ignore[attr-defined]
    run.fit()
    assert count.batches > 6
    with pytest.raises(UserError, match=r"this run has trained; another ConfiguredRun of the"):
        run.fit()
    longer = keys | {"schedule.online_env_steps": 9}
    with pytest.raises(UserError, match=r"python already holds a run; go on with it by"):
        ConfiguredRun("quick", keys=longer)
    longer["ckpt_path"] = "last"
    with pytest.raises(UserError, match=r"alpha.initial is 9"):
        ConfiguredRun("quick", keys=longer | {"alpha.initial": 9})
    ConfiguredRun("quick", keys=longer)  # neither keeps the folder from the next
    history = ConfiguredRun("quick", keys=longer).fit()
    assert [each["env_steps"] for each in history[-2:]] == [6, 9]


def test_mistakes_are_sentences(keys: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"a run needs a config, such as 'hopper'"):
        ConfiguredRun()
    with pytest.raises(UserError, match=r"there is no key 'model.gama'; did you mean"):
        ConfiguredRun("quick", keys={"model.gama": 1})
    with pytest.raises(UserError, match=r"config 'quik' is neither"):
        ConfiguredRun("quik")
    with pytest.raises(UserError, match=r"other_package.*--allow other_package"):
        ConfiguredRun("quick", keys=keys | {"data.env_id": "other_package:Name-v0"})
    with pytest.raises(UserError, match=r"'no package' is no package to allow"):
        ConfiguredRun("quick", keys=keys, allow=["no package"])
    assert "no package" not in allowed_packages()
    with pytest.raises(UserError, match=r"allow is 'mine'; give a list of packages, \['mine'\]"):
        ConfiguredRun("quick", keys=keys, allow="mine")
    with pytest.raises(UserError, match=r"model.method is a RLPD; a config has numbers, texts and"):
        ConfiguredRun("quick", keys=keys | {"model.method": RLPD()})
