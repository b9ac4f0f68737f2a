"""What ``make fuzz`` feeds to the entry points: files of random content, drawn with a seed."""

import copy
import json
import random
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import torch
import yaml
from dict_envs import register_seen
from jsonargparse import capture_parser
from test_checkpoint_content import RUN
from test_datasets import create_minari, episode_buffers
from test_episodes import WRITERS, log
from test_formats import d3rlpy, lerobot, robomimic, sb3, task
from tiny import write_log

from adabc_lightning.__main__ import main
from adabc_lightning.commands.fit import run
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.data.formats.source import Reading
from adabc_lightning.run.config_files import load, merged, packaged_folder, with_ancestors

KEYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
TYPES = ("f2", "f4", "f8", "i1", "u8", "bool", "c8", "S3", "V4", "O")
SNIPPETS = (
    *("null", ".nan", "-.inf", "1e999", "0x", "9" * 5000, "''", "[]", "{}", "- ", "? ", ": ", "|"),
    *("---\n", "\t", "&a", "*a", "&a [*a]", "<<: *a", "${", "${model.gamma}", "${model}", "${.x}"),
    *("${oc.env:HOME}", "!!python/object/apply:os.system [touch pwned]", "2001-99-99", "\x00", "é"),
    *(
        "!!binary x",
        "!!set {a}",
        "inherit: base",
        "class_path: os.system",
        "callbacks+: 3",
        "[" * 80,
    ),
)
VALUES = (
    *(
        None,
        True,
        -1,
        0,
        10**30,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "${alpha.kp}",
        "os.system",
    ),
    *([], {}, [None], {"class_path": "os.system"}, {"init_args": {}}, {1: 2}, [[1], {"a": "b"}]),
    {"class_path": "adabc_lightning.agent.methods.AWAC", "init_args": {"beta": []}},
)


def hdf5(rng: random.Random, folder: Path, _: Any) -> None:
    """A small valid file with random structure, then with random bytes, into the loader."""
    path, rows = folder / "log.hdf5", rng.choice((1, 2, 7, 50))
    numbers = np.random.default_rng(rng.randrange(2**32))
    with h5py.File(path, "w") as file:
        for key in KEYS:
            with suppress(ValueError, TypeError):  # h5py makes no such array
                _column(rng, numbers, file, key, rows)
        if rng.random() < 0.2:
            _attributes(rng, file)
    path.write_bytes(_damaged(rng, path.read_bytes()))
    load_dataset(str(path), max_episode_steps=rng.choice((None, 1, 5)))


def _attributes(rng: random.Random, file: h5py.File) -> None:
    """Which columns are which part of an observation, as files of ours say it, and other things."""
    parts = rng.choice(([["a", 1], ["b", 2]], [["b", 3]], [["a", -1], ["b", 4]], [["a", 10**12]]))
    text = json.dumps(_changed_list(rng, parts) if rng.random() < 0.5 else parts)
    place = rng.randrange(len(text) + 1)
    broken = text[:place] + rng.choice((*'{}[]",\\', "1e999", "[" * 5000)) + text[place:]
    strange = (broken, b"\xff", 3, [1.0, 2.0], "", "null", h5py.Empty("f4"))
    file.attrs["observation_parts"] = rng.choice((text, text, text, *strange))
    file.attrs["env_id"] = rng.choice(("Hopper-v5", 3, b"\xff", ""))


def _changed_list(rng: random.Random, parts: list[Any]) -> list[Any]:
    """With another value in it, or one part twice."""
    place = rng.randrange(len(parts))
    part = rng.choice((parts[0], [], [1, "a"], ["a"], "ab", *VALUES[:12]))
    return [*parts[:place], copy.deepcopy(part), *parts[place + rng.choice((0, 1)) :]]


