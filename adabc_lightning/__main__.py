"""``python -m adabc_lightning``: answers what needs no PyTorch at once, runs the rest."""

import gc
import os
import select
import shlex
import signal
import sys
from importlib import import_module

from adabc_lightning import __version__
from adabc_lightning.errors import UserError, name_options, nearest, one_line
from adabc_lightning.run.allowed import take_allowed
from adabc_lightning.run.config_files import packaged_configs, packaged_folder, resolve
from adabc_lightning.run.output import Answering, lasting, open_streams
from adabc_lightning.run.stopping import speaks, stopping
from adabc_lightning.run.threads import Neighbours

USAGE = """\
usage: python -m adabc_lightning COMMAND [--config NAME]... [--KEY VALUE]...

Offline-to-online reinforcement learning with adaptive behaviour cloning.

commands:
  fit        pre-train on a dataset, hand over, fine-tune in the environment
  validate   evaluate a checkpoint: return and score of each episode, mean ± std
  configs    list the packaged configs: tasks, methods, overlays
  inspect    check a dataset: data card, what is suspicious in it, conversion
  collect    roll out policies and write a dataset
  experiment run the paper's experiments: tasks × methods × seeds
  report     page, tables and learning curves of runs
  export     write a policy as ONNX or torch.export, with a card
  rollout    run episodes of a policy, print the returns, record a video
  bench      updates per second, whole loops, loading and start-up on this machine
  doctor     check this machine: what works, how fast, how long a config will take

examples:
  python -m adabc_lightning fit --config hopper.yaml
  python -m adabc_lightning fit --config hopper.yaml --config quick.yaml --seed_everything 1
  python -m adabc_lightning fit --config hopper.yaml --data.dataset my_log.hdf5
  python -m adabc_lightning fit --config hopper.yaml --dry-run
  python -m adabc_lightning fit --trainer.default_root_dir runs/a --ckpt_path last
  python -m adabc_lightning validate --ckpt_path runs/a/checkpoints/best.ckpt

A config names parts of this package, Lightning and PyTorch; --allow PACKAGE lets it import others.
With --ckpt_path and no --config, the config is that of the checkpoint's run. `COMMAND --help`
lists the keys, `fit --config NAME --print_config` the resolved values.
"""

RUN = ("fit", "validate")  # take configs; the others have options of their own
COMMANDS = (
    *("fit", "validate", "configs", "inspect", "collect", "experiment", "report"),
    *("export", "rollout", "bench", "doctor"),
)

# What other trainers call them.
ELSEWHERE = {
    **dict.fromkeys(("train", "run"), "fit"),
    **dict.fromkeys(("eval", "evaluate", "test"), "validate"),
    **dict.fromkeys(("play", "enjoy"), "rollout"),
}


def help_for(command: str) -> str:
    """Usage of one command and every key with its default, unit and source."""
    base = (packaged_folder() / "base.yaml").read_text(encoding="utf-8")
    checkpoint = "[--ckpt_path PATH|last]" if command == "fit" else "--ckpt_path PATH"
    dry = " [--dry-run]" if command == "fit" else ""
    return (
        f"usage: python -m adabc_lightning {command} [--config NAME]... [--KEY VALUE]...\n"
        f"                 {checkpoint} [--print_config]{dry}\n\n"
        "Several --config stack: later ones win over earlier ones, keys over all of them. Keys\n"
        "nest with a dot (--model.gamma 0.98); trainer.* are those of Lightning's Trainer\n"
        "(--trainer.default_root_dir DIR). A method's own keys: --model.method.help IQL; sources\n"
        "are in its config (configs/method). --allow PACKAGE: a package that configs may import.\n"
        "All other keys, with default, unit and source:\n\n" + base
    )


def answer(arguments: list[str]) -> str | None:
    """The reply to a command line that needs no PyTorch, else None.

    Raises: UserError: there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        return USAGE
    if arguments[0] == "--version":
        return f"adabc_lightning {__version__}\n"
    if arguments[0] not in COMMANDS:
        close = ELSEWHERE.get(arguments[0])
        near = f"did you mean {close!r}?" if close else nearest(arguments[0], COMMANDS)
        raise UserError(f"{arguments[0]!r} is no command; {near}")
    if arguments[0] == "configs":
        if arguments[1:] and arguments[1] not in ("-h", "--help"):
            raise UserError(f"configs takes no arguments, but {arguments[1]!r} is given")
        listing = packaged_configs()
        width = max(map(len, listing))
        return "".join(f"{name:<{width}}  {about}\n" for name, about in listing.items())
    if arguments[0] in RUN and ("-h" in arguments or "--help" in arguments):
        return help_for(arguments[0])
    return None


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: without the program; None for ``sys.argv``.
    Returns: the exit status: 0, 1 where ``doctor`` found something broken, 2 after one line
        about what the user gave, or 141 where nobody reads what is printed.
    """
    open_streams()
    with lasting("stderr"), lasting("stdout", Answering), stopping():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: list[str]) -> int:
    try:
        try:
            status = _execute(arguments)
        except SystemExit:  # of a library that has printed what it was asked for
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return status
    except UserError as error:
        if speaks():
            print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if not _nobody_reads():
            raise  # another pipe's
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is written at the exit
        return 128 + signal.SIGPIPE
    except OSError as error:  # of a file whose place the user chose
        if error.filename is None:
            raise
        print(one_line(f"error: {error.filename!s:.100}: {error.strerror}"), file=sys.stderr)
        return 2
    finally:
        name_options(())


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose other end is closed: `| head` has read enough."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _execute(arguments: list[str]) -> int:
    if (reply := answer(arguments)) is not None:
        sys.stdout.write(reply)
        return 0
    command, *words = arguments
    words = take_allowed(words)
    if command not in RUN:
        return import_module(f"adabc_lightning.commands.{command}").main(words) or 0
    dry = command == "fit" and "--dry-run" in words
    words = [word for word in words if not (dry and word == "--dry-run")]
    if command == "fit" and not words:
        raise UserError(
            "fit needs a config, such as --config hopper.yaml; all of them: python -m "
            "adabc_lightning configs"
        )
    files, options = resolve(command, words)
    if sys.stderr.isatty():  # who waits wants to know for what
        print("loading PyTorch and Lightning …", file=sys.stderr, flush=True)
    neighbours = Neighbours()  # seen during the seconds that importing takes
    gc.disable()  # a quarter of the time that importing PyTorch takes
    from adabc_lightning.run.runtime import tune

    tune()
    from adabc_lightning.commands.fit import run

    gc.enable()
    line = shlex.join(["python", "-m", "adabc_lightning", *arguments])
    run(command, files, options, line, dry=dry, neighbours=neighbours)
    return 0


if __name__ == "__main__":
    sys.exit(main())
