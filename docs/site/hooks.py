"""What MkDocs calls while it builds: the order of the pages, pages made of code, and links."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import generated  # noqa: E402 - beside this file

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def navigation(sections: dict[str, list[str]], pages: set[str]) -> list[dict[str, list[str]]]:
    """The sections with those of their pages that exist.

    Args:
        sections: title → names of pages in order; the last one also gets what no section lists.
        pages: names without ``.md``.
    """
    listed = {name for names in sections.values() for name in names}
    *_, last = sections
    every = {**sections, last: [*sections[last], *sorted(pages - listed)]}
    nav = [
        {title: [f"{name}.md" for name in names if name in pages]} for title, names in every.items()
    ]
    return [section for section in nav if all(section.values())]


def inside(markdown: str, page: str, folder: str = "docs") -> str:
    """Links that hold on the site: to configs on their page, to code and folders as plain text.

    Args:
        markdown: of a page.
        page: its name.
        folder: where it lies in the repository; links are relative to that.
    """

    def replace(match: re.Match[str]) -> str:
        text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path == "configs/base.yaml":
            return f"[{text}](keys.md)"
        if config := re.fullmatch(r"configs/(.+)\.yaml", path):
            return f"[{text}](configs.md#{generated.anchor(config[1])})"
        name = path.removeprefix("docs/").removesuffix(".md").lower()
        made = name in generated.PAGES
        if made or (path.startswith("docs/") and (ROOT / path).is_file()):
            file = f"{name}.md" if made else path.removeprefix("docs/")
            return f"[{text}]({file}{'#' + anchor if anchor else ''})"
        return text if text.startswith("`") else f"{text} (`{path}`)"

    return LINK.sub(replace, markdown)


def on_config(config: Any) -> Any:
    """Makes the navigation."""
    pages = {path.stem for path in Path(config.docs_dir).glob("*.md")} | set(generated.PAGES)
    config.nav = navigation(config.extra["sections"], pages)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made of code, configs and the files at the root."""
    from mkdocs.structure.files import File

    for name, make in generated.PAGES.items():
        files.append(File.generated(config, f"{name}.md", content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mends links."""
    name = page.file.src_uri.removesuffix(".md")
    return inside(markdown, name, "." if name in generated.PAGES else "docs")
