"""All hypothesis strategies of the suite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from math import prod
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from treealign.errors import PatternError
from treealign.formats.dtypes import BITS
from treealign.mapping import operations
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.key_sets import fold_keys
from treealign.mapping.open_questions import ABOUT, OpenOption, OpenQuestion
from treealign.mapping.transforms import Convert, PrefixChange, Rename, Transform
from treealign.tree.keytree import KeyTree

# -- operations: sequences that fit a list of shapes -------------------------------------------------------------------


def compositions(total: int, least: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    """Sizes of at least `least` that add up to `total`."""
    return st.lists(st.integers(least, max(total, least)), max_size=3).map(
        lambda sizes: (*sizes, total - sum(sizes)) if sum(sizes) + least <= total else (total,)
    )


@st.composite
def dealt(draw: st.DrawFn, total: int) -> tuple[tuple[int, ...], ...]:
    """0 … total - 1 in any order, cut into parts that are not empty."""
    order, sizes = draw(st.permutations(range(total))), draw(compositions(total))
    ends = list(accumulate(sizes))
    return tuple(tuple(order[end - size : end]) for end, size in zip(ends, sizes, strict=True))


@st.composite
def factored(draw: st.DrawFn, numbers: int) -> tuple[int, ...]:
    """A shape that holds so many numbers."""
    shape = []
    while numbers > 1 and len(shape) < 3:
        shape.append(draw(st.sampled_from([n for n in range(1, numbers + 1) if numbers % n == 0])))
        numbers //= shape[-1]
    return (*shape, numbers)


@st.composite
def rotations(draw: st.DrawFn, rows: int) -> operations.Operation:
    heads = draw(st.sampled_from([n for n in range(1, rows + 1) if rows % n == 0]))
    start = draw(st.integers(0, rows // heads))
    rotary = 2 * draw(st.integers(0, (rows // heads - start) // 2))
    kind = draw(st.sampled_from([operations.RotaryPermute, operations.RotaryUnpermute]))
    return kind(heads, rows // heads, rotary, start)


def operations_on_one(shape: tuple[int, ...]) -> st.SearchStrategy[operations.Operation]:
    """Operations that take one tensor of that shape."""
    fitting = [st.permutations(range(len(shape))).map(lambda dims: operations.Permute(tuple(dims)))]
    if all(shape):
        fitting.append(factored(prod(shape)).map(lambda after: operations.Reshape(shape, after)))
    for dim, size in enumerate(shape):
        fitting.append(compositions(size, 0).map(partial(operations.Split, dim)))
        if size:
            blocks = st.sampled_from([n for n in range(1, size + 1) if size % n == 0]).flatmap(compositions)
            kinds = st.sampled_from([operations.Interleave, operations.Deinterleave])
            fitting.append(st.just(operations.Unstack(dim, size)))
            fitting.append(dealt(size).map(partial(operations.Select, dim)))
            fitting.append(st.builds(lambda kind, blocks, dim=dim: kind(dim, blocks), kinds, blocks))
    if shape and shape[0]:
        fitting.append(rotations(shape[0]))
    return st.one_of(fitting)


def operations_on_many(shapes: tuple[tuple[int, ...], ...]) -> st.SearchStrategy[operations.Operation]:
    """Operations that take all these tensors in one run."""
    first = shapes[0]
    fitting = [st.permutations(range(len(shapes))).map(lambda order: operations.Reorder(tuple(order)))]
    if all(shape == first for shape in shapes):
        fitting += [st.just(operations.Stack(dim, len(shapes))) for dim in range(len(first) + 1)]
    for dim in range(len(first)):
        if all(
            len(shape) == len(first) and (*shape[:dim], *shape[dim + 1 :]) == (*first[:dim], *first[dim + 1 :])
            for shape in shapes
        ):
            sizes = tuple(shape[dim] for shape in shapes)
            fitting.append(st.just(operations.Concat(dim, sizes)))
            if all(sizes):
                fitting.append(joins(dim, sizes))
    return st.one_of(fitting)


@st.composite
def joins(draw: st.DrawFn, dim: int, sizes: tuple[int, ...]) -> operations.Join:
    order, ends = draw(st.permutations(range(sum(sizes)))), list(accumulate(sizes))
    return operations.Join(dim, tuple(tuple(order[e - size : e]) for e, size in zip(ends, sizes, strict=True)))


@st.composite
def fitting_operations(draw: st.DrawFn, shapes: tuple[tuple[int, ...], ...]) -> operations.Operation:
    """An operation for the whole list: one for every run of it, or one for some tensors beside others kept."""
    takes = draw(st.sampled_from([n for n in range(1, len(shapes) + 1) if len(shapes) % n == 0]))
    runs = {shapes[at : at + takes] for at in range(0, len(shapes), takes)}
    if len(runs) == 1 and draw(st.booleans()):
        (run,) = runs
        return draw(operations_on_one(run[0]) if takes == 1 else operations_on_many(run))
    start = draw(st.integers(0, len(shapes) - 1))
    end = draw(st.integers(start + 1, len(shapes)))
    own = draw(operations_on_one(shapes[start]) if end == start + 1 else operations_on_many(shapes[start:end]))
    keep = operations.Keep()
    return operations.Parallel((*[keep] * start, own, *[keep] * (len(shapes) - end)))


@st.composite
def operations_and_shapes(draw: st.DrawFn) -> tuple[tuple[operations.Operation, ...], tuple[tuple[int, ...], ...]]:
    """A sequence of operations that lose nothing, and the shapes of tensors for it."""
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8]), max_size=3)))
    shapes = first = (shape,) * draw(st.integers(1, 4))
    chosen: list[operations.Operation] = []
    for _ in range(draw(st.integers(1, 4))):
        chosen.append(draw(fitting_operations(shapes)))
        shapes = chosen[-1].output_shapes(shapes)
        if len(shapes) > 24:
            break
    return tuple(chosen), first


# -- safetensors files: well-formed tables of tensors, and files with something wrong ----------------------------------


@st.composite
def strided_pairs(draw: st.DrawFn) -> list[tuple[tuple[int, ...], ...]]:
    """Two views of one shape, of 0 to 5 dimensions: sizes to cut from, where to begin, order of dimensions, shape."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=5)))

    def one() -> tuple[tuple[int, ...], ...]:
        order = tuple(draw(st.permutations(range(len(shape)))))
        starts = tuple(draw(st.sampled_from([0, 0, 1, 3])) for _ in shape)
        rests = tuple(draw(st.sampled_from([0, 0, 2])) for _ in shape)
        sizes = [0] * len(shape)
        for dim, at in enumerate(order):
            sizes[at] = starts[dim] + shape[dim] + rests[dim]
        return tuple(sizes), starts, order, shape

    return [one(), one()]


