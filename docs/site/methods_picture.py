"""Draws docs/pictures/method_NAME.svg: what each gradient step of a method reads and aims at.

python docs/site/methods_picture.py
"""

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
KINDS = {"T": "temperature"}
"""Names in boxes that stand for a part."""
COLOURS = {  # of a part's boxes, on a light screen and on a dark one
    "actor": ("#e2f3e2", "#2c4a31"),
    "critics": ("#e2eaf8", "#2b3f63"),
    "value": ("#fdeed8", "#59431f"),
    "temperature": ("#fbe0e0", "#5c2f33"),
    "vae": ("#ece1f7", "#47355c"),
}
STYLE = """text{fill:#222}.card{fill:#fbfbfd;stroke:#ccc}.box{fill:#fff;stroke:#555}
.line{stroke:#555;fill:none}.tip{fill:#555}.band{fill:#f0f0f4}
%s@media(prefers-color-scheme:dark){text{fill:#eee}.card{fill:#1b1e25;stroke:#444}
.box{fill:#2a2e38;stroke:#aaa}.line{stroke:#aaa}.tip{fill:#aaa}.band{fill:#262a33}
%s}"""


class Step(NamedTuple):
    """A gradient step."""

    part: str
    """That it moves."""
    reads: tuple[str, ...]
    """Parts (with a prime: their targets) and what else."""
    aims: tuple[str, ...]
    """What it aims at, in lines of at most 54 characters."""


class Family(NamedTuple):
    """One picture: the steps of one update, in their order, and what the hand-over changes."""

    file: str
    name: str
    steps: tuple[Step, ...]
    note: str
    """When the targets follow."""
    handover: tuple[str, ...]


_SMOOTHED = Step("critics", ("actor′", "critics′"), ("towards r + γ min of M Q′(s′, a′ + noise)",))
_ENTROPY = Step("temperature", ("actor",), ("entropy of π towards a target per action",))
FAMILIES = (
    Family(
        "td3bc",
        "REDQ+AdaptiveBC and its kin",
        (
            _SMOOTHED,
            Step(
                "actor",
                ("critics", "a", "α"),
                ("up mean Q / mean |Q|, α towards a;", "in every 2nd update"),
            ),
        ),
        "Both targets follow the actor's step.",
        ("α: steered by returns, kept, or 0", "of the log 5 % stays, or all, or there is none"),
    ),
    Family(
        "awac",
        "AWAC",
        (
            Step("critics", ("actor", "critics′"), ("towards r + γ min Q′(s′, a′), a′ of π",)),
            Step("actor", ("critics", "a"), ("likelihood of a up, × softmax(advantage / β)",)),
        ),
        "The critics' target follows the actor's step.",
        ("the steps stay; online rows join the log", "the policy's own σ explores"),
    ),
    Family(
        "iql",
        "IQL",
        (
            Step("value", ("critics′", "a"), ("towards an expectile of min Q′(s, a)",)),
            Step(
                "actor",
                ("value", "critics′", "a"),
                ("likelihood of a up, × exp(β advantage)",),
            ),
            Step("critics", ("value",), ("towards r + γ V(s′): no action but the data's",)),
        ),
        "Then the critics' target follows.",
        ("the steps stay; online rows join the log", "the policy's own σ explores"),
    ),
    Family(
        "cql",
        "CQL",
        (
            Step("actor", ("critics", "T"), ("up min Q − T log π",)),
            _ENTROPY,
            Step(
                "critics",
                ("actor", "critics′"),
                ("towards r + γ min Q′(s′, a′), best of 10 a′;", "sampled Q down, Q(s, a) up"),
            ),
        ),
        "Each step from the same weights; then the target.",
        ("the steps stay; online rows join the log",),
    ),
    Family(
        "cal_ql",
        "Cal-QL",
        (
            Step("actor", ("critics", "T"), ("up min Q − T log π",)),
            _ENTROPY,
            Step(
                "critics",
                ("actor", "critics′", "return"),
                (
                    "towards r + γ min Q′(s′, a′), best of 10 a′;",
                    "sampled Q down, but not below the return,",
                    "Q(s, a) up",
                ),
            ),
        ),
        "Each step from the same weights; then the target.",
        ("half of each batch stays offline rows", "online rows count once their episode has ended"),
    ),
    Family(
        "spot",
        "SPOT",
        (
            Step("vae", ("a",), ("first updates, alone: how a comes about",)),
            _SMOOTHED,
            Step(
                "actor",
                ("critics", "vae", "λ"),
                (
                    "up Q₁ / mean |Q₁|, λ towards what the VAE finds",
                    "probable; in every 2nd update",
                ),
            ),
        ),
        "Both targets follow the actor's step.",
        ("λ cools to a share of itself; the VAE stays", "online rows join the log"),
    ),
    Family(
        "rebrac",
        "ReBRAC",
        (
            Step(
                "critics",
                ("actor′", "critics′", "next a", "β₂"),
                (
                    "towards r + γ (min Q′(s′, a′ + noise)",
                    "− β₂ · squared distance of a′ from next a)",
                ),
            ),
            Step(
                "actor",
                ("critics", "a", "β₁"),
                ("up min Q / mean |min Q|, β₁ towards a;", "in every 2nd update"),
            ),
        ),
        "Both targets move just before the actor's step.",
        ("β₁ falls to a half, β₂ becomes 0", "half of each batch stays offline rows"),
    ),
    Family(
        "rlpd",
        "RLPD",
        (
            Step(
                "critics",
                ("actor", "critics′", "T"),
                ("towards r + γ (min of M Q′(s′, a′) − T log π)",),
            ),
            Step("actor", ("critics", "T"), ("up mean Q − T log π; once per environment step",)),
            _ENTROPY,
        ),
        "The critics' target follows in every update.",
        ("there is no before: the log is half of each batch", "first 5,000 steps random"),
    ),
    Family(
        "wsrl",
        "WSRL",
        (
            Step("critics", ("actor", "critics′"), ("towards r + γ min of M Q′(s′, a′)",)),
            Step("actor", ("critics", "T"), ("up min Q − T log π; once per environment step",)),
            _ENTROPY,
        ),
        "The critics' target follows in every update.",
        ("before: CQL's or Cal-QL's steps, on the log", "then 5,000 steps without update; no log"),
    ),
)
WIDTH, LEFT, LINE = 360, 14, 17
MOVED = 116