def _column(rng: random.Random, numbers: Any, file: h5py.File, key: str, rows: int) -> None:
    """One key: mostly as it should be, else missing, of another shape or type, or a link."""
    width = 3 if key.endswith("observations") else 2
    shape = (rows, width) if key in (*KEYS[:2], KEYS[-1]) else (rows,)
    strange = rng.random()
    if strange < 0.04:
        return
    if strange < 0.08:
        shape = tuple(rng.choice((0, 1, 2, 50)) for _ in range(rng.randrange(4)))
        file.create_dataset(key, shape, rng.choice(TYPES[:6]))
    elif strange < 0.12:
        shape = (rng.choice((10**6, 10**13, 2**63)), *shape[1:])
        chunks = (rng.choice((1, 2**20)), *shape[1:])
        file.create_dataset(key, shape, "f4", chunks=chunks)
    elif strange < 0.16:
        kind = rng.choice(TYPES)
        file[key] = np.full(shape, "x", object) if kind == "O" else np.zeros(shape, kind)
    elif strange < 0.2:
        file[key] = rng.choice((h5py.SoftLink(f"/{rng.choice(KEYS)}"), h5py.ExternalLink("x", "y")))
    else:
        values = np.zeros(shape) if key in KEYS[3:5] else numbers.normal(size=shape)
        packed = rng.choice(({}, {"compression": "gzip", "chunks": True}))
        file.create_dataset(key, data=values, **packed)


def config(rng: random.Random, folder: Path, parser: Any) -> None:
    """A packaged config with random changes, through all that happens before a class is made."""
    path = folder / "config.yaml"
    text = rng.choice(sorted(packaged_folder().rglob("*.yaml"))).read_text(encoding="utf-8")
    if rng.random() < 0.5:
        text = yaml.safe_dump(_changed(rng, yaml.safe_load(text)), sort_keys=False)
    for _ in range(rng.choice((0, 1, 2, 5))):
        place = rng.randrange(len(text) + 1)
        cut = place + rng.choice((0, 0, 1, 20))
        text = text[:place] + rng.choice((*SNIPPETS, "")) + text[cut:]
    path.write_bytes(text.encode() + rng.choice((b"", b"", b"", b"\xff\xfe")))
    files = with_ancestors(path)
    for file in files:
        parser.check_names(load(file), str(file))
    parser.parse_args([f"--config={file}" for file in files])
    merged(files, {})


def _changed(rng: random.Random, content: Any) -> Any:
    """The same tree with one or more of its values replaced, renamed or moved."""
    for _ in range(rng.randint(1, 3)):
        place = content
        while isinstance(place, dict) and place:
            key = rng.choice(list(place))
            if not isinstance(place[key], dict) or rng.random() < 0.2:
                what = rng.random()
                if what < 0.7:
                    place[key] = copy.deepcopy(rng.choice(VALUES))
                elif what < 0.85:
                    place[rng.choice(("x", f"{key}+", "class_path", 3))] = place.pop(key)
                else:
                    del place[key]
                break
            place = place[key]
    return content


def minari(rng: random.Random, folder: Path, original: Path) -> None:
    """A small valid Minari dataset with changes in its metadata and its arrays, into the loader."""
    shutil.rmtree(folder / "toy-v0", ignore_errors=True)
    shutil.copytree(original, folder / "toy-v0")
    metadata, arrays = (
        folder / "toy-v0/data" / name for name in ("metadata.json", "main_data.hdf5")
    )
    if rng.random() < 0.6:
        metadata.write_text(_metadata(rng, metadata.read_text()), errors="surrogateescape")
    if rng.random() < 0.4:
        with h5py.File(arrays, "a") as file, suppress(ValueError, TypeError):
            _episode(rng, file)
    if rng.random() < 0.3:
        arrays.write_bytes(_damaged(rng, arrays.read_bytes()))
    if rng.random() < 0.05:
        rng.choice((metadata, arrays)).unlink()
    load_dataset("toy-v0", max_episode_steps=rng.choice((None, 1, 5)))


def _metadata(rng: random.Random, text: str) -> str:
    """The same JSON with other values, in the spaces that it holds as texts as well."""
    content = json.loads(text)
    if rng.random() < 0.5:
        key = rng.choice(("observation_space", "action_space"))
        content[key] = json.dumps(_changed(rng, json.loads(content[key])))
    else:
        content["env_spec"] = rng.choice((None, "", "{}", 3, json.dumps(ENV_SPEC)))
        content = _changed(rng, content)
    text = json.dumps(content)
    for _ in range(rng.choice((0, 0, 1, 3))):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice((*'{}[]",:\\', "1e999", "[" * 5000)) + text[place + 1 :]
    return text


