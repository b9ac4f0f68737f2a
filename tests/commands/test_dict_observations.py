"""An environment with Dict observations through every command, from its log to its policy."""

import json
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from dict_envs import LIMIT, PARTS, register_slide
from test_resume import Cut, assert_equal, everything, leave
from tiny import TOY_LIMIT, register_toy, tiny_run

from adabc_lightning.__main__ import main
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.commands.export.graph import run as answers
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.env.policy import load_policy
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

NAMES = [
    *("observation.goals.have[0]", "observation.goals.want[0]"),
    *("observation.state[0]", "observation.state[1]"),
]
DENSE = {"reward_type": "dense"}
SCHEDULE = Schedule(6, 30, 1, evaluation_every=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment, a log of it and a run of it that kept checkpoints on its way."""
    folder = tmp_path_factory.mktemp("slide")
    env_id = register_slide(folder)
    line = f"collect --policy random --env-id {env_id} --env-kwargs '{{reward_type: dense}}'"
    assert main([*shlex.split(line), "--steps", "60", "--out", str(folder / "log.hdf5")]) == 0
    trainer, module, data = slide_run(folder / "run", folder, [Cut(folder, (6, 18))])
    trainer.fit(module, data)
    torch.save(everything(trainer), folder / "everything.pt")
    return folder


def slide_run(
    root: Path, folder: Path, callbacks: list[Any] | None = None, **data: Any
) -> tuple[Any, OffToOnModule, Any]:
    log, data = folder / "log.hdf5", {"env_kwargs": DENSE, "replay_capacity": None} | data
    return tiny_run(
        root, "AdabcSlide-v0", log, schedule=SCHEDULE, callbacks=callbacks or [], data=data
    )


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    status = main(shlex.split(line))
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(shlex.split(line)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("batches", [6, 18])
def test_a_run_goes_on_bit_for_bit_within_an_episode(
    batches: int, folder: Path, tmp_path: Path
) -> None:
    cut = folder / f"cut{batches}.ckpt"
    saved = torch.load(cut, weights_only=True)["ReplayDataModule"]
    assert saved["collector"]["steps"] % LIMIT  # the goal of an episode at hand is in the file
    assert saved["collector"]["env"]["attributes"]["goal"].abs() > 0
    leave(folder / "run", tmp_path)
    trainer, module, data = slide_run(tmp_path, folder)
    trainer.fit(module, data, ckpt_path=cut, weights_only=True)
    assert_equal(everything(trainer), torch.load(folder / "everything.pt", weights_only=True))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"env_kwargs": None}, r"with data.env_kwargs {'reward_type': 'dense'}, not {}; resume"),
        ({"observation_keys": ["state", "goals.want", "goals.have"]},
         r"on observations of goals.have \(1\), goals.want \(1\), state \(2\), .* now has state"),
    ],
)  # fmt: skip
def test_another_environment_is_not_resumed_in(
    changed: dict[str, Any], sentence: str, folder: Path, tmp_path: Path
) -> None:
    trainer, module, data = slide_run(tmp_path, folder, **changed)
    with pytest.raises(UserError, match=sentence):
        trainer.fit(module, data, ckpt_path=folder / "cut6.ckpt", weights_only=True)


def test_a_collected_log_says_what_its_columns_are(folder: Path) -> None:
    dataset = load_dataset(str(folder / "log.hdf5"))
    assert dataset.observation_parts == PARTS
    with h5py.File(folder / "log.hdf5") as file:
        assert json.loads(file.attrs["observation_parts"]) == [list(part) for part in PARTS]
        assert json.loads(file.attrs["env_kwargs"]) == DENSE
        assert "--env-kwargs" in file.attrs["command"]
        # The goal, the second number, stays what it is throughout an episode.
        assert (np.ptp(file["observations"][: LIMIT - 1, 1])) == 0
        assert (np.ptp(file["observations"][: LIMIT - 1, 0])) > 0


def test_minari_s_dataset_has_the_dict_s_parts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    made = "--env-id AdabcSlide-v0 --env-kwargs '{reward_type: dense}'"
    run(f"collect --policy random {made} --steps 60 --out mine/slide-v0", capsys)
    run(f"inspect {folder / 'log.hdf5'} {made} --convert mine/copy-v0", capsys)
    expected = load_dataset(str(folder / "log.hdf5"))
    for name in ("mine/slide-v0", "mine/copy-v0"):
        found = load_dataset(name)
        assert found.observation_parts == PARTS
        assert torch.equal(found.rows, expected.rows)
    space = json.loads(json.loads((tmp_path / "mine/slide-v0/data/metadata.json").read_text())[
        "observation_space"
    ])  # fmt: skip
    assert set(space["subspaces"]) == {"goals", "state"}


def test_inspect_names_the_parts_and_converts_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = folder / "log.hdf5"
    printed = run(
        f"inspect {log} --env-id AdabcSlide-v0 --env-kwargs '{{reward_type: dense}}' "
        f"--convert {tmp_path / 'copy.hdf5'}",
        capsys,
    )
    assert "parts         goals.have (1), goals.want (1), state (2)" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("observation")] == (
        NAMES
    )
    copy, expected = load_dataset(str(tmp_path / "copy.hdf5")), load_dataset(str(log))
    assert copy.observation_parts == PARTS
    assert torch.equal(copy.rows, expected.rows)
    chosen = run(f"inspect {log} --env-id AdabcSlide-v0 --observation-keys state", capsys)
    assert "parts         state (2)\n" in chosen


def test_a_rollout_takes_environment_and_parts_from_the_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = "--env-kwargs '{reward_type: sparse}'"
    printed = run(f"rollout --ckpt_path {folder / 'run'} --episodes 2", capsys)
    returns = [float(line.split()[1]) for line in printed.splitlines()[1:3]]
    assert any(value % 1 for value in returns)  # dense
    others = run(f"rollout --ckpt_path {folder / 'run'} --episodes 2 {sparse}", capsys)
    assert not any(float(line.split()[1]) % 1 for line in others.splitlines()[1:3])
    out = tmp_path / "more.hdf5"
    run(f"collect --policy {folder / 'cut18.ckpt'} --steps 20 --out {out}", capsys)
    with h5py.File(out) as file:
        assert json.loads(file.attrs["env_kwargs"]) == DENSE
    swapped = f"--observation-keys state,goals.have,goals.want --steps 20 --out {tmp_path / 'x.h5'}"
    error = refused(f"collect --policy {folder / 'cut18.ckpt'} {swapped}", capsys)
    assert "takes observations of goals.have (1), goals.want (1), state (2), environment" in error


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("inputs", ["flat", "parts"])
def test_an_exported_policy_says_which_number_is_which(
    kind: str, inputs: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "out", folder / "run" / "checkpoints" / "last.ckpt"
    run(f"export --ckpt_path {checkpoint} --format {kind} --inputs {inputs} --out {out}", capsys)
    card = json.loads((out / "policy.json").read_text())
    assert card["observation"]["names"] == NAMES
    names = [name for name, _ in PARTS]
    assert card["observation"]["input"] == (names if inputs == "parts" else "observation")
    assert card["observation_parts"] == [list(part) for part in PARTS]
    assert card["env_kwargs"] == DENSE
    flat = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    nested = {"state": flat[:, 2:], "goals": {"have": flat[:, 0], "want": flat[:, 1:2]}}
    expected = load_policy(checkpoint)(flat)
    for policy in (load_policy(checkpoint), load_policy(out)):
        assert np.array_equal(policy(nested), policy(flat))
        assert np.allclose(policy(flat), expected, atol=1e-6)
    content = next(out.glob("policy.[op]*")).read_bytes()
    file = (out / "policy.onnx") if kind == "onnx" else (out / "policy.pt2")
    assert file.read_bytes() == content
    given = answers(content, kind, flat, PARTS if inputs == "parts" else None)
    assert np.allclose(given, expected, atol=1e-6)
    assert "return" in run(f"rollout --ckpt_path {out} --episodes 1", capsys)


def test_an_exported_torch_file_takes_parts_in_any_order(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(f"export --ckpt_path {folder / 'run'} --format torch --inputs parts --out {out}", capsys)
    program = torch.export.load(out / "policy.pt2").module()
    parts = {name: torch.randn(3, size) for name, size in PARTS}
    backwards = dict(reversed(parts.items()))
    assert torch.equal(program(parts), program(backwards))


def test_a_dry_run_shows_the_parts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"fit --config quick.yaml --data.env_id AdabcSlide-v0 --data.dataset {folder / 'log.hdf5'} "
        "--data.env_kwargs '{reward_type: dense}' --data.reference_min -9 --data.reference_max 0 "
        "--data.observation_keys [state,goals.want] --dry-run "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert "observations  state (2), goals.want (1)" in run(line, capsys)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("inspect LOG --env-kwargs '{a: 1}'", "give --env-id, too"),
        ("collect --policy random --env-id TOY --observation-keys a --out o.h5", "have no parts"),
        ("collect --policy random --env-id TOY --env-kwargs 3 --out o.h5", "must be a mapping su"),
        ("inspect LOG --env-id TOY", "has flat observations of 3 numbers; choose parts"),
        ("inspect LOG --observation-keys sate", "did you mean 'state'?"),
        ("inspect hopper-medium-replay --observation-keys a", "no observations here have parts"),
    ],
)
def test_a_mistake_is_one_line(
    line: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = line.replace("LOG", str(folder / "log.hdf5")).replace("TOY", register_toy())
    assert TOY_LIMIT
    error = refused(line, capsys)
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