def file(family: Family) -> Path:
    """Where its picture is."""
    return PICTURES / f"method_{family.file}.svg"


def drawing(family: Family) -> str:
    """The picture as SVG."""
    lines, y = [_text(LEFT, 27, family.name, 'font-size="16" font-weight="bold"')], 44
    for number, step in enumerate(family.steps, 1):
        lines += _step(step, f"{number}  {step.part}", y)
        y += 36 + LINE * len(step.aims)
    lines.append(_text(LEFT, y + 6, family.note, 'font-style="italic"'))
    y += 20
    height = y + 36 + LINE * len(family.handover)
    lines.append(
        f'<rect class="band" x="1" y="{y}" width="{WIDTH - 2}" height="{height - y - 8}"/>'
    )
    lines.append(_text(LEFT, y + 18, "At the hand-over", 'font-weight="bold"'))
    y += 18 + LINE
    lines += [_text(LEFT, y + LINE * i, words) for i, words in enumerate(family.handover)]
    css = [
        "".join(f".{part}{{fill:{colours[dark]}}}" for part, colours in COLOURS.items())
        for dark in (0, 1)
    ]
    opening = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(family.name)}: what each step reads, moves and aims at</title>",
        f"<style>{STYLE % tuple(css)}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    return "\n".join([*opening, *lines, "</svg>", ""])


def _step(step: Step, moved: str, y: int) -> list[str]:
    lines, x = [], LEFT
    for name in step.reads:
        width = 13 * len(name) // 2 + 10
        lines += _box(x, y, name, width)
        x += width + 4
    end = WIDTH - LEFT - MOVED
    assert x < end - 10, f"{step.reads} leave no room for an arrow"
    lines.append(f'<path class="line" stroke-width="1.5" d="M{x} {y + 11}H{end - 7}"/>')
    lines.append(f'<path class="tip" d="M{end - 8} {y + 6}l7 5l-7 5z"/>')
    lines += _box(end, y, moved, MOVED, ' font-weight="bold"')
    return lines + [_text(LEFT, y + 40 + LINE * i, words) for i, words in enumerate(step.aims)]


def _box(x: int, y: int, name: str, width: int, style: str = "") -> list[str]:
    part = name.split()[-1].rstrip("′")
    kind = KINDS.get(part, part)
    dash = ' stroke-dasharray="4 2"' if name.endswith("′") else ""
    colour = f" {kind}" if kind in COLOURS else ""
    return [
        f'<rect class="box{colour}" x="{x}" y="{y}" width="{width}" height="22" rx="5"{dash}/>',
        _text(x + width / 2, y + 15.5, name, f'text-anchor="middle"{style}'),
    ]


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{" " + style if style else ""}>{escape(words)}</text>'


if __name__ == "__main__":
    for each in FAMILIES:
        file(each).write_text(drawing(each), encoding="utf-8")
