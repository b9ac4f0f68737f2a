"""One process at a time in a folder; the kernel lets go of a lock whose process was killed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.errors import UserError
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.schedule import Schedule

HOLDER = """
import sys
from pathlib import Path
from adabc_lightning.run.lock import FolderLock
with FolderLock("a run", "--there") as lock:
    lock.take(Path(sys.argv[1]))
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_is_first_and_a_kill_frees_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        with FolderLock("a run", "--here") as lock:
            with pytest.raises(UserError) as refused:
                lock.take(folder)
            assert str(refused.value).startswith(
                f"a run is at work in {folder} (process {first.pid} on "
            )
            assert str(refused.value).endswith("wait for it, or choose another --here")
            first.send_signal(signal.SIGKILL)
            first.wait()
            lock.take(folder)  # what the killed one left does not block
            lock.take(folder)
            assert f"process {os.getpid()} " in (folder / ".lock").read_text()
    with FolderLock("a run", "--here") as lock:
        lock.take(folder)


def test_who_inherits_a_lock_keeps_it(tmp_path: Path) -> None:
    with FolderLock("an experiment", "--here") as lock:
        lock.take(tmp_path)
        heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    with heir, FolderLock("an experiment", "--here") as other:  # the first is released
        with pytest.raises(UserError, match="an experiment is at work in"):
            other.take(tmp_path)
        ended = subprocess.Popen(["true"])
        ended.wait()  # the process that took the lock, as after a kill -9
        file = tmp_path / ".lock"
        file.write_text(file.read_text().replace(str(os.getpid()), str(ended.pid)))
        with pytest.raises(UserError, match=rf"{ended.pid} has ended, but one that it started is"):
            other.take(tmp_path)
        heir.kill()
        heir.wait()
        other.take(tmp_path)


def test_without_locks_on_a_file_system_everybody_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with FolderLock("a run", "--here") as one, FolderLock("a run", "--here") as other:
        one.take(tmp_path)
        other.take(tmp_path)


def test_trainers_of_one_s_own_are_kept_apart_as_well(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(2, 1, 1, evaluation_every=2, offline_chunk=2)
    trainer, module, data = tiny_run(folder, register_toy(), log, schedule=schedule)
    with FolderLock("a run", "--here") as lock:
        lock.take(folder)
        with pytest.raises(UserError, match=r"run is at work in .* choose another default_root_"):
            trainer.fit(module, data)
        assert [path.name for path in folder.iterdir()] == [".lock"]
    trainer, module, data = tiny_run(folder, register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    with FolderLock("a run", "--here") as lock:
        lock.take(folder)  # it is over


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_of_the_folder_is_not_written(kind: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    if kind == "link":
        (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(tmp_path / ".lock")
    said = r"\.lock is (a link and would lead elsewhere|no file); remove it$"
    with pytest.raises(UserError, match=said):
        FolderLock("a run", "--here").take(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"\.lock cannot be written: "):
        FolderLock("a run", "--here").take(tmp_path / "file" / "run")
