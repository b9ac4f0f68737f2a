"""The report's page: its numbers are the summaries', and a real browser shows it without errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import experiment, write_run

from adabc_lightning.__main__ import main
from adabc_lightning.commands.report.page import HERE as REPORT
from adabc_lightning.commands.report.page import write_page
from adabc_lightning.commands.report.panels import panels
from adabc_lightning.commands.report.reach import level_of, reached, steps_to
from adabc_lightning.commands.report.runs import find_runs
from adabc_lightning.commands.report.series import points_for, section

NAMES = ("pretrained", "final", "best", "online_mean", "dip", "drawdown")
HOVER = """<script>
const chart = document.querySelector("svg.chart"), r = chart.getBoundingClientRect();
const at = { clientX: r.left + r.width * 0.8, clientY: r.top + r.height / 2 };
chart.dispatchEvent(new PointerEvent("pointermove", at));
const tip = document.querySelector(".tip"), t = tip.getBoundingClientRect();
document.body.dataset.tip = tip.textContent;
document.body.dataset.inside = t.top >= r.top && t.bottom <= r.bottom && t.right <= innerWidth;
chart.dispatchEvent(new PointerEvent("pointerleave"));
document.body.dataset.left = document.querySelectorAll(".tip").length;
const button = document.querySelector(".legend button");
if (button) {
  button.click();
  const lines = document.querySelectorAll("figure.large")[0].querySelectorAll("g[data-c]");
  document.body.dataset.lines = [...lines].map((g) => g.dataset.c);
}
document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;
</script></body>"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


