"""Code as people write it is run as it is: what it keeps, draws, closes over and returns."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from treealign import TreealignError, prove, record, suggest

INPUTS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Two layers under names that say nothing, so that only a run settles them."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, nn.Linear(16, 16))
        self.further()

    def further(self):
        """What else it holds."""

    def chained(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return second(torch.tanh(first(x)))

    def forward(self, x):
        return self.chained(x)


class BufferMadeAnew(Chain):
    def further(self):
        self.register_buffer("state", torch.zeros(16))

    def forward(self, x):
        self.state = self.state * 0.9 + x.mean((0, 1))
        return self.chained(x + self.state)


class BufferThatGrows(Chain):
    def further(self):
        self.register_buffer("cache", torch.zeros(0, 16), persistent=False)

    def forward(self, x):
        self.cache = torch.cat([self.cache, x[0]])
        return self.chained(x) + self.cache.sum()


class BufferThatGoes(Chain):
    def further(self):
        self.register_buffer("spare", torch.zeros(3), persistent=False)

    def forward(self, x):
        self.spare = None
        return self.chained(x)


class RandomNumbersOfNumpy(Chain):
    def forward(self, x):
        numpy = pytest.importorskip("numpy")
        return self.chained(x + torch.as_tensor(numpy.random.rand(16)).to(x) * random.random())


class GeneratorOfItsOwn(Chain):
    def further(self):
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.chained(x + torch.randn(x.shape, generator=self.generator))


class Closure(Chain):
    def further(self):
        self.call = lambda x: self.chained(x) * 2  # no method, so that only its closure leads to the module

    def forward(self, x):
        return self.call(x)


class HookThatKeeps(Chain):
    def further(self):
        self.kept = kept = {}
        getattr(self, self.names[1]).register_forward_hook(lambda part, args, made: kept.update(made=made))

    def forward(self, x):
        self.chained(x)
        return self.kept["made"]


class ForwardReplaced(Chain):
    def further(self):
        forward = self.forward
        self.forward = lambda x: forward(x) * 2


class ChildCompiled(Chain):
    def further(self):
        self.activation = torch.jit.script(nn.GELU())

    def forward(self, x):
        return self.chained(self.activation(x))


class Lock(Chain):
    def further(self):
        self.lock = threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.chained(x)


class ResultOfAnyClass(Chain):
    def forward(self, x):
        return SimpleNamespace(sample=self.chained(x), loss=None)


class Distribution(Chain):
    def forward(self, x):
        return torch.distributions.Normal(self.chained(x), torch.ones(16, dtype=x.dtype))


class ResultsOneByOne(Chain):
    def forward(self, x):
        return (self.chained(x) * n for n in (1, 2))


def traced(*names):
    return torch.jit.trace(Chain(*names), INPUTS)


KINDS = [*Chain.__subclasses__(), traced]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_say_nothing_are_settled_whatever_the_code_does_beside(kind):
    original, model = kind("one", "two"), kind("beta", "alpha")
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert found.ran.proved
    assert not found.questions
    assert {m.checkpoint[0]: m.model[0] for m in found.matches}["one.weight"] == "beta.weight"


@pytest.mark.parametrize(
    "taken", [lambda y: y[0, 0].argmax(), lambda y: y[0, :2].argmax(-1), lambda y: (y[0, 0, :8] > 0).float()]
)
def test_labels_that_would_agree_by_chance_prove_nothing(taken):
    original, model = Chain("one", "two"), Chain("beta", "alpha")
    found = suggest(original.state_dict(), model, original=original, run=lambda module: taken(module(INPUTS)))
    assert not found.ran.proved
    assert "by chance" in found.ran.reason
    with pytest.raises(TreealignError, match="by chance"):
        prove(original, model, found.mapping.accept(), run=lambda module: taken(module(INPUTS)))


def test_many_labels_prove_what_scores_prove():
    original, model = Chain("one", "two"), Chain("beta", "alpha")
    assert suggest(original.state_dict(), model, original=original, run=lambda m: m(INPUTS).argsort(-1)).ok


@pytest.mark.parametrize("kind", [BufferThatGrows, Closure, ChildCompiled, Lock, ResultOfAnyClass])
def test_it_is_recorded_as_well(kind, tmp_path):
    original, model = kind("one", "two"), kind("beta", "alpha")
    record(original, None, tmp_path / "run.pt", inputs=INPUTS)
    found = suggest(original.state_dict(), model, original=tmp_path / "run.pt")
    assert {m.checkpoint[0]: m.model[0] for m in found.matches if m.certain}["one.weight"] == "beta.weight"
