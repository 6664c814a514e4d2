"""Which levels of a checkpoint belong to what stands above a module: what its keys lose when it is saved alone.

`model.vision_tower.encoder.w` was `vision_tower.vision_model.encoder.w`. Of the two levels in front, the first stood
for the path of the tower and the second for something that was removed inside it: saved alone, the tower is
`vision_model.encoder.w` again, the layout in which towers of its kind are published.
"""

from __future__ import annotations

from treealign.checkpoint.load_record import Record
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.planning import Step
from treealign.tree.fold import fold


def levels_above(record: Record, path: str) -> str:
    """The levels that all keys of the checkpoint below a module of the model have for what is above it.

    Empty where they do not agree: then the keys keep the whole of their names.

    Parameters
    ----------
    record : Record
        Of the load.
    path : str
        The module in the loaded model.

    Notes
    -----
    Each name goes back through the transforms that touched it, one by one, and it is watched where the end of `path`
    comes to stand. One name of each template is followed, for they all go the same way.
    """
    inside = {key: step for key, step in record.by_model.items() if key.startswith(f"{path}.")}
    keys = list(inside)
    found = {_above(record.mapping, inside[keys[f.positions[0]]], keys[f.positions[0]], path) for f in fold(keys)}
    above = found.pop() if len(found) == 1 else ""
    fits = all(source.startswith(f"{above}.") for step in inside.values() for source in step.sources)
    return above if above and fits else ""


def _above(mapping: ConversionMapping, step: Step, key: str, path: str) -> str:
    transforms = tuple(mapping)
    name, end = key.split("."), path.count(".") + 1
    for at in reversed(step.transforms):
        back = transforms[at].inverse.map_key(".".join(name))
        if back is None:
            return ""
        name, end = _moved_end(name, back[0].split("."), end)
    return ".".join(name[:end]) if ".".join(name) in step.sources else ""


def _moved_end(before: list[str], after: list[str], end: int) -> tuple[list[str], int]:
    """Where the end of the path comes to stand when a run of segments is replaced."""
    shared = min(len(before), len(after))
    start = next((i for i in range(shared) if before[i] != after[i]), shared)
    rest = next((i for i in range(shared - start) if before[-1 - i] != after[-1 - i]), shared - start)
    if start >= end:
        return after, end
    old_stop, new_stop = len(before) - rest, len(after) - rest
    if old_stop < end:
        return after, end + new_stop - old_stop
    # the run holds the end of the path: it stands behind the path's last level, if that was kept, or behind the run
    kept = [i for i in range(start, new_stop) if after[i] == before[end - 1]]
    return after, kept[-1] + 1 if kept else new_stop
