"""The checklist for a dialect: each of these holds for every one that is registered, and fails first for a new one."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from loaders import install

from treealign import ConversionMapping, Convert, KeyTree, PrefixChange, Rename, TreealignError, emit, operations
from treealign.dialects.reading import read_mapping
from treealign.dialects.registry import DIALECTS, function

README = (Path(__file__).parent.parent / "treealign" / "dialects" / "README.md").read_text()
MAPPING = ConversionMapping([PrefixChange(remove="model"), Rename("layers.{i}.attn", "blocks.{i}.mixer")])
KEYS = [f"model.layers.{i}.{part}.{leaf}" for i in (0, 1) for part in ("attn", "mlp") for leaf in ("weight", "bias")]
SHAPES = {"weight": (4, 3), "bias": (4,)}
TREE = KeyTree.from_leaves([(key, SHAPES[key.rpartition(".")[2]], "float32") for key in KEYS])
LOSSY = Convert(["**.weight_g", "**.weight_v"], "**.weight", [operations.FoldWeightNorm(0)])


def variable(text):
    """What an emitted file leaves behind, by name."""
    scope = {"__name__": "emitted"}
    exec(text, scope)
    return scope


def registered(text):
    variable(text)
    return "AbidingModel"


def filter_for_no_model(text):
    own = type("Own", (), {"state_dict": lambda self: {"other": None}})()
    return lambda state: variable(text)["checkpoint_filter_fn"](state, own)


# what is written -> what the same dialect reads
AS_GIVEN = {
    "transformers": registered,
    "key_mapping": lambda pairs: pairs,
    "vllm": lambda text: variable(text)["hf_to_vllm_mapper"],
    "mmengine": lambda text: variable(text)["revise_keys"],
    "torchtitan": lambda text: variable(text)["EmittedStateDictAdapter"](None, None),
    "timm": filter_for_no_model,
    "python": lambda text: variable(text)["checkpoint_to_model"],
    "json": lambda text: text,
}
every = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture(autouse=True)
def _loaders(monkeypatch):
    """The other side, as far as emitted code imports it; what is registered is forgotten afterwards."""
    from treealign.dialects.transformers.entries import registry_restored

    install(monkeypatch)
    with registry_restored():
        yield


@every
def test_what_it_writes_it_reads_back_as_a_mapping_that_does_the_same(dialect, tmp_path):
    made = emit(MAPPING, dialect, checkpoint=TREE, **({"name": "AbidingModel"} if dialect == "transformers" else {}))
    given = AS_GIVEN[dialect](made)
    if dialect == "json":
        given = tmp_path / "mapping.json"
        given.write_text(made)
    found = read_mapping(given, dialect, checkpoint=TREE)
    assert found.unread == ()
    assert found.mapping.map_keys(KEYS) == MAPPING.map_keys(KEYS)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "json"])
def test_what_cannot_be_undone_is_refused_with_the_operation(dialect):
    with pytest.raises(TreealignError, match="FoldWeightNorm"):
        emit([LOSSY], dialect)


@every
def test_what_it_takes_and_refuses_is_said_where_it_stands(dialect):
    _, *places = DIALECTS[dialect]
    assert [place for place in filter(None, places) if not inspect.getdoc(function(place))] == []


@every
def test_it_is_in_the_table_of_the_readme_and_in_the_help_of_emit(dialect):
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert dialect == "transformers" or dialect in rows
    assert f'``"{dialect}"``' in inspect.getdoc(emit)
