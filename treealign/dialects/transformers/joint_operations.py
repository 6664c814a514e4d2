"""Operations of transformers that stand for several of ours, or work on some tensors of a group only.

Experts of two towers, queries that take turns, heads that are permuted by name. A list that is shared out among towers
is found by one pattern and handed to one converter, so that the conversions for all its towers are said together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.entries import Call
from treealign.dialects.transformers.single_operations import OURS_DO, Moment, Shape, Site
from treealign.errors import MappingError, PatternError
from treealign.mapping.convert import Convert
from treealign.mapping.operations import (
    Concat,
    Join,
    Keep,
    Operation,
    Parallel,
    Reorder,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Select,
    Stack,
    Trim,
)
from treealign.mapping.planning import Step

Conversion = tuple[Convert, tuple[Step, ...]]
_INDEX = re.compile(r"(\d+)(?=\.|$)")


_List = tuple[str, str]


class _Share(NamedTuple):
    """What one step takes of some lists: their names around the index, and which members."""

    lists: tuple[_List, ...]
    start: int
    length: int
    step: Step


def with_towers_together(conversions: Sequence[Conversion]) -> list[Conversion]:
    """The conversions, those that share out the same lists as one, at the place of the first."""
    table = joined_steps([step for _, steps in conversions for step in steps])
    placed: set[Step] = set()
    made: list[Conversion] = []
    for convert, steps in conversions:
        own = [step for step in dict.fromkeys(table.get(step, step) for step in steps) if step not in placed]
        placed.update(own)
        if own:
            made.append((convert, tuple(own)))
    return made


def joined_steps(steps: Sequence[Step]) -> dict[Step, Step]:
    """Each step that takes one tower's share of some lists, to the step that takes all of them."""
    shares: dict[tuple[_List, ...], list[_Share]] = {}
    for step in steps:
        share = _share(step)
        if share is not None:
            shares.setdefault(share.lists, []).append(share)
    table: dict[Step, Step] = {}
    for found in shares.values():
        found.sort(key=lambda share: share.start)
        if len(found) > 1 and _adjoin(found):
            table |= dict.fromkeys((share.step for share in found), _joined(found))
    return table


def _share(step: Step) -> _Share | None:
    """Runs of equal length from as many lists, stacked run by run and then joined."""
    stack, *joins = step.operations or (None,)
    several = isinstance(stack, Stack) and len(joins) == 1 and isinstance(joins[0], Concat) and len(step.targets) == 1
    if not several or not isinstance(stack, Stack):
        return None
    count = int(str(stack.count))
    runs = [step.sources[at : at + count] for at in range(0, len(step.sources), count)]
    found = [_run(run) for run in runs]
    starts = {start for each in found if each for _, start in [each]}
    lists = tuple(each[0] for each in found if each)
    alike = len(lists) == len(runs) and len(starts) == 1
    return _Share(lists, starts.pop(), count, step) if alike else None


def _run(names: Sequence[str]) -> tuple[tuple[str, str], int] | None:
    """The name of a list around the index that counts up along these names, and where it begins."""
    for index in reversed(list(_INDEX.finditer(names[0]))):
        before, after, start = names[0][: index.start()], names[0][index.end() :], int(index[0])
        if list(names) == [f"{before}{start + at}{after}" for at in range(len(names))]:
            return (before, after), start
    return None


def _adjoin(found: Sequence[_Share]) -> bool:
    """Whether the shares make up whole lists, by the same operations."""
    ends = [0, *(share.start + share.length for share in found)]
    kinds = {(getattr(share.step.operations[0], "dim", None), share.step.operations[1]) for share in found}
    return [share.start for share in found] == ends[:-1] and len(kinds) == 1


def _joined(found: Sequence[_Share]) -> Step:
    """All towers at once: lists in order, cut into runs and stacked, and what belongs to a tower joined."""
    steps, lists, towers = [share.step for share in found], len(found[0].lists), len(found)
    runs = [(part * s.length, s.length, s.step.sources) for part in range(lists) for s in found]
    sources = [name for start, length, names in runs for name in names[start : start + length]]
    stacks = [step.operations[0] for step in steps] * lists
    targets = tuple(target for step in steps for target in step.targets)
    return steps[0]._replace(
        sources=tuple(sources),
        targets=targets,
        operations=(_together(stacks), _by_tower(lists, towers), steps[0].operations[1]),
    )


