"""The point mass without configs: pre-training, hand-over, fine-tuning, and its best policy.

``python point_mass_log.py`` makes the log first. A log in HDF5 or a name of a dataset do as well.
One or two minutes.
"""

import point_mass  # noqa: F401 - registers the environment
from lightning import Trainer

from adabc_lightning import OffToOnModule, ReplayDataModule, Schedule, load_policy
from adabc_lightning.callbacks import (
    AlphaController,
    Checkpointing,
    Downsampling,
    Evaluation,
    Metrics,
    Summary,
)

schedule = Schedule(2_000, online_env_steps=3_000, updates_per_env_step=2, evaluation_every=500)
data = ReplayDataModule(
    "PointMass-v0", "point_mass.csv", schedule, reference_min=3, reference_max=100
)
agent = OffToOnModule(data.spec, hidden_sizes=(64, 64))
evaluation = Evaluation()
trainer = Trainer(
    max_epochs=1,
    devices=1,
    logger=False,
    default_root_dir="runs/python_api",
    callbacks=[
        *(Downsampling(minimum=5_000), AlphaController(), evaluation),
        *(Metrics(), Summary(), Checkpointing()),
    ],
)
trainer.fit(agent, data)
for point in evaluation.history:
    print(point["gradient_updates"], point["env_steps"], point["eval/score"])
policy = load_policy("runs/python_api")
print("first action:", policy(data.make_env().reset(seed=0)[0]))
