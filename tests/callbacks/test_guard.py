"""Numbers that are none, a diverging Q, environments that fail: one sentence, nothing lost."""

import csv
import json
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from lightning import Callback
from test_resume import assert_equal, everything
from tiny import Toy, register_toy, tiny_run, told, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks import BalancedReplay, Guard
from adabc_lightning.callbacks.finite import check_tensors
from adabc_lightning.callbacks.metrics import COLUMNS
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.make import evaluate
from adabc_lightning.env.stepping import LARGEST, CheckedEnv, all_finite, can_time_out
from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.run.schedule import Schedule

STEP = 7  # of the training environment; evaluations of the toy end before
SCHEDULE = Schedule(2, 12, 1, evaluation_every=100, offline_chunk=2)


class Faults(gymnasium.Wrapper):
    """Does one thing wrong, once: in the first step or reset after so many of its own steps."""

    armed: ClassVar[tuple[str, int] | None] = None

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.steps = 0

    def reset(self, **options: Any) -> Any:
        answer = super().reset(**options)
        if Faults.armed and Faults.armed[0] == "reset" and self.steps >= Faults.armed[1]:
            Faults.armed = None
            raise KeyError("no start")
        return answer

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, *flags, info = super().step(action)
        if not Faults.armed or Faults.armed[0] == "reset" or self.steps != Faults.armed[1]:
            return observation, reward, *flags, info
        kind, Faults.armed = Faults.armed[0], None
        if kind == "raises":
            raise RuntimeError("the arm\nis stuck")
        if kind == "stops":
            raise StopIteration
        if kind == "hangs":
            time.sleep(600)
        if kind == "shape":
            observation = observation[:-1]
        if kind == "list":
            observation = list(observation)
        if kind == "inf observation":
            observation = np.where(np.arange(len(observation)) == 1, np.inf, observation)
        if kind == "huge observation":
            observation = observation + 1e300
        if kind == "nan reward":
            reward = math.nan
        if kind == "array reward":
            reward = np.ones(2)
        if kind == "no reward":
            reward = None
        if kind == "old api":
            return observation, reward, flags[0], info
        return observation, reward, *flags, info


def faulty_toy() -> Faults:
    """The toy."""
    return Faults(Toy())


def faulty_pendulum() -> Faults:
    """A MuJoCo environment: its full state can be saved."""
    return Faults(gymnasium.make("InvertedPendulum-v5", disable_env_checker=True).unwrapped)


@pytest.fixture(autouse=True)
def environments() -> Any:
    """Registers both, disarmed."""
    for name, make, limit in (
        ("AdabcFaultyToy-v0", faulty_toy, 5),
        ("AdabcFaultyPendulum-v0", faulty_pendulum, 8),
    ):
        if name not in gymnasium.registry:
            gymnasium.register(name, make, max_episode_steps=limit)
    yield
    Faults.armed = None


class Spoil(Callback):
    """Writes a number that is none into the agent, after the update that reaches a count."""

    def __init__(self, part: str, after: int) -> None:
        self.part, self.after, self.done = part, after, False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if self.done or pl_module.gradient_updates < self.after:
            return
        self.done = True
        if self.part == "adam":
            state = pl_module.part("critics").adam
            state.second_moments[0].view(-1)[0] = math.inf  # which would silence it for ever
        elif self.part == "alpha":
            pl_module.alpha.fill_(math.nan)
        else:
            with torch.no_grad():
                getattr(pl_module, self.part).weights[0].view(-1)[0] = math.nan