class Page(HTMLParser):
    """What a test looks for: numbers by run or curve and field, text, attributes of the body."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.of = ""
        self.numbers: dict[tuple[str, str], tuple[float | None, str]] = {}
        self.body: dict[str, str | None] = {}
        self.charts: list[str] = []
        self.sources: list[str] = []
        self._cell: tuple[str, float | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "body":
            self.body = found
        if tag in ("tr", "dl") and ("data-run" in found or "data-curve" in found):
            self.of = found.get("data-run") or f"curve {found['data-curve']}"
        if "data-field" in found:
            value = found.get("data-value")
            self._cell = (found["data-field"] or "", None if value is None else float(value))
        if found.get("class") == "chart":
            self.charts.append(found["aria-label"] or "")

    def handle_data(self, data: str) -> None:
        if self._cell:
            field, value = self._cell
            self.numbers.setdefault((self.of, field), (value, data))  # the first panel's

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "dd"):
            self._cell = None


def equal_the_summaries(page: Page, folders: list[Path]) -> None:
    """Every number at full precision, and what is shown is that number rounded."""
    for folder in folders:
        score = json.loads((folder / "summary.json").read_text())["score"]
        for name in NAMES:
            value, shown = page.numbers[str(folder), name]
            assert value == score[name], (folder, name)
            if value is not None:
                # a curve of one run shows no standard error
                assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.0501)


def test_numbers_are_those_of_the_summaries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = experiment(tmp_path / "out")
    assert main(["report", "out", "--out", "pages/report.html", "--format", "latex,svg"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *("pages/report.html", "pages/report.tex", "pages/report.svg"),
    ]
    text = Path("pages/report.html").read_text()
    page = Page(text)
    folders = [f.parent.relative_to(tmp_path) for f in out.glob("hopper-*/*/*/summary.json")]
    assert len(folders) == 18
    equal_the_summaries(page, folders)
    assert "18 runs, 1 unfinished" in text
    assert "over 2 tasks (D4RL v0)" in text
    assert page.sources == ["data:,"]
    # Nothing is fetched from anywhere.
    assert not re.findall(r"https?://|@import|url\(", text)
    assert main(["report", "out", "--out", "again.html"]) == 0
    assert Path("again.html").read_text() == text
    tex = Path("pages/report.tex").read_text()
    row = next(line for line in tex.splitlines() if line.startswith("fixed"))
    mean = page.numbers["curve 1", "final"][0]
    assert f"& {mean:.1f} $\\pm$ " in row
    assert [tex.count(rf"\begin{{tabular}}{{l{'r' * n}}}") for n in (7, 4)] == [2, 2]


def test_probability_of_improvement(tmp_path: Path) -> None:
    from rliable import metrics

    experiment(tmp_path / "out")
    assert main(["report", "out", "--out", "page.html"]) == 0
    text = Path("page.html").read_text()
    row = re.search(r'<tr><th scope="row">adaptive</th><td></td><td data-value="([\d.]+)"', text)
    assert row
    scores = [
        np.array(
            [
                [json.loads(f.read_text())["score"]["online_mean"]]
                for f in sorted((tmp_path / "out" / "hopper-medium" / v).glob("*/summary.json"))
            ]
        )
        for v in ("adaptive", "fixed")
    ]
    assert float(row[1]) == pytest.approx(metrics.probability_of_improvement(*scores))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))


def test_what_a_run_says_is_text_only(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x>"
    folder = write_run(tmp_path / "a<b>&c", 0, dataset="x<i>y.hdf5")
    rewrite(folder, lambda s: s.update(commands=[evil], warnings=[evil], machine=evil))
    assert main(["report", str(folder), "--out", "page.html"]) == 0
    text = Path("page.html").read_text()
    assert text.count("<script") == 2
    assert not re.findall(r"<img|<i>|<b>&c|alert\(1\)</s", text)
    assert text.count("&lt;img src=x&gt;") == 3
    assert Page(text).sources == ["data:,"]


def test_kept_of_each_dataset(tmp_path: Path) -> None:
    """What ``summary.json`` says, and nothing of what is no such entry."""
    names = ("kept_transitions", "transitions", "kept_episodes", "episodes")
    datasets: list[Any] = [
        {"name": "a<b>.hdf5", **dict(zip(names, (1200, 40_000, 31, 50), strict=True))},
        {"name": "b.csv", "kept_transitions": "many"},
        3,
    ]
    folder = write_run(tmp_path / "a", 0)
    rewrite(folder, lambda s: s.update(datasets=datasets))
    assert main(["report", str(folder), "--out", "page.html"]) == 0
    table = Path("page.html").read_text().split("Kept of each dataset")[1].split("</table>")[0]
    cells = ["a&lt;b&gt;.hdf5", "1,200", "40,000", "31", "50", "b.csv", "–", "–", "–", "–"]
    assert re.findall(r"<td>([^<]*)</td>", table) == cells
    rewrite(folder, lambda s: s.update(datasets="x"))
    assert main(["report", str(folder), "--out", "page.html"]) == 0
    assert "Kept of each dataset" not in Path("page.html").read_text()


def test_commands_are_the_recorded_ones(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "old", 0), write_run(tmp_path / "new", 1)
    rewrite(new, lambda s: s.update(commands=["first --x '[1]'", "second"]))
    assert main(["report", "old", "new", "--out", "page.html"]) == 0
    text = Path("page.html").read_text()
    assert "<pre>first --x &#x27;[1]&#x27;\nsecond</pre>" in text
    repeat = f"fit --config {old.name}/config.yaml --trainer.default_root_dir NEW</pre>"
    assert f"<pre>python -m adabc_lightning {repeat}" in text


def evaluated(folder: Path, rows: list[tuple[int, int, float]]) -> Path:
    """A run with these updates, steps and scores."""
    write_run(folder, int(folder.name[-1]))
    lines = ["gradient_updates,env_steps,eval/return,eval/score"]
    lines += [f"{u},{e},{s * 30},{s}" for u, e, s in rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_steps_to_a_score(tmp_path: Path) -> None:
    evaluated(tmp_path / "out" / "a0", [(10, 0, 60), (20, 0, 12), (30, 10, 11), (40, 20, 58)])
    evaluated(tmp_path / "out" / "a1", [(20, 0, 35), (30, 10, 41), (40, 20, 10)])
    evaluated(tmp_path / "out" / "a2", [(20, 0, 12), (30, 10, 13), (40, 20, 14)])
    (panel,) = panels(find_runs([tmp_path / "out"])[0])
    (curve,) = panel.curves
    assert level_of(panel) == 40  # from the hand-over on the best are 58, 41 and 14
    assert [steps_to(run, "score", 40) for run in curve.runs] == [20, 10, float("inf")]
    assert [steps_to(run, "score", 35) for run in curve.runs] == [20, 0, float("inf")]
    assert reached(curve, "score", 40) == (20, 2)
    assert reached(curve, "score", 50) == (float("inf"), 1)
    assert reached(curve, "score", 100) == (float("inf"), 0)
    assert main(["report", "out", "--reach", "50", "--out", "page.html"]) == 0
    assert Page(Path("page.html").read_text()).numbers["curve 0", "reach"][1] == "never (1 of 3)"
    assert "steps to 50" in Path("page.html").read_text()


def test_the_level_is_the_highest_that_half_of_the_runs_reach(tmp_path: Path) -> None:
    for seed, (before, best) in enumerate([(65, 10), (65, 10), (5, 90), (5, 90)]):
        rows = [(10, 0, before), (20, 0, 5), (30, 10, best), (40, 20, 3)]
        evaluated(tmp_path / "out" / f"a{seed}", rows)
    (panel,) = panels(find_runs([tmp_path / "out"])[0])
    assert level_of(panel) == 90
    assert reached(panel.curves[0], "score", 90) == (10, 2)


def test_the_hand_over_s_row_is_none_of_pre_training(tmp_path: Path) -> None:
    """α is that of fine-tuning there, and what is measured is of the rows that are kept."""
    folder = write_run(tmp_path / "a0")
    lines = ["gradient_updates,env_steps,eval/return,control/alpha,diagnostics/q_gap"]
    lines += ["10,0,300,100,3", "20,0,300,100,2", "20,0,,0.4,6", "30,10,300,0.3,5"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    made = section(panels(find_runs([folder])[0])[0], 240)
    charts = {chart["title"]: chart["lines"][0]["curves"][0] for chart in made["charts"]}
    assert charts["α"]["offline"]["m"] == [100, 100]
    assert charts["α"]["steps"]["m"] == [0.3]
    assert charts["Hand-over: Q gap"]["offline"]["m"] == [3, 2]
    assert charts["Hand-over: Q gap"]["steps"]["m"] == [6, 5]


def test_series(tmp_path: Path) -> None:
    for seed, length in ((0, 3), (1, 2)):
        folder = write_run(tmp_path / "out" / f"a{seed}", seed)
        lines = [
            "gradient_updates,env_steps,online/episodes,eval/return,eval/score,q/policy,q/mean"
        ]
        lines += [f"20,0,0,300,{10 + seed},1,", "20,0,0,,,,"]
        for e in range(10, 20 * length + 1, 10):
            evaluation = f"300,{e + seed}" if e % 20 == 0 else ","
            lines.append(f"{30 + e},{e},{e // 10},{evaluation},{e},{e - 1}")
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n33,3")  # still being written
    (panel,) = panels(find_runs([tmp_path / "out"])[0])
    made = section(panel, 240)
    charts = {chart["title"]: chart["lines"] for chart in made["charts"]}
    assert list(charts) == ["D4RL score", "Q", "Q gap"]
    (line,) = charts["D4RL score"]
    (phases,) = line["curves"]
    grid = made["grids"][0][phases["steps"]["g"]]
    assert grid == [0, 20, 40, 60]
    # Fine-tuning starts with the end of pre-training; the mean ends with the shorter run.
    assert phases["steps"]["m"] == [10.5, 20.5, 40.5, None]
    assert phases["steps"]["s"] == [[10, 20, 40, 60], [11, 21, 41, None]]
    assert phases["steps"]["lo"] == [10, 20, 40, None]
    assert phases["steps"]["hi"] == [11, 21, 41, None]
    assert phases["offline"]["m"] == [10.5]
    (gap,) = charts["Q gap"]
    assert gap["curves"][0]["steps"]["m"] == [1, 1, 1, 1, None, None]
    coarse = section(panel, 2)
    (fine,) = next(chart for chart in coarse["charts"] if chart["title"] == "Q gap")["lines"]
    assert coarse["grids"][0]["trace steps"] == [30, 60]
    assert fine["curves"][0]["steps"]["s"] == [[1, 1], [1, 1]]
    assert points_for(1) == 240
    assert points_for(100_000) == 24


def test_a_column_of_a_later_version_has_a_chart(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    rows = (folder / "metrics.csv").read_text().splitlines()
    new = ("new/column", "diagnostics/disagreement_data", "diagnostics/disagreement_online")
    lines = [",".join([rows[0], *new]), *(f"{row},{i},1,2" for i, row in enumerate(rows[1:]))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (panel,) = panels(find_runs([folder])[0])
    *_, disagreement, unknown = section(panel, 240)["charts"]
    assert unknown["title"] == "new/column"
    assert disagreement["title"] == "Hand-over: ensemble disagreement"
    assert [line["name"] for line in disagreement["lines"]] == ["data", "fresh states"]


def test_when_a_method_held_went_back_and_let_go(tmp_path: Path) -> None:
    """At the evaluations themselves, as a method that tries its policies out records it."""
    folder = write_run(tmp_path / "a0")
    lines = ["gradient_updates,env_steps,eval/return,eval/score,trial/promotions,trial/holds"]
    lines += ["30,0,300,10,,", "35,5,,,,", "40,10,300,10,1,0", "45,15,,,,", "50,20,300,10,1,1"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    made = section(panels(find_runs([folder])[0])[0], 2)
    (chart,) = [chart for chart in made["charts"] if chart["title"] == "What trials decided"]
    assert [line["name"] for line in chart["lines"]] == ["won", "lost"]
    counts = [line["curves"][0]["steps"] for line in chart["lines"]]
    assert [made["grids"][0][count["g"]] for count in counts] == [[0, 10, 20]] * 2
    assert [count["m"] for count in counts] == [[None, 1, 1], [None, 0, 1]]


def test_a_pre_training_of_an_experiment_has_no_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=0, record={"kind": "pretraining"})
    assert write_page(folder) is None
    assert not (folder / "report.html").exists()


def test_a_page_shows_what_can_be_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "run" / "replica_0")
    (write_run(tmp_path / "run" / "replica_1", 1) / "summary.json").write_text("{}")
    page = write_page(tmp_path / "run")
    assert page is not None
    assert page.is_file()


def test_the_page_of_a_fit_imports_no_plotting(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=0)
    script = (
        "import sys; from pathlib import Path\n"
        "from adabc_lightning.commands.report.page import write_page\n"
        "write_page(Path('run'))\n"
        "heavy = {'matplotlib', 'rliable', 'pandas', 'scipy', 'torch', 'lightning'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    page = Page((folder / "report.html").read_text())
    score = json.loads((folder / "summary.json").read_text())["score"]
    assert page.numbers["run", "pretrained"][0] == score["pretrained"]
    assert page.numbers["run", "dip"] == (None, "–")


def test_ticks_end_where_numbers_are_too_large_for_steps() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    script = (REPORT / "page.js").read_text(encoding="utf-8")
    found = re.search(r"  function ticks.*?\n  }\n", script, re.DOTALL)
    assert found
    wanted = {
        "1e17, 1e17 + 16, 4": [1e17, 1e17 + 16],
        "0, 10, 4": [0, 5, 10],
        "-0.3, 0.3, 6": [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3],
        "3, 3, 4": [3],
        "0, 1e100, 1": [0, 1e100],
    }
    calls = ", ".join(f"ticks({arguments})" for arguments in wanted)
    result = subprocess.run(
        [node, "-e", f"{found[0]} console.log(JSON.stringify([{calls}]))"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for made, expected in zip(json.loads(result.stdout), wanted.values(), strict=True):
        assert made == pytest.approx(expected)


def browser() -> str:
    """A Chromium; the test is skipped without one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium: install one, or name it in CHROMIUM")
    return found


