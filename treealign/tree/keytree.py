"""`KeyTree`: the leaves of one side, their folded tree, and what is known about their modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from treealign.errors import TreealignError
from treealign.formats.bounds import MAX_TEMPLATES
from treealign.formats.cached import cached_property
from treealign.tree.fold import Fold, fold
from treealign.tree.keys import natural_key
from treealign.tree.tracing import Trace

if TYPE_CHECKING:
    import networkx


COUNTER, STATISTIC = "num_batches_tracked", "running_mean"


class Leaf(NamedTuple):
    """One parameter or persistent buffer.

    `shape` is None where it is unknown (an index without its shards); `dtype` is spelled as torch spells it, or None.
    """

    key: str
    shape: tuple[int, ...] | None
    dtype: str | None
    kind: str = "parameter"


class KeyTree:
    """The leaves of a checkpoint or of a model, with what is known about their modules.

    Build one with `KeyTree.from_leaves` or `treealign.read_tree`. It does not change after that.

    Attributes
    ----------
    leaves : tuple of Leaf
        In order of definition when `ordered`, in natural order otherwise, so that the order in which a file lists its
        keys changes nothing.
    modules : mapping of str to str
        Module path to class name; empty for a checkpoint.
    tied : mapping of str to str
        A key to the key whose storage it shares. Tied keys stand in `leaves` too.
    ordered : bool
        Whether the order of the leaves is evidence.
    source : str
        Where the tree was read from, for messages.
    trace : Trace or None
        What one run of the model showed; see `treealign.tree.tracing`.
    architecture : str
        What the file says it is a model of, as GGUF's header does; empty where nothing says it.
    """

    __slots__ = ("__dict__", "architecture", "leaves", "modules", "ordered", "source", "tied", "trace")

    def __init__(
        self,
        leaves: tuple[Leaf, ...],
        modules: Mapping[str, str],
        tied: Mapping[str, str],
        ordered: bool,
        source: str,
        trace: Trace | None = None,
        architecture: str = "",
    ) -> None:
        self.leaves = leaves
        self.modules: Mapping[str, str] = MappingProxyType(dict(modules))
        self.tied: Mapping[str, str] = MappingProxyType(dict(tied))
        self.ordered = ordered
        self.source = source
        self.trace = trace
        self.architecture = architecture

    @classmethod
    def from_leaves(
        cls,
        leaves: Iterable[tuple[Any, ...]],
        modules: Mapping[str, str] | None = None,
        tied: Mapping[str, str] | None = None,
        ordered: bool = False,
        source: str = "",
        trace: Trace | None = None,
        architecture: str = "",
    ) -> KeyTree:
        """A tree from (key, shape, dtype) or (key, shape, dtype, kind).

        Parameters
        ----------
        leaves : iterable of tuple
            `shape` a sequence of ints or None, `dtype` as torch spells it or None, `kind` "parameter" or "buffer".
        modules : mapping, optional
            Module path to class name.
        tied : mapping, optional
            Key to the key whose storage it shares.
        ordered : bool
            The leaves stand in order of definition (a model, a torch pickle; not safetensors).
        source : str
            Where the leaves come from, for messages.
        trace : Trace, optional
            What one run of the model showed.
        architecture : str
            What the file says it is a model of.

        Raises
        ------
        TreealignError
            If a key occurs twice, or something is no such tuple.
        """
        hint = "leaves are tuples: (key, shape, dtype), or (key, shape, dtype, kind)"
        if isinstance(leaves, Mapping | str):
            raise TreealignError(f"leaves are no {type(leaves).__name__}", where=source, hint=hint)
        try:
            made = [
                Leaf(x[0], x[1] if type(x[1]) is tuple else None if x[1] is None else tuple(x[1]), *x[2:])
                for x in leaves
            ]
        except (IndexError, TypeError) as error:
            raise TreealignError("something is no leaf", where=source, facts=[str(error)], hint=hint) from error
        if not ordered:
            made.sort(key=lambda leaf: natural_key(leaf.key))
        tree = cls(tuple(made), modules or {}, tied or {}, ordered, source, trace, architecture)
        if len(tree._position) != len(made):
            raise TreealignError(
                "a key occurs twice", where=source, facts=_repeated(made), hint="name each parameter once"
            )
        return tree

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys, in the order of `leaves`."""
        return tuple(leaf.key for leaf in self.leaves)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {leaf.key: at for at, leaf in enumerate(self.leaves)}

    @cached_property
    def counters(self) -> frozenset[str]:
        """What torch counts beside the statistics of a norm: files of before it did lack it, and are complete."""
        ends = (key for key in self.keys if key.rpartition(".")[2] == COUNTER)
        return frozenset(key for key in ends if key.removesuffix(COUNTER) + STATISTIC in self._position)

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The keys folded by template; `Fold.positions` point into `leaves`; refused where hardly anything folds."""
        return fold(self.keys, MAX_TEMPLATES)

    @cached_property
    def graph(self) -> networkx.DiGraph:
        """The folded tree: nodes are template paths (tuples of segments), edges go to children in order of definition.

        Each node carries ``segment``, ``keys`` (how many stand below it), ``digest`` (equal where two nodes hold the
        same names, indices and shapes) and ``signature`` (the names of its own leaves); a list ``indices``, a module
        whose class is known ``class``; a leaf ``fold``, ``shapes``, ``dtypes`` and ``kinds``. The root is ``()``.

        >>> tree = KeyTree.from_leaves([(f"layers.{i}.norm.weight", (8,), "float32") for i in range(4)])
        >>> tree.graph.nodes["layers", "{}"]["indices"], tree.graph.nodes["layers", "{}", "norm"]["signature"]
        ({0, 1, 2, 3}, ('weight',))
        """
        from treealign.tree.graph import folded_graph

        return folded_graph(self.leaves, self.folds, self.modules)

    @cached_property
    def flow(self) -> networkx.DiGraph | None:
        """The data flow that a trace showed, a DAG over modules in order of use; None where there is no trace."""
        from treealign.tree.graph import flow_graph

        return None if self.trace is None or self.trace.problem else flow_graph(self.trace)

    def leaf(self, key: str) -> Leaf:
        """The leaf of a key. Raises `KeyError` if there is none."""
        return self.leaves[self._position[key]]

    def to_json(self, path: str | PathLike[str], libraries: Mapping[str, str] | None = None) -> None:
        """Write the tree as versioned JSON, which `read_tree` reads back equal.

        `libraries` are the versions of the libraries that define the modules, for whoever compares two such files;
        `treealign.formats.tree_json.installed_libraries` gives those of this installation.
        """
        from treealign.formats.tree_json import write_tree_json

        data = None if self.trace is None else self.trace.to_data()
        write_tree_json(path, self.leaves, self.modules, self.tied, self.ordered, libraries=libraries, trace=data)

    def __len__(self) -> int:
        return len(self.leaves)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._position

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyTree):
            return NotImplemented
        mine = (self.leaves, self.modules, self.tied, self.ordered, self.trace)
        return mine == (other.leaves, other.modules, other.tied, other.ordered, other.trace)

    def __hash__(self) -> int:
        return hash(self.leaves)

    def __repr__(self) -> str:
        return f"<KeyTree {self.source or 'from leaves'}: {len(self)} keys in {len(self.folds)} patterns>"


def _repeated(leaves: list[Leaf]) -> list[str]:
    seen: set[str] = set()
    again = [leaf.key for leaf in leaves if leaf.key in seen or seen.add(leaf.key)]  # type: ignore[func-returns-value]
    return again[:20]
