"""Names are read without the levels that compiling, sharding and checkpointing add, wherever these hold one module."""

from __future__ import annotations

import pytest
from aligning import tree

from treealign import suggest

COMPILED = ("down.0.attentions.1", "down.1.attentions.0", "conv_in")
LEVELS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module")


def unet(wrapped=(), level="_orig_mod"):
    """Blocks whose residual parts and attentions have norms of one size; some modules have one level more."""
    parts = {f"resnets.{r}.norm{n}.weight": (8,) for r in range(2) for n in (1, 2)}
    parts |= {f"attentions.{r}.norm.weight": (8,) for r in range(2)}
    parts |= {f"attentions.{r}.to_{part}.weight": (8, 8) for r in range(2) for part in "qkv"}
    leaves = {"conv_in.weight": (8, 3, 3, 3)} | {
        f"down.{b}.{part}": size for b in range(2) for part, size in parts.items()
    }
    at = {key: next((p for p in wrapped if key.startswith(f"{p}.")), None) for key in leaves}
    return {f"{p}.{level}{key.removeprefix(p)}" if (p := at[key]) else key: size for key, size in leaves.items()}


@pytest.mark.parametrize(
    "level", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"]
)
def test_what_differs_by_wrappers_alone_is_certain(level):
    found = suggest(tree(unet(COMPILED, level)), tree(unet()))
    assert found.ok
    assert all(match.certain for match in found.matches)
    assert {m.checkpoint[0].replace(f".{level}", "") == m.model[0] for m in found.matches} == {True}


def test_a_hint_may_name_the_wrappers_or_not():
    for name in ("down.0.attentions.1._orig_mod.to_q", "down.0.attentions.1.to_q"):
        assert suggest(tree(unet(COMPILED)), tree(unet()), hints=[f"{name}=down.0.attentions.1.to_q"]).ok


def test_a_level_beside_which_something_else_stands_is_a_name_like_any_other():
    both = {"a._orig_mod.weight": (4, 4), "a.weight": (4, 4), "b.weight": (3,)}
    assert {m.checkpoint == m.model for m in suggest(tree(both), tree(both)).matches} == {True}
    found = suggest(tree({"a._orig_mod.weight": (4, 4), "a.extra.weight": (4, 4), "b.weight": (3,)}), tree(both))
    assert {m.model for m in found.matches if m.certain} <= {("a._orig_mod.weight",), ("b.weight",)}
