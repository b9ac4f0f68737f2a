"""An engine changes the speed and the last bits of an update, never what it computes."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import register_toy, tiny_run, write_log
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adabc_lightning.agent.engines import (
    Compiled,
    CompiledGraph,
    CudaGraph,
    Eager,
    Engine,
    cuda_graph,
    make_engine,
    rounding,
)
from adabc_lightning.agent.engines.cuda_graph import summed
from adabc_lightning.agent.engines.engine import Work, ignore
from adabc_lightning.agent.engines.proof import in_float64
from adabc_lightning.agent.engines.rounding import disagreement
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import AWAC, CQL, IQL, RLPD, SPOT, TD3BC, WSRL, CalQL, ReBRAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import AdamState, Part, tensors
from adabc_lightning.data.transitions import Layout
from adabc_lightning.run.schedule import Schedule

SPEC = EnvironmentSpec("test", 5, (-1.0, -0.5), (2.0, 0.25), 100)
CPU = torch.device("cpu")
METHODS = [None, AWAC(), IQL(dropout=0.25), SPOT(vae_updates=7, vae_width=9), ReBRAC()]
METHODS += [RLPD(), CalQL(samples=2, target_gap=0.5), WSRL(samples=2, heads=2)]


class Standalone(OffToOnModule):
    """In float64, without a trainer."""

    def __init__(
        self, engine: Engine, method: Method | None = None, precision: str = "float32"
    ) -> None:
        delay = 1 if isinstance(method, IQL | CQL) else 2
        sizes = (12, 9)
        super().__init__(
            SPEC,
            4,
            2,
            sizes,
            method=method,
            actor_weight_decay=0.1,
            policy_delay=delay,
            critic_norm="before" if isinstance(method, RLPD | WSRL) else None,
            precision=precision,
        )
        self.double()
        self.online = isinstance(method, RLPD | WSRL)
        self.running_engine = engine
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams


def train(
    agent: OffToOnModule,
    steps: int = 3,
    updates: int = 5,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Odd chunks, so that the patterns of updates that move the actor change."""
    generator = torch.Generator().manual_seed(1)
    layout = Layout(5, 2, tuple(agent.method.columns))
    for _ in range(steps):
        rows = torch.randn(updates, 8, layout.width, generator=generator, dtype=dtype)
        rows[..., layout.columns["terminated"]] = 0
        torch.set_default_dtype(dtype)  # of the module's own draws
        try:
            agent.training_step(layout.unpack(rows), 0)
        finally:
            torch.set_default_dtype(torch.float32)
    return [tensor.detach().clone() for tensor in tensors(agent.agent_state())]


@pytest.mark.parametrize("method", METHODS)
def test_compiled_updates_agree_with_eager_ones(method: Method | None) -> None:
    eager, compiled = Standalone(Eager(), method), Standalone(Compiled(), method)
    for a, b in zip(train(eager), train(compiled), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)
    assert eager.gradient_updates == compiled.gradient_updates == 15
    metrics, same = eager.take_metrics(), compiled.take_metrics()
    assert metrics.keys() == same.keys()
    for name in metrics:
        assert metrics[name] == pytest.approx(same[name], rel=1e-8), name


def test_draws_ahead_of_their_step_change_nothing() -> None:
    """As on a GPU: used where the next step is such a one, taken back where it is not."""
    plain, ahead, layout = Standalone(Eager()), Standalone(Eager()), Layout(5, 2)
    for online, updates in [(False, 3), (False, 3), (False, 2), (True, 2), (True, 2), (True, 1)]:
        rows = torch.randn(updates, 8, layout.width, dtype=torch.float64)
        rows[..., layout.columns["terminated"]] = 0
        for agent in (plain, ahead):
            agent.online = online
            agent.training_step(layout.unpack(rows), 0)
        assert torch.equal(plain.generator_state, ahead.generator_state)
        ahead.draw_ahead(updates, 8)
        assert torch.equal(plain.generator_state, ahead.generator_state)
        assert not torch.equal(plain.generator_state, ahead.generator.get_state())
    ahead.generator_state = plain.generator_state  # as of a checkpoint
    assert torch.equal(plain.generator_state, ahead.generator.get_state())
    for a, b in zip(tensors(plain.agent_state()), tensors(ahead.agent_state()), strict=True):
        assert torch.equal(a, b)


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("\n no luck today\nand pages of a trace\nmain.h:7: error: a word\nmore")


