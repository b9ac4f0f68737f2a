"""Draws docs/pictures/methods.svg: what each gradient step of each family of methods reads.

python docs/site/methods_picture.py
"""

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "methods.svg"
FILL = {  # of the boxes of a part; whatever is no part is white
    "actor": "#e6f4e6",
    "critics": "#e8eef8",
    "value": "#fdf0de",
    "temperature": "#fbe4e4",
    "T": "#fbe4e4",
    "vae": "#efe6f7",
}


class Step(NamedTuple):
    """A gradient step."""

    part: str
    """That it moves."""
    reads: tuple[str, ...]
    """Parts (with a prime: their targets) and what else."""
    formula: str
    """What it aims at."""


class Family(NamedTuple):
    """One panel: the steps of one update, in their order, and when the targets follow."""

    name: str
    steps: tuple[Step, ...]
    note: str


FAMILIES = (
    Family(
        "REDQ+AdaptiveBC, TD3+BC, …",
        (
            Step("critics", ("actor′", "critics′"), "r + γ min of M drawn Q′(s′, a′ + noise)"),
            Step("actor", ("critics", "a", "α"), "every 2nd: −mean Q/norm + α (π − a)²"),
        ),
        "both targets follow the actor's step",
    ),
    Family(
        "AWAC",
        (
            Step("critics", ("actor", "critics′"), "r + γ min Q′(s′, a′), a′ of π itself"),
            Step("actor", ("critics", "a"), "likelihood of a, times softmax(advantage / β)"),
        ),
        "both targets follow the actor's step",
    ),
    Family(
        "IQL",
        (
            Step("value", ("critics′", "a"), "an expectile of min Q′(s, a)"),
            Step("actor", ("value", "critics′", "a"), "likelihood of a, times exp(β advantage)"),
            Step("critics", ("value",), "r + γ V(s′): no action but the data's"),
        ),
        "then the critics' target",
    ),
    Family(
        "SPOT",
        (
            Step("vae", ("a",), "first updates, alone: how a comes about"),
            Step("critics", ("actor′", "critics′"), "r + γ min Q′(s′, a′ + noise)"),
            Step("actor", ("critics", "vae", "λ"), "every 2nd: −Q₁/norm + λ · improbability"),
        ),
        "both targets follow the actor's step",
    ),
    Family(
        "ReBRAC",
        (
            Step(
                "critics",
                ("actor′", "critics′", "next a", "β₂"),
                "r + γ (min Q′(s′, a′ + noise) − β₂ (a′ − next a)²)",
            ),
            Step("actor", ("critics", "a", "β₁"), "every 2nd: −min Q/norm + β₁ (π − a)²"),
        ),
        "both targets move just before the actor's step",
    ),
    Family(
        "RLPD",
        (
            Step("critics", ("actor", "critics′", "T"), "r + γ (min of M drawn Q′ − T log π)"),
            Step("actor", ("critics", "T"), "T log π − mean of all Q"),
            Step("temperature", ("actor",), "entropy, −mean log π, towards −A/2"),
        ),
        "actor and temperature: once per environment step",
    ),
    Family(
        "CQL, Cal-QL",
        (
            Step("actor", ("critics", "T"), "T log π − min of all Q"),
            Step("temperature", ("actor",), "entropy, −mean log π, towards −A"),
            Step(
                "critics",
                ("actor", "critics′", "return"),
                "r + γ min Q′(s′, a′); sampled Q down, Q(s, a) up",
            ),
        ),
        "each from the same weights; return: Cal-QL alone",
    ),
    Family(
        "WSRL",
        (
            Step("critics", ("actor", "critics′"), "r + γ min of M drawn Q′(s′, a′)"),
            Step("actor", ("critics", "T"), "T log π − min of all Q"),
            Step("temperature", ("actor",), "entropy, −mean log π, towards −A"),
        ),
        "after the hand-over; before it as CQL or Cal-QL",
    ),
)
WIDTH, HEIGHT, GAP = 350, 264, 10
COLUMNS = 3


def drawing() -> str:
    """The picture as SVG."""
    rows = -(-(len(FAMILIES) + 1) // COLUMNS)  # one panel is the key
    width, height = COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-label="What each gradient step of each method reads">',
        '  <defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>',
        f'  <rect width="{width}" height="{height}" rx="10" fill="#fbfbfd"/>',
    ]
    for number, family in enumerate(FAMILIES):
        lines += _panel(family, *_place(number))
    return "\n".join([*lines, *_key(*_place(len(FAMILIES))), "</svg>", ""])


def _place(number: int) -> tuple[int, int]:
    row, column = divmod(number, COLUMNS)
    return GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP)


def _panel(family: Family, left: int, top: int) -> list[str]:
    lines = [
        f'  <rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff" '
        'stroke="#ccc"/>',
        _text(left + 14, top + 24, family.name, 'font-size="14" font-weight="bold"'),
    ]
    for number, step in enumerate(family.steps):
        y = top + 40 + 66 * number
        x = left + 14
        for name in step.reads:
            box = _box(x, y, name, 20)
            lines += box[1]
            x += box[0] + 6
        moved = _box(left + WIDTH - 116, y, f"{number + 1}  {step.part}", 20, 102, bold=True)
        lines += moved[1]
        lines.append(
            f'  <path d="M{x - 2} {y + 10}H{left + WIDTH - 120}" stroke="#444" '
            'stroke-width="1.5" marker-end="url(#a)"/>'
        )
        lines.append(_text(left + 14, y + 40, step.formula))
    lines.append(_text(left + 14, top + HEIGHT - 14, family.note, 'font-style="italic"'))
    return lines


def _box(
    x: int, y: int, name: str, height: int, width: int | None = None, bold: bool = False
) -> tuple[int, list[str]]:
    width = width or 7 * len(name) + 8
    fill = FILL.get(name.split()[-1].rstrip("′"), "#fff")
    dash = ' stroke-dasharray="4 2"' if name.endswith("′") else ""
    weight = ' font-weight="bold"' if bold else ""
    return width, [
        f'  <rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" '
        f'stroke="#444"{dash}/>',
        _text(x + width / 2, y + 14, name, f'text-anchor="middle"{weight}'),
    ]


def _key(left: int, top: int) -> list[str]:
    words = (
        "Right: the part that a step moves, steps in order.",
        "Left: what it reads besides itself and the batch's",
        "s, r, s′; critics also read a.",
        "Dashed, with ′: the part's target network.",
        "a: the action of the data; A: dimensions of actions.",
        "Q: critics, V: value, π: actor, T: temperature;",
        "norm: mean |Q|.",
    )
    return [
        _text(left + 14, top + 40 + 24 * i, line, 'fill="#444"') for i, line in enumerate(words)
    ]


def _text(x: float, y: float, words: str, style: str = "") -> str:
    colour = "" if "fill" in style else ' fill="#222"'
    return (
        f'  <text x="{x:g}" y="{y:g}"{colour}{" " + style if style else ""}>{escape(words)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
