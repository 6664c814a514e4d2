"""What the installed release of transformers lacks is refused by name, and a release that is too old with the range."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from transformers import core_model_loading

from treealign import Convert, Rename, TreealignError, emit, operations
from treealign.dialects.linting import lint
from treealign.dialects.reading import read_mapping
from treealign.dialects.transformers.installed import RANGE, make, scope_settings

SPLIT = Convert("**.qkv", ["**.q", "**.k", "**.v"], [operations.Split(0, (8, 2, 2))])
SWAP = Rename({"**.a": "**.b", "**.b": "**.a"})
CHAIN = Rename({"**.a": "**.b", "**.b": "**.c"})
RULES = [
    lambda: emit([Rename("a", "b")]),
    lambda: emit([Rename("a", "b")], "key_mapping"),
    lambda: emit([Rename("a", "b")], live=True),
    lambda: emit([Rename("a", "b")], tests=True),
    lambda: read_mapping("llava"),
    lambda: lint("llava"),
]


@pytest.mark.parametrize(
    ("name", "transform"), [("Split", SPLIT), ("GroupWeightRename", SWAP), ("GroupWeightRename", CHAIN)]
)
def test_a_class_that_the_release_lacks_is_refused_by_name(name, transform, monkeypatch):
    from treealign.dialects.transformers.entries import existing

    existing("llava")  # builds the registry, which needs the class
    monkeypatch.delattr(core_model_loading, name, raising=False)
    with pytest.raises(TreealignError, match=rf"transformers \d.* has no {name}\n"):
        emit([transform])


def test_an_argument_that_the_release_lacks_is_refused_by_name():
    with pytest.raises(TreealignError, match="has no Chunk with colour"):
        make("Chunk", {"dim": 0, "colour": "red"})


@pytest.mark.parametrize("use", RULES)
def test_rules_of_a_release_without_scopes_are_refused_with_the_range(use, monkeypatch):
    monkeypatch.delattr(core_model_loading.WeightTransform, "scope_prefix", raising=False)
    with pytest.raises(TreealignError, match=rf"no rules that work below a part[^$]*hint: .*{RANGE}"):
        use()


@pytest.mark.parametrize("use", RULES)
def test_without_transformers_the_hint_says_what_to_install(use, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TreealignError, match=r"not installed\n\nhint: pip install 'transformers>=5.9,<6'"):
        use()


def test_a_release_without_the_level_of_the_base_model_gets_the_scope_alone(monkeypatch):
    monkeypatch.delattr(core_model_loading.WeightTransform, "base_model_prefix", raising=False)
    assert scope_settings("tower") == {"scope_prefix": "tower"}


def test_the_range_is_that_of_the_package():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["transformers"] == [RANGE]