@st.composite
def described_tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], int]:
    """Dtype and shape of a tensor that fills whole bytes, with how many."""
    dtype = draw(st.sampled_from(sorted(BITS)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if prod(shape) * BITS[dtype] % 8:
        shape = (*shape, 4)
    return dtype, shape, prod(shape) * BITS[dtype] // 8


def tensor_tables() -> st.SearchStrategy[dict[str, tuple[str, tuple[int, ...], int]]]:
    """Keys of any text that UTF-8 can hold, each with a described tensor."""
    keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda key: key != "__metadata__")
    return st.dictionaries(keys, described_tensors(), max_size=5)


def json_values() -> st.SearchStrategy[object]:
    numbers = st.integers() | st.floats() | st.sampled_from([2**63, 2**64, -0.0, 1e400])
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )


@st.composite
def damaged_headers(draw: st.DrawFn) -> tuple[dict[str, object], int]:
    """A header with, in most cases, one part replaced, left out or added, and the size of its data."""
    header: dict[str, object] = {}
    at = 0
    for key, (dtype, shape, size) in draw(tensor_tables()).items():
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
    if header and draw(st.booleans()):
        part = header[draw(st.sampled_from(sorted(header)))]
        names = ["dtype", "shape", "data_offsets", "x"]
        part[draw(st.sampled_from(names))] = draw(json_values() | st.lists(st.integers(-2, 40), max_size=3))
    return header, max(at + draw(st.sampled_from([0, 0, 0, 1, -1])), 0)


