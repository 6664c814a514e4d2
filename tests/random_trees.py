"""Random trees of modules under random true transformations: what a match computes is known by its numbers.

A model is grown from parts that all networks are made of (attentions, gated and plain MLPs, experts, convolutions,
norms, heads), of few sizes, so that many leaves have one shape. The checkpoint is the same network as another library
would write it: other words (the field's or meaningless ones), other levels, other indices, fused or split, turned, with
rows in another order, with parts that only one side has. Everything is drawn from one seed.

What nothing could show is not drawn: names that are exchanged in a circle (`a` is called `b` and `b` is called `a`),
and rows in another order, or squares that are turned, where no name and no shape beside them is another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from truths import Truth

from treealign import ConversionMapping, Convert
from treealign.align.links import Match

ODD = ("a", "b", "c", "x", "xx", "x1", "x10", "l", "m", "unit", "zeta", "unit_1", "unit_10", "y", "yy", "eta", "rho")
WORDS = {
    "root": ("model", "net", "backbone", "encoder", "module"),
    "tower": ("encoder", "decoder", "vision_model", "text_model", "trunk", "visual", "transformer"),
    "list": ("layers", "blocks", "h", "layer", "resblocks", "block"),
    "attention": ("attn", "self_attn", "attention", "mixer", "self_attention"),
    "cross": ("cross_attn", "encoder_attn", "crossattention", "multihead_attn", "attn2"),
    "q": ("q_proj", "query", "wq", "to_q", "q", "q_lin"),
    "k": ("k_proj", "key", "wk", "to_k", "k", "k_lin"),
    "v": ("v_proj", "value", "wv", "to_v", "v", "v_lin"),
    "o": ("o_proj", "out_proj", "wo", "to_out", "proj", "dense", "out_lin"),
    "qkv": ("qkv", "in_proj", "query_key_value", "c_attn", "Wqkv", "qkv_proj"),
    "mlp": ("mlp", "ffn", "feed_forward", "ff", "output"),
    "up": ("up_proj", "fc1", "w3", "c_fc", "lin1", "wi_1", "linear1"),
    "gate": ("gate_proj", "w1", "gate", "wi_0", "fc1_g"),
    "down": ("down_proj", "fc2", "w2", "c_proj", "lin2", "wo", "linear2"),
    "gate_up": ("gate_up_proj", "fc1", "w12", "wi", "gate_up"),
    "router": ("router", "gate", "gating"),
    "experts": ("experts", "expert", "moe"),
    "norm1": ("norm1", "ln_1", "input_layernorm", "attn_norm", "layer_norm1", "ln1", "attention_norm"),
    "norm2": ("norm2", "ln_2", "post_attention_layernorm", "ffn_norm", "layer_norm2", "ln2"),
    "norm": ("norm", "ln_f", "final_layer_norm", "ln_post", "layernorm"),
    "conv_a": ("conv1", "conv_a", "depthwise", "dwconv", "conv"),
    "conv_b": ("conv2", "conv_b", "pointwise", "pwconv", "conv_out"),
    "bn": ("bn", "bn1", "norm", "batch_norm"),
    "embed": ("embed_tokens", "wte", "embeddings", "tok_embeddings", "word_embeddings", "shared"),
    "position": ("pos_embed", "position_embeddings", "wpe", "embed_positions"),
    "head": ("head", "classifier", "lm_head", "fc", "output"),
    "head2": ("head_dist", "aux_head", "score", "fc2", "head2"),
}  # fmt: skip
LEVELS = ("tower", "list", "attention", "mlp", "q")  # behind which a library may have one level more
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """A parameter of the network: where it is by roles, what it is, and its numbers."""

    roles: tuple[str | int, ...]
    kind: str  # linear, conv, norm, table or buffer
    tensor: torch.Tensor


@dataclass
class Growth:
    """A network in the making."""

    chance: random.Random
    leaves: list[Leaf] = field(default_factory=list)
    count: int = 1

    def leaf(self, roles: tuple[str | int, ...], kind: str, shape: Shape) -> None:
        """One parameter, all of its numbers new."""
        size = int(torch.tensor(shape).prod()) if shape else 1
        self.leaves.append(Leaf(roles, kind, torch.arange(self.count, self.count + size).reshape(shape)))
        self.count += size

    def linear(self, at: tuple[str | int, ...], out: int, inner: int, bias: bool) -> None:
        """A linear layer."""
        self.leaf((*at, "weight"), "linear", (out, inner))
        if bias:
            self.leaf((*at, "bias"), "vector", (out,))

    def norm(self, at: tuple[str | int, ...], size: int, bias: bool) -> None:
        """A norm over channels."""
        self.leaf((*at, "weight"), "norm", (size,))
        if bias:
            self.leaf((*at, "bias"), "norm", (size,))

    def attention(self, at: tuple[str | int, ...], size: int, keys: int, bias: bool) -> None:
        """Query, key, value and output, keys and values perhaps of fewer heads."""
        for name, rows in (("q", size), ("k", keys), ("v", keys)):
            self.linear((*at, name), rows, size, bias)
        self.linear((*at, "o"), size, size, bias)

    def mlp(self, at: tuple[str | int, ...], size: int, inner: int, gated: bool, bias: bool) -> None:
        """Up, perhaps a gate, and down."""
        for name in ("gate", "up") if gated else ("up",):
            self.linear((*at, name), inner, size, bias)
        self.linear((*at, "down"), size, inner, bias)

    def convolutions(self, at: tuple[str | int, ...], size: int, kernel: Shape, bias: bool) -> None:
        """Two convolutions with a batch norm."""
        self.leaf((*at, "conv_a", "weight"), "conv", (size, size, *kernel))
        self.leaf((*at, "conv_b", "weight"), "conv", (self.chance.choice([size, 2 * size]), size, *kernel))
        if bias:
            self.leaf((*at, "conv_b", "bias"), "vector", self.leaves[-1].tensor.shape[:1])
        self.norm((*at, "bn"), size, True)
        for buffer in ("running_mean", "running_var"):
            self.leaf((*at, "bn", buffer), "buffer", (size,))

    def tower(self, at: tuple[str | int, ...]) -> None:
        """A stack of equal blocks between a table and a norm."""
        pick = self.chance
        size, depth = pick.choice([4, 8, 12]), pick.randint(1, 3)
        inner, keys = pick.choice([size, 2 * size, 3 * size]), pick.choice([size, size, 4])
        bias, gated, kernel = (
            pick.random() < 0.6,
            pick.random() < 0.4,
            pick.choice([(1,), (3,), (3, 3), (1, 1), (2, 3)]),
        )
        kind = pick.choice(["attention", "attention", "attention", "cross", "conv", "experts"])
        if pick.random() < 0.6:
            self.leaf((*at, "embed", "weight"), "table", (pick.choice([10, size]), size))
        if pick.random() < 0.3:
            self.leaf((*at, "position", "weight"), "table", (pick.choice([10, 7]), size))
        for i in range(depth):
            block = (*at, "list", i)
            if kind == "conv":
                self.convolutions(block, size, kernel, bias)
                continue
            self.norm((*block, "norm1"), size, bias)
            self.attention((*block, "attention"), size, keys, bias)
            if kind == "cross":
                self.attention((*block, "cross"), size, keys, bias)
            self.norm((*block, "norm2"), size, bias)
            if kind != "experts":
                self.mlp((*block, "mlp"), size, inner, gated, bias)
                continue
            self.linear((*block, "mlp", "router"), 3, size, False)
            for e in range(3):
                self.mlp((*block, "mlp", "experts", e), size, inner, True, False)
        if pick.random() < 0.5:
            self.norm((*at, "norm"), size, bias)


def grow(chance: random.Random) -> list[Leaf]:
    """A network of one or two towers, with heads."""
    growth = Growth(chance)
    towers = chance.choice([1, 1, 2])
    for name in ("tower",) if towers == 1 else ("tower", "tower2"):
        growth.tower((name,))
    size = chance.choice([4, 8, 12])
    for name in ("head", "head2")[: chance.randint(0, 2)]:
        growth.linear((name,), chance.choice([size, 5]), size, chance.random() < 0.5)
    return growth.leaves


@dataclass(frozen=True)
class Style:
    """How a library writes the network down.

    Attributes
    ----------
    words : dict
        For each role its name.
    prefix : tuple of str
        Levels before everything.
    dropped : frozenset of str
        Roles that are no level of their own.
    inserted : dict
        For some roles a level that follows it.
    shift : int
        The number of the first block.
    glued : bool
        Whether the number of a block is a part of the name of its list (`layers_0`).
    fused : dict
        `qkv` and `gate_up`, where they are one tensor: in which order, and whether by part, by head or row by row.
    stacked : bool
        Whether all experts of a projection are one tensor.
    turned : frozenset of str
        The parts (towers, experts, heads) whose matrices have inputs first.
    kernel : str
        The order of the dimensions of kernels.
    interleaved : bool
        Whether rotary rows of queries and keys stand in pairs.
    """

    words: dict[str, str]
    prefix: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    inserted: dict[str, str] = field(default_factory=dict)
    shift: int = 0
    glued: bool = False
    fused: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    stacked: bool = False
    turned: frozenset[str] = frozenset()
    kernel: str = "OI"
    interleaved: bool = False

    def path(self, roles: tuple[str | int, ...]) -> str:
        """The key of a leaf."""
        path = list(self.prefix)
        for role in roles:
            if isinstance(role, int):
                number = str(role + self.shift)
                if self.glued:
                    path[-1] += f"_{number}"
                else:
                    path.append(number)
            elif role not in self.dropped:
                path.append(self.words.get(role, role))
                if role in self.inserted:
                    path.append(self.inserted[role])
        return ".".join(path)

    def write(self, leaves: list[Leaf]) -> dict[str, torch.Tensor]:
        """All keys with their tensors; raises ValueError where two leaves would have one name."""
        found: dict[str, torch.Tensor] = {}
        shown = {_block(leaf) for leaf in leaves if self._turns(leaf) and len({*leaf.tensor.shape}) > 1}
        for leaf in self._fuse(leaves):
            key = self.path(leaf.roles if leaf.kind != "norm" else (*leaf.roles[:-1], f"norm {leaf.roles[-1]}"))
            if key in found or any(k.startswith(key + ".") or key.startswith(k + ".") for k in found):
                raise ValueError(key)
            found[key] = self._turn(leaf, _block(leaf) in shown)
        return found

    def _turns(self, leaf: Leaf) -> bool:
        return leaf.kind == "linear" and bool(self.turned & {str(r).replace("head2", "head") for r in leaf.roles})

    def _turn(self, leaf: Leaf, shown: bool) -> torch.Tensor:
        tensor = leaf.tensor
        if leaf.kind == "conv" and self.kernel != "OI":
            spatial = tuple(range(2, tensor.dim()))
            tensor = tensor.permute((0, *spatial, 1) if self.kernel == "O..I" else (*spatial, 1, 0))
        if shown and self._turns(leaf):  # a square is turned where another matrix of its block shows it
            tensor = tensor.transpose(-1, -2)
        return tensor.contiguous()

    def _fuse(self, leaves: list[Leaf]) -> Iterator[Leaf]:
        """The leaves as they are kept together, in the order of the first of each group."""
        groups: dict[tuple[str | int, ...], list[Leaf]] = {}
        for leaf in map(self._order_rows, leaves):
            role = leaf.roles[-2] if len(leaf.roles) > 1 else ""
            for name, (order, _) in self.fused.items():
                if role in order:
                    groups.setdefault((*leaf.roles[:-2], name, leaf.roles[-1]), []).append(leaf)
                    break
            else:
                groups.setdefault(leaf.roles, []).append(leaf)
        whole = []
        for roles, group in groups.items():
            name = str(roles[-2]) if len(roles) > 1 else ""
            whole.append(_joined(roles, group, *self.fused.get(name, ((), ""))))
        yield from _stacked(whole) if self.stacked else whole

    def _order_rows(self, leaf: Leaf) -> Leaf:
        if not self.interleaved or not {"q", "k"} & {*leaf.roles[-2:]}:
            return leaf
        rows = leaf.tensor.shape[0]
        heads = leaf.tensor.reshape(-1, 2, min(4, rows) // 2, *leaf.tensor.shape[1:])
        return replace(leaf, tensor=heads.transpose(1, 2).reshape(leaf.tensor.shape))


def _block(leaf: Leaf) -> tuple[str | int, ...]:
    """What is turned together: a block, or all heads."""
    return leaf.roles[:3] if len(leaf.roles) > 3 else ("head",)


def _joined(roles: tuple[str | int, ...], group: list[Leaf], order: tuple[str, ...], way: str) -> Leaf:
    """One tensor of the parts of a group."""
    if len(group) < 2:
        return replace(group[0], roles=roles)
    parts = sorted(group, key=lambda leaf: order.index(str(leaf.roles[-2])))
    tensors = [leaf.tensor for leaf in parts]
    if way == "by part" or len({t.shape for t in tensors}) > 1:
        return replace(parts[0], roles=roles, tensor=torch.cat(tensors))
    size = 1 if way == "in turns" else tensors[0].shape[0] // 2
    cut = [t.reshape(-1, size, *t.shape[1:]) for t in tensors]
    return replace(parts[0], roles=roles, tensor=torch.stack(cut, 1).reshape(-1, *tensors[0].shape[1:]))


def _stacked(leaves: list[Leaf]) -> list[Leaf]:
    """Experts of one projection as one tensor."""
    groups: dict[tuple[str | int, ...], list[Leaf]] = {}
    for leaf in leaves:
        at = leaf.roles.index("experts") if "experts" in leaf.roles else None
        roles = leaf.roles if at is None else (*leaf.roles[: at + 1], *leaf.roles[at + 2 : -1])
        groups.setdefault(roles, []).append(leaf)
    return [
        replace(group[0], roles=roles, tensor=torch.stack([leaf.tensor for leaf in group]))
        if len(group) > 1
        else group[0]
        for roles, group in groups.items()
    ]


def style(chance: random.Random, odd: float) -> Style:
    """Some library's way; `odd` is how many of its words mean nothing."""
    words = {role: chance.choice(ODD if chance.random() < odd else some) for role, some in WORDS.items()}
    words["tower2"] = chance.choice([w for w in WORDS["tower"] if w != words["tower"]])
    plain = chance.random() < 0.7
    gamma = chance.choice(("weight", "gamma", "scale")) if not plain else "weight"
    words |= {"norm weight": gamma, "norm bias": "beta" if gamma == "gamma" else "bias"}
    fused: dict[str, tuple[tuple[str, ...], str]] = {}
    if chance.random() < 0.25:
        order = chance.choice([("q", "k", "v")] * 3 + [("k", "v", "q")])
        fused["qkv"] = order, chance.choice(["by part", "by part", "by head", "in turns"])
    if chance.random() < 0.2:
        order = chance.choice([("gate", "up"), ("up", "gate")])
        fused["gate_up"] = order, chance.choice(["by part", "by part", "in turns"])
    turned = chance.choice([(), (), (), ("tower", "tower2", "head"), ("tower", "tower2"), ("experts",)])
    return Style(
        words,
        prefix=chance.choice([(), (), (), (chance.choice(WORDS["root"]),), ("module", "model")]),
        dropped=frozenset(r for r in ("mlp", "attention", "tower") if chance.random() < 0.1),
        inserted={r: chance.choice(("inner", "module", *ODD)) for r in LEVELS if chance.random() < 0.05},
        shift=chance.choice([0] * 8 + [1]),
        glued=chance.random() < 0.1,
        fused=_spelled(fused, words),
        stacked=chance.random() < 0.4,
        turned=frozenset(turned),
        kernel=chance.choice(["OI", "OI", "OI", "O..I", "..IO"]),
        interleaved=chance.random() < 0.15,
    )


