"""Files that are whole, whoever writes them at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from adabc_lightning.run.atomic import replace_text, replacing

WRITERS, ROUNDS = 4, 25


def test_several_write_one_file(tmp_path: Path) -> None:
    """As the jobs of an array do; whoever reads finds what one of them wrote, and all of it."""
    target = tmp_path / "results.csv"
    texts = [str(writer) * 10_000 for writer in range(WRITERS)]
    replace_text(target, texts[0])
    begin = Barrier(WRITERS + 1, timeout=20)

    def write(text: str) -> None:
        for _ in range(ROUNDS):
            begin.wait()
            replace_text(target, text)

    def read() -> set[str]:
        found = set()
        for _ in range(ROUNDS):
            begin.wait()
            found.add(target.read_text())
        return found

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        writing = [pool.submit(write, text) for text in texts]
        assert pool.submit(read).result() <= set(texts)
        for each in writing:
            each.result()
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    replace_text(tmp_path / "a", "old")

    def fail() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