_SPLICES = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"-0", b"0", b"1.0", b"1e9", b"\\ud800", b"\\u0061", b"\0")


@st.composite
def safetensors_bytes(draw: st.DrawFn) -> bytes:
    """Files near to safetensors: well formed, with a damaged header, spliced, cut, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    header, size = draw(damaged_headers())
    compact = draw(st.booleans())
    raw = json.dumps(header, ensure_ascii=draw(st.booleans()), separators=(",", ":") if compact else None)
    text = raw.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        text = text[:start] + draw(st.sampled_from(_SPLICES) | st.binary(max_size=2)) + text[end:]
    text += b" " * draw(st.integers(0, 3))
    length = len(text) + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    return max(length, 0).to_bytes(8, "little") + text + bytes(size)


# -- keys and transforms: few words, so that they meet; the odd ones too -----------------------------------------------

WORDS = (
    "a",
    "b",
    "norm",
    "norm0",
    "norm1",
    "norm2",
    "h_3_x",
    "0",
    "1",
    "2",
    "10",
    "007",
    "",
    "x%s",
    "{}",
    "{i}",
    "é",
    "٣",
)
LITERALS = ("a", "b", "norm", "norm1", "0", "2", "h_3_x", "x%s", "007")


def keys(words: tuple[str, ...] = WORDS) -> st.SearchStrategy[str]:
    """Keys of few segments."""
    return st.lists(st.sampled_from(words), min_size=1, max_size=6).map(".".join)


def key_lists() -> st.SearchStrategy[list[str]]:
    """Keys that share templates: repeats over two indices, and single ones."""
    index = st.sampled_from(["0", "1", "2", "3", "10", "12345678901234567890"])
    words = st.sampled_from([*WORDS, *"IJIJ"])
    template = st.lists(words, min_size=1, max_size=6).map(".".join)
    repeats = st.builds(
        lambda t, i, j: [t.replace("I", a).replace("J", b) for a in i for b in j],
        template,
        st.lists(index, min_size=1, max_size=3),
        st.lists(index, min_size=1, max_size=3),
    )
    return st.lists(repeats, max_size=5).map(lambda lists: [key for made in lists for key in made])


@st.composite
def patterns(draw: st.DrawFn, captures: tuple[str, ...] = (), start: str | None = None, end: str | None = None) -> str:
    """A key pattern that holds each of the captures, given as they are written, once."""
    segments = [draw(st.sampled_from(["", "", "norm", "h_"])) + capture for capture in captures]
    segments = [segment + draw(st.sampled_from(["", "", "_x"])) for segment in segments]
    segments += draw(st.lists(st.sampled_from(LITERALS), min_size=not segments, max_size=2))
    start = draw(st.sampled_from(["", "**."])) if start is None else start
    end = draw(st.sampled_from(["", "", "$"])) if end is None else end
    return start + ".".join(draw(st.permutations(segments))) + end


def capture_texts(name: str, plain: bool = False) -> st.SearchStrategy[str]:
    """Ways to write a capture of an index; `plain` ones capture any index as it is."""
    limits = st.sampled_from(["", "", "+1", "-1", "+9", ":0..1", ":1..2", "+1:0..9"])
    return st.just(f"{{{name}}}") if plain else limits.map(lambda limit: f"{{{name}{limit}}}")


@st.composite
def scopes(draw: st.DrawFn) -> str:
    """What stands as `under`: mostly nothing."""
    if draw(st.integers(0, 3)):
        return ""
    return draw(patterns(draw(st.sampled_from([(), ("{u}",), ("{u:0..1}",)])), end=""))


@st.composite
def guards(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Keyword arguments `before` and `after`: mostly none."""
    if draw(st.integers(0, 2)):
        return {}
    texts = st.lists(patterns(draw(st.sampled_from([(), ("{i}",), ("{u}", "{j}")]))), max_size=2).map(tuple)
    return {"before": draw(texts), "after": draw(texts)}


