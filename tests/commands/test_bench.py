"""The bench command at a tiny size; what it measures is never asserted."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adabc_lightning.__main__ import main
from adabc_lightning.agent.engines import Eager
from adabc_lightning.agent.state import copied
from adabc_lightning.commands.bench.corl import CorlIQL, CorlStyle
from adabc_lightning.commands.bench.grow import AXES
from adabc_lightning.commands.bench.overlays import model_of, names
from adabc_lightning.commands.bench.products import products_of
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.commands.bench.updates import PRODUCTS, Packaged, flops_per_update

TINY = ["--rounds", "1", "--updates", "2", "--steps", "10", "--rows", "1000", "--no-compile"]
SMALL = ["--num-critics", "3", "--batch-size", "8", "--hidden", "16", "--cpu"]


def test_everything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", *TINY, *SMALL, "--replicas", "2", "--json", str(file)]) == 0
    measured = json.loads(file.read_text())
    assert set(measured) == {"machine", "updates", "loop", "load", "start"}
    names = {"eager", "authors' style", "separate MLPs in a loop"}
    assert names < set(measured["updates"])
    assert all(len(measured["updates"][name]["updates_per_s"]) == 1 for name in names)
    online = {f"online, G = {g}" for g in (0, 1, "10", "10, 2 agents")}
    assert set(measured["loop"]) == {"offline", "acting alone"} | online
    for name, values in measured["loop"].items():
        assert 0 < values.get("outside", 1) <= 1
        assert values.get("outside", 0) < 1 or name == "online, G = 0"  # some of it is updates
        assert ("outside" in values) == (name != "acting alone")
        assert all(math.isfinite(value) and value > 0 for value in values.values())
    assert measured["load"]["size"] == 4 * 1000 * (2 * 11 + 3 + 3)
    table = capsys.readouterr().out
    assert "authors' style" in table
    assert "first update, hopper" in table


def test_a_part_alone_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "load", "--rows", "1000", "--rounds", "1", "--json", "-"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"machine", "load"}


def test_two_critics_are_compared_with_corl(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "updates", *TINY, "--batch-size", "8", "--hidden", "16", "--cpu"]
    words += ["--threads", str(torch.get_num_threads())]
    words += ["--processor-time"] if torch.get_num_threads() == 1 else []
    assert main([*words, "--num-critics", "2", "--json", "-"]) == 0
    measured = json.loads(capsys.readouterr().out)["updates"]
    assert measured["CORL's style"]["to_corl_style"] == 1
    assert measured["eager"]["to_corl_style"] > 0


def test_bfloat16_is_measured_beside_float32(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "updates", *TINY, "--batch-size", "8", "--hidden", "16", "--cpu"]
    assert main([*words, "--precision", "bf16", "--json", "-"]) == 0
    measured = json.loads(capsys.readouterr().out)["updates"]
    assert {"eager", "eager, bf16", "authors' style"} < set(measured)
    assert set(measured["peak_flops_per_s"]) == {"float32", "bf16"}


def test_a_method_is_measured_beside_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "updates", *TINY, "--batch-size", "8", "--hidden", "16", "--cpu"]
    assert main([*words, "--method", "iql", "--num-critics", "2", "--json", "-"]) == 0
    measured = json.loads(capsys.readouterr().out)["updates"]
    numbers = {"flops_per_update", "peak_flops_per_s"}
    assert set(measured) == {"eager", "CORL's style", PRODUCTS} | numbers
    assert measured["eager"]["times_its_products"] > 0
    assert measured["eager"]["to_corl_style"] > 0
    assert main([*words, "--method", "spot", "--num-critics", "3"]) == 0
    assert "updates/s" in capsys.readouterr().out


def test_every_method_has_its_shapes() -> None:
    for name in names():
        model = model_of(name, 4, 16)
        assert set(model["hidden_sizes"]) == {16}
        shapes = Shapes(3, 2, 4, 8, (16, 16), 50, name)
        agent = Packaged(shapes, torch.device("cpu"), Eager())
        before = agent.critics.weights[0].detach().clone()
        agent.run(2)
        assert not torch.equal(before, agent.critics.weights[0])  # past what prepares
    assert len(model_of("awac", 4, 16)["actor_hidden_sizes"]) == 4
    assert len(model_of("rebrac", 4, 16)["hidden_sizes"]) == 3
    assert model_of("iql", 4, 16)["subset_size"] == 4  # all, as of its two
    assert model_of("redq_ft", 4, 16)["subset_size"] == 2


def test_corl_s_iql_is_iql() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    corl = CorlIQL((2, 1), (8, 8), rows=4, device=torch.device("cpu"))
    corl.data[4][:] = 1  # all terminal: what is to be learnt are the rewards
    corl.data[1].clamp_(-0.8, 0.8)
    networks = corl.critic_1_target, corl.actor, corl.value
    before = [copy.deepcopy(network) for network in networks]
    for _ in range(1500):
        losses = corl.update(16)
    assert set(losses) == {"value", "critic", "actor"}
    assert losses["critic"] < 0.01
    q = corl.critic_2(torch.cat(corl.data[:2], 1))
    torch.testing.assert_close(q, corl.data[2], atol=0.1, rtol=0)
    assert corl.log_std.item() < -0.3  # what was done becomes probable
    for network, old in zip(networks, before, strict=True):
        pairs = zip(old.parameters(), network.parameters(), strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs)


def test_corl_s_style_is_td3_bc() -> None:
    torch.manual_seed(0)
    corl = CorlStyle((2, 1), (8, 8), rows=4, device=torch.device("cpu"))
    corl.data[4][:] = 1  # all terminal: what is to be learnt are the rewards
    state = [copy.deepcopy(module.state_dict()) for module in (corl.actor, corl.critic_1_target)]
    assert set(corl.update(16)) == {"critic"}
    for module, before in zip((corl.actor, corl.critic_1_target), state, strict=True):
        assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)
    assert set(corl.update(16)) == {"critic", "actor"}
    for module, before in zip((corl.actor, corl.critic_1_target), state, strict=True):
        assert not any(torch.equal(module.state_dict()[name], before[name]) for name in before)
    target, source = corl.critic_1_target, corl.critic_1
    weights = zip(target.parameters(), state[1].values(), source.parameters(), strict=True)
    for slow, old, fast in weights:
        torch.testing.assert_close(slow, 0.995 * old + 0.005 * fast)
    for _ in range(1500):
        loss = corl.update(16)["critic"]
    assert loss < 0.01  # of both critics
    q = corl.critic_2(torch.cat(corl.data[:2], 1))
    torch.testing.assert_close(q, corl.data[2], atol=0.1, rtol=0)


def test_the_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = tmp_path / "growth.json", tmp_path / "growth.svg"
    words = ["--json", str(files[0]), "--plot", str(files[1])]
    assert main(["bench", "grow", *TINY, *SMALL, *words]) == 0
    growth = json.loads(files[0].read_text())["grow"]
    assert growth["engine"] == "eager"
    values = {axis: tuple(map(int, points)) for axis, points in growth["milliseconds"].items()}
    assert values == AXES
    for points in growth["milliseconds"].values():
        assert all(len(each) == 1 and each[0] > 0 for each in points.values())
    assert files[1].read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["udpates"], "bench measures no 'udpates'; known: updates, loop, load, start, grow"),
        (["--rows", "1e3.5"], "--rows is 1e3.5; it must be a whole number, 1 or more"),
        (["--rows", "9" * 400], f"--rows is {'9' * 100}; it must be a whole number, 1 or more"),
        (["--rounds", "0"], "--rounds is 0; it must be a whole number, 1 or more"),
        (
            ["--processor-time"],
            "--processor-time adds up the threads' seconds; use it with --threads 1",
        ),
        (["--threads", "0"], "--threads is 0; it must be a whole number, 1 or more"),
        (["--json", "nowhere/x.json"], "--json: there is no folder nowhere"),
        (
            ["--plot", "x.svg"],
            "--plot draws what grow measures; name it: bench grow --plot FILE",
        ),
        (
            ["grow", "--plot", "x.jpg"],
            "--plot is x.jpg; it must end in .svg, .png or .pdf",
        ),
        (
            ["updates", "--method", "iqll"],
            "--method is 'iqll'; did you mean 'iql'?",
        ),
        (
            ["loop", "--method", "iql"],
            "--method is measured by updates alone: bench updates --method NAME",
        ),
        (["--round", "1"], "there is no option --round; did you mean '--rounds'?"),
    ],
)
def test_nonsense_gets_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_operations_are_those_of_the_matrix_products() -> None:
    shapes = Shapes(2, 1, num_critics=3, batch_size=4, hidden=(8, 8), rows=10)
    critic = 2 * 4 * (3 * 8 + 8 * 8 + 8 * 1)
    policy = 2 * 4 * (2 * 8 + 8 * 8 + 8 * 1)
    # Targets: one policy, two critics. Update: 3 critics forward, and backward for the weights
    # (all layers) and the inputs (the middle layer; the last is an outer product, not counted).
    first = policy + 2 * critic + 2 * 3 * critic + 3 * 2 * 4 * 8 * 8
    # The actor: forward, all critics forward and back to the action, back to the weights.
    inputs = 2 * 4 * (3 * 8 + 8 * 8)
    second = first + policy + 3 * critic + 3 * inputs + policy + 2 * 4 * 8 * 8
    assert flops_per_update(shapes) == (first + second) / 2


def test_iql_multiplies_nothing_twice() -> None:
    shapes = Shapes(2, 1, num_critics=3, batch_size=4, hidden=(8, 8), rows=10, method="iql")
    critic = 2 * 4 * (3 * 8 + 8 * 8 + 8 * 1)
    single = 2 * 4 * (2 * 8 + 8 * 8 + 8 * 1)  # the value, or the actor with its one action
    middle = 2 * 4 * 8 * 8  # back to the inputs; the last layer is an outer product, not counted
    value = 3 * critic + 2 * single + middle  # all targets, the value forward and back
    again = 2 * single  # the new value, of both states
    actor = 2 * single + middle
    assert flops_per_update(shapes) == value + again + actor + 3 * (2 * critic + middle)


@pytest.mark.parametrize("method", [None, "cql", "iql", "rlpd"])
def test_the_products_alone_are_those_of_the_updates(method: str | None) -> None:
    shapes = Shapes(num_critics=3, batch_size=8, hidden=(8, 8), rows=60, method=method)
    agent = Packaged(shapes, torch.device("cpu"), Eager())
    before = copied(agent.agent_state())
    counts = []
    alone = products_of(lambda: agent.run(2))
    moved = copied(agent.agent_state())
    assert not all(map(torch.equal, before, moved))
    for run in (lambda: agent.run(2), alone):
        with FlopCounterMode(display=False) as counter:
            run()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    after = copied(agent.agent_state())
    alone()
    assert all(map(torch.equal, after, copied(agent.agent_state())))
