"""What the pages say of the repository is so: files that they name, links, layers."""

import re
from pathlib import Path

import pytest
from paths import REPOSITORY

README, CONTRIBUTING = REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((REPOSITORY / "docs").glob("*.md"))]
# a file is named by its path from here, from the package, or as one of the examples
EXAMPLES = REPOSITORY / "examples"
PLACES = [REPOSITORY, REPOSITORY / "adabc_lightning", EXAMPLES, *EXAMPLES.glob("*/")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_file_that_a_page_names_exists(page: Path) -> None:
    names = re.findall(r"(?<![\w./-])[\w/-]+\.py\b", page.read_text(encoding="utf-8"))
    lost = [name for name in names if not any((place / name).exists() for place in PLACES)]
    assert lost == []


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=lambda page: page.name)
def test_links_at_the_root_lead_to_files_and_headings(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        path, _, heading = target.partition("#")
        file = REPOSITORY / path
        assert file.exists(), target
        if heading:
            assert heading in headings(file), target


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and the site give to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_readme_is_short_and_names_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    pages = {f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md")}
    assert {page for page in pages if f"]({page})" not in text} == set()


def test_contributing_shows_the_layers_that_are_checked() -> None:
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.findall(r'^    "adabc_lightning\.(\w+)",$', settings.split("layers = [")[1], re.M)
    layers = layers[: layers.index("errors")]
    shown = re.findall(r"^ +(\w+)/ ", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == layers
    folders = {path.parent.name for path in REPOSITORY.glob("adabc_lightning/*/__init__.py")}
    assert set(layers) == folders