def prefix_changes() -> st.SearchStrategy[PrefixChange]:
    levels = st.lists(st.sampled_from(LITERALS), min_size=1, max_size=2).map(".".join)
    return st.builds(
        lambda side, levels, under, guard: PrefixChange(**{side: levels}, under=under, **guard),
        st.sampled_from(["add", "remove"]),
        levels,
        scopes(),
        guards(),
    )


@st.composite
def renames(draw: st.DrawFn) -> Rename:
    """One pair, or two that form a swap or a chain."""
    start, end = draw(st.sampled_from(["", "**."])), draw(st.sampled_from(["", "$"]))
    names = draw(st.sampled_from([(), (), ("i",), ("i", "j"), ("p",), ("i", "p")]))
    plain = draw(st.booleans())
    written = {n: st.just("{p:a|b|norm0}") if n == "p" else capture_texts(n, plain) for n in names}
    sides = [draw(patterns(tuple(draw(written[n]) for n in names), start, end)) for _ in range(3)]
    pairs = draw(st.sampled_from([((0, 1),), ((0, 1),), ((0, 1), (1, 2)), ((0, 1), (1, 0)), ((1, 2), (0, 1))]))
    chosen = {sides[a]: sides[b] for a, b in pairs}
    return valid(lambda: Rename(chosen, under=draw(scopes()), **draw(guards())))


@st.composite
def conversions(draw: st.DrawFn) -> Convert:
    """Stacks over captures of one side, splits into several targets, or both; the shapes do not matter."""
    start, end = draw(st.sampled_from(["", "**."])), draw(st.sampled_from(["", "$"]))
    shared = draw(st.sampled_from([(), ("{i}",), ("{i}", "{p:a|b}")]))
    lone = draw(st.sampled_from([(), ("{j:0..1}",), ("{q:norm0|norm1}",), ("{j:1..3}", "{k:0..1}")]))
    sources = [draw(patterns((*shared, *lone), start, end)) for _ in range(draw(st.integers(1, 2)))]
    targets = [draw(patterns(shared, start, end)) for _ in range(draw(st.integers(1, 2)))]
    counts = {(): 1, ("{j:0..1}",): 2, ("{q:norm0|norm1}",): 2, ("{j:1..3}", "{k:0..1}"): 6}
    steps = (operations.Concat(0, (1,) * len(sources) * counts[lone]), operations.Split(0, (1,) * len(targets)))
    made = valid(lambda: Convert(sources, targets, steps, under=draw(scopes()), **draw(guards())))
    return made.inverse if draw(st.booleans()) else made


@st.composite
def instances(draw: st.DrawFn, pattern: str) -> str:
    """A key that a pattern is likely to match."""

    def held(hit: re.Match[str]) -> str:
        options = [option for option in hit[0][1:-1].partition(":")[2].split("|") if ".." not in option]
        return draw(st.sampled_from(options if options != [""] and options else ["0", "1", "2", "3", "10"]))

    run = re.sub(r"\{[^}]*\}", held, pattern.removeprefix("**.").removesuffix("$"))
    head = draw(st.sampled_from(["", "", "m.", "m.1.", "norm."])) if pattern.startswith("**.") else ""
    tail = "" if pattern.endswith("$") else draw(st.sampled_from(["", ".w", ".w", ".0.w", ".norm1"]))
    return head + run + tail


def patterns_of(transform: Transform) -> list[str]:
    """The patterns that say which keys a transform and its guard are about."""
    if isinstance(transform, PrefixChange):
        starts = [transform.remove or "a", transform.add or "b"]
    else:
        starts = [*transform.sources, *transform.targets] if isinstance(transform, Convert) else [transform.source]
        starts += [source for source, _ in transform.pairs] if isinstance(transform, Rename) else []
    scope = f"{transform.under}." if transform.under else ""
    return [scope + start.removeprefix("**.") for start in starts] + [*transform.before, *transform.after]