def opened(path: Path, size: str = "1200,900") -> tuple[Page, list[str]]:
    """The page after its script ran, and what the browser's console says."""
    profile = path.with_suffix(".profile")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    flags += ["--enable-logging=stderr", f"--user-data-dir={profile}", f"--window-size={size}"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run(
        [browser(), *flags, path.resolve().as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return Page(result.stdout), console


def test_a_browser_shows_an_experiment(tmp_path: Path) -> None:
    browser()
    out = experiment(tmp_path / "out")
    assert main(["report", "out", "--out", "page.html"]) == 0
    path = Path("page.html")
    path.write_text(path.read_text().replace("</body>", HOVER))
    page, console = opened(path)
    assert console == []
    folders = [f.parent.relative_to(tmp_path) for f in out.glob("hopper-*/*/*/summary.json")]
    equal_the_summaries(page, folders)
    assert [label.split(",")[0] for label in page.charts] == ["D4RL score", "α"] * 2
    said = re.search(r"scratch: ([\d.]+)", page.charts[0])
    assert said
    assert float(said[1]) == pytest.approx(page.numbers["curve 2", "final"][0], rel=1e-4)
    tip = page.body["data-tip"] or ""
    assert tip.startswith("30 environment steps")
    assert all(name in tip for name in ("1 adaptive", "2 fixed", "3 scratch"))
    assert page.body["data-inside"] == "true"
    assert page.body["data-left"] == "0"
    assert page.body["data-lines"] == "1,2"  # the first curve is switched off
    # A script that fails would be noticed.
    path.write_text(path.read_text().replace('"use strict";', "nothing();", 1))
    broken, console = opened(path)
    assert broken.charts == []
    assert any("nothing is not defined" in line for line in console)


@pytest.mark.parametrize("runs", [1, 100])
def test_a_browser_shows_one_unfinished_run_and_a_hundred(runs: int, tmp_path: Path) -> None:
    browser()
    for number in range(runs):
        steps = 20 if number % 10 == 0 else 40
        options = {"alpha.target": 1 + number // 5}
        folder = tmp_path / "runs" / f"m{number // 5}" / f"seed{number % 5}"
        write_run(folder, number % 5, steps=steps, options=options)
    assert main(["report", "runs", "--out", "page.html"]) == 0
    path = Path("page.html")
    assert len(path.read_bytes()) < 40_000 + 8_000 * runs
    path.write_text(path.read_text().replace("</body>", HOVER))
    page, console = opened(path, "500,800")  # about a phone's
    assert console == []
    assert len(page.charts) == 2
    assert re.search(r"\d environment steps", page.body["data-tip"] or "")
    assert int(page.body["data-wide"] or 0) <= 0  # nothing sticks out of the screen
    folders = [f.parent.relative_to(tmp_path) for f in (tmp_path / "runs").glob("*/*/summary.json")]
    equal_the_summaries(page, folders)