# -- experts of two towers ---------------------------------------------------------------------------------------------


def read_towers(moment: Moment) -> list[Operation]:
    """Each list cut into as many runs as there are towers, stacked, and joined with those of the other lists."""
    towers, operation = len(moment.after), moment.operation
    runs = [_dealt(len(shapes), towers) for shapes in moment.before.values()]
    stacks = tuple(Stack(operation.stack_dim, run) for each in runs for run in each)
    joined = [shape[operation.concat_dim] for shape in moment.made]
    if len(runs) == 1:
        return [_together(stacks)]
    joins = tuple(Concat(operation.concat_dim, (size // len(runs),) * len(runs)) for size in joined)
    return [_together(stacks), _by_tower(len(runs), towers), _together(joins)]


def write_towers(operations: Sequence[Operation], sources: Sequence[str], targets: Sequence[str]) -> Call | None:
    """Lists whose first members belong to one tower and whose last to another, stacked and joined tower by tower."""
    lists, towers = len(sources), len(targets)
    if not (towers > 1 and operations and all("*" in source for source in sources)):
        return None
    stacks = [part for part in _parts(operations[0]) if isinstance(part, Stack)]
    joins = [part for part in _parts(operations[-1]) if isinstance(part, Concat)] if len(operations) > 1 else []
    between = [_by_tower(lists, towers), operations[-1]] if lists > 1 else []
    if not stacks or len(stacks) < len(_parts(operations[0])) or list(operations[1:]) != between:
        return None
    runs = [int(str(stack.count)) for stack in stacks] * (towers * lists if len(stacks) == 1 else 1)
    _refuse_other_runs(runs[:towers])
    if any(len(set(join.sizes)) > 1 for join in joins):
        raise MappingError(
            "transformers joins what it takes of the lists of two towers, but its reverse cuts equal parts",
            facts=[repr(join) for join in joins],
            hint=OURS_DO,
        )
    dims = (("stack_dim", stacks[0].dim), ("concat_dim", joins[0].dim if joins else 1))
    return Call("ErnieFuseAndSplitTextVisionExperts", dims)


def _refuse_other_runs(runs: Sequence[int]) -> None:
    total, meant = sum(runs), _dealt(sum(runs), len(runs))
    if list(runs) != meant:
        wanted, dealt = (" + ".join(map(str, sizes)) for sizes in (runs, meant))
        raise MappingError(
            f"transformers deals lists of {total} out to towers as {dealt}, not {wanted}",
            hint=OURS_DO,
        )


def _dealt(count: int, towers: int) -> list[int]:
    """How many members of a list each tower gets."""
    size = -(-count // towers)
    return [min(size, count - at * size) for at in range(towers)]


def _by_tower(lists: int, towers: int) -> Reorder:
    """From list by list to tower by tower."""
    return Reorder(tuple(part * towers + tower for tower in range(towers) for part in range(lists)))


def _together(operations: Sequence[Operation]) -> Operation:
    """One for all where they are alike, else side by side."""
    return operations[0] if len(set(operations)) == 1 else Parallel(tuple(operations))


def _parts(operation: Operation) -> tuple[Operation, ...]:
    return operation.operations if isinstance(operation, Parallel) else (operation,)


# -- queries -----------------------------------------------------------------------------------------------------------

_QUERIES = ((0, 3), (1, 2))  # the query and MLP queries of a layer, and its key and value queries


def read_queries(moment: Moment) -> list[Operation]:
    """Queries that take turns in two tensors, and four in one."""
    if moment.operation.inverse:
        apart = [Reshape((shape[0] // 2, 2, *shape[1:]), shape) for shape in moment.made]
        return [Select(1, _QUERIES), _together(apart)]
    given = [shape for shapes in moment.before.values() for shape in shapes]
    return [_together([Reshape(shape, (shape[0] // 2, 2, *shape[1:])) for shape in given]), Join(1, _QUERIES)]


def write_queries(operations: Sequence[Operation], sources: Sequence[str], targets: Sequence[str]) -> Call | None:
    """The same, where rows are set apart in pairs and then joined."""
    joined = len(sources) == 2 and list(operations[1:]) == [Join(1, _QUERIES)]
    return Call("Inkling2LoopMergeMessageQueries") if joined and all(map(_pairs, _parts(operations[0]))) else None


def _pairs(operation: Operation) -> bool:
    return isinstance(operation, Reshape) and operation.after[1:] == (2, *operation.before[1:])


# -- heads -------------------------------------------------------------------------------------------------------------


def read_rotary(moment: Moment) -> list[Operation]:
    """`PermuteForRope`: the rows of each head, of all tensors or of those that it names."""
    operation, config = moment.operation, moment.config
    part = getattr(config, operation.subconfig_key, config) if operation.subconfig_key is not None else config
    heads = getattr(part, "num_attention_heads", 1)
    kind = RotaryUnpermute if operation.inverse else RotaryPermute
    wanted = operation.permute_layer_names

    def turned(name: str, shapes: Sequence[Shape]) -> Operation | None:
        named = wanted is None or any(text in name for text in wanted)
        return kind(heads, shapes[0][0] // heads) if named and len(shapes[0]) in (1, 2) else None

    return moment.each(turned)


def write_rotary(operation: Operation, site: Site) -> tuple[Call, ...]:
    """One permutation of some of the tensors, told by what stands in their patterns and in no other's."""
    parts = _parts(operation)
    turned = [part for part in parts if isinstance(part, RotaryPermute | RotaryUnpermute)]
    if not turned or not all(part in turned or isinstance(part, Keep) for part in parts):
        return ()
    calls = {_rotary(part, site.config) for part in turned}
    if len(calls) > 1:
        raise MappingError("transformers permutes all rotary heads of a conversion the same way", hint=OURS_DO)
    (call,) = calls
    names = next((side for side in (site.sources, site.targets) if len(side) == len(parts)), ())
    others = [name for part, name in zip(parts, names, strict=False) if isinstance(part, Keep)]
    if not others:
        return (call,)
    told = [_telling(name, others) for part, name in zip(parts, names, strict=False) if not isinstance(part, Keep)]
    if len(told) + len(others) < len(parts) or not all(told):
        raise MappingError("transformers tells what to permute by names, and here one holds the other", hint=OURS_DO)
    return (Call(call.name, (*call.arguments, ("permute_layer_names", tuple(told)))),)


def _telling(name: str, others: Sequence[str]) -> str:
    """A segment of a pattern that no other pattern holds in it."""
    segments = [segment for segment in name.split(".") if not any(segment in other for other in others)]
    return max(segments, key=len, default="")


def _rotary(operation: RotaryPermute | RotaryUnpermute, config: Any) -> Call:
    inverse = (("inverse", True),) if isinstance(operation, RotaryUnpermute) else ()
    counts = dict[str, int]()
    for key in (None, *getattr(config, "sub_configs", {})):
        part = config if key is None else getattr(config, key, None)
        heads = getattr(part, "num_attention_heads", None)
        if heads == operation.heads and operation.rotary_dim is None and operation.start == 0:
            return Call("PermuteForRope", ((("subconfig_key", key),) if key else ()) + inverse)
        if heads is not None:
            counts[key or "the config"] = heads
    facts = [f"{place} counts {heads} heads" for place, heads in counts.items()]
    raise MappingError(
        f"transformers permutes whole heads, as many as the config counts: no {operation!r}",
        facts=facts if config is not None else ["no config is at hand"],
        hint=OURS_DO if config is not None else f"pass the model; {OURS_DO}",
    )


# -- what is read and never written ------------------------------------------------------------------------------------


def read_unpad(moment: Moment) -> list[Operation]:
    """Rows that are padding, dropped or put back."""
    before, after = moment.only[0], moment.made[0][0]
    if moment.operation.inverse:
        return [Trim(0, after, before).inverse] if before != after else []
    return [Trim(0, before, after)] if before != after else []


def read_dequantize(moment: Moment) -> list[Operation]:
    """Nothing where there is but one tensor, else refused."""
    if sum(map(len, moment.before.values())) == 1:
        return []
    raise PatternError("it dequantizes: what it computes cannot be undone")