@st.composite
def mappings_and_keys(draw: st.DrawFn) -> tuple[list[Transform], list[str]]:
    """Transforms, and keys of which many are theirs."""
    chosen = draw(st.lists(transforms(), min_size=1, max_size=4))
    texts = [text for transform in chosen for text in patterns_of(transform)]
    own = draw(st.lists(st.sampled_from(texts).flatmap(instances), max_size=10))
    return chosen, [*own, *draw(key_lists())]


def transforms() -> st.SearchStrategy[Transform]:
    return prefix_changes() | renames() | renames() | conversions()


@st.composite
def open_questions(draw: st.DrawFn) -> OpenQuestion:
    sides = [fold_keys(draw(st.lists(keys(), max_size=4))) for _ in range(2)]
    options = draw(st.lists(st.builds(OpenOption, st.text(max_size=9), st.text(max_size=9)), max_size=3))
    settled_by = draw(st.lists(st.text(max_size=9), max_size=2))
    about, why = draw(st.sampled_from(ABOUT)), draw(st.text(max_size=9))
    return OpenQuestion(about, *sides, why, tuple(options), tuple(settled_by))


@st.composite
def marked_mappings(draw: st.DrawFn) -> ConversionMapping:
    marks = {name: draw(st.lists(open_questions(), max_size=2)) for name in ("questions", "accepted")}
    return ConversionMapping(
        draw(st.lists(transforms(), max_size=3)), **marks, answers=draw(st.lists(st.text(max_size=9), max_size=2))
    )


def valid(make: Callable[[], Any]) -> Any:
    """What `make` makes; the example is dropped where the parts do not fit each other."""
    try:
        return make()
    except PatternError:
        reject()


@st.composite
def texts_like_json(draw: st.DrawFn) -> bytes:
    """Trees and indexes of shards as JSON, with one field replaced and a few bytes changed."""
    tree = {"format": "treealign.tree", "version": 1, "ordered": True, "libraries": {}, "modules": {}, "tied": {}}
    value = draw(st.sampled_from([{**tree, "leaves": [["a", [1], None]]}, {"weight_map": {"a": "x.safetensors"}}]))
    value[draw(st.sampled_from([*value, "new"]))] = draw(json_values())
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(st.binary(max_size=1)) + text[start + draw(st.integers(0, 1)) :]


# -- trees -------------------------------------------------------------------------------------------------------------