def _spelled(fused: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    """The same, but for names that say in which order gate and up stand: nobody writes these otherwise."""
    if "gate_up" in fused and words["gate_up"].startswith("gate_up"):
        return {**fused, "gate_up": (("gate", "up"), "by part")}
    return fused


def _straightened(theirs: Style, ours: Style) -> Style:
    """Theirs without names that are exchanged in a circle with ours: nothing could show them."""
    words = dict(theirs.words)
    while True:
        meant: dict[str, set[str]] = {}
        for role, word in words.items():
            if role in ours.words and word != ours.words[role]:
                meant.setdefault(word, set()).add(ours.words[role])
        circle = next((w for w in meant if _returns(w, meant)), None)
        if circle is None:
            return replace(theirs, words=words)
        role = next(r for r, w in words.items() if w == circle and ours.words.get(r, w) != w)
        words[role] = ours.words[role]


def _returns(word: str, meant: dict[str, set[str]]) -> bool:
    seen, front = set[str](), {word}
    while front:
        front = {w for f in front for w in meant.get(f, ())} - seen
        if word in front:
            return True
        seen |= front
    return False


def certain_and_wrong(truth: Truth) -> list[tuple[str, ...]]:
    """The model keys of matches that are certain and do not compute what these keys are to hold."""
    return [m.model for m in truth.suggestion().matches if m.certain and not _is_right(truth, m)]


def _is_right(truth: Truth, match: Match) -> bool:
    if match.operations:
        convert = ConversionMapping([Convert(match.checkpoint, match.model, match.operations)])
        made = dict(convert.apply({key: truth.checkpoint[key] for key in match.checkpoint}))
    else:
        made = {match.model[0]: truth.checkpoint[match.checkpoint[0]]}
    return all(key in truth.model and torch.equal(truth.model[key], tensor) for key, tensor in made.items())


def truth_of(seed: int) -> Truth:
    """The checkpoint and the model of a seed, and what each name of the model is to hold."""
    chance = random.Random(seed)
    while True:
        leaves, ours = grow(chance), style(chance, chance.choice([0, 0.1, 0.3]))
        ours = replace(ours, turned=frozenset(), kernel="OI", interleaved=False, shift=0)
        theirs = _theirs(chance, ours)
        kept, wanted = list(leaves), list(leaves)
        if chance.random() < 0.35:
            some = chance.choice(leaves).roles[: -chance.choice([1, 1, 2])]
            side = chance.choice([kept, wanted])
            side[:] = [leaf for leaf in side if leaf.roles[: len(some)] != some] or side
        half = chance.choice([0] * 9 + [1])
        if half:  # whoever converts by and by does not turn what is not renamed
            theirs = replace(theirs, turned=frozenset(), kernel="OI")
        try:
            rest = [leaf for leaf in kept if half == 0 or 0 not in leaf.roles]
            checkpoint = theirs.write(rest)
            done = ours.write([leaf for leaf in kept if leaf not in rest] if half else [])
            if checkpoint.keys() & done.keys():
                continue
            return Truth({**checkpoint, **done}, ours.write(wanted))
        except (ValueError, RuntimeError):  # two leaves of one name, or experts of unlike sizes
            continue


def _theirs(chance: random.Random, ours: Style) -> Style:
    """Another library's way: the same but for some words, or altogether another."""
    other = style(chance, chance.choice([0, 0.1, 0.3, 1]))
    change = chance.choice([0.2, 0.5, 1])
    words = {r: w if chance.random() < change else ours.words.get(r, w) for r, w in other.words.items()}
    same = chance.random() < 0.3
    picked = _straightened(replace(ours, words=words) if same else replace(other, words=words), ours)
    fused = {
        name: ours.fused[name] if name in ours.fused and picked.words[name] == ours.words[name] else way
        for name, way in picked.fused.items()
    }
    renamed = all(picked.words[role] != ours.words[role] for role in ("q", "k", "qkv"))
    return replace(picked, fused=_spelled(fused, picked.words), interleaved=picked.interleaved and renamed)
