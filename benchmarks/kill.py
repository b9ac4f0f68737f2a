"""Kills runs at chosen and at random moments, resumes them, and compares them with uncut ones.

    .venv/bin/python benchmarks/kill.py [--kills 60] [--seed 0] [--methods td3_bc,awac]

Every run is the command line's ``fit``, tiny, in MuJoCo, in a process of its own that is forked
from this one (which has imported everything, so that a run takes a second). A process kills itself
with SIGKILL before, amid or after the n-th call of a function of the table below, or is killed by
the clock; then the newest checkpoint may be damaged as well. It is resumed with ``--ckpt_path
last`` and killed again, up to three times, and at the end everything must be equal: each
checkpoint (weights, optimisers, ring, α, counters, generators), ``metrics.csv``, the numbers of
``summary.json``, the files' names. After each kill no more than one checkpoint interval may be
lost. Status 1 if anything differs.
"""

import argparse
import csv
import io
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"  # what is forked must have one thread

import torch

import adabc_lightning.commands.fit  # noqa: F401 - what a forked run needs not import again
from adabc_lightning.__main__ import main as command_line
from adabc_lightning.run.checkpoint_files import is_whole, newest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from tiny import write_log

EVERY = 10
RUN = shlex.split(
    "fit --schedule.offline_updates 20 --schedule.online_env_steps 30 --data.batch_size 8"
    " --schedule.updates_per_env_step 2 --schedule.offline_chunk 4 --evaluation.episodes 2"
    f" --schedule.evaluation_every {EVERY} --metrics.every 2 --model.hidden_sizes [8]"
    " --model.actor_hidden_sizes [8] --downsampling.minimum 10 --checkpoints.keep_policies true"
    " --data.reference_min 0 --data.reference_max 10 --trainer.accelerator cpu"
    " --trainer.enable_progress_bar false"
)
PENDULUM = "--data.env_id InvertedPendulum-v5 --data.dataset {log4x1}"
# What their overlays would set to the sources' sizes.
OWN = f"{PENDULUM} --data.batch_size 8 --schedule.updates_per_env_step 2 --model.hidden_sizes [8]"
FROZEN = "--schedule.frozen_env_steps 4"
LINKED = OWN.replace("log4x1", "linked4x1")  # rows that follow each other
METHODS = {
    "redq_adaptive_bc": f"{PENDULUM} --data.replay_capacity 30 --alpha.kp 1e-3 --alpha.kd 1e-2",
    "td3_bc": "--data.env_id Hopper-v5 --data.dataset {log11x3}",
    "awac": PENDULUM,
    "balanced_replay": PENDULUM,
    "redq_scratch": "--data.env_id InvertedPendulum-v5 --schedule.offline_updates 0",
    "iql": f"{OWN} --model.method.dropout 0.1",
    "cql": f"{OWN} --model.method.samples 2 --model.method.target_gap 0.5",
    # In episodes of four steps: most kills are amid one whose returns are not known yet.
    "cal_ql": f"{LINKED} {FROZEN} --model.method.samples 2 --data.max_episode_steps 4",
    "spot": f"{OWN} --model.method.vae_updates 7 --model.method.vae_width 8"
    " --model.method.cooling_updates 60",
    "rebrac": f"{LINKED} --model.method.decay_updates 60",
    "rlpd": f"{OWN} {FROZEN}",
    "wsrl": f"{OWN} {FROZEN} --model.method.samples 2 --downsampling.minimum 0",
}

# What dies → where it dies: "before" and "after" a call, "amid" what it writes.
MOMENTS = {
    "start": ("adabc_lightning.callbacks.folder:RunFolder.on_train_start", "before after"),
    "draw": ("adabc_lightning.data.replay:ReplayRing.sample", "after"),
    # After one: before the next part moves.
    "gradient step": ("adabc_lightning.agent.update:step_adam", "before after"),
    "hand-over": ("adabc_lightning.data.module:ReplayDataModule.hand_over", "before after"),
    "amid hand-over": ("adabc_lightning.callbacks:Downsampling.on_hand_over", "before after"),
    "environment step": ("adabc_lightning.data.collector:Collector.step", "before after"),
    "evaluation": ("adabc_lightning.callbacks:Evaluation.run", "before after"),
    "act": ("adabc_lightning.agent.module:OffToOnModule.act", "before"),
    "controller": ("adabc_lightning.callbacks:AlphaController.on_train_batch_end", "after"),
    "row": ("adabc_lightning.callbacks.metrics_file:MetricsFile.append", "before amid after"),
    "summary": ("adabc_lightning.callbacks:Summary._write", "before after"),
    "checkpoint": ("torch:save", "before amid after"),
    "sync": ("os:fsync", "before after"),
    "rename": ("os:replace", "before after"),
    "previous": ("adabc_lightning.run.checkpoint_io:keep_previous", "before after"),
    "end": ("adabc_lightning.callbacks:Summary.on_fit_end", "before after"),
}
CLOCK = "clock"


