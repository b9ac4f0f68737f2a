"""``python -m adabc_lightning export``: a policy as ONNX or torch.export, and a card."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from adabc_lightning.commands.options import Options
from adabc_lightning.env.policy import Policy, load_policy
from adabc_lightning.env.policy_export import CARD, FILES
from adabc_lightning.errors import UserError, printable

TOLERANCE = 1e-5
"""How far the file's actions may lie from the policy's, in action limits.

Usually they do by 1e-7; where training has blown the weights up, float32 itself, the module's too,
is off by some 1e-6.
"""

_CHECKED = 256  # observations

_EXAMPLES = """\
examples:
  export --ckpt_path runs/demo1/checkpoints/best.ckpt --out hopper-policy
  export --ckpt_path runs/demo1 --format torch --out hopper-policy

The folder gets policy.onnx (input observation [batch, O], output action [batch, A], float32,
action scaling inside) or policy.pt2 (torch.export), and policy.json, what it is and where it is
from."""


def parse(words: list[str]) -> Namespace:
    """The options of a command line.

    Raises: UserError: an option is unknown or missing.
    """
    about = "Writes a policy as a file that runs without this package."
    parser = Options("export", about, _EXAMPLES)
    add = parser.add_argument
    add("--ckpt_path", required=True, metavar="PATH",
        help="a checkpoint, a kept policy, or a run's folder (its best.ckpt, or else "
        "last.ckpt)")  # fmt: skip
    add("--format", choices=tuple(FILES), default="onnx", help="default: %(default)s")
    add("--inputs", choices=("flat", "parts"), default="flat",
        help="of observations that have parts: flat, one input of all numbers in the card's order, "
        "or an input for each part (default: %(default)s)")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="folder of the file and its card")
    add("--overwrite", action="store_true", help="replace the export that is in DIR")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: the command line after ``export``.
    Raises: UserError: anything wrong with what the user gave, or the file's actions are not the
        policy's.
    """
    options = parse(words)
    folder = Path(options.out)
    _check_target(folder, options.overwrite)
    source = Path(options.ckpt_path)
    if (source / CARD).is_file():
        raise UserError(f"{source} is an export already; give the checkpoint that it is of")
    policy = load_policy(source)
    if options.inputs == "parts" and policy.parts is None:
        raise UserError(
            f"--inputs is parts, but the observations of {policy.card['env_id']!r} have none"
        )
    parts = policy.parts if options.inputs == "parts" else None
    from adabc_lightning.commands.export.card import make_card
    from adabc_lightning.commands.export.graph import export, run
    from adabc_lightning.run.atomic import replacing

    content = export(policy, options.format, parts)
    answer = run(content, options.format, _observations(policy), parts)
    difference = _largest_difference(policy, answer)
    if not difference <= TOLERANCE:  # also catches NaN
        raise UserError(
            f"the exported file's actions differ from the policy's by {difference:.1e} of the "
            f"action limit, more than {TOLERANCE:g}; nothing is written"
        )
    card = make_card(policy, options.format, content, parts)
    card["checked"] = {"observations": _CHECKED, "largest_difference": difference}
    (folder / CARD).unlink(missing_ok=True)  # of what is replaced; the new one comes last
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)
    target = folder / FILES[options.format]
    with replacing(target) as file:
        file.write(content)
    with replacing(folder / CARD) as file:
        file.write(f"{json.dumps(card, indent=2, ensure_ascii=False)}\n".encode())
    print(f"{target}: {_in_short(card)}; its actions are the policy's to {difference:.0e}")


def _check_target(folder: Path, overwrite: bool) -> None:
    """Raises: UserError: the folder holds something else, or an export that has to stay."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; give the name of a folder")
    ours = {CARD, *FILES.values()}
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - ours:
        raise UserError(f"--out {folder} holds other files; give a new folder")
    if names and not overwrite:
        raise UserError(f"{folder} holds an export; choose another --out, or add --overwrite")


def _observations(policy: Policy) -> Any:
    import numpy as np

    shape = _CHECKED, policy.observation_size
    drawn = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if policy.normalization is None:
        return drawn
    mean, scale = policy.normalization
    return mean + scale * drawn


def _largest_difference(policy: Policy, action_BA: Any) -> float:
    half_A = (policy.action_high - policy.action_low) / 2
    half_A[half_A == 0] = 1  # of an action that is fixed
    return float(abs((action_BA - policy(_observations(policy))) / half_A).max())


def _in_short(card: dict[str, Any]) -> str:
    sizes = [card[side]["shape"][-1] for side in ("observation", "action")]
    evaluation = card["evaluation"] or {}
    text = f"{printable(card['env_id'])}, {sizes[0]} observations → {sizes[1]} actions"
    for name in ("score", "return"):
        if (value := evaluation.get(f"eval/{name}")) is not None:
            return f"{text}, {name} {value:.1f}"
    return text