@st.composite
def key_trees(draw: st.DrawFn) -> KeyTree:
    """Trees of any keys, with unknown shapes and dtypes, ties and module classes."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    keys = draw(st.lists(text, unique=True, max_size=5))
    shapes = st.none() | st.lists(st.integers(0, 2**40), max_size=3).map(tuple)
    dtypes = st.none() | st.sampled_from(["float32", "float8_e4m3fn"])
    leaves = [(key, draw(shapes), draw(dtypes), draw(st.sampled_from(["parameter", "buffer"]))) for key in keys]
    tied = {keys[-1]: keys[0]} if len(keys) > 1 and draw(st.booleans()) else {}
    return KeyTree.from_leaves(leaves, draw(st.dictionaries(text, text, max_size=3)), tied, draw(st.booleans()))


def any_patterns() -> st.SearchStrategy[str]:
    """Key patterns with all kinds of captures."""
    captures = st.sampled_from([(), ("i",), ("i", "j"), ("p",), ("i", "p")])
    choice = st.just("{p:a|b|norm0}")
    written = captures.flatmap(lambda names: st.tuples(*(choice if n == "p" else capture_texts(n) for n in names)))
    return written.flatmap(patterns)


MODULE_NAMES = ("encoder", "decoder", "tower", "neck", "adapter", "trunk", "branch", "bridge")
FRESH_NAMES = ("xenon", "argon", "radon", "neon", "krypton", "helium", "boron", "carbon", "iron", "zinc")
LEAF_NAMES = ("alpha", "delta", "omega", "sigma", "kappa", "theta")


@st.composite
def model_leaves(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...], str]]:
    """Leaves of a small module tree: towers of repeated blocks, few shapes, so that many leaves look alike."""
    leaves = []
    for tower in draw(st.lists(st.sampled_from(MODULE_NAMES), min_size=1, max_size=3, unique=True)):
        depth = draw(st.integers(1, 4))
        names = draw(st.lists(st.sampled_from(LEAF_NAMES), min_size=1, max_size=4, unique=True))
        for name in names:
            shape = draw(st.sampled_from([(4, 4), (4,), (8, 4)]))
            leaves += [(f"{tower}.layers.{i}.{name}.weight", shape, "float32") for i in range(depth)]
    return leaves


@st.composite
def renamed_trees(draw: st.DrawFn) -> tuple[list[tuple[str, tuple[int, ...], str]], dict[str, str]]:
    """Leaves of a model, and each of its keys under up to ten random renames and a random prefix.

    The new names are no names of the model: a word that means something else on the other side misleads anyone.
    """
    leaves = draw(model_leaves())
    segments = sorted({s for key, *_ in leaves for s in key.split(".") if not s.isdigit()})
    chosen = draw(st.lists(st.sampled_from(segments), max_size=10, unique=True))
    changes = dict(zip(chosen, draw(st.permutations(FRESH_NAMES)), strict=False))
    prefix = draw(st.sampled_from(["", "model.", "module.backbone."]))
    return leaves, {key: prefix + ".".join(changes.get(s, s) for s in key.split(".")) for key, *_ in leaves}


@st.composite
def renamed_modules(draw: st.DrawFn, keys: list[str]) -> dict[str, str]:
    """Each key under random names of some of its modules, where two siblings never get one name.

    Names are fresh, levels come and go, and siblings may trade places in the alphabet; no name is one that means
    something else in the model.
    """
    segments = sorted({s for key in keys for s in key.split(".")[:-1] if not s.isdigit()})
    chosen = draw(st.lists(st.sampled_from(segments), max_size=min(len(segments), len(FRESH_NAMES)), unique=True))
    changes = dict(zip(chosen, draw(st.permutations(FRESH_NAMES)), strict=False))
    top = draw(st.sampled_from(["", "module.", "model.model."]))
    inner = draw(st.sampled_from(["", "inner"]))
    at = draw(st.sampled_from(segments))

    def rename(key: str) -> str:
        *path, leaf = key.split(".")
        named = [s for p in path for s in ([changes.get(p, p), inner] if p == at and inner else [changes.get(p, p)])]
        return top + ".".join([*named, leaf])

    return {key: rename(key) for key in keys}


raw_bytes = st.binary(min_size=1, max_size=100)
small_counts = st.integers(1, 6)


@st.composite
def cut_twice(draw: st.DrawFn, distinct: bool = False) -> tuple[KeyTree, KeyTree]:
    """One sequence of layers, cut into nested lists in two ways; the n-th leaf of the one is the n-th of the other.

    Sizes repeat, so that many layers look alike, unless they are to be `distinct`.
    """
    layers = draw(st.integers(1, 12))
    sizes = draw(
        st.permutations(range(2, 2 + layers))
        if distinct
        else st.lists(st.integers(2, 4), min_size=layers, max_size=layers)
    )
    trees = []
    for stem in ("stage", "part"):
        keys = [f"{stem}.{path}.weight" for path in draw(nestings(layers))]
        trees.append(KeyTree.from_leaves([(key, (size,), "float32") for key, size in zip(keys, sizes, strict=True)]))
    return trees[0], trees[1]


@st.composite
def nestings(draw: st.DrawFn, members: int, depth: int = 3) -> list[str]:
    """Paths of numbers that count so many members through, up to so many levels deep."""
    if depth == 1 or members == 1:
        return [str(n) for n in range(members)]
    parts = draw(compositions(members))
    return [f"{n}.{below}" for n, size in enumerate(parts) for below in draw(nestings(size, depth - 1))]
