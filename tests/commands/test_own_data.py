"""Data of one's own in each format, trained on as a user does: with the default loggers."""

import json
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_tables import flat
from tiny import write_log

from adabc_lightning.__main__ import main
from adabc_lightning.data.artifacts import dataset_card
from adabc_lightning.data.datasets import load_dataset

RUN = shlex.split(
    "fit --config base --data.env_id InvertedPendulum-v5 --schedule.offline_updates 4"
    " --schedule.online_env_steps 4 --schedule.evaluation_every 4 --data.batch_size 8"
    " --schedule.updates_per_env_step 1 --data.reference_min 0 --data.reference_max 10"
    " --downsampling.minimum 10 --model.hidden_sizes [8] --evaluation.episodes 1"
    " --trainer.default_root_dir run"
)


def write(name: str) -> Path:
    """The same log under a name that says its format."""
    path, log = Path(name), write_log(Path("log.hdf5"), 4, 1)
    with h5py.File(log, "r+") as file:
        # Rows that follow each other, or a line would say that they do not.
        file["next_observations"][:-1] = file["observations"][1:]
        columns = {key: np.asarray(values) for key, values in file.items()}
        file.attrs["note"] = "of mine"
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix in (".csv", ".parquet"):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(flat(columns))
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.npz", "log.hdf5"])
def test_a_format_trains_with_every_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(name)
    assert main([*RUN, "--data.dataset", name]) == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 3, said.err  # the first line and two evaluations
    assert "TorchRL" not in said.out
    assert "LazyTensorStorage" not in said.out
    card = json.loads(Path("run/wandb/dataset-card.json").read_text())
    assert card["name"] == name
    assert card["transitions"] == 120
    assert card.get("note") == ("of mine" if name == "log.hdf5" else None)
    # The first of these runs began W&B's service, in another working directory than the others'.
    (logged,) = Path("run/wandb").glob("offline-run-*/run-*.wandb")
    assert str(tmp_path / "run" / "wandb" / "dataset-card.json").encode() in logged.read_bytes()


def test_a_card_of_names_that_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dataset_card(load_dataset("hopper-medium-replay"))["transitions"] == 99_970
