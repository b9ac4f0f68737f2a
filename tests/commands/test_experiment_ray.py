"""Experiments on a real Ray cluster: workers are lost in the middle, and nothing shows it."""

import csv
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_experiment import PAIR, TOY, toy_experiment

from adabc_lightning.__main__ import main
from adabc_lightning.commands.experiment import cluster as engine
from adabc_lightning.commands.experiment.declaration import read
from adabc_lightning.commands.experiment.folders import finished
from adabc_lightning.commands.experiment.plan import Choice, defaults, plan
from adabc_lightning.commands.experiment.progress import cells_of
from adabc_lightning.commands.experiment.store import MARK, Store
from adabc_lightning.commands.experiment.worker import newest_row

pytest.importorskip("ray")
CHILD = "adabc_lightning.commands.experiment.child"
EXPERIMENT = [sys.executable, "-m", "adabc_lightning", "experiment", "pair"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy task and an experiment, and in ``local`` what the local engine makes."""
    folder = tmp_path_factory.mktemp("experiment")
    longer = TOY.replace("online_env_steps: 8", "online_env_steps: 300")
    toy_experiment(folder, longer, PAIR.replace("seeds: 2", "seeds: 1"))
    subprocess.run([*EXPERIMENT, "--out", "local", "--jobs", "2"], cwd=folder, check=True)
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def nodes(place: Path) -> Iterator[Any]:
    """Three nodes on this machine: that of the command, which runs nothing, and two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("HOME", str(place))  # no token of Ray's there
        folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets' names must be short
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("TMPDIR", folder)  # a killed worker's scratch folder stays
        from ray.cluster_utils import Cluster

        options = {"object_store_memory": 80 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
        made.workers = [made.add_node(num_cpus=1, **options) for _ in range(2)]
        yield made
        made.shutdown()
    wait_until(lambda: not processes(folder))
    shutil.rmtree(folder)


def processes(text: str) -> list[int]:
    """Processes with a text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def children(place: Path) -> list[int]:
    """The runs that workers have started here."""
    found = []
    for process in processes(CHILD):
        try:
            if os.readlink(f"/proc/{process}/cwd") == str(place.resolve()):
                found.append(process)
        except OSError:
            continue
    return found


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def child_of(place: Path, run: str) -> int:
    """The process of a run that has saved something and is not finished."""
    folder = re.compile(rf"\0--trainer.default_root_dir\0([^\0]*{run})\0")
    found: list[int] = []

    def at_work() -> bool:
        for process in children(place):
            words = Path(f"/proc/{process}/cmdline").read_text()
            if (match := folder.search(words)) and Path(match[1], "checkpoints/last.ckpt").exists():
                found.append(process)
        return bool(found)

    wait_until(at_work)
    return found[0]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(line: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*EXPERIMENT, "--engine", "ray", *shlex.split(line)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        # What was started in the background of a script ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def results(out: str) -> list[dict[str, str]]:
    """The rows of ``results.csv`` but for what no two runs have in common."""
    with open(f"{out}/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def assert_same(out: str) -> None:
    assert results(out) == results("local")
    assert len(results(out)) == 2
    for row in results(out):
        rows = [Path(o, row["folder"], "metrics.csv").read_bytes() for o in (out, "local")]
        assert rows[0] == rows[1]


def test_a_lost_machine(nodes: Any, place: Path) -> None:
    process = start(f"--address {nodes.address} --out shared")
    raylet = parent(parent(child_of(place, "toy/adaptive/seed0")))
    (node,) = [
        node for node in nodes.workers if node.all_processes["raylet"][0].process.pid == raylet
    ]
    nodes.remove_node(node, allow_graceful=False)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    first, *lines = said.splitlines()
    assert first.startswith("1/3 toy pre-training ")
    (lost,) = [line for line in lines if "its worker was lost, it goes on on " in line]
    finished = [line.split(": pretrained 40.0, ")[0] for line in lines if line != lost]
    assert sorted(line[4:] for line in finished) == ["toy Fixed α seed 0", "toy adaptive seed 0"]
    assert_same("shared")
    assert not Path("shared/.ray").exists()
    assert not children(place)


def test_a_lost_worker_and_a_store(
    nodes: Any, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/store"
    process = start(f"--address {nodes.address} --out copy --store {url}")
    stored = tmp_path / "store" / "toy" / "adaptive" / "seed0"
    worker = parent(child_of(place, "toy/adaptive/seed0"))
    wait_until((stored / "checkpoints" / "last.ckpt").exists)
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert "toy adaptive seed 0: its worker was lost, it goes on on " in said
    assert "/adabc-" in Path("copy/toy/adaptive/seed0.log").read_text()
    assert_same("copy")
    assert (stored / "checkpoints" / "best.ckpt").exists()
    assert not Path("copy/toy/adaptive/seed0/checkpoints").exists()
    Path("copy/toy/adaptive/seed0/summary.json").unlink()
    assert main(["experiment", "pair", "--out", "copy"]) == 2
    said = capfd.readouterr().err
    assert f"checkpoints are at {url}/pretrained/toy/" in said
    assert said.endswith("/checkpoints; give that --store\n")
    assert not list((tmp_path / "store").rglob("*.part"))

    shutil.rmtree("copy")  # nothing is left to do, and everything is brought again
    process = start(f"--address {nodes.address} --out copy --store {url}")
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0
    assert said == "nothing is left to run; copy/results.csv has a row per run\n"
    assert_same("copy")


def test_ctrl_c_and_the_other_engine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Ray of its own; the signal reaches all processes of the terminal."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setenv("HOME", str(place))
    process = start("--out cut --jobs 2")
    runs = [Path("cut/toy", name, "seed0") for name in ("adaptive", "fixed")]
    at_work = child_of(place, "adaptive/seed0")
    os.kill(at_work, signal.SIGSTOP)  # so that it is not done before the signal is there
    assert processes(folder)
    os.killpg(process.pid, signal.SIGINT)
    os.kill(at_work, signal.SIGCONT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    done = re.compile("[123]/3 ")  # the pre-training, and the other run if it is quick
    first, *stopped, last = [line for line in said.splitlines() if not done.match(line)]
    assert first == "stopping, the runs save; a second Ctrl-C does not wait for them"
    assert last == "stopped; the same command goes on"
    assert stopped
    assert all(line.startswith("stopped: toy ") for line in stopped)
    assert "stopped by SIGTERM, saved" in "".join(
        run.with_name("seed0.log").read_text() for run in runs if run.exists()
    )
    assert not children(place)
    wait_until(lambda: not processes(folder))
    shutil.rmtree(folder)
    assert main(["experiment", "pair", "--out", "cut", "--jobs", "2"]) == 0
    assert_same("cut")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--address nowhere", "--address: 'nowhere' is neither HOST:PORT nor auto"),
        ("--address 127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: [Errno 111]"),
        ("--address LISTENING", "no Ray cluster answers at 127.0.0.1:"),
        ("--store here", "--store: 'here' is no URL such as s3://bucket/fig2"),
        ("--store nosuch://here", "--store: nosuch://here cannot be used: Protocol not known"),
        ("--only runs --index 0", "with --engine ray leave it out"),
        ("--gpus-per-run none", "--gpus-per-run is none; it must be a number above 0"),
    ],
)
def test_a_mistake_is_one_line(
    line: str, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PROBE_SECONDS", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = line.replace("LISTENING", f"127.0.0.1:{server.getsockname()[1]}")
        assert main(["experiment", "pair", "--engine", "ray", "--out", "wrong", *line.split()]) == 2
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1
    assert said in printed
    assert not Path("wrong").exists()


def test_without_ray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert main(["experiment", "pair", "--engine", "ray"]) == 2
    assert "--engine ray needs ray: pip install 'adabc_lightning[ray]'" in capsys.readouterr().err
    for option in ("--address auto", "--store file:///s", "--cpus-per-run 2", "--gpus-per-run 1"):
        assert main(["experiment", "pair", *option.split()]) == 2
        assert f"{option.split()[0]} needs --engine ray" in capsys.readouterr().err


def test_help_imports_no_ray() -> None:
    command = [sys.executable, "-X", "importtime", *EXPERIMENT[1:], "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()}
    assert "adabc_lightning" in names
    assert not names & {"ray", "rich", "fsspec", "torch"}


def test_a_row_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert newest_row(path) == {}
    assert cells_of("a", {"node": "n", "attempt": 1}) == ["a", "n", "", "", "", "", "", "1"]
    lines = [f"online,{1000 + i},{i},{i / 8 if i % 2 else ''},0.25" for i in range(2001)]
    names = "phase,gradient_updates,env_steps,eval/score,control/alpha"
    path.write_text("\n".join([names, *lines[:3], "online,1003,3,0.3"]))  # still being written
    assert newest_row(path) == {
        **{"phase": "online", "gradient_updates": "1002", "env_steps": "2"},
        **{"eval/score": "0.125", "control/alpha": "0.25"},
    }
    path.write_text(f"{names}\n")
    assert newest_row(path) == {}
    path.write_text("\n".join([names, *lines, ""]))
    row = {"node": "n", "attempt": 2, "metrics": newest_row(path)}
    assert cells_of("a", row) == ["a", "n", "online", "3,000", "2,000", "249.9", "0.250", "2"]


def test_a_store_never_has_a_checkpoint_without_its_rows(tmp_path: Path) -> None:
    """What is copied is from the moment at which the checkpoint was looked at, or later."""
    run = tmp_path / "tensorboard" / "run"  # one's own name for the folder of all runs
    (run / "checkpoints").mkdir(parents=True)
    for name in ("summary.json", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        (run / name).write_text("old")
    (run / "checkpoints" / "previous.ckpt").touch()
    store, order = Store(f"file://{tmp_path}/store"), []
    move = store.fs.mv
    store.fs.mv = lambda a, b: (order.append(b.rpartition("/run/")[2]), move(a, b))
    store.push(run, "x/run")
    last = ["checkpoints/last.ckpt", "summary.json"]
    assert order == ["metrics.csv", "checkpoints/best.ckpt", *last]
    store.push(run, "x/run")
    assert len(order) == 4
    (run / "metrics.csv").write_text("newer")
    store.push(run, "x/run", rows_alone=False)
    assert len(order) == 4
    store.push(run, "x/run")
    assert order[4:] == ["metrics.csv"]
    (run / "metrics.csv").write_text("newest")
    (run / "checkpoints" / "last.ckpt").write_text("newest")
    store.push(run, "x/run", rows_alone=False)
    assert order[5:] == ["metrics.csv", "checkpoints/last.ckpt"]
    assert store.names("x") == {f"run/{name}" for name in order[:4]}
    store.fetch("x/run/metrics.csv", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_text() == "newest"


def test_a_store_gets_what_is_only_here(tmp_path: Path) -> None:
    """So an experiment that was begun on one machine goes on with a store."""
    shutil.copytree("local", tmp_path / "begun")
    jobs = plan(read(Path("pair.yaml"), defaults()), Choice(tmp_path / "begun"))
    store = Store(f"file://{tmp_path}/store")
    there = engine.Cluster(jobs, tmp_path / "begun", None, engine.Resources(), None, store)
    there.synchronise(store)
    needed, *_ = [job.folder.relative_to(tmp_path / "begun").as_posix() for job in jobs]
    assert f"{needed}/checkpoints/pretrained.ckpt" in store.names()
    assert not list((tmp_path / "begun").rglob(MARK))
    jobs = plan(read(Path("pair.yaml"), defaults()), Choice(tmp_path / "other"))
    assert not any(map(finished, jobs))
    there = engine.Cluster(jobs, tmp_path / "other", None, engine.Resources(), None, store)
    there.synchronise(store)
    assert all(map(finished, jobs))
    assert (tmp_path / "other" / needed / MARK).read_text().endswith(f"/{needed}/checkpoints\n")
    shutil.rmtree(tmp_path / "store")
    there.synchronise(store)
    assert not list((tmp_path / "other").rglob(MARK))
    assert not finished(jobs[0])
