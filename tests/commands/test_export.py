"""``export`` and ``load_policy``: the actions are the module's, also where this package is not."""

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from paths import REPOSITORY
from tiny import TOY_LIMIT, register_toy, shapes, tiny_run, write_log

import adabc_lightning
from adabc_lightning.__main__ import main
from adabc_lightning.agent.methods import AWAC, WSRL
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.export import graph
from adabc_lightning.commands.export.card import make_card
from adabc_lightning.commands.export.names import action_names, observation_names
from adabc_lightning.data.datasets import load_dataset
from adabc_lightning.env.exchange import Publication, Space
from adabc_lightning.env.make import make_env
from adabc_lightning.env.policy import Policy, load_policy
from adabc_lightning.env.policy_checkpoint import stored_policy
from adabc_lightning.env.policy_export import CARD, FILES
from adabc_lightning.env.robot import RobotPolicy
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

LIMIT = np.array([1, 3], np.float32)  # of the toy's actions
TOLERANCE = 1e-6  # in action limits

WITHOUT_THIS_PACKAGE = """
import sys
sys.modules["adabc_lightning"] = None  # an import of it now raises
import gymnasium
import numpy as np
observation = np.load("observation.npy")
for batch in (observation, observation[:1], observation[:0]):
    if sys.argv[1] == "onnx":
        import onnxruntime
        session = onnxruntime.InferenceSession("out/policy.onnx")
        (action,) = session.run(["action"], {"observation": batch})
    else:
        import torch
        program = torch.export.load("out/policy.pt2").module()
        action = program(torch.from_numpy(batch)).numpy()
    if len(batch) == len(observation):
        np.save("action.npy", action)
    assert action.shape == (len(batch), 2), action.shape
assert not any(name.startswith("adabc_lightning.") for name in sys.modules)
"""


