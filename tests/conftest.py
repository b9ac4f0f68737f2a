"""For every test, also in the processes it starts: no W&B, and one thread (networks are tiny)."""

import os

os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("OMP_NUM_THREADS", "1")