def _episode(rng: random.Random, file: h5py.File) -> None:
    """One episode without an array, or with another one in its place."""
    name = f"episode_{rng.randrange(3)}"
    if rng.random() < 0.1:
        del file[name]
        return
    episode = file[name]
    key = rng.choice(list(episode))
    del episode[key]
    what = rng.random()
    if what < 0.2:
        return
    if what < 0.4:
        episode[key] = rng.choice((h5py.SoftLink("/x"), h5py.ExternalLink("x", "y")))
    elif what < 0.5:
        episode.create_group(key)
    elif what < 0.6:
        episode.create_dataset(key, (rng.choice((10**6, 10**13)), 3), "f4", chunks=(1024, 3))
    else:
        shape = tuple(rng.choice((0, 1, 2, 4, 50)) for _ in range(rng.randrange(4)))
        episode[key] = np.zeros(shape, rng.choice(TYPES[:8]))


def _damaged(rng: random.Random, content: bytes) -> bytes:
    """With some bytes changed, and sometimes cut off."""
    damaged = bytearray(content)
    for _ in range(rng.choice((0, 0, 1, 4, 30))):
        damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    if rng.random() < 0.1:
        del damaged[rng.randrange(len(damaged)) :]
    return bytes(damaged)


def checkpoint(rng: random.Random, folder: Path, originals: dict[str, Any]) -> None:
    """A run's own checkpoint with one to three other values, into all that reads checkpoints."""
    name = rng.choice(list(originals))
    words, content = originals[name]
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        content = _other(rng, content)
    path, out = folder / "x.ckpt", folder / "out"
    try:
        torch.save(content, path)
    except (RecursionError, RuntimeError):  # what no file can hold
        return
    shutil.rmtree(out, ignore_errors=True)
    words = {
        "fit": [*words, "--ckpt_path", str(path), "--trainer.default_root_dir", str(out)],
        "validate": ["validate", *words[1:], "--ckpt_path", str(path)],
        "collect": ["collect", "--policy", str(path), "--steps", "3", "--out", str(out / "x.hdf5")],
    }[rng.choice(("fit", "fit", "fit", "validate", "collect"))]
    status, said = main(words), sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert status in (0, 2), f"status {status}"
    assert not status or said[-1].startswith("error: "), said
    assert sum(line.startswith("error: ") for line in said) == bool(status), said
    assert not status or len(said[-1]) < 2000, said
    assert not status or (out / "metrics.csv").exists() or not out.exists(), said