@pytest.fixture(scope="module", params=["TD3BC", "AWAC", "normalised"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, OffToOnModule]:
    """A finished run of each kind of policy, with actions of some size."""
    folder = tmp_path_factory.mktemp(request.param)
    log = write_log(folder / "log.hdf5", 3, 2)
    model = {"method": AWAC(), "actor_hidden_sizes": (8, 8, 8)}
    trainer, module, data = tiny_run(
        folder / "run",
        register_toy(),
        log,
        schedule=Schedule(6, 4, 1, evaluation_every=4),
        model=model if request.param == "AWAC" else {"hidden_sizes": (64, 64)},
        data={"normalize_observations": request.param == "normalised"},
    )
    with torch.no_grad():
        module.actor.weights[6 if request.param == "AWAC" else 4].mul_(4)
    trainer.fit(module, data)
    return folder / "run", module


@pytest.fixture
def observation_BO() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((300, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(line: str, capsys: pytest.CaptureFixture[str]) -> dict:
    status = main(["export", *shlex.split(line)])
    assert status == 0, capsys.readouterr().err
    return json.loads(Path("out/policy.json").read_text())


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_file_acts_as_the_module_without_this_package(
    run: tuple[Path, OffToOnModule],
    kind: str,
    observation_BO: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, module = run
    card = export(f"--ckpt_path {folder}/checkpoints/last.ckpt --format {kind} --out out", capsys)
    np.save("observation.npy", observation_BO)
    process = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THIS_PACKAGE, kind],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    expected = module.act(observation_BO)
    assert (np.abs(expected) > 0.1 * LIMIT).any(0).all()  # the scaling counts
    np.testing.assert_allclose(np.load("action.npy") / LIMIT, expected / LIMIT, 0, TOLERANCE)
    np.testing.assert_allclose(
        load_policy("out")(observation_BO) / LIMIT, expected / LIMIT, 0, TOLERANCE
    )
    content = Path("out", card["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert b"adabc" not in content  # nor the paths of the machine that wrote it
    assert str(REPOSITORY).encode() not in content


FACTS = {"env_id": "Test-v0", "max_episode_steps": None, "reference": None, "seed": None}


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_normalised_squashed_policy_is_the_module_s(
    kind: str, observation_BO: np.ndarray, tmp_path: Path
) -> None:
    spec = EnvironmentSpec("Test-v0", 3, (-1.0, -3.0), (1.0, 3.0), None)
    module = OffToOnModule(spec, hidden_sizes=(8, 6), policy_delay=1, method=WSRL())
    with torch.no_grad():
        for weight in module.actor.weights:  # no scale is 1, no shift 0
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    expected = module.act(observation_BO)
    state = {f"actor.{name}": tensor for name, tensor in module.actor.state_dict().items()}
    stored = stored_policy({"state_dict": state}, Path("x"))
    policy = Policy(stored, *np.array([spec.action_low, spec.action_high]))
    np.testing.assert_allclose(policy(observation_BO) / LIMIT, expected / LIMIT, 0, TOLERANCE)
    content = graph.export(policy, kind)
    answered = graph.run(content, kind, observation_BO)
    np.testing.assert_allclose(answered / LIMIT, expected / LIMIT, 0, TOLERANCE)
    card = FACTS | {"format": kind, "action": {"low": spec.action_low, "high": spec.action_high}}
    (tmp_path / FILES[kind]).write_bytes(content)
    (tmp_path / CARD).write_text(json.dumps(card))
    loaded = load_policy(tmp_path)
    np.testing.assert_allclose(loaded(observation_BO) / LIMIT, expected / LIMIT, 0, TOLERANCE)
    state["actor.net.1.weight"] = torch.ones(7)
    with pytest.raises(UserError, match="holds no actor"):
        stored_policy({"state_dict": state}, Path("x"))


WRONG_CARDS: list[tuple[str, Any]] = [
    ("format", "../../x"),
    ("format", ["onnx"]),
    ("action", 3),
    ("action/low/0", ["a", "b"]),
    ("observation", 3),
    ("observation_parts", [["a", 0]]),
    ("env_id", 3),
    ("env_kwargs", [1]),
    ("max_episode_steps", "x"),
    ("reference/a", {"minimum": 0, "maximum": 1, "a": 1}),
    ("reference/maximum", {"minimum": 0.0, "maximum": float("nan")}),
    ("seed", "abc"),
    ("seed", -1),
]


@pytest.mark.parametrize(("path", "value"), WRONG_CARDS)
def test_a_wrong_card_is_one_sentence(path: str, value: Any, tmp_path: Path) -> None:
    card = FACTS | {"format": "onnx", "action": {"low": [-1, -3], "high": [1, 3]}}
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"has a card, but no policy.onnx; export it again$"):
        load_policy(tmp_path)  # so far it is right
    name, *rest = path.split("/")
    low = rest[:1] == ["low"]
    card[name] = {"low": value, "high": value} if low else value
    (tmp_path / CARD).write_text(json.dumps(card))
    said = f"{CARD} is no card that export wrote: {path} is missing or wrong$"
    with pytest.raises(UserError, match=said):
        load_policy(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]"])
def test_a_card_that_is_no_mapping_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(UserError, match=f"{CARD} is no card that export wrote: "):
        load_policy(tmp_path)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_what_is_read_from_a_file_normalises_as_it_does(kind: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    layers = [generator.normal(size=s).astype(np.float32) for s in ((8, 3), (8,), (2, 8), (2,))]
    seen = np.array([40, -3, 0], np.float32), np.array([25, 0.1, 1], np.float32)
    bounds = np.array([[-1.0, -3.0], [1.0, 3.0]])
    policy = Policy(StoredPolicy(tuple(layers), normalization=seen), *bounds)
    (tmp_path / FILES[kind]).write_bytes(graph.export(policy, kind))
    told = {"mean": seen[0].tolist(), "scale": seen[1].tolist()}
    card = FACTS | {"format": kind, "action": {"low": [-1, -3], "high": [1, 3]}}
    card["observation"] = {"normalization": told}
    (tmp_path / CARD).write_text(json.dumps(card))
    observation_BO = seen[0] + seen[1] * generator.normal(size=(9, 3)).astype(np.float32)
    expected = policy(observation_BO)
    np.testing.assert_allclose(load_policy(tmp_path)(observation_BO), expected, 0, TOLERANCE)
    (tmp_path / CARD).write_text(json.dumps(card | {"observation": {"normalization": None}}))
    with pytest.raises(UserError, match="disagree on whether observations are normalised"):
        load_policy(tmp_path)


def test_the_card(run: tuple[Path, OffToOnModule], capsys: pytest.CaptureFixture[str]) -> None:
    folder, module = run
    card = export(f"--ckpt_path {folder}/checkpoints/last.ckpt --out out", capsys)
    normalization = None
    if "normalised" in str(folder):
        seen = load_dataset(str(folder.parent / "log.hdf5")).as_d4rl()["observations"]
        mean, scale = seen.mean(0, np.float64), seen.std(0, dtype=np.float64) + 1e-3
        normalization = {"mean": pytest.approx(mean), "scale": pytest.approx(scale)}
    assert card["observation"] == {
        "input": "observation", "shape": ["batch", 3], "dtype": "float32", "names": None,
        "normalization": normalization,
    }  # fmt: skip
    assert card["action"] == {
        "output": "action", "shape": ["batch", 2], "dtype": "float32",
        "low": [-1, -3], "high": [1, 3], "names": None,
    }  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert card["evaluation"]["eval/score"] == summary["score"]["final"]
    assert card["evaluation"]["env_steps"] == card["env_steps"] == 4
    assert card["gradient_updates"] == module.gradient_updates == 10
    assert card["policy"] == ("gaussian" if module.actor.log_std is not None else "deterministic")
    assert card["dataset"].endswith("log.hdf5")
    assert card["max_episode_steps"] == TOY_LIMIT
    assert card["trained_with"] == summary["versions"]
    assert set(summary["versions"]) < set(card["versions"])
    assert card["checkpoint"] == f"{folder}/checkpoints/last.ckpt"
    assert 0 <= card["checked"]["largest_difference"] <= TOLERANCE
    if (REPOSITORY / ".git").exists():
        head = subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True
        )
        assert card["commit"].removesuffix("-dirty") == head.stdout.strip()


class Unmakeable(gymnasium.Env):
    def __init__(self) -> None:
        raise OSError("its simulator is not here")


@pytest.mark.parametrize(
    ("env_id", "of_run", "limit"),
    [
        ("InvertedPendulum-v5", None, 1000),
        ("InvertedPendulum-v5", 50, 50),
        ("AdabcUnmakeable-v0", None, 7),  # as it is registered
        ("AdabcUnmakeable-v0", 9, 9),
        ("nobodys_package:Nobodys-v0", None, None),
    ],
)
def test_the_card_s_time_limit(
    env_id: str, of_run: int | None, limit: int | None, tmp_path: Path
) -> None:
    if "AdabcUnmakeable-v0" not in gymnasium.registry:
        gymnasium.register("AdabcUnmakeable-v0", Unmakeable, max_episode_steps=7)
    (tmp_path / "last.ckpt").touch()
    facts = {"env_id": env_id, "env_kwargs": {}, "max_episode_steps": of_run}
    layers = np.ones((1, 4), np.float32), np.ones(1, np.float32)
    policy = Policy(StoredPolicy(layers), [-1], [1], {**facts, "checkpoint": "last.ckpt"})
    assert make_card(policy, "onnx", b"")["max_episode_steps"] == limit


def test_one_folder_one_export(
    run: tuple[Path, OffToOnModule], capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"export --ckpt_path {run[0]} --out out"
    assert main(shlex.split(line)) == 0
    assert main(shlex.split(line)) == 2
    assert "holds an export; choose another --out" in capsys.readouterr().err
    assert main(shlex.split(f"{line} --format torch --overwrite")) == 0
    assert {path.name for path in Path("out").iterdir()} == {"policy.json", "policy.pt2"}
    assert main(shlex.split("export --ckpt_path out --out other")) == 2
    assert "is an export already" in capsys.readouterr().err
    Path("other").mkdir()
    Path("other", "mine.txt").touch()
    assert main(shlex.split(f"export --ckpt_path {run[0]} --out other")) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(shlex.split(f"export --ckpt_path {run[0]} --out third --format tflite")) == 2
    assert not Path("third").exists()


def test_load_policy_is_the_module(
    run: tuple[Path, OffToOnModule], observation_BO: np.ndarray
) -> None:
    folder, module = run
    policy = load_policy(folder / "checkpoints" / "last.ckpt")
    expected = module.act(observation_BO)
    for kind in (np.float32, np.float64):
        action = policy(observation_BO.astype(kind))
        assert (action.dtype, action.shape) == (np.float32, (300, 2))
        np.testing.assert_allclose(action / LIMIT, expected / LIMIT, 0, TOLERANCE)
        singles = [policy(row) for row in observation_BO.astype(kind)]
        assert singles[0].shape == (2,)
        np.testing.assert_allclose(np.stack(singles) / LIMIT, expected / LIMIT, 0, TOLERANCE)
    assert policy(observation_BO[:0]).shape == (0, 2)
    assert policy(observation_BO[0].tolist()).shape == (2,)
    assert policy.action_low.tolist() == [-1, -3]
    for wrong in (np.zeros(4), np.zeros((2, 2)), np.zeros((1, 1, 3)), np.float32(0)):
        with pytest.raises(UserError, match=r"observations of shape \(3,\) or \(B, 3\)"):
            policy(wrong)


def test_what_a_path_stands_for(run: tuple[Path, OffToOnModule], tmp_path: Path) -> None:
    folder, _ = run
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert load_policy(str(folder)).card == load_policy(best).card
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="neither a run's folder with a checkpoint nor"):
        load_policy(tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(last.read_bytes())
    assert load_policy(tmp_path).card["env_steps"] == 4
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_policy(tmp_path / "nothing")
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or cut off"):
        load_policy(cut)
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(UserError, match="no card that export wrote"):
        load_policy(tmp_path)


def test_answers_are_the_callers_own() -> None:
    layers = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    policy = Policy(StoredPolicy(layers), [-2, -1], [4, 1])
    observation = np.array([0.5, -0.25])
    first = policy(observation)
    np.testing.assert_allclose(first, [1 + 3 * np.tanh(0.5), np.tanh(-0.25)], rtol=1e-6)
    kept = first.copy()
    policy(-observation)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(observation, [0.5, -0.25])


def test_importing_the_package_stays_cheap() -> None:
    code = (
        "import sys, adabc_lightning; assert 'numpy' not in sys.modules; "
        "adabc_lightning.load_policy; "
        "print(*{'torch', 'lightning', 'gymnasium', 'onnx'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (answer.stdout.strip(), answer.stderr) == ("", "")
    assert adabc_lightning.load_policy is load_policy


@pytest.mark.parametrize(
    ("env_id", "observation", "action"),
    [
        (
            "Hopper-v5",
            [
                *("qpos.rootz", "qpos.rooty"),
                *("qpos.thigh_joint", "qpos.leg_joint", "qpos.foot_joint"),
                *("qvel.rootx", "qvel.rootz", "qvel.rooty"),
                *("qvel.thigh_joint", "qvel.leg_joint", "qvel.foot_joint"),
            ],
            ["thigh_joint", "leg_joint", "foot_joint"],
        ),
        (
            "InvertedPendulum-v5",
            ["qpos.slider", "qpos.hinge", "qvel.slider", "qvel.hinge"],
            ["slide"],
        ),
    ],
)
def test_names(env_id: str, observation: list[str], action: list[str]) -> None:
    env = make_env(env_id)
    assert observation_names(env) == observation
    assert action_names(env) == action
    env.close()


def test_names_of_joints_with_several_numbers() -> None:
    env = make_env("Ant-v5")
    names = observation_names(env)
    assert names is not None
    assert len(names) == len(set(names)) == shapes("Ant-v5")[0]
    # Skipped: the root's x and y. Its height and quaternion stay.
    assert names[:6] == [f"qpos.root[{i}]" for i in range(2, 7)] + ["qpos.hip_1"]
    assert names[13:20] == [f"qvel.root[{i}]" for i in range(6)] + ["qvel.hip_1"]
    assert names[-1] == "cfrc_ext[77]"
    env.close()


def test_an_environment_s_own_names() -> None:
    env = make_env(register_toy())
    assert (observation_names(env), action_names(env)) == (None, None)
    env.unwrapped.observation_names = ("a", "b", "c")  # type: ignore[attr-defined]
    env.unwrapped.action_names = ("force", "torque")  # type: ignore[attr-defined]
    assert (observation_names(env), action_names(env)) == (["a", "b", "c"], ["force", "torque"])


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ([1.0, float("nan"), 0.0], r"observation\[1\] is nan; the policy takes numbers"),
        ([[0.0] * 3, [0.0, 0.0, float("inf")]], r"observation\[1, 2\] is inf"),
        ("abc", "the policy takes arrays of numbers: could not convert"),
        ([[1.0], [1.0, 2.0]], "the policy takes arrays of numbers: "),
        ([1.0, 2.0], r"shape \(3,\) or \(B, 3\), this one has \(2,\)"),
    ],
)
def test_a_policy_asked_about_no_numbers_says_so(observation: Any, says: str) -> None:
    layers = tuple(np.ones(shape, np.float32) for shape in ((2, 3), (2,)))
    policy = Policy(StoredPolicy(layers), [-1, -1], [1, 1])
    assert policy([0.0, -2.0, 0.0]).tolist() == [pytest.approx(np.tanh(-1.0))] * 2
    with pytest.raises(UserError, match=says):
        policy(observation)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ([0.1, float("nan"), 0.2], r"observation\[1\] is nan; the policy takes numbers"),
        ([0.0, 0.0, float("inf")], r"observation\[2\] is inf"),
        ([[0.0] * 3] * 2, r"shape \(3,\), this one has \(2, 3\)"),
        ([1.0, 2.0], r"shape \(3,\), this one has \(2,\)"),
        ("abc", "the policy takes arrays of numbers: could not convert"),
    ],
)
def test_a_robot_s_policy_says_so_too(observation: Any, says: str, noise: bool) -> None:
    layers = tuple(np.ones(shape, np.float32) for shape in ((2, 3), (2,)))
    published = Publication(StoredPolicy(layers, np.ones(2, np.float32)), 0, 0, 0, False)
    policy = RobotPolicy(published, Space(3, (-1.0,) * 2, (1.0,) * 2), np.random.default_rng(0))
    assert np.isfinite(policy([0.0, -2.0, 0.0], noise)).all()
    with pytest.raises(UserError, match=says):
        policy(observation, noise)
