"""The tutorials, command by command as they stand, at a size of seconds."""

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY

from adabc_lightning.__main__ import main

SMALL = (
    "--schedule.offline_updates 4 --schedule.online_env_steps 90 --schedule.evaluation_every 90"
    " --schedule.updates_per_env_step 1 --model.num_critics 2 --model.hidden_sizes [8]"
    " --data.batch_size 8 --downsampling.minimum 50 --evaluation.episodes 1"
    " --trainer.enable_progress_bar false"
)
# page → folder of examples, what it needs beside the package
TUTORIALS = {
    "tutorial_lerobot": ("reacher", ("pyarrow",)),
    "tutorial_robomimic": ("peg", ()),
    "tutorial_no_rewards": ("tanks", ()),
}


def blocks(page: str, kind: str) -> list[str]:
    """The code blocks of a language."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


@pytest.mark.parametrize("page", TUTORIALS)
def test_commands_as_they_stand(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, needs = TUTORIALS[page]
    for module in (*needs, "rliable", "matplotlib", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    folder = tmp_path / name
    ignored = shutil.ignore_patterns("runs", "__pycache__")
    shutil.copytree(REPOSITORY / "examples" / name, folder, ignore=ignored)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("ADABC_ALLOW", raising=False)
    said: dict[str, str] = {}
    for line in [line for block in blocks(page, "sh") for line in block.splitlines()]:
        program, *words = shlex.split(line)
        assert program == "python"
        if words[:2] != ["-m", "adabc_lightning"]:
            monkeypatch.setattr(sys, "argv", [words[0], "12"])
            runpy.run_path(words[0], run_name="__main__")
            continue
        small = shlex.split(SMALL) if words[2] == "fit" else []
        status = main([*words[2:], *small])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        said.setdefault(words[2], printed.out)
    assert list(said) == ["inspect", "fit", "report", "rollout", "export"]
    # what the page shows is what is printed, line by line up to its numbers
    (shown,) = (block for block in blocks(page, "") if "transitions, " in block)
    printed = said["inspect"].splitlines()
    for line in shown.splitlines():
        label = re.match(r"[ a-z_.]*", line)[0]  # type: ignore[index]
        assert line == "…" or any(other.startswith(label) for other in printed), line
    assert Path(f"runs/{name}.html").exists()
    assert "<svg" in Path(f"runs/{name}.svg").read_text(encoding="utf-8")
    assert (Path(f"{name}-policy") / "policy.onnx").exists()
    seeds = [
        json.loads(path.read_text())["seed"]
        for path in sorted(Path("runs").glob(f"{name}/replica_*/summary.json"))
    ]
    assert seeds == [0, 1, 2]


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_fits_an_afternoon(page: str) -> None:
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert f"]({page}.svg)" in text
    assert (REPOSITORY / "docs" / f"{page}.svg").exists()
    for kind in ("python", "yaml"):  # what is shown of a file is in that file
        for block in blocks(page, kind):
            folder = REPOSITORY / "examples" / TUTORIALS[page][0]
            sources = [path.read_text(encoding="utf-8") for path in folder.glob(f"*.{kind[:2]}*")]
            lines = [line.strip() for line in block.splitlines() if line.strip() != "data:"]
            assert any(all(line in source for line in lines) for source in sources), block