def test_what_cannot_be_compiled_goes_on_uncompiled() -> None:
    engine = Compiled()
    calls = []

    def half_done(state: Any, *_: Any, **__: Any) -> Any:
        calls.append(1)
        state["actor"].weights[0].detach().add_(1.0)  # what a failure left behind is undone
        broken()

    engine._functions = half_done, broken, broken
    agent = Standalone(engine)
    says = "the update is not compiled: no luck today: main.h:7: error: a word"
    with pytest.warns(UserWarning, match=f"{re.escape(says)}$"):
        result = train(agent)
    assert len(calls) == 1
    assert all(map(torch.equal, result, train(Standalone(Eager()))))


def still(*_: Any) -> Any:
    """What PyTorch 2.11 made of a compiled update: gradients of zero, and right metrics."""
    return {}


def other_actor(state: Any, batch: Any, draws: Any, coefficients: Any, options: Any) -> Any:
    """The delayed steps, with gradients that a tenth of the batch does not enter."""
    return TD3BC().delayed(state, batch[1:], draws, coefficients, options)


def other_rewards(state: Any, batch: Any, draws: Any, coefficients: Any, options: Any) -> Any:
    """Rewards that are larger by a hundredth: an error that no rounding explains."""
    batch = batch.clone()
    batch["reward"] = batch["reward"] * 1.01
    return TD3BC().update(state, batch, draws, coefficients, options)


def without_targets(state: Any, *rest: Any) -> Any:
    """The delayed steps, but nothing follows."""
    before = [weight.clone() for part in state.values() for weight in part.target]
    metrics = TD3BC().delayed(state, *rest)
    for weight, old in zip([w for p in state.values() for w in p.target], before, strict=True):
        weight.copy_(old)
    return metrics


def without_one_member(state: Any, *rest: Any) -> Any:
    """The critics' step, but one of the four stands still."""
    before = [weight.detach().clone() for weight in state["critics"].weights]
    metrics = TD3BC().update(state, *rest)
    with torch.no_grad():
        for weight, old in zip(state["critics"].weights, before, strict=True):
            weight[2] = old[2]
    return metrics


@pytest.mark.parametrize(
    ("functions", "what"),
    [
        ((still, TD3BC().delayed), "the gradients of its actor differ from the plain update's by"),
        ((still, still), "the gradients of its actor differ"),
        ((other_rewards, TD3BC().delayed), "the gradients of its critics differ"),
        ((TD3BC().update, still), "the gradients of its actor differ"),
        ((TD3BC().update, other_actor), "the gradients of its actor differ"),
        ((TD3BC().update, without_targets), "the target of its actor differ"),
        ((without_one_member, TD3BC().delayed), "the gradients of its actor differ"),
    ],
)
def test_an_engine_that_does_something_else_is_not_believed(functions: Any, what: str) -> None:
    engine = Compiled()
    engine._functions = (*functions, TD3BC().prepare)
    agent = Standalone(engine).float()
    with pytest.warns(UserWarning, match=re.escape(f"the update is not compiled: {what}")):
        result = train(agent, dtype=torch.float32)
    assert engine.name == "eager"
    expected = train(Standalone(Eager()).float(), dtype=torch.float32)
    assert all(map(torch.equal, result, expected))


