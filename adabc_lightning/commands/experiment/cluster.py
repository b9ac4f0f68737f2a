"""The Ray engine: each job a task on a cluster, lost workers' jobs go on elsewhere.

Ray is imported where it is needed: it belongs to the extra ``ray``.
"""

import logging
import os
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from adabc_lightning.commands.experiment.folders import check, finished, log_path, write_log
from adabc_lightning.commands.experiment.plan import Job
from adabc_lightning.commands.experiment.progress import Progress, say
from adabc_lightning.commands.experiment.store import MARK, Store, is_small
from adabc_lightning.commands.experiment.worker import TOKEN, Assignment, Board, run
from adabc_lightning.errors import UserError, first_cause, warn
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.checkpoint_files import FOLDER
from adabc_lightning.run.config_files import merged, resolve
from adabc_lightning.run.yaml_core import dump_yaml

RETRIES = 20  # of a job whose worker was lost
ANSWER_SECONDS = 60.0
PROBE_SECONDS = 30.0
READ_SECONDS = 1.0
ARRIVAL_SECONDS = 60.0  # until a network's file system shows here what was written elsewhere
PASSED_ON = ("ADABC_", "WANDB_", "OMP_NUM_THREADS", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH")


@dataclass(frozen=True)
class Resources:
    """What a job reserves.

    Args:
        cpus: cores, also its threads.
        gpus: may be a fraction; jobs then share one.
    """

    cpus: float = 1.0
    gpus: float = 0.0


class Cluster:
    """Runs jobs as tasks of Ray.

    Args:
        jobs: of the whole experiment.
        out: folder of all runs.
        address: of a cluster that was found by :func:`probe`; None to start one on this machine.
        resources: of each job.
        parallel: jobs at the same time; None for as many as the cluster takes.
        store: the run store; None where the workers see ``out``.
    """

    def __init__(
        self,
        jobs: list[Job],
        out: Path,
        address: str | None,
        resources: Resources,
        parallel: int | None,
        store: Store | None,
    ) -> None:
        self.jobs, self.out, self.address, self.resources = jobs, out, address, resources
        self.parallel = parallel
        self.store = store
        self.tasks: dict[Any, Job] = {}
        self.arriving: dict[Path, tuple[Job, float]] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.told: dict[str, int] = {}
        self.stopping = False
        self.token = uuid.uuid4().hex

    def __enter__(self) -> Self:
        try:
            if self.store is not None:
                self.synchronise(self.store)
                check(self.jobs)
            else:
                replace_text(self.out / TOKEN, self.token)
            self._connect()
        except KeyboardInterrupt:
            self.__exit__()
            raise SystemExit(130) from None
        except BaseException:
            self.__exit__()
            raise
        self.progress = Progress()
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if hasattr(self, "progress"):
            self.progress.__exit__(*error)
        (self.out / TOKEN).unlink(missing_ok=True)
        ray.shutdown()  # what still runs ends with it

    def _connect(self) -> None:
        """Connects to the cluster, or starts one, and the board beside this process."""
        if self.address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # nobody else on this machine
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        alone: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 << 20}
        if self.address is None:
            ray.init("local", **quiet, **alone)
        else:
            ray.init(self.address, **quiet)
        self._warn_of_resources([node["Resources"] for node in ray.nodes() if node["Alive"]])
        here = ray.get_runtime_context().get_node_id()  # the board survives every other machine
        strategy = NodeAffinitySchedulingStrategy(here, soft=False)
        actor: Any = ray.remote(Board)
        self.board = actor.options(num_cpus=0, scheduling_strategy=strategy).remote()
        self.reading, self.read = self.board.read.remote().future(), time.monotonic()
        self.task = ray.remote(run).options(
            num_cpus=self.resources.cpus, num_gpus=self.resources.gpus, max_retries=RETRIES
        )

    def _warn_of_resources(self, nodes: list[dict[str, float]]) -> None:
        wanted = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        if not any(all(node.get(k, 0) >= v for k, v in wanted.items()) for node in nodes):
            warn(
                f"no machine of the cluster has {wanted['CPU']:g} cores and {wanted['GPU']:g} GPUs "
                "(--cpus-per-run, --gpus-per-run); the runs wait for one that has"
            )
        gpus = sum(node.get("GPU", 0) for node in nodes)
        if gpus and not self.resources.gpus:
            warn(f"the cluster's {gpus:g} GPUs are not used; --gpus-per-run 0.25 puts four on each")

    def synchronise(self, store: Store) -> None:
        """Fetches the store's files, checkpoints aside, and pushes runs that only are here."""
        names = store.names()
        for job in self.jobs:
            name = job.folder.relative_to(self.out).as_posix()
            there = {file for file in names if file.startswith(f"{name}/")}
            if there:
                self._fetch(store, name, there)
            else:
                (job.folder / MARK).unlink(missing_ok=True)
                if (job.folder / FOLDER).is_dir():
                    store.push(job.folder, name)

    def _fetch(self, store: Store, name: str, files: set[str]) -> None:
        for file in files:
            if is_small(file):
                store.fetch(file, self.out / file)
        replace_text(self.out / name / MARK, f"{store.url}/{name}/checkpoints\n")

    @property
    def room(self) -> bool:
        """Whether more may wait for the cluster; what it has no room for, waits there."""
        return self.parallel is None or len(self.tasks) < self.parallel

    @property
    def busy(self) -> bool:
        """Whether any has not ended."""
        return bool(self.tasks or self.arriving)

    def start(self, job: Job) -> None:
        """Hands a job to the cluster."""
        environment = {"WANDB_MODE": "disabled"}
        environment |= {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
        if not self.resources.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        store, config = None, ""
        if self.store is not None:
            files, options = resolve("fit", job.words)
            store, config = self.store.url, dump_yaml(merged(files, {}))
            sent = replace(job, words=options)
        else:
            sent = job
        assignment = Assignment(sent, self.out, self.token, Path.cwd(), environment, store, config)
        self.tasks[self.task.remote(assignment, self.board)] = job

    def ended(self) -> list[tuple[Job, bool]]:
        """The jobs whose tasks have ended, and whether well; what they left is here then."""
        import ray

        self._look()
        over = []
        for task in list(self.tasks):
            if not ray.wait([task], timeout=0)[0]:
                continue
            job = self.tasks.pop(task)
            try:
                reason = ray.get(task)
            except Exception as error:  # lost too often, or this package is not there
                reason = first_cause(error)
            if self.store is not None:
                self._bring(self.store, job)
            self.rows.pop(job.label, None)
            if reason is None:
                self.arriving[job.folder] = (job, time.monotonic() + ARRIVAL_SECONDS)
                continue
            if not self.stopping:
                log_path(job).parent.mkdir(parents=True, exist_ok=True)
                write_log(job, reason)
            over.append((job, False))
        for folder, (job, until) in list(self.arriving.items()):
            if finished(job) or time.monotonic() > until:
                del self.arriving[folder]
                over.append((job, True))
        return over

    def _bring(self, store: Store, job: Job) -> None:
        """Copies what a job left in the store, but for its checkpoints."""
        name = job.folder.relative_to(self.out).as_posix()
        try:
            files = {f"{name}/{file}" for file in store.names(name)}
            if store.has(f"{name}.log"):
                files.add(f"{name}.log")
            self._fetch(store, name, files)
        except Exception as error:  # of the store
            warn(f"{job.label} cannot be fetched from {store.url}: {first_cause(error)}")

    def _look(self) -> None:
        """Reads the board, and says which jobs go on elsewhere."""
        if self.reading.done() and time.monotonic() - self.read > READ_SECONDS:
            self.rows = self.reading.result()
            self.reading, self.read = self.board.read.remote().future(), time.monotonic()
            for label, row in self.rows.items():
                if row["attempt"] > self.told.get(label, 1):
                    self.told[label] = row["attempt"]
                    say(f"{label}: its worker was lost, it goes on on {row['node']}")
        running = {job.label for job in self.tasks.values()}
        rows = {label: row for label, row in self.rows.items() if label in running}
        self.progress.show(rows, waiting=len(running) - len(rows))

    def stop(self) -> None:
        """Asks the workers to save and stop and drops jobs that none has begun; asked twice, drops
        all.
        """
        import ray

        again, self.stopping = self.stopping, True
        try:
            ray.get(self.board.stop.remote(), timeout=ANSWER_SECONDS)
            begun = ray.get(self.board.read.remote(), timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError:  # the board is gone, or does not answer
            begun = {}
        if again:  # a run that waits for another machine would never end
            for task in self.tasks:
                ray.cancel(task, force=True)
            begun = {}
        self.tasks = {task: job for task, job in self.tasks.items() if job.label in begun}
        if self.tasks:  # one whose machine was lost would wait for another
            say("stopping, the runs save; a second Ctrl-C does not wait for them")


def probe(address: str) -> None:
    """Tries an address in a process of its own: Ray itself waits for minutes.

    Raises: UserError: no cluster answers there, or one of another version of Ray or Python.
    """
    wrong = f"--address: no Ray cluster answers at {address}"
    host, colon, port = address.rpartition(":")
    if "://" not in address and address != "auto":
        if not colon or not port.isdecimal():
            raise UserError(f"--address: {address!r} is neither HOST:PORT nor auto")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"{wrong}: {first_cause(error)}") from error
    code = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code, address],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(wrong) from error
    if tried.returncode:
        lines = [line for line in tried.stderr.splitlines() if line.strip()]
        raise UserError(f"{wrong}: {lines[-1].partition(': ')[2] if lines else 'no reason'}")


def need_ray() -> None:
    """Raises: UserError: the extra is not installed."""
    for library in ("ray", "rich"):
        if find_spec(library) is None:
            raise UserError(
                f"--engine ray needs {library}: pip install 'adabc_lightning[ray]', here and on "
                "every machine of the cluster"
            )
