"""A conversion thought through: everything that will be written, and everything there is to say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from treealign.checkpoint.adapters.parts import CONFIG
from treealign.checkpoint.conversion.adapter_configs import AFTER, SideConfig, side_config
from treealign.checkpoint.conversion.again import marks_after, needs_mark
from treealign.checkpoint.conversion.casting import cast_back
from treealign.checkpoint.conversion.marks import Mark, mark_of
from treealign.checkpoint.conversion.placing import Placement, place
from treealign.checkpoint.conversion.planning import ConversionPlan, plan_files
from treealign.checkpoint.conversion.recalling import record_paths
from treealign.checkpoint.conversion.results import Made, results
from treealign.checkpoint.conversion.routing import Route, find_route, refuse_lossy
from treealign.checkpoint.conversion.tasks import ShardTask
from treealign.checkpoint.conversion.undoing import ORIGINALS, Conversion, is_undone_by
from treealign.checkpoint.load_record import make_record
from treealign.checkpoint.record_file import BEFORE, NAME, to_bytes
from treealign.checkpoint.sources import Source
from treealign.errors import TreealignError
from treealign.formats.collector import collector_paused
from treealign.formats.dtypes import safetensors_dtype, torch_dtype
from treealign.formats.safetensors_writer import Shard
from treealign.formats.texts import read_bounded
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.convert import Convert
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform

_CONFIGS = (CONFIG, AFTER)

_OPTIMIZER = "optim"


@dataclass(frozen=True)
class ConvertOptions:
    """How a checkpoint is to be converted; see `treealign.convert_checkpoint`."""

    mapping: ConversionMapping
    reverse: bool = False
    dtype: str | None = None
    max_shard_size: int | None = None
    converted: Converted = None
    allow_lossy: bool = False
    verify: bool = False


@dataclass(frozen=True)
class PlannedConversion:
    """What a conversion will do.

    Attributes
    ----------
    source : Source
        The checkpoint.
    route : Route
        The steps.
    plan : ConversionPlan
        The result and its files; one task more for originals that the result does not hold.
    beside : mapping of str to bytes
        Small files that undo the conversion, or that an undone one gives back.
    rounded : tuple of str
        Keys that a record cannot give back as they were.
    same : bool
        Whether the result is the checkpoint as it is, with all that stands beside it.
    notes : tuple of str
        What beside the weights was not converted.
    """

    source: Source
    route: Route
    plan: ConversionPlan
    beside: Mapping[str, bytes] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    same: bool = False
    notes: tuple[str, ...] = ()


def plan_conversion(source: Source, options: ConvertOptions) -> PlannedConversion:
    """Think a conversion through.

    Raises
    ------
    MappingError, LoadError, FormatError, TreealignError
        It cannot be done; see `treealign.convert_checkpoint`.
    """
    with collector_paused():
        route = find_route(source, options.mapping, reverse=options.reverse, converted=options.converted)
        if not options.allow_lossy:
            refuse_lossy(route.by_mapping)
        made, rounded = _results(route, options)
        layout = route.recalled.layout if route.recalled else None
        placement = place(route.source, made, layout=layout, max_shard_size=options.max_shard_size)
        if not route.done and route.recalled is None:
            placement = placement.saying(_marks(route, made, options))
        plan = plan_files(route.source, made, placement, verify=options.verify)
        config = side_config(route)
        beside, originals = _beside(route, made, placement, options, config)
        plan = replace(plan, tasks=(*plan.tasks, *originals))
    rounded = (*route.approximate, *rounded)
    same = _is_same(route, options)
    notes = config.notes if same else (*config.notes, *_left_behind(route.source))
    return PlannedConversion(route.source, route, plan, beside, rounded, same, notes)


def _left_behind(source: Source) -> Iterator[str]:
    """What is said of what was saved with the weights, and of the states of optimizers, which go along as they are."""
    if source.taken:
        both = "treealign.checkpoint.optimizers.convert_optimizer turns both"
        yield f"{source.taken} is converted, what else was saved with it is not: {both}"
    names = [] if source.folder is None else sorted(path.name for path in source.folder.iterdir() if path.is_file())
    said = "it is as it was, for the parameters of before: treealign.checkpoint.optimizers.convert_optimizer turns it"
    yield from (f"{name}: {said}" for name in names if name.startswith(_OPTIMIZER))


def _marks(route: Route, made: Mapping[str, Made], options: ConvertOptions) -> tuple[Mark, ...]:
    """What the files of the result say."""
    needed = not route.changes_nothing and needs_mark(route.transforms, made)
    return marks_after(route.source, mark_of(options.mapping, options.reverse), needed=needed)


def _results(route: Route, options: ConvertOptions) -> tuple[dict[str, Made], tuple[str, ...]]:
    tensors = route.source.tensors
    if options.dtype is not None:
        return results(route.steps, tensors, _spelled(options.dtype)), ()
    made = results(route.steps, tensors)
    if route.recalled is None or not route.recalled.dtypes:
        return made, ()
    dtypes, rounded = cast_back(made, tensors, route.recalled.dtypes)
    return results(route.steps, tensors, dtypes), rounded


def _spelled(dtype: str) -> str:
    spelled = safetensors_dtype(dtype.removeprefix("torch."))
    if spelled is None:
        raise TreealignError(f"there is no dtype {dtype!r}", hint="spell it as torch does: bfloat16, float16, float32")
    return spelled


def _beside(
    route: Route, made: Mapping[str, Made], placement: Placement, options: ConvertOptions, config: SideConfig
) -> tuple[dict[str, bytes], Sequence[ShardTask]]:
    changed = {CONFIG: config.text.encode()} if config.text is not None else {}
    if route.recalled is not None:
        return {
            name: text.encode() for name, text in route.recalled.beside.items() if name not in _CONFIGS
        } | changed, ()
    before = _records_beside(route.source)
    if _is_same(route, options):
        return {name: text.encode() for name, text in before.items()}, ()
    back = options.mapping if options.reverse else options.mapping.reverse
    if config.before is not None:
        before |= {CONFIG: config.before, AFTER: config.text or ""}
    # what was taken as guessed is said beside the result, and what a base model's mapping became for an adapter
    told = bool(before or options.mapping.accepted) or any(isinstance(one, Convert) for one in _lifted(route, options))
    mark = mark_of(options.mapping, not options.reverse)
    if config.before is None and not told and is_undone_by(back, route.source, route.steps, made, placement, mark):
        return {}, ()
    record = make_record(route.transforms, route.decision, route.steps, _dtypes_before(route, made))
    conversion = Conversion(options.mapping, options.reverse, record, route.source.layout, before)
    return {NAME: to_bytes(conversion=conversion.to_data())} | changed, _originals(route, options.verify)


def _lifted(route: Route, options: ConvertOptions) -> Iterable[Transform]:
    """What was made of the mapping for an adapter, where that is something else."""
    given = options.mapping.reverse if options.reverse else options.mapping
    return () if route.done or route.transforms.transforms == given.transforms else route.transforms


def _is_same(route: Route, options: ConvertOptions) -> bool:
    return route.done and options.dtype is None and options.max_shard_size is None


def _records_beside(source: Source) -> dict[str, str]:
    """Records that stand beside a checkpoint. They speak of its names, so they go back with them."""
    found = [path for path in record_paths(source) if path.is_file()]
    beside = found if source.folder is not None else found[:1]
    return {NAME if path.name.endswith(NAME) else BEFORE: read_bounded(path).decode("utf-8") for path in beside}


def _dtypes_before(route: Route, made: Mapping[str, Made]) -> dict[str, str]:
    tensors = route.source.tensors
    sources = {key for one in made.values() if one.cast for key in one.step.sources}
    return {key: torch_dtype(tensors[key].dtype) for key in tensors if key in sources}


def _originals(route: Route, verify: bool) -> tuple[ShardTask, ...]:
    """The file of what goes into conversions that cannot be undone from their result."""
    keys = [key for step in route.steps if is_lossy(step.operations) for key in step.sources]
    if not keys:
        return ()
    made = results([Step((key,), (key,)) for key in keys], route.source.tensors)
    shard = Shard(ORIGINALS, tuple(one.planned(key) for key, one in made.items()))
    return plan_files(route.source, made, Placement((shard,)), verify=verify).tasks
