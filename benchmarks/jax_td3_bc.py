"""Updates per second of TD3+BC in JAX, in the style of JAX-CORL: a baseline for two critics.

    python3 -m venv /tmp/jax && /tmp/jax/bin/pip install 'jax[cpu]'
    /tmp/jax/bin/python benchmarks/jax_td3_bc.py [--threads 1]
    .venv/bin/python -m adabc_lightning bench updates --num-critics 2

JAX is no dependency of the package and its pins do not fit beside ours, so it gets an environment
of its own; run the two commands in turn. Eight updates with their sampling, Adam and Polyak are one
jitted call on arrays that stay on the device, every second update with the actor (by the first
critic) and the targets. Sizes are those of ``bench``: Hopper, batch 256, two hidden layers of 256
units, a million rows. Written anew from that description.
"""

import argparse
import os
import statistics
import time
from itertools import pairwise
from typing import Any

OBSERVATION, ACTION, BATCH, HIDDEN = 11, 3, 256, 256
CALLED = 8  # updates in a call
Tree = Any


def main() -> None:
    """Prints the median, least and most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=400, help="per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--threads", type=int, choices=[1], help="1 for one thread, and its processor time"
    )
    options = parser.parse_args()
    if options.threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = time.process_time if options.threads == 1 else time.perf_counter
    import jax
    import jax.numpy as jnp

    relu, split = jax.nn.relu, jax.random.split

    def network(key: Any, sizes: tuple[int, ...]) -> Tree:
        layers = []
        for fan_in, fan_out in pairwise(sizes):
            key, used = split(key)
            bound = fan_in**-0.5
            weight = jax.random.uniform(used, (fan_in, fan_out), minval=-bound, maxval=bound)
            layers.append((weight, jnp.zeros(fan_out)))
        return layers

    def apply(layers: Tree, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = relu(x @ weight + bias)
        return x @ layers[-1][0] + layers[-1][1]

    def policy(actor: Tree, observation: Any) -> Any:
        return jnp.tanh(apply(actor, observation))

    def values(critics: Tree, observation: Any, action: Any) -> list[Any]:
        given = jnp.concatenate([observation, action], 1)
        return [apply(critic, given)[:, 0] for critic in critics]

    def adam(weights: Tree, gradients: Tree, state: Tree) -> tuple[Tree, Tree]:
        first, second, steps = state
        steps = steps + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradients)
        rate, scale = 3e-4 / (1 - 0.9**steps), 1 / (1 - 0.999**steps)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v * scale) + 1e-8), weights, first, second
        )
        return weights, (first, second, steps)

    def fresh(weights: Tree) -> Tree:
        zeros = jax.tree.map(jnp.zeros_like, weights)
        return zeros, zeros, jnp.zeros(())

    def critic_loss(critics: Tree, batch: Any, target: Any) -> Any:
        observation, action = batch[:2]
        return sum(jnp.mean((q - target) ** 2) for q in values(critics, observation, action))

    def actor_loss(actor: Tree, critics: Tree, batch: Any) -> Any:
        observation, action = batch[:2]
        mine = policy(actor, observation)
        value = values(critics[:1], observation, mine)[0]
        weight = 2.5 / jax.lax.stop_gradient(jnp.abs(value).mean())
        return -weight * value.mean() + jnp.mean((mine - action) ** 2)

    @jax.jit
    def several(state: Tree, data: Any, key: Any) -> tuple[Tree, Any]:
        actor, critics, targets, actor_adam, critic_adam = state
        for number in range(1, CALLED + 1):
            key, drawn, noisy = split(key, 3)
            index = jax.random.randint(drawn, (BATCH,), 0, len(data[0]))
            batch = [column[index] for column in data]
            _, action, reward, following, terminated = batch
            noise = jnp.clip(0.2 * jax.random.normal(noisy, action.shape), -0.5, 0.5)
            next_action = jnp.clip(policy(targets[0], following) + noise, -1, 1)
            lowest = jnp.minimum(*values(targets[1], following, next_action))
            target = reward + 0.99 * (1 - terminated) * lowest
            gradients = jax.grad(critic_loss)(critics, batch, target)
            critics, critic_adam = adam(critics, gradients, critic_adam)
            if number % 2 == 0:
                gradients = jax.grad(actor_loss)(actor, critics, batch)
                actor, actor_adam = adam(actor, gradients, actor_adam)
                targets = jax.tree.map(
                    lambda slow, fast: 0.995 * slow + 0.005 * fast, targets, (actor, critics)
                )
        return (actor, critics, targets, actor_adam, critic_adam), key

    key = jax.random.PRNGKey(0)
    shapes = [
        (options.rows, OBSERVATION),
        (options.rows, ACTION),
        (options.rows,),
        (options.rows, OBSERVATION),
    ]
    data = [jax.random.normal(key, shape) for shape in shapes] + [jnp.zeros(options.rows)]
    actor = network(key, (OBSERVATION, HIDDEN, HIDDEN, ACTION))
    critics = tuple(network(used, (OBSERVATION + ACTION, HIDDEN, HIDDEN, 1)) for used in split(key))
    state: Tree = actor, critics, (actor, critics), fresh(actor), fresh(critics)
    rates = []
    for number in range(options.rounds + 1):  # the first compiles
        start = clock()
        for _ in range(options.updates // CALLED):
            state, key = several(state, data, key)
        jax.block_until_ready(state)
        if number:
            rates.append(options.updates // CALLED * CALLED / (clock() - start))
    print(
        f"JAX {jax.__version__} on {jax.devices()[0].device_kind}: "
        f"{statistics.median(rates):.1f} updates/s ({min(rates):.1f} to {max(rates):.1f})"
    )


if __name__ == "__main__":
    main()