def _other(rng: random.Random, value: Any) -> Any:
    """The same tree with another value somewhere."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.95:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        what = rng.random()
        if what < 0.05:
            del value[key]
        elif what < 0.08 and isinstance(value, dict):
            value[rng.choice((3, "x", None, ("a", 1), 0.5))] = value[key]
        elif what < 0.1 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = _other(rng, value[key])
        return value
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return rng.choice(TENSORS)(value)
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2**31, 2**62, 10**30))
    return copy.deepcopy(rng.choice((*VALUES, torch.zeros(3), torch.tensor(2.5), (), (1, 2))))


TENSORS = (
    lambda t: t[:0] if t.ndim else t.reshape(1),
    lambda t: t[1:] if t.ndim else t.reshape(1, 1),
    lambda t: t.unsqueeze(0),
    lambda t: t.mT if t.ndim > 1 else t.flip(0) if t.ndim else -t,
    lambda t: t.double() if t.dtype == torch.float32 else t.float(),
    lambda t: t.long(),
    lambda t: t.bool(),
    lambda t: t.to(torch.complex64),
    lambda t: t.to_sparse() if t.ndim else t,
    lambda t: t.to("meta"),
    lambda t: t.new_zeros(1).expand(10**12),
    lambda t: t.new_zeros(()).expand(t.shape),
    lambda t: torch.full_like(t, 255 if t.dtype == torch.uint8 else float("nan")),
    lambda t: torch.full_like(t, 0 if t.dtype == torch.uint8 else float("inf")),
    lambda t: t * 0 - 1 if t.dtype.is_floating_point else t,
    lambda t: torch.nn.Parameter(t) if t.dtype.is_floating_point else t,
    lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8),
    lambda t: torch.nested.nested_tensor([t.flatten(), t.flatten()[:1]]),
)
ENV_SPEC = {
    **{"id": "X-v0", "entry_point": "os:mkdir", "kwargs": {"path": "pwned"}},
    **{"additional_wrappers": [], "reward_threshold": None, "nondeterministic": False},
}


def prepare_minari(folder: Path) -> Path:
    """The dataset that is changed."""
    create_minari("toy-v0", episode_buffers([4, 1, 3], ["terminal", "timeout", "terminal"]))
    return Path(shutil.move(folder / "toy-v0", folder / "original"))


def prepare_checkpoint(folder: Path) -> dict[str, Any]:
    """Words that go on with longer schedules, and the checkpoints that are changed."""
    log, found = str(write_log(folder / "log.hdf5", 4, 1)), {}
    balanced = ["--config", "method/balanced_replay", "--data.replay_capacity", "null"]
    for name, more in {"adaptive": [], "balanced": balanced}.items():
        words = [*RUN, *more, "--data.dataset", log]
        assert main([*words, "--trainer.default_root_dir", str(folder / name)]) == 0
        longer = [*words, "--schedule.online_env_steps", "8"]
        for file in ("last", "pretrained"):
            path = folder / name / "checkpoints" / f"{file}.ckpt"
            found[f"{name} {file}"] = longer, torch.load(path, weights_only=True)
    return found


def gain(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> np.ndarray:
    """A reward function."""
    return following[:, 0] - observation[:, 0] - (action**2).sum(1)


def uneven(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> Any:
    """One that fails, or gives what it may not, at some of the rows."""
    if abs(observation[0, 0]) > 2:
        return {}["goal"]
    return np.sqrt(observation[:, 0]) if observation[0, 0] < 1 else observation


def prepare_data(folder: Path) -> dict[str, Any]:
    """An environment with Dict observations, and logs of it: of parts, flat, bare and of others."""
    space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-9, 9, (1,)), b=gymnasium.spaces.Box(-9, 9, (2,))
    )
    env_id, paths = register_seen(space), []  # type: str, list[str]
    for name, width in (("parts", 3), ("flat", 3), ("bare", 3), ("wide", 4)):
        paths.append(str(write_log(folder / f"{name}.hdf5", width, 1)))
        with h5py.File(paths[-1], "a") as file:
            if name == "parts":
                file.attrs["observation_parts"] = json.dumps([["a", 1], ["b", 2]])
                file["success"] = np.arange(120) % 7 == 0
            if name == "bare":
                del file["rewards"]
    return {"env_id": env_id, "paths": paths}


def data(rng: random.Random, folder: Path, prepared: dict[str, Any]) -> None:
    """Keys below ``data`` of random values through a whole run, on logs of several kinds."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    given = {"dataset": _datasets(rng, prepared["paths"])}
    for key in rng.sample(list(DATA), rng.choice((0, 1, 1, 2, 3))):
        given[key] = _value(rng, DATA[key])
    words = [*RUN, "--data.env_id", prepared["env_id"], "--trainer.default_root_dir", str(out)]
    words += ["--data.replay_capacity", "null"]
    for key, value in given.items():
        words += [
            f"--data.{key}",
            yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip(),
        ]
    status, said = main(words), sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert status in (0, 2), f"status {status}"
    assert not status or said[-1].startswith("error: "), said
    assert sum(line.startswith("error: ") for line in said) == bool(status), said
    assert not any("Warning" in line for line in said), said
    assert not status or len(said[-1]) < 2000, said
    assert not status or (out / "metrics.csv").exists() or not out.exists(), said


def _value(rng: random.Random, values: Sequence[Any]) -> Any:
    """One of them, rather one of the first; sometimes anything else."""
    if rng.random() < 0.05:
        return copy.deepcopy(rng.choice(VALUES))
    return copy.deepcopy(values[int(len(values) * rng.random() ** 2)])


def _datasets(rng: random.Random, paths: list[str]) -> Any:
    """One, or a list of some, each by its name or as a mapping."""
    if rng.random() < 0.4:
        return rng.choice((*paths[:2], *paths, ""))
    entries: list[Any] = []
    for path in rng.choices(paths[:2] if rng.random() < 0.7 else paths, k=rng.choice((1, 2, 3))):
        entry: Any = {"path": path}
        for key in rng.sample(list(ENTRY), rng.choice((0, 0, 1, 2))):
            entry[key] = _value(rng, ENTRY[key])
        entries.append(
            rng.choice((path, entry, entry, *([rng.choice(VALUES)] * (rng.random() < 0.1))))
        )
    return entries


