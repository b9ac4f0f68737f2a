"""Damage is noticed, the checkpoint before is used, and it is there until the next is whole."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import check_run, read_run
from adabc_lightning.run.checkpoint_files import Damaged, is_whole, newest
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.folder import checkpoint_to_resume, goes_on_in_place, how_to_go_on

GENERATOR = torch.zeros(8, dtype=torch.uint8)
CONTENT: dict[str, Any] = {  # of a run that has done nothing yet
    "pytorch-lightning_version": "2.6.0",
    "state_dict": {"w": torch.arange(40.0)},
    "optimizer_states": [],
    "lr_schedulers": [],
    "callbacks": {},
    "loops": {"fit_loop": {}},
    "agent": {"seed": 0, "gradient_updates": 0, "generator": GENERATOR, "sums": {}, "counts": {}},
    "ReplayDataModule": {
        "env_id": "Hopper-v5",
        "batches": 0,
        "seed": 0,
        "max_episode_steps": None,
        "dataset": None,
        "dataset_name": None,
        "collector": {
            **{"env_steps": 0, "reset_seed": 3, "return": 0.0, "steps": 0},
            **{"noise": {"bit_generator": "PCG64"}, "observation": None, "env": None},
        },
        "replay": {"generator": GENERATOR},
    },
}


def save(folder: Path, *values: int) -> Path:
    """Checkpoints one after the other, as a run saves them; the last one's path."""
    last = folder / "checkpoints" / "last.ckpt"
    for value in values:
        AtomicCheckpointIO().save_checkpoint(CONTENT | {"value": value}, last)
    return last


def values(folder: Path) -> list[int]:
    return [torch.load(path, weights_only=True)["value"] for path in newest(folder)]


def test_a_file_that_passes_is_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    whole = path.read_bytes()
    passed = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        try:
            loaded = read_run(path)
        except Damaged:
            continue
        passed += 1  # padding, dates: nothing that is read
        assert torch.equal(loaded["state_dict"]["w"], CONTENT["state_dict"]["w"]), place
        assert loaded["agent"]["counts"] == CONTENT["agent"]["counts"]
        assert loaded["ReplayDataModule"]["env_id"] == "Hopper-v5"
    assert 0 < passed < len(whole) // 5
    for length in range(0, len(whole), 50):
        path.write_bytes(whole[:length])
        assert not is_whole(path), length


def test_weights_that_changed_on_disk_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    content = path.read_bytes()
    weights = CONTENT["state_dict"]["w"].numpy().tobytes()
    changed = content.replace(weights, bytes(4) + b"\1" + weights[5:])
    assert changed != content
    path.write_bytes(changed)
    assert not torch.equal(  # PyTorch alone would train on
        torch.load(path, weights_only=True)["state_dict"]["w"], CONTENT["state_dict"]["w"]
    )
    with pytest.raises(UserError, match=r"last.ckpt is no readable checkpoint: it is damaged"):
        read_run(path)


def test_the_one_before_stays_and_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = save(tmp_path, 1, 2, 3)
    assert values(tmp_path) == [3, 2]
    assert sorted(os.listdir(last.parent)) == ["last.ckpt", "previous.ckpt"]
    assert checkpoint_to_resume(tmp_path, "last", check_run) == str(last)
    assert capsys.readouterr().err == ""

    last.write_bytes(last.read_bytes()[:-100])
    previous = last.with_name("previous.ckpt")
    assert checkpoint_to_resume(tmp_path, "last", check_run) == str(previous)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"warning: {last} is damaged or cut off: going on from {previous}" in said
    assert f"the last good checkpoint is {previous}; " in how_to_go_on(tmp_path)
    with pytest.raises(UserError, match="damaged or cut off"):  # named, it is not replaced
        checkpoint_to_resume(tmp_path, str(last), check_run)

    save(tmp_path, 4)  # what is damaged does not push out what is whole
    assert values(tmp_path) == [4, 2]
    last.unlink()
    assert checkpoint_to_resume(tmp_path, "last", check_run) == str(previous)
    assert "last.ckpt is missing: going on" in capsys.readouterr().err
    previous.write_bytes(b"")
    with pytest.raises(UserError, match=r"previous.ckpt: damaged or cut off; start a new run"):
        checkpoint_to_resume(tmp_path, "last", check_run)
    # Here "last" would be refused, as it was above.
    anew = "nothing whole was saved before; start again in another --trainer.default_root_dir"
    assert how_to_go_on(tmp_path) == anew