def amid_save(content: Any, file: Any) -> None:
    """Half of a checkpoint's bytes reach the disk."""
    whole = io.BytesIO()
    ORIGINAL["torch:save"](content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()


def amid_append(metrics: Any, row: dict[str, Any]) -> None:
    """Half a row reaches the file."""
    with open(metrics._path, "a") as file:
        file.write(f"{row['phase']},{row['gradient_updates']},1")


AMID = {
    "torch:save": amid_save,
    "adabc_lightning.callbacks.metrics_file:MetricsFile.append": amid_append,
}
ORIGINAL: dict[str, Callable[..., Any]] = {}


def locate(target: str) -> tuple[Any, str]:
    """The object that holds a function, and the function's name there."""
    module, _, path = target.partition(":")
    owner = import_module(module)
    *names, last = path.split(".")
    for name in names:
        owner = getattr(owner, name)
    return owner, last


def watch(target: str, on_call: Callable[[str], bool]) -> None:
    """Asks before, amid and after each call of a function whether the process shall die there."""
    owner, name = locate(target)
    function = ORIGINAL[target] = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if on_call("before"):
            die()
        if on_call("amid"):
            AMID[target](*args, **kwargs)
            die()
        result = function(*args, **kwargs)
        if on_call("after"):
            die()
        return result

    setattr(owner, name, watched)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork(words: list[str], log: Path, prepare: Callable[[], None], seconds: float | None) -> int:
    """A run in a process of its own, killed after so many seconds: its wait status."""
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            prepare()
            status = command_line(words)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            status = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def counting(path: Path) -> Callable[[], None]:
    """Writes how often each function is called."""

    def prepare() -> None:
        calls: Counter[str] = Counter()
        for moment, (target, _) in MOMENTS.items():

            def on_call(when: str, moment: str = moment) -> bool:
                calls[moment] += when == "before"
                if moment == "end" and when == "after":
                    path.write_text(json.dumps(calls))
                return False

            watch(target, on_call)

    return prepare


def dying(moment: str, when: str, call: int) -> Callable[[], None]:
    """Kills its process at a call of a function."""

    def prepare() -> None:
        calls = 0

        def on_call(where: str) -> bool:
            nonlocal calls
            calls += where == "before"
            return calls == call and where == when

        watch(MOMENTS[moment][0], on_call)

    return prepare


def state(path: Path) -> Any:
    """A checkpoint without clock times, commands and Lightning's own account of its loops."""
    content = torch.load(path, weights_only=True)
    content.pop("loops", None)
    for name, values in content.get("callbacks", {}).items():
        if name.startswith(("Summary", "Evaluation")):
            values.pop("seconds", None)
            values.pop("evaluation_seconds", None)
            values.pop("commands", None)
    return content


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two nested containers of tensors and numbers are not exactly equal."""
    if type(a) is not type(b):
        return [f"{path}: {type(a).__name__}, {type(b).__name__}"]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [line for key in a for line in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{path}: lengths {len(a)}, {len(b)}"]
        pairs = enumerate(zip(a, b, strict=True))
        return [line for i, (x, y) in pairs for line in differences(x, y, f"{path}/{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [f"{path}: {a!r:.60}, {b!r:.60}"]


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a run leaves, clock times and the commands that made it aside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    summary = json.loads((folder / "summary.json").read_text())
    timed = ("seconds", "commands", "offline_updates_per_second", "online_updates_per_second")
    for name in (*timed, "online_env_steps_per_second"):
        summary.pop(name)
    return {
        "files": [str(path.relative_to(folder)) for path in files],
        "metrics": (folder / "metrics.csv").read_text().splitlines(),
        "summary": summary,
        "checkpoints": {path.name: state(path) for path in files if path.suffix == ".ckpt"},
    }


def lost(folder: Path) -> tuple[int, int, str]:
    """Updates and environment steps of metrics.csv that no whole checkpoint holds; the phase."""
    rows = []
    if (folder / "metrics.csv").is_file():
        with open(folder / "metrics.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["control/alpha"]]
    seen = (int(rows[-1]["gradient_updates"]), int(rows[-1]["env_steps"])) if rows else (0, 0)
    saved = (0, 0)
    if whole := list(filter(is_whole, newest(folder))):
        content = torch.load(whole[0], weights_only=True)
        steps = content["ReplayDataModule"]["collector"]["env_steps"]
        saved = content["agent"]["gradient_updates"], steps
    phase = rows[-1]["phase"] if rows else "before the first row"
    return seen[0] - saved[0], seen[1] - saved[1], phase


def damage(path: Path, rng: random.Random) -> None:
    """Cuts a file off, or makes a block of it zeros, as after a power failure."""
    content = path.read_bytes()
    path.unlink()  # it may be the same file as the previous one, between two renames
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        path.write_bytes(content[:place])
    else:
        path.write_bytes(content[:place] + bytes(512) + content[place + 512 :])


class Harness:
    """Uncut runs, killed runs, and the account of both."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.phases: Counter[str] = Counter()
        self.damaged = self.chains = 0
        self.wrong: list[str] = []
        self.uncut: dict[str, tuple[dict[str, Any], dict[str, int], float]] = {}
        shapes = {"log4x1": (4, 1), "log11x3": (11, 3), "linked4x1": (4, 1)}
        self.logs = {
            name: write_log(folder / f"{name}.hdf5", *sizes, linked=name.startswith("linked"))
            for name, sizes in shapes.items()
        }

    def words(self, method: str, folder: Path) -> list[str]:
        own = shlex.split(METHODS[method].format(**self.logs))
        config = ["--config", f"method/{method}"]
        return [*RUN, *config, *own, "--trainer.default_root_dir", str(folder)]

    def reference(self, method: str) -> tuple[dict[str, Any], dict[str, int], float]:
        """Outcome, calls of each function and seconds of the uncut run of a method."""
        if method not in self.uncut:
            folder, calls = self.folder / method, self.folder / f"{method}.json"
            log = self.folder / f"{method}.log"
            start = time.monotonic()
            status = fork(self.words(method, folder), log, counting(calls), None)
            if status:
                raise SystemExit(f"the uncut run of {method} failed:\n{log.read_text()}")
            seconds = time.monotonic() - start
            self.uncut[method] = outcome(folder), json.loads(calls.read_text()), seconds
        return self.uncut[method]

    def chain(self, method: str, first: str, most: int) -> None:
        """One run, killed up to so many times, beginning with a given moment."""
        expected, calls, seconds = self.reference(method)
        self.chains += 1
        name = f"{method}-{self.chains}"
        folder, log = self.folder / name, self.folder / f"{name}.log"
        words = [*self.words(method, folder), "--ckpt_path", "last"]
        story = []
        for number in range(most):
            moment = first if not number else self.rng.choice([*MOMENTS, CLOCK, CLOCK, CLOCK])
            when, call = "", 0
            if moment == CLOCK:
                limit = self.rng.uniform(0.15, 0.6) * seconds  # more than half of it is start
                status = fork(words, log, lambda: None, limit)
                story.append(f"clock {limit:.2f} s")
            else:
                when = self.rng.choice(MOMENTS[moment][1].split())
                # Less is left of a run that was killed before.
                most_calls = calls.get(moment, 1) // (1 if not number else 3)
                call = self.rng.randint(1, max(1, most_calls))
                status = fork(words, log, dying(moment, when, call), None)
                story.append(f"{when} {moment} {call}")
            if status == 0:  # it was over before
                story.pop()
                break
            if status != signal.SIGKILL:
                self.fail(name, story, [f"status {status}", *log.read_text().splitlines()[-3:]])
                return
            self.kills[moment] += 1
            updates, steps, phase = lost(folder)
            self.phases[phase] += 1
            # A damaged checkpoint that was not replaced before the next kill costs one more.
            interval = EVERY * (1 + (story[-2:-1] == ["damage"]))
            if steps > interval or (not steps and updates > interval):
                self.fail(name, story, [f"lost {updates} updates, {steps} steps"])
            found = newest(folder)
            if len(found) == 2 and self.rng.random() < 0.3:
                damage(found[0], self.rng)
                self.damaged += 1
                story.append("damage")
        status = fork(words, log, lambda: None, None)
        if status:
            self.fail(name, story, [f"status {status}", *log.read_text().splitlines()[-3:]])
            return
        if wrong := differences(expected, outcome(folder)):
            self.fail(name, story, wrong)
        print(f"{name}: {', '.join(story) or 'not killed'}", flush=True)

    def fail(self, name: str, story: list[str], wrong: list[str]) -> None:
        self.wrong.append(name)
        print(f"WRONG {name}: {', '.join(story)}: {'; '.join(wrong[:5])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="at least so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--moments", default=",".join([*MOMENTS, CLOCK]), help="the first kills")
    parser.add_argument("--most", type=int, default=3, help="kills of one run")
    options = parser.parse_args()
    methods, moments = options.methods.split(","), options.moments.split(",")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder), options.seed)
        while sum(harness.kills.values()) < options.kills and len(harness.wrong) < 5:
            # Coprime strides: each method meets each moment in the end.
            number = harness.chains
            method = methods[number % len(methods)]
            harness.chain(method, moments[number % len(moments)], options.most)
    print(
        f"{sum(harness.kills.values())} kills in {harness.chains} runs of {len(harness.uncut)} "
        f"methods, {harness.damaged} newest checkpoints damaged, {len(harness.wrong)} differ; "
        f"{time.monotonic() - start:.0f} s"
    )
    for counts in (harness.phases, harness.kills):
        print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    raise SystemExit(bool(harness.wrong))


if __name__ == "__main__":
    main()
