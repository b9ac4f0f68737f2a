"""A plan of several replicas."""

from adabc_lightning.commands.plan import Done, Evaluations, Memory, Plan

PLAN = Plan(
    env_id="Toy-v0",
    observation_size=3,
    observation_parts=None,
    action_size=2,
    max_episode_steps=50,
    dataset=None,
    to_fetch=None,
    transitions=None,
    kept_at_hand_over=None,
    method="TD3BC",
    num_critics=2,
    subset_size=2,
    parameters=100,
    device="cpu",
    done=Done(0, 0),
    offline_updates=1000,
    online_env_steps=300,
    frozen_env_steps=0,
    updates_per_env_step=10,
    online_updates=3000,
    batch_size=8,
    evaluations=Evaluations(3, 5),
    beside=[],
    episodes=10,
    files={"config.yaml": 10, "metrics.csv": 20, "checkpoints/last.ckpt": 300},
    memory=Memory(now=1000, to_come={"batches": 7, "online ring": None}, free=None),
)


def test_replicas_have_files_and_memory_of_their_own_beside_those_of_all() -> None:
    assert PLAN.times(1) == PLAN
    three = PLAN.times(3)
    assert three.replicas == 3
    assert three.online_updates == PLAN.online_updates  # of each
    assert three.files == {
        "replica_*/config.yaml": 30,
        "replica_*/metrics.csv": 60,
        "replica_*/checkpoints/last.ckpt": 900,
        "checkpoints/last.ckpt": 900,
        "metrics.csv": 60,
    }
    assert three.memory == Memory(1000, {"batches": 21, "online ring": None}, None)
