"""The part of an emitted pytest file that converts small tensors, by transformers' own loader, and converts them back.

What is to come of them stands there in torch's own words, so that a rule that is wrong in both directions alike (parts
in another order, another dimension) is found out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple

from treealign.dialects.operation_code import EACH, code
from treealign.dialects.transformers.installed import LOADING
from treealign.dialects.transformers.proving import samples_of
from treealign.dialects.transformers.sides import Sides
from treealign.errors import MappingError
from treealign.mapping.operations import Operation, Parallel, RotaryPermute, RotaryUnpermute
from treealign.mapping.planning import Step

TEST = "test_tensors_are_converted_and_come_back"
OWN_IMPORTS = ("from itertools import pairwise", "from math import prod", "from types import SimpleNamespace")
THEIR_IMPORTS = ("from transformers.modeling_utils import LoadStateDictConfig, PreTrainedModel",)
_DATA = """
# what the operations read of the config of the model
CONFIG = {config}

# shapes of small tensors of a checkpoint -> the keys of what they become in the
# model, and how; of each kind of conversion one
CONVERSIONS = [
{conversions}]
"""
_BODY = (
    '''

class Held(PreTrainedModel):
    """A model that has a place for each of these tensors, and nothing else."""

    base_model_prefix = ""

    def __init__(self, tensors):
        torch.nn.Module.__init__(self)
        self.__dict__["config"] = CONFIG
        for key, tensor in tensors.items():
            *path, name = key.split(".")
            module = self
            for level in path:
                module = module._modules.setdefault(level, torch.nn.Module())
            place = torch.nn.Parameter(torch.full_like(tensor, -1), requires_grad=False)
            module.register_parameter(name, place)

'''
    + EACH
    + '''

def numbered(shapes):
    """A tensor of each shape; no number stands in two places."""
    ends = [0]
    for shape in shapes.values():
        ends.append(ends[-1] + prod(shape))
    runs = zip(shapes.items(), pairwise(ends), strict=True)
    return {key: torch.arange(*run).reshape(shape) for (key, shape), run in runs}


def refuse_other(made, wanted):
    assert made.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(made[key], wanted[key])] == []


def test_tensors_are_converted_and_come_back():
    for shapes, targets, convert in CONVERSIONS:
        given = numbered(shapes)
        wanted = dict(zip(targets, convert([*given.values()]), strict=True))
        model = Held(wanted)
        config = LoadStateDictConfig(weight_mapping=collected()[0], device_map={"": "cpu"})
        convert_and_load_state_dict_in_model(model, dict(given), config{apart})
        refuse_other(model.state_dict(), wanted)
        refuse_other(revert_weight_conversion(model, model.state_dict()), given)
'''
)
LOADERS = ("convert_and_load_state_dict_in_model", "revert_weight_conversion")


class TensorTest(NamedTuple):
    """Parts of a file: tables, or comments where nothing can be run; and the test with what it needs, if any."""

    data: str = ""
    body: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it imports of transformers' loading."""
        return LOADERS if self.body else ()


def tensor_test(sides: Sides) -> TensorTest:
    """The test for the conversions of a mapping: one group of each kind."""
    shown, left, steps = list[str](), list[str](), list[Step]()
    for step, shapes in samples_of(sides.journey, sides.shapes):
        try:
            shown.append(_conversion(step, shapes))
            steps.append(step)
        except MappingError as error:
            left.append(_left_out(f"{step.sources[0]} is not converted here: {error.what}"))
    if not shown:
        return TensorTest("".join(left))
    data = _DATA.format(config=_config_text(sides.config, steps), conversions="".join(shown))
    return TensorTest(data + "".join(left), _BODY.replace("{apart}", _apart()))


def no_tensor_test() -> TensorTest:
    """Where the test fails for want of a whole config, though the rules are right."""
    return TensorTest(_left_out("no tensors are converted here: it takes more of the config of the model"))


def _left_out(text: str) -> str:
    return f"\n# {text}\n"


def _apart() -> str:
    """An argument that some releases want, and that says nothing here."""
    load = getattr(import_module(LOADING), LOADERS[0])
    return ", tp_plan=None" if "tp_plan" in signature(load).parameters else ""


def _conversion(step: Step, shapes: Sequence[tuple[int, ...]]) -> str:
    given = [f'            "{key}": {shape},' for key, shape in zip(step.sources, shapes, strict=True)]
    made = [f'            "{key}",' for key in step.targets]
    how = code(step.operations, "t")
    lines = ["    (", "        {", *given, "        },", "        [", *made, "        ],", f"        lambda t: {how},"]
    return "".join(f"{line}\n" for line in [*lines, "    ),"])


def _config_text(config: Any, steps: Sequence[Step]) -> str:
    """The numbers of heads, which is what the operations that are emitted ask the config for."""
    if config is None or not any(_asks(operation) for step in steps for operation in step.operations):
        return "SimpleNamespace()"
    parts = {name: part for name in getattr(config, "sub_configs", {}) if (part := getattr(config, name, None))}
    inside = [f"{name}={_heads_text(_heads(part))}" for name, part in parts.items()]
    return _heads_text([*_heads(config), *inside])


def _heads_text(arguments: Sequence[str]) -> str:
    return f"SimpleNamespace({', '.join(arguments)})"


def _heads(config: Any) -> list[str]:
    heads = getattr(config, "num_attention_heads", None)
    return [] if heads is None else [f"num_attention_heads={heads}"]


def _asks(operation: Operation) -> bool:
    inner = operation.operations if isinstance(operation, Parallel) else (operation,)
    return any(isinstance(one, RotaryPermute | RotaryUnpermute) for one in inner)