@pytest.mark.parametrize(("times", "believed"), [(8, "compiled"), (0, "eager")])
@pytest.mark.filterwarnings("ignore:the update is not compiled")
def test_one_that_rounds_otherwise_is_believed_for_what_rounding_does(
    times: int, believed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_ROUNDINGS", 2**-9)  # an estimate that is far too small
    monkeypatch.setattr(rounding, "_TIMES", times)
    engine = Compiled()
    engine._functions = summed_otherwise, TD3BC().delayed, TD3BC().prepare
    train(Standalone(engine).float(), dtype=torch.float32)
    assert engine.name == believed


def summed_otherwise(state: Any, batch: Any, draws: Any, coefficients: Any, options: Any) -> Any:
    order = torch.arange(7, -1, -1)
    draws = {**draws, "target_noise": draws["target_noise"][order]}
    return TD3BC().update(state, batch[order], draws, coefficients, options)


def test_one_that_rounds_otherwise_is_believed() -> None:
    engine = Compiled()
    engine._functions = summed_otherwise, TD3BC().delayed, TD3BC().prepare
    train(Standalone(engine).float(), dtype=torch.float32)
    assert engine.name == "compiled"


@pytest.mark.parametrize(("off", "believed"), [(7e-3, True), (0.03, False)])
def test_where_little_is_left_of_a_sum_what_rounding_does_is_measured(
    off: float, believed: bool
) -> None:
    zeros, count = torch.zeros(2), torch.tensor(0.0)
    state = {"actor": Part([zeros], AdamState([zeros], [zeros], [count], 1.0))}

    def after(error: float) -> list[Tensor]:
        return [zeros, torch.tensor([1.0, error]), zeros, count]

    before, expected, found = tensors(state), after(0.0), after(off)
    exact = after(1e-3)  # float32's own error
    wrong = disagreement(state, before, found, expected, 1)
    assert wrong is not None
    assert wrong.endswith("where rounding explains 0.00024")
    wrong = disagreement(state, before, found, expected, 1, exact=exact)
    assert (wrong is None) is believed
    assert wrong is None or wrong.endswith("where rounding explains 0.008")


@pytest.mark.parametrize("method", METHODS)
def test_the_work_in_float64_is_that_of_float32(
    method: Method | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an agent of its own type comes out of it as it went in."""
    seen: list[Work] = []
    agent = Standalone(Eager(), method).float()
    agent.running_engine = lambda work, add: seen.append(work)  # type: ignore[assignment]
    train(agent, 1, dtype=torch.float32)
    before = [tensor.detach().clone() for tensor in tensors(agent.agent_state())]
    exact = in_float64(seen[0])
    Eager()(exact, ignore)
    assert all(map(torch.equal, before, tensors(agent.agent_state())))
    Eager()(seen[0], ignore)
    moved = 0
    for a, b, old in zip(tensors(seen[0].state), tensors(exact.state), before, strict=True):
        assert b.dtype is torch.float64 or not b.dim()
        torch.testing.assert_close(a.double(), b.double(), atol=1e-3, rtol=1e-2)
        moved += not torch.equal(a, old)
    assert moved


def test_long_runs_take_a_compiled_engine() -> None:
    gpu = torch.device("cuda")
    assert type(make_engine("auto", gpu, 199_999)) is CudaGraph
    assert type(make_engine("auto", gpu, 200_000)) is CompiledGraph
    for before, kind in {"eager": Eager, "cuda_graph": CudaGraph, "compiled": Compiled}.items():
        assert type(make_engine("auto", gpu, 10**9, before)) is kind


def test_the_metrics_of_a_graph_are_sums_of_those_that_came_as_often() -> None:
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])  # of two replicas
    each = [{"loss": first}, {"loss": second, "actor": first}, {"loss": second, "late": second}]
    sums = summed(each)
    assert {count: list(some) for count, some in sums.items()} == {
        1: ["actor", "late"],
        3: ["loss"],
    }
    assert torch.equal(sums[3]["loss"], torch.tensor([21.0, 42.0]))
    assert torch.equal(sums[1]["actor"], first)
    assert torch.equal(sums[1]["late"], second)
    assert summed([]) == {}


def test_a_resumed_run_takes_the_engine_that_it_had() -> None:
    assert type(make_engine("auto", CPU, 10**9, "eager")) is Eager
    assert type(make_engine("auto", CPU, 1, "compiled")) is Compiled
    assert type(make_engine("auto", CPU, 1, "cuda_graph")) is Eager  # it had another device
    assert type(make_engine("compiled", CPU, 1, "eager")) is Compiled  # asked for by name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("engine", "what"), [(CudaGraph, "updates"), (CompiledGraph, "compiled updates")]
)
def test_without_cuda_there_is_one_line_and_the_plain_update(
    engine: type[CudaGraph], what: str
) -> None:
    agent = Standalone(engine())
    with pytest.warns(UserWarning, match=f"no CUDA graph of the {what}: ") as caught:
        result = train(agent)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert all(map(torch.equal, result, train(Standalone(Eager()))))


class Replayed:
    """A graph as it would be, but for CUDA."""

    def __init__(self, run: Eager, work: Any) -> None:
        self.run = run

    def replay(self, work: Any, add: Any) -> None:
        self.run.make(work, range(len(work.delayed_after)), add)


class OfPlainOnes(Replayed):
    """Where there is no graph of compiled updates."""

    def __init__(self, run: Eager, work: Any) -> None:
        super().__init__(run, work)
        if isinstance(run, Compiled):
            raise RuntimeError("no such kernel")


def test_a_compiled_graph_is_of_compiled_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "_Captured", Replayed)
    engine = CompiledGraph()
    result = train(Standalone(engine))
    assert engine.name == "compiled_graph"
    assert all(type(graph.run) is Compiled for graph in engine._graphs.values())  # type: ignore[attr-defined]
    for found, expected in zip(result, train(Standalone(Eager())), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


def test_where_compiled_updates_make_no_graph_the_plain_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda_graph, "_Captured", OfPlainOnes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    engine = CompiledGraph()
    with pytest.warns(UserWarning, match="no such kernel") as caught:
        result = train(Standalone(engine))
    said = [str(warning.message) for warning in caught]
    assert said == ["no CUDA graph of the compiled updates: no such kernel"]
    assert engine.name == "cuda_graph"
    assert all(map(torch.equal, result, train(Standalone(Eager()))))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_cuda_graph_agrees_with_eager_updates(method: Method | None) -> None:
    made = Eager(), CudaGraph(), CompiledGraph()
    agents = [Standalone(engine, method).cuda() for engine in made]
    for agent in agents:
        agent._adams = agent.configure_optimizers()
    for expected, *found in zip(*map(train_on_gpu, agents), strict=True):
        for tensor in found:
            torch.testing.assert_close(tensor, expected, atol=1e-10, rtol=1e-8)
    expected, *others = [agent.take_metrics() for agent in agents]
    for metrics in others:
        assert metrics == pytest.approx(expected, rel=1e-8)


def train_on_gpu(agent: Standalone) -> list[Tensor]:
    step = agent.training_step
    agent.training_step = lambda batch, index: step(batch.cuda(), index)  # type: ignore[method-assign]
    return train(agent)


class Capturable(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: a wait for the host, a shape that depends on values,
    a copy from the host, a random number of its own.
    """

    NEVER = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")
    NEVER += ("unique_dim", "lift_fresh", "repeat_interleave", "rand", "randn", "randint")
    NEVER += ("randperm", "normal_", "uniform_", "bernoulli", "bernoulli_", "multinomial")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.NEVER, name
        if name in ("index", "index_put", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), name
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_an_update_needs_the_host(method: Method | None, online: bool) -> None:
    """Where there is no GPU this is what can be said of its CUDA graph."""
    agent = Standalone(Eager(), method)
    agent.online = online
    layout, made = Layout(5, 2, tuple(agent.method.columns)), []
    work = agent.work(layout.unpack(torch.zeros(5, 8, layout.width)).double(), agent.agent_state())
    draws = {k: v.double() if v.is_floating_point() else v for k, v in work.draws.items()}
    for follows in (work.delayed_after, (None,) * 5):  # and what prepares
        with Capturable():
            Eager()(
                work._replace(delayed_after=follows, draws=draws),
                lambda *metric: made.append(metric),
            )
    assert made
    with pytest.raises(AssertionError, match="_local_scalar_dense"), Capturable():
        float(draws["subset"][0, 0])


def test_short_runs_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_engine("auto", CPU, 99_999)) is Eager
    assert type(make_engine("auto", CPU, 100_000)) is Compiled
    assert type(make_engine("eager", CPU, 10**9)) is Eager
    assert type(make_engine("auto", torch.device("cuda"), 1)) is CudaGraph
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match=re.escape("no C++ compiler (g++) is installed")):
        assert type(make_engine("auto", CPU, 100_000)) is Eager


def test_restoring_undoes_everything() -> None:
    from adabc_lightning.agent.state import copied, restore

    agent = Standalone(Eager())
    train(agent, 1)
    state = agent.agent_state()
    before = copied(state)
    reference = copy.deepcopy(before)
    train(agent, 2)
    assert not all(map(torch.equal, reference, tensors(state)))
    restore(state, before)
    assert all(map(torch.equal, reference, tensors(state)))


@pytest.fixture
def _precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("_precision")
def test_a_run_sets_the_precision_of_its_matrix_products(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    for precision in ("medium", "highest"):
        trainer, module, data = tiny_run(
            tmp_path / precision,
            register_toy(),
            log,
            schedule=Schedule(2, 0, 1, evaluation_every=5),
            model={"matmul_precision": precision},
        )
        trainer.fit(module, data)
        assert torch.get_float32_matmul_precision() == precision
