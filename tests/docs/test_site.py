"""The documentation site: complete, warning-free, from this machine alone, and its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY
from test_configs import TINY

from adabc_lightning.__main__ import main

DOCS = REPOSITORY / "docs"
sys.path.insert(0, str(DOCS / "site"))

import generated  # noqa: E402 - beside the hooks that use it
from hooks import inside, navigation  # noqa: E402


def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install adabc_lightning[docs]")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    pages = {path.stem: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert {path.stem for path in DOCS.glob("*.md")} | {*generated.PAGES, "404"} == set(pages)
    for name, page in pages.items():
        tags = re.findall(r"<(?:script|img|link|iframe)\b[^>]*>", page)
        loaded = [url for tag in tags for url in re.findall(r"\b(?:src|href)=\"?([^\"\s>]+)", tag)]
        assert loaded
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == [], name
    styles = (tmp_path / "site").rglob("*.css")
    assert not any(re.search(r"url\(\W?(https?:)?//", path.read_text()) for path in styles)
    assert not (tmp_path / "site" / "runs").exists()


def test_pages_are_listed_in_order_and_none_is_lost() -> None:
    sections = {"A": ["index", "later"], "B": ["never"], "C": ["last"]}
    assert navigation(sections, {"last", "index", "new"}) == [
        {"A": ["index.md"]},
        {"C": ["last.md", "new.md"]},
    ]


def test_every_key_is_on_its_page_with_a_meaning() -> None:
    parser = generated._parser()
    groups: dict[str, list[list[str]]] = {}
    for line in generated.keys().splitlines():
        if line.startswith("## "):
            rows = groups.setdefault(line.removeprefix("## "), [])
        elif line.startswith("| `"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    shown = {
        (f"{group}." if group != "seed" else "") + row[0].strip("`")
        for group, rows in groups.items()
        for row in rows
    }
    left_out = ("trainer.", "ckpt_path")
    keys = [key for key in parser.keys() if not key.startswith(left_out)]  # noqa: SIM118
    linked = {"data.schedule", "data.seed", "model.spec", "model.seed"}
    assert shown == (set(keys) | {"seed_everything"}) - linked
    for group, rows in groups.items():
        for row in rows:
            assert row[3] or row[4], (group, row)  # what it means
            assert "see " not in row[4][:4], (group, row)
    row = next(row for row in groups["alpha"] if row[0] == "`ceiling`")
    assert row[1:5] == ["`0.4`", "a number, 0 or more", "largest α; paper IV.A", "largest α."]
    assert row[5] == "[adroit](configs.md#adroit)"


def test_links_lead_to_pages_of_the_site() -> None:
    text = (
        "[a](tasks.md#x) [b](../configs/small.yaml) [c](../configs/base.yaml) [d](runs/small/) "
        "[`e`](../adabc_lightning/commands/fit.py) [f](https://example.org) ![g](demo.svg) "
        "[h](#here) [i](../CHANGELOG.md)"
    )
    assert inside(text, "page") == (
        "[a](tasks.md#x) [b](configs.md#small) [c](keys.md) d (`docs/runs/small`) "
        "`e` [f](https://example.org) ![g](demo.svg) [h](#here) [i](changelog.md)"
    )
    assert inside("[a](docs/faq.md)", "changelog", ".") == "[a](faq.md)"


def test_every_command_of_quick_start_and_recipes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    first = "--config hopper --config quick --trainer.default_root_dir runs/first"
    assert main(["fit", *first.split(), *TINY]) == 0
    prefix, seen = "python -m adabc_lightning ", set()
    for page in ("index.md", "recipes.md"):
        blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
        for line in "".join(blocks).splitlines():
            if not line.startswith(prefix) or line.endswith(first):
                continue
            words = shlex.split(line.removeprefix(prefix))
            seen.add(words[0])
            extra = {"fit": ["--dry-run"], "doctor": ["--seconds", "0"]}.get(words[0], [])
            dry = words[0] != "experiment" or "--dry-run" in words
            status = main([*words, *[word for word in extra if word not in words]])
            assert (status, dry) == (0, True), (line, capsys.readouterr().err)
    assert seen == {"fit", "doctor", "validate", "report", "experiment"}


def test_every_fit_of_the_other_pages_has_keys_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the pages above, the guide, methods, docs/use.md and tutorials run elsewhere."""
    monkeypatch.chdir(tmp_path)
    prefix, seen = "python -m adabc_lightning fit ", set()
    for page in DOCS.glob("*.md"):
        lines = re.findall(rf"^{prefix}(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        elsewhere = page.stem in ("index", "methods", "recipes", "use", "your_own")
        if elsewhere or page.stem.startswith("tutorial_"):
            continue
        for line in lines:
            seen.add(page.stem)
            words = ["0" if word == "S" else word for word in shlex.split(line)]  # S: any seed
            with pytest.raises(SystemExit) as ended:
                main(["fit", *words, "--print_config"])
            assert ended.value.code == 0, (line, capsys.readouterr().err)
    assert {"collect", "results", "scaling", "tasks"} <= seen


def test_the_config_of_the_recipes_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "recipes.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)
    assert main(["fit", "--config", "mine", "--dry-run"]) == 0