def test_where_nothing_was_saved_the_advice_is_what_works(tmp_path: Path) -> None:
    """``last`` alone takes its config from the folder; before that is there, it is refused."""
    nothing, folder = "nothing was saved before; once it can be, ", tmp_path / "a run"
    assert how_to_go_on(folder) == f"{nothing}the same command starts anew"
    assert "if it was moved, go on where it is now, by --tra" in how_to_go_on(folder, begun=True)
    folder.mkdir()
    assert how_to_go_on(folder) == f"{nothing}the same command starts anew"
    (folder / "config.yaml").touch()
    again = f"--trainer.default_root_dir '{folder}' --ckpt_path last"
    assert how_to_go_on(folder) == f"{nothing}start again with {again}"
    (folder / "config.yaml").write_text("ckpt_path: last\n")
    assert how_to_go_on(folder) == f"{nothing}start again with {again}"
    # From the beginning would be another run than the one that began with another's checkpoint.
    (folder / "config.yaml").write_text("ckpt_path: other/checkpoints/pretrained.ckpt\n")
    assert how_to_go_on(folder).endswith("start again in another --trainer.default_root_dir")
    with pytest.raises(UserError, match=r"whose run started from other/checkpoints/pretrained.ckp"):
        checkpoint_to_resume(folder, "last", check_run)


def test_what_is_wrong_with_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(folder: Path) -> str:
        with pytest.raises(UserError) as refused:
            checkpoint_to_resume(folder, None, check_run)
        return str(refused.value).removeprefix("trainer.default_root_dir is ")

    (tmp_path / "file").touch()
    assert said(tmp_path / "file") == f"{tmp_path}/file, which is a file"
    below = tmp_path / "file" / "run"
    assert said(below) == f"{below}, but no folder can be made there"
    monkeypatch.setattr(os, "access", lambda *given: False)
    assert said(tmp_path) == f"{tmp_path}, a folder that cannot be written"
    assert said(tmp_path / "run") == f"{tmp_path}/run, but no folder can be made there"


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    last = save(tmp_path, 1, 2, 3)
    assert values(tmp_path) == [3, 2]
    assert sorted(os.listdir(last.parent)) == ["last.ckpt", "previous.ckpt"]


def test_killed_between_the_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both names are the same file then; the next checkpoint makes them two again."""
    last = save(tmp_path, 1, 2)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "last.ckpt":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 3)
    monkeypatch.setattr(os, "replace", replace)
    assert values(tmp_path) == [2, 2]
    save(tmp_path, 3)
    assert values(tmp_path) == [3, 2]
    assert sorted(os.listdir(last.parent)) == ["last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("linked", [False, True])
def test_whether_a_run_goes_on_in_its_folder(linked: bool, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "scratch"
    folder.mkdir()
    elsewhere.mkdir()
    if linked:
        (folder / "checkpoints").symlink_to(elsewhere)
    else:
        (folder / "checkpoints").mkdir()
    last = folder / "checkpoints" / "last.ckpt"
    own = SimpleNamespace(default_root_dir=str(folder), ckpt_path=str(last))
    assert goes_on_in_place(own)
    (tmp_path / "far.ckpt").touch()
    last.symlink_to(tmp_path / "far.ckpt")
    assert goes_on_in_place(own)
    last.unlink()
    other = SimpleNamespace(default_root_dir=str(tmp_path / "new"), ckpt_path=str(last))
    assert not goes_on_in_place(other)
    assert not goes_on_in_place(SimpleNamespace(default_root_dir=str(folder), ckpt_path=None))
