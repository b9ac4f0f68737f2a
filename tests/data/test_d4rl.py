"""D4RL's names: the table, where files are looked for, what a missing one is told."""

import re
from pathlib import Path
from typing import Any

import pytest
from tiny import write_log

from adabc_lightning.data import d4rl, download
from adabc_lightning.data.d4rl import FILES, MINARI, SERVER, D4RLFile
from adabc_lightning.data.datasets import D4RL_NAME, MINARI_ID, load_dataset
from adabc_lightning.errors import UserError

NAME = "hopper-medium-v0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """D4RL's folder for these tests, not there yet."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    return tmp_path / "d4rl"


@pytest.fixture
def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random log under the file name of hopper-medium-v0, as if it were D4RL's."""
    folder.mkdir()
    path = write_log(folder / FILES[NAME].name, 11, 3)
    fake = D4RLFile(FILES[NAME].path, path.stat().st_size, FILES[NAME].sha256)
    monkeypatch.setitem(d4rl.FILES, NAME, fake)
    return path


def test_the_table_is_complete_and_unambiguous() -> None:
    qualities = ("random", "medium", "medium-replay", "medium-expert")
    locomotion = {
        f"{task}-{quality}-{version}"
        for task in ("hopper", "halfcheetah", "walker2d")
        for quality in qualities
        for version in ("v0", "v2")
    }
    adroit = {
        f"{task}-expert-{version}"
        for task in ("pen", "door", "hammer", "relocate")
        for version in ("v0", "v1")
    }
    assert set(FILES) == locomotion | adroit
    assert all(D4RL_NAME.fullmatch(name) for name in FILES)
    assert len({file.name for file in FILES.values()}) == len(FILES)
    published = {name: file for name, file in FILES.items() if "relocate" not in name}
    assert len({file.sha256 for file in published.values()}) == len(published)
    for file in published.values():
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256 or "")
        assert 8_000_000 < (file.size or 0) < 700_000_000
    assert set(MINARI) <= {name.rpartition("-v")[0] for name in FILES}
    assert all(MINARI_ID.fullmatch(name) for name in MINARI.values())


def test_the_folder_is_d4rl_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D4RL_DATASET_DIR", "~/elsewhere")
    assert d4rl.folder() == Path.home() / "elsewhere"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("D4RL_DATASET_DIR")
        else:
            monkeypatch.setenv("D4RL_DATASET_DIR", unset)
        assert d4rl.folder() == Path.home() / ".d4rl" / "datasets"


def test_a_name_finds_its_file(stand_in: Path) -> None:
    by_name, by_path = load_dataset(NAME), load_dataset(str(stand_in))
    assert by_name.name == NAME
    assert by_name.fingerprint() == by_path.fingerprint()


def test_a_missing_file_says_everything_one_can_do(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_dataset(NAME)
    assert str(caught.value) == (
        f"D4RL dataset 'hopper-medium-v0' is not at {folder}/hopper_medium.hdf5: fit "
        "--data.download true fetches it from http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco/"
        "hopper_medium.hdf5 (54 MB), D4RL_DATASET_DIR names another folder, --data.dataset takes "
        "your own FILE.hdf5 or mujoco/hopper/medium-v0 (Minari's, another benchmark), and `python "
        "-m adabc_lightning collect` makes a stand-in"
    )
    with pytest.raises(UserError) as caught:
        load_dataset("relocate-expert-v0")
    assert "/hand_dapg/relocate-v0_expert_clipped.hdf5, D4RL_DATASET_DIR" in str(caught.value)
    with pytest.raises(UserError) as caught:
        load_dataset("hopper-random-v2")
    assert "Minari" not in str(caught.value)
    assert not folder.exists()


def test_a_file_of_another_size_is_not_taken_for_d4rl_s(folder: Path) -> None:
    folder.mkdir()
    path = write_log(folder / "hopper_medium.hdf5", 11, 3)
    for wanted in (False, True):  # a download does not overwrite it either
        with pytest.raises(UserError) as caught:
            load_dataset(NAME, download=wanted)
        assert str(caught.value) == (
            f"{path} has {path.stat().st_size} bytes, D4RL's hopper-medium-v0 54258063: remove it "
            f"and fetch it again from {SERVER}gym_mujoco/hopper_medium.hdf5, or use it as what it "
            f"is with --data.dataset {path}"
        )


def test_a_download_is_asked_for_once(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = stand_in.read_bytes()
    stand_in.unlink()
    asked: list[tuple[Any, ...]] = []

    def fetch(url: str, target: Path, *, size: int | None, sha256: str | None) -> None:
        asked.append((url, target, size, sha256))
        target.write_bytes(content)

    monkeypatch.setattr(download, "fetch", fetch)
    assert len(load_dataset(NAME, download=True).rows) == 120
    assert len(load_dataset(NAME, download=True).rows) == 120
    file = FILES[NAME]
    assert asked == [(SERVER + file.path, stand_in, len(content), file.sha256)]


def test_the_server_can_be_another(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.unlink()
    message = r"^http://127.0.0.1:1/gym_mujoco/hopper_medium.hdf5 cannot be downloaded: "
    with pytest.raises(UserError, match=message):
        d4rl.locate(NAME, download=True, server="http://127.0.0.1:1/")
    assert list(stand_in.parent.iterdir()) == []
