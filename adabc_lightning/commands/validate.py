"""``validate``: whole episodes of a checkpoint's policy."""

from pathlib import Path

from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.agent.restoring import as_deployed
from adabc_lightning.callbacks import Evaluation
from adabc_lightning.commands.command_line import CommandLine
from adabc_lightning.commands.messages import episode_table
from adabc_lightning.env.policy_checkpoint import policy_file
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import read_run
from adabc_lightning.run.checkpoint_files import not_taken
from adabc_lightning.run.trainer import find


def validate(line: CommandLine) -> None:
    """Prints return and score of each episode of a checkpoint's policy."""
    if line.config.ckpt_path is None:
        raise UserError("validate needs --ckpt_path, a checkpoint of a run")
    path = policy_file(Path(line.config.ckpt_path))
    checkpoint = as_deployed(read_run(path))
    try:
        state = checkpoint["state_dict"]
        if line.datamodule.learnt.normalizes and "actor.observation_mean" in state:
            # In a run the dataset says what they are; here no dataset is opened.
            seen = state["actor.observation_mean"], state["actor.observation_scale"]
            line.model.actor.normalize(Normalization(*seen))
        line.model.on_load_checkpoint(checkpoint)
        line.model.load_state_dict(checkpoint["state_dict"])  # without what callbacks had added
    except UserError:
        raise
    except Exception as error:
        raise not_taken(path, error) from error
    evaluation = find(line.trainer, Evaluation)
    assert evaluation is not None
    found = evaluation.run(line.datamodule, line.model)
    evaluation.teardown(line.trainer, line.model, "validate")
    print(episode_table(found, line.datamodule.reference))