def rows_of(folder: Path) -> list[dict[str, str]]:
    """metrics.csv, every row of full width and every number finite."""
    with open(folder / "metrics.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert tuple(lines[0]) == COLUMNS
    assert all(len(line) == len(COLUMNS) for line in lines)
    assert all(math.isfinite(float(text)) for line in lines[1:] for text in line[1:] if text)
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def assert_whole(folder: Path) -> dict[str, Any]:
    """Everything a stopped run left is well-formed and finite; its diagnosis."""
    rows_of(folder)
    if (folder / "summary.json").exists():
        assert json.loads((folder / "summary.json").read_text())["finished"] is False
    for path in (folder / "checkpoints").glob("*"):
        state = torch.load(path, weights_only=True)
        assert all(torch.isfinite(tensor).all() for tensor in state["state_dict"].values())
    assert not [path for path in folder.rglob("*") if "tmp" in path.suffix]
    return json.loads((folder / "diagnostics.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("raises", "raised RuntimeError: the arm is stuck in step 2 of an episode"),
        ("stops", "raised StopIteration in step 2"),
        ("reset", "raised KeyError: 'no start' in reset"),
        ("hangs", r"did not answer within data\.step_timeout 3 seconds in step 2"),
        ("shape", r"gave an observation of shape \[2\] instead of \[3\]"),
        ("list", "gave a value of type list as observation"),
        ("inf observation", "an observation whose number 1 is inf"),
        ("huge observation", r"an observation whose number 0 is 1e\+300"),
        ("nan reward", "gave the reward nan"),
        ("array reward", r"type ndarray and shape \[2\] as reward"),
        ("no reward", "gave a value of type NoneType as reward"),
        ("old api", r"raised ValueError: not enough values to unpack .* in step 2"),
    ],
)
def test_an_environment_that_fails_ends_the_run_with_what_was_before(
    kind: str, sentence: str, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    folder = tmp_path / "run"
    timeout = {"step_timeout": 3.0} if kind == "hangs" else {}
    trainer, module, data = tiny_run(
        folder, "AdabcFaultyToy-v0", log, schedule=SCHEDULE, data=timeout
    )
    Faults.armed = kind, STEP
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGALRM)]
    with pytest.raises(EnvironmentFailure, match=sentence) as failure:
        trainer.fit(module, data)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGALRM)] == handlers
    step = 11 if kind == "reset" else STEP  # its first reset after the 7th step
    said = str(failure.value)
    assert f"environment step {step} of the run" in said
    last = str(folder / "checkpoints" / "last.ckpt")  # it was made of parts
    assert f"go on with parts made anew and trainer.fit(…, ckpt_path={last!r}" in said
    assert "\n" not in said
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["ReplayDataModule"]["collector"]["env_steps"] == step - 1
    assert saved["ReplayDataModule"]["batches"] == 1 + step - 1
    diagnosis = assert_whole(folder)
    assert (diagnosis["phase"], diagnosis["env_steps"]) == ("fine-tuning", step - 1)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run in which nothing fails."""
    folder = tmp_path_factory.mktemp("uncut")
    if "AdabcFaultyPendulum-v0" not in gymnasium.registry:
        gymnasium.register("AdabcFaultyPendulum-v0", faulty_pendulum, max_episode_steps=8)
    log = write_log(folder / "log.hdf5", 4, 1)
    schedule = Schedule(2, 24, 2, evaluation_every=100, offline_chunk=2)
    trainer, module, data = tiny_run(folder, "AdabcFaultyPendulum-v0", log, schedule=schedule)
    trainer.fit(module, data)
    return folder, everything(trainer)


@pytest.mark.parametrize("kind", ["raises", "nan reward", "reset"])
def test_resumed_it_goes_on_as_if_nothing_had_failed(
    uncut: tuple[Path, dict[str, Any]], kind: str, tmp_path: Path
) -> None:
    log, expected = uncut[0] / "log.hdf5", uncut[1]
    schedule = Schedule(2, 24, 2, evaluation_every=100, offline_chunk=2)

    def run() -> Any:
        return tiny_run(tmp_path, "AdabcFaultyPendulum-v0", log, schedule=schedule)

    Faults.armed = kind, 13  # the simulator has already moved when it fails
    trainer, module, data = run()
    with pytest.raises(EnvironmentFailure):
        trainer.fit(module, data)
    trainer, module, data = run()
    trainer.fit(module, data, ckpt_path=tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert_equal(everything(trainer), expected)


@pytest.mark.parametrize(
    ("part", "after", "sentence"),
    [
        ("critics", 4, "loss/critic is nan at gradient update 6 .pre-training, rows of .*log.hdf5"),
        ("critics_target", 4, "at gradient update 6 .pre-training"),
        ("actor", 4, "at gradient update 6 .pre-training"),
        ("adam", 4, "Adam's exp_avg_sq of critics.* holds 1 numbers of .* at gradient update 6"),
        (
            "critics",
            12,
            r"action is nan at gradient update 14 and environment step 4 \(fine-tuning",
        ),
        ("actor", 12, r"number 0 of the policy's action is nan.*12 and environment step 2"),
        ("adam", 12, r"holds 1 numbers.*rows online, the others of .*log\.hdf5"),
        ("alpha", 12, "policy's action is nan at gradient update 14"),
        ("critics", 10, "holds 1 numbers .* at gradient update 10"),  # as the checkpoint is due
    ],
)
def test_a_number_that_is_none_stops_the_run_within_an_interval(
    part: str, after: int, sentence: str, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    folder = tmp_path / "run"
    schedule = Schedule(10, 8, 1, evaluation_every=2, offline_chunk=2)
    if after != 10:
        schedule = Schedule(10, 8, 1, evaluation_every=100, offline_chunk=2)
    trainer, module, data = tiny_run(
        folder, register_toy(), log, schedule=schedule, callbacks=[Spoil(part, after)]
    )
    with pytest.raises(NotFinite, match=sentence) as failure:
        trainer.fit(module, data)
    last = folder / "checkpoints" / "last.ckpt"
    said = str(failure.value)
    assert f"the last good checkpoint is {last}" in said or not last.exists()
    assert said.endswith(f"; more in {folder / 'diagnostics.json'}")
    diagnosis = assert_whole(folder)
    assert diagnosis["problem"] in said
    assert any(tensor["non_finite"] for tensor in diagnosis["tensors"].values())
    assert diagnosis["batch"]["columns"]["observation[0]"]["non_finite"] == 0
    assert diagnosis["ring"]["rows"] == len(data.replay)
    if last.exists():
        saved = torch.load(last, weights_only=True)["agent"]["gradient_updates"]
        assert saved == (8 if after == 10 else 10)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("network", r"density_ratio\.net\.0\.weight holds 1 numbers of 20 that are not finite at"),
        ("adam", r"Adam's exp_avg of density_ratio\.net\.0\.weight holds 1 numbers of 20"),
        ("priorities", r"the ring's priorities holds 1 numbers of 123 that are not finite"),
    ],
)
def test_balanced_replay_s_own_numbers_are_checked(
    part: str, sentence: str, tmp_path: Path
) -> None:
    balanced = BalancedReplay(batch_size=4, hidden_sizes=(4,), balanced_steps=10)

    class SpoilBalanced(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.datamodule.env_steps != 3:
                return
            weight = next(pl_module.density_ratio.parameters())
            # The metrics' row comes next: nothing has been computed with it.
            if part == "priorities":
                balanced.sampler.priorities[7] = math.nan
            elif part == "network":
                weight.data[0, 0] = math.nan
            else:
                trainer.optimizers[2].state[weight]["exp_avg"][0, 0] = math.inf

    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        log,
        schedule=Schedule(10, 8, 3, evaluation_every=100, offline_chunk=2),
        callbacks=[balanced],
        data={"replay_capacity": None},
        downsampling={"keep": 1.0},
    )
    trainer.callbacks.insert(0, SpoilBalanced())
    trainer.callbacks.remove(balanced)
    trainer.callbacks.insert(0, balanced)
    with pytest.raises(NotFinite, match=sentence):
        trainer.fit(module, data)
    assert_whole(tmp_path / "run")


def test_answers_of_another_gymnasium() -> None:
    env = faulty_toy()
    checked = CheckedEnv(env)
    checked.reset()
    Faults.armed = "old api", 1
    with pytest.raises(EnvironmentFailure, match=r"'Toy' gave 4 values instead of \(observation"):
        checked.step(np.zeros(2, np.float32))
    env.reset = lambda **_: np.zeros(3)  # type: ignore
    with pytest.raises(EnvironmentFailure, match=r"and shape \[3\] instead of .* in reset"):
        checked.reset()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.filterwarnings("error")
def test_finite_is_what_float32_can_hold(kind: Any) -> None:
    assert all_finite(np.array([0, 1, 1], kind))
    assert all_finite(np.array([[1, 0], [0, 1]], kind)[:, 0])
    if np.issubdtype(kind, np.floating):
        largest = min(float(np.finfo(kind).max), LARGEST)
        for bad in (np.nan, np.inf, -np.inf):
            assert not all_finite(np.array([1, bad], kind))
            assert not all_finite(np.array([[largest, bad]], kind))
        assert all_finite(np.array([[largest, -largest], [0, 1]], kind))
    if kind == np.float64:
        assert all_finite(np.array([1e25, -1.0]))  # squared, it would not fit
        assert not all_finite(np.array([2 * LARGEST, 0]))
        assert not all_finite(np.array([-1e300, 0]))


def test_a_policy_without_numbers_is_not_evaluated() -> None:
    env = gymnasium.make(register_toy(), disable_env_checker=True)
    with pytest.raises(NotFinite, match="number 1 of the policy's action is nan"):
        evaluate(lambda x: np.array([[0.0, math.nan]] * len(x), np.float32), [env], 1, 0)


def test_every_kind_of_number_is_found() -> None:
    sound = {"a": torch.ones(3), "b": torch.zeros(())}
    check_tensors(sound)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(NotFinite, match="b holds 1 numbers of 2"):
            check_tensors({**sound, "b": torch.tensor([1.0, bad])})
    check_tensors({**sound, "a ring before the hand-over": torch.empty(0)})
    check_tensors({"large": torch.full((9,), 3e38)})  # whose norm would overflow


@pytest.mark.parametrize("bound", [1e-9, None, 10.0])
def test_a_diverging_q_is_said_once_and_recorded(
    bound: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=SCHEDULE)
    next(c for c in trainer.callbacks if isinstance(c, Guard)).q_bound = bound  # type: ignore
    trainer.fit(module, data)
    said = [line for line in capsys.readouterr().err.splitlines() if "diverges" in line]
    warnings = json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]
    assert said == [f"warning: {text}" for text in warnings]
    assert len(said) == (bound == 1e-9)
    if said:
        assert "larger model.alpha_offline" in said[0]
        assert "(pre-training, rows of" in said[0]


@pytest.mark.parametrize(("factor", "share"), [(1.0, None), (5000.0, None), (5000.0, 0.5)])
def test_rewards_of_another_unit_are_said_once(
    factor: float, share: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    with h5py.File(log, "r+") as file:
        file["rewards"][:] *= factor
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=SCHEDULE, data={"offline_fraction": share}
    )
    trainer.fit(module, data)
    said = [line for line in capsys.readouterr().err.splitlines() if "a step's reward is" in line]
    assert len(said) == (factor > 1)
    warnings = json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]
    assert said == [f"warning: {text}" for text in warnings if text.startswith("a step's")]


def command(folder: Path, env_id: str, *more: str) -> list[str]:
    """A tiny ``fit`` from the command line."""
    log = write_log(folder / "log.hdf5", 3, 2)
    options = {
        "data.env_id": env_id,
        "data.dataset": str(log),
        "data.batch_size": "8",
        "data.reference_min": "0",
        "data.reference_max": "10",
        "schedule.offline_updates": "20",
        "schedule.online_env_steps": "12",
        "schedule.updates_per_env_step": "1",
        "schedule.offline_chunk": "2",
        "model.hidden_sizes": "[8,8]",
        "model.num_critics": "3",
        "metrics.every": "2",
        "evaluation.episodes": "1",
        "trainer.default_root_dir": str(folder / "run"),
        "trainer.enable_progress_bar": "false",
    }
    return ["fit", *(f"--{key}={value}" for key, value in options.items()), *more]


def test_a_learning_rate_of_a_million_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, register_toy(), "--model.learning_rate=1e6")) == 2
    *before, said = told(capfd.readouterr().err)
    assert said.startswith("error: ")
    assert "at gradient update" in said
    assert "(pre-training, rows of" in said
    assert "a larger model.alpha_offline or a smaller model.learning_rate may help" in said
    assert "no checkpoint was written yet" in said
    assert len(before) <= 2  # what starts, and that Q diverges
    assert "Traceback" not in said
    diagnosis = assert_whole(tmp_path / "run")
    assert diagnosis["versions"]["torch"] == torch.__version__
    names = {path.name for path in (tmp_path / "run").iterdir()}
    files = {".lock", "config.yaml", "metrics.csv", "summary.json", "diagnostics.json"}
    assert names == files


def test_a_failing_environment_is_one_line_and_the_run_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Faults.armed = "nan reward", STEP
    words = command(tmp_path, "AdabcFaultyToy-v0")
    assert main(words) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("error: environment 'AdabcFaultyToy-v0' gave the reward nan")
    assert_whole(tmp_path / "run")
    with pytest.warns(UserWarning, match="resumes inexactly"):  # no MuJoCo
        assert main([*words, "--ckpt_path=last"]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["finished"] is True
    assert len({row["env_steps"] for row in rows_of(tmp_path / "run")}) > 1


def test_a_failing_evaluation_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(6, 4, 1, evaluation_every=2, offline_chunk=2)
    trainer, module, data = tiny_run(tmp_path / "run", "AdabcFaultyToy-v0", log, schedule=schedule)
    Faults.armed = "raises", 12  # in the third evaluation, five steps each
    with pytest.raises(
        EnvironmentFailure, match=r"last good checkpoint is .*last\.ckpt"
    ) as failure:
        trainer.fit(module, data)
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["agent"]["gradient_updates"] == 4
    assert (
        "in step 2 of an episode (in an evaluation, a trial or a start, at gradient update 6)"
        in str(failure.value)
    )
    assert_whole(tmp_path / "run")


def test_what_cannot_be_is_refused() -> None:
    for timeout in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"data\.step_timeout is"):
            ReplayDataModule(register_toy(), None, Schedule(0, 1), step_timeout=timeout)
    for bound in (-1.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"guard\.q_bound is"):
            Guard(bound)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(can_time_out()))
    thread.start()
    thread.join()
    assert answers == [False]
