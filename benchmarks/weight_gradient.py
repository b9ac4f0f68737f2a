"""What the sums of ``agent/mlp.py``'s ``_weight_gradient`` save of a compiled update in bfloat16.

    .venv/bin/python benchmarks/weight_gradient.py [--rounds 40] [--threads 1]

Two processes, one with the plain product in their place, compile the update at the paper's sizes
and make some of them in turn; seconds are the processor's, since a machine is seldom idle.
"""

import argparse
import statistics
import subprocess
import sys
import time

UPDATES = 40  # in a round


def contestant(plain: bool, threads: int) -> None:
    """Makes updates whenever a line comes in, and says how long they took."""
    import torch
    from torch import Tensor

    from adabc_lightning.agent import mlp
    from adabc_lightning.agent.engines import Compiled
    from adabc_lightning.commands.bench.shapes import Shapes
    from adabc_lightning.commands.bench.updates import Packaged
    from adabc_lightning.run.runtime import tune

    def product(grad_BH: Tensor, input_BI: Tensor) -> Tensor:
        return torch.matmul(grad_BH.mT, input_BI.to(grad_BH.dtype))

    tune()
    torch.set_num_threads(threads)
    if plain:
        mlp._weight_gradient = product
    engine = Compiled()
    agent = Packaged(Shapes(rows=50_000, precision="bf16"), torch.device("cpu"), engine)
    agent.run(UPDATES)
    assert engine.name == "compiled"
    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        agent.run(UPDATES)
        print((time.process_time() - start) / UPDATES, flush=True)


def main() -> None:
    """Prints a line per contestant, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contestant", choices=("sums", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        contestant(options.contestant == "plain", options.threads)
        return
    words = [sys.executable, __file__, "--threads", str(options.threads), "--contestant"]
    running = {
        name: subprocess.Popen(
            [*words, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("sums", "plain")
    }
    versions = {next(process.stdout).strip() for process in running.values()}
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for number in range(options.rounds):
        for name in list(running)[:: 1 if number % 2 else -1]:
            running[name].stdin.write("\n")
            running[name].stdin.flush()
            seconds[name].append(float(next(running[name].stdout)))
    for process in running.values():
        process.stdin.close()
        process.wait()
    for name, each in seconds.items():
        print(f"{name:<6} {1000 * statistics.median(each):.2f} ms per update")
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["sums"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"plain / sums {middle:.3f} ({low:.3f} to {high:.3f}), torch {', '.join(versions)}")


if __name__ == "__main__":
    main()