REWARDS = (f"{__name__}:gain", "success", None, "logged", f"{__name__}:uneven", "os:getcwd", ":", 3)
SCALES = (0.5, 1.0, 0.01, 1e38, 1e-39, 0, -1, float("nan"), "x", True)
ENTRY: dict[str, tuple[Any, ...]] = {
    "weight": (None, 0.5, 1, 3, 0, -1, float("inf"), "x", True, 1e-300),
    "filter": (None, "success", "best 10 %", "best 0.001%", "best 101 %", "best", 3),
    "reward": REWARDS,
    "action_scale": SCALES,
}
"""Values of the keys of an entry of ``data.dataset``."""
DATA: dict[str, tuple[Any, ...]] = {
    "env_kwargs": (None, {}, {"x": 3}, {"max_episode_steps": 3}, {"id": "x"}, {"x": [[[[1]]]]}, 3),
    "reward": REWARDS,
    "reward_online": (True, True, False, 3),
    "reward_scale": (2.0, 0.1, 1e38, "return_range", 0, -1, "range"),
    "success_terminates": (True, True, False, "x"),
    "normalize_observations": (True, True, True, False, 1),
    "action_scale": SCALES,
    "observation_keys": (["b", "a"], ["b"], None, [], ["A", "B"], ["a", "a"], ["x"], "a", [1]),
    "done_means": (None, None, "terminal", "timeout", "x"),
    "max_time_gap": (1.5, None, 0, float("inf"), "x"),
    "terminals_at_limit": ("terminal", "timeout", None),
}
"""Values of keys below ``data``."""


def prepare_layouts(folder: Path) -> list[Path]:
    """A small log in each layout."""
    originals = folder / "layouts"
    originals.mkdir()
    for name, write in WRITERS.items():
        (originals / name).mkdir()
        write(originals / name, log() | {"dones": log()["timeouts"].astype(int)})
    np.savez(originals / "ogbench.npz", **task())
    np.savez_compressed(originals / "sb3.npz", **sb3())
    robomimic(originals / "robomimic.hdf5")
    d3rlpy(originals / "d3rlpy.h5")
    lerobot(originals / "lerobot")
    return sorted(originals.iterdir())


def layouts(rng: random.Random, folder: Path, originals: list[Path]) -> None:
    """A log in some layout with changed or missing bytes, names, files, or as another format."""
    original, target = rng.choice(originals), folder / "log"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    copy_to = target / original.name
    (shutil.copytree if original.is_dir() else shutil.copy)(original, copy_to)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    for path in rng.sample(files, min(len(files), rng.choice((0, 1, 1, 2)))):
        what = rng.random()
        if what < 0.6:
            path.write_bytes(_damaged(rng, path.read_bytes()))
        elif what < 0.75:
            path.write_bytes(_swapped(rng, path.read_bytes()))
        elif what < 0.85:
            path.rename(path.with_suffix(rng.choice((".csv", ".npz", ".parquet", ".gz", ""))))
        elif what < 0.92:
            path.unlink()
        else:
            path.write_bytes(rng.choice((b"", b"PK", b"PAR1", b"\x1f\x8b", b"{", b"[" * 9999)))
    reading = Reading(
        rng.choice((None, None, ("a",), ("state",))),
        rng.choice((None, None, "terminal", "timeout")),
        rng.random() < 0.2,
        rng.choice((None, 1.5)),
        rng.choice((None, None, "train")),
        rng.choice((None, None, "logged", "success", f"{__name__}:gain", f"{__name__}:uneven")),
        rng.choice((1.0, 1.0, 1.0, 0.01, 1e38)),
    )
    path = rng.choice((target, copy_to, copy_to, *files))
    load_dataset(str(path), max_episode_steps=rng.choice((None, 1, 5)), reading=reading)


def _swapped(rng: random.Random, content: bytes) -> bytes:
    """One word for another one, so that what is read is whole but means other things."""
    words = (b"observation", b"action", b"reward", b"terminal", b"episode", b"step", b"0", b"1,")
    others = (*words, b"nan", b"1e999", b"null", b"-1", b"", b'"', b"\n", b"[")
    return content.replace(rng.choice(words), rng.choice(others), rng.choice((1, 1, -1)))


# What is fed, and what is made once before.
TARGETS: dict[str, tuple[Any, Any]] = {
    "hdf5": (hdf5, lambda folder: None),
    "yaml": (config, lambda folder: capture_parser(run, "fit", [], [])),
    "layouts": (layouts, prepare_layouts),
    "data": (data, prepare_data),
    "minari": (minari, prepare_minari),
    "checkpoint": (checkpoint, prepare_checkpoint),
}
