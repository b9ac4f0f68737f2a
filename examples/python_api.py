"""The point mass in ten lines of Python: pre-training, hand-over, fine-tuning.

``python point_mass_log.py`` makes the log first. A log in HDF5 or a name of a dataset do as well.
"""

import point_mass  # noqa: F401 - registers the environment
from lightning import Trainer

from adabc_lightning import OffToOnModule, ReplayDataModule, Schedule
from adabc_lightning.callbacks import AlphaController, Downsampling, Evaluation, Metrics

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
    enable_checkpointing=False,
    default_root_dir="runs/python_api",
    callbacks=[Downsampling(minimum=5_000), AlphaController(), evaluation, Metrics()],
)
trainer.fit(agent, data)
for point in evaluation.history:
    print(point["gradient_updates"], point["env_steps"], point["eval/score"])
print("first action:", agent.act(data.make_env().reset(seed=0)[0]))
