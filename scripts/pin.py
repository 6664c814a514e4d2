"""Pin what the aligner says of every case, so that a change that should change nothing can be seen to.

    python scripts/pin.py write before.jsonl.gz data/corpus/*.xz [--only TEXT] [--every N] [--align-only]
    python scripts/pin.py compare before.jsonl.gz after.jsonl.gz [--show 20]

One line of canonical JSON a case: matches with their operations and their certainty, the questions with their options,
the mapping, findings and leftovers; the evidence of a match too, which `compare` counts apart. Cases that several
corpora hold are pinned once. `seconds` is CPU time and is not compared. `compare` exits 1 if
anything but the evidence differs.
With `--align-only` no mapping is made, which is most of the time that a case takes.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import lzma
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from treealign import KeyTree, suggest
from treealign.align.alignment import align
from treealign.mapping.mapping_json import mapping_to_data
from treealign.mapping.operations import sequence_to_json
from treealign.suggestion import Suggestion

SIDES = ("checkpoint", "model", "modules", "tied", "ordered")
APART = "evidence"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    opened = lzma.open if path.suffix == ".xz" else gzip.open
    with opened(path, "rt") as lines:
        yield from map(json.loads, lines)


def trees(case: dict[str, Any]) -> tuple[KeyTree, KeyTree]:
    """Both sides, the checkpoint's keys shuffled unless their order is known to mean something."""
    leaves = [tuple(leaf) for leaf in case["checkpoint"]]
    if not case.get("ordered"):
        random.Random(0).shuffle(leaves)
    checkpoint = KeyTree.from_leaves(leaves, ordered=bool(case.get("ordered")))
    model = [tuple(leaf) for leaf in case["model"]]
    return checkpoint, KeyTree.from_leaves(model, case.get("modules"), case.get("tied"), ordered=True)


def pinned(case: dict[str, Any], align_only: bool) -> dict[str, Any]:
    sides, start = trees(case), time.process_time()
    found = Suggestion(align(*sides), cast(Any, None)) if align_only else suggest(*sides)
    matches = sorted(
        ([m.checkpoint, m.model, sequence_to_json(m.operations), m.certain], m.evidence) for m in found.matches
    )
    return {
        "id": case["id"],
        "matches": [m for m, _ in matches],
        "questions": sorted(
            [q.about, q.checkpoint, q.model, q.why, [option.hint for option in q.options]] for q in found.questions
        ),
        "mapping": None if align_only else mapping_to_data(found.mapping),
        "missing": sorted(found.missing_keys),
        "unexpected": sorted(found.unexpected_keys),
        "mismatched": sorted(map(list, found.mismatched_keys)),
        "findings": sorted(found.alignment.findings if align_only else found.findings),
        APART: [evidence for _, evidence in matches],
        "seconds": round(time.process_time() - start, 3),
    }


def write(destination: Path, corpora: Iterable[Path], only: str, every: int, align_only: bool) -> None:
    seen: set[str] = set()
    with gzip.open(destination, "wt", compresslevel=3) as out:
        for corpus in corpora:
            for case in read_lines(corpus):
                digest = hashlib.sha1(json.dumps([case.get(side) for side in SIDES]).encode()).hexdigest()
                if digest in seen or only not in case["id"]:
                    continue
                seen.add(digest)
                if len(seen) % every:
                    continue
                line = {"corpus": corpus.name, **pinned(case, align_only)}
                out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
                out.flush()
                print(f"{line['seconds']:8.2f} s  {corpus.name}  {case['id']}", flush=True)


def pins(path: Path) -> dict[str, str]:
    """Corpus and id to the line, which is read only when it is needed; what was cut off is left out."""
    found: dict[str, str] = {}
    with gzip.open(path, "rt") as lines, contextlib.suppress(EOFError):
        found.update((line.partition(',"matches":')[0], line) for line in lines if line.endswith("\n"))
    return found


def compare(before: Path, after: Path, show: int) -> int:
    """Print what differs, case by case; the number of cases of which more than the evidence does."""
    old, new = (pins(path) for path in (before, after))
    common = sorted(old.keys() & new.keys())
    spent, serious, only = [0.0, 0.0], 0, 0
    for name in common:
        sides = json.loads(old[name]), json.loads(new[name])
        spent = [total + side["seconds"] for total, side in zip(spent, sides, strict=True)]
        changed = differing(*sides)
        only += changed == [APART]
        serious += bool(set(changed) - {APART})
        if set(changed) - {APART} and serious <= show:
            print(name)
            for key in changed:
                print("\n".join(f"    {key}: {line}" for line in difference(sides[0][key], sides[1][key])))
    for path, mine, other in ((before, old, new), (after, new, old)):
        if mine.keys() - other.keys():
            print(f"only in {path}: {len(mine.keys() - other.keys())} cases")
    counted = f"{len(common)} cases: {serious} differ, {only} more in the evidence"
    print(f"{counted}; CPU {spent[0]:.0f} -> {spent[1]:.0f} s")
    return serious


def differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [key for key in old if key not in ("seconds", "corpus") and old[key] != new.get(key)]


def difference(old: Any, new: Any, most: int = 4) -> list[str]:
    """What only one of two lists has; of anything else both."""
    if not isinstance(old, list) or not isinstance(new, list):
        return [f"- {json.dumps(old)[:600]}", f"+ {json.dumps(new)[:600]}"]
    mine, theirs = ({json.dumps(x) for x in side} for side in (old, new))
    gone, come = sorted(mine - theirs), sorted(theirs - mine)
    lines = [f"- {x[:300]}" for x in gone[:most]] + [f"+ {x[:300]}" for x in come[:most]]
    return [*lines, f"{len(gone)} gone, {len(come)} new"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("destination", type=Path)
    writing.add_argument("corpora", type=Path, nargs="+")
    writing.add_argument("--only", default="")
    writing.add_argument("--every", type=int, default=1, help="every so many cases only")
    writing.add_argument("--align-only", action="store_true")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--show", type=int, default=20)
    given = parser.parse_args()
    if given.verb == "write":
        write(given.destination, given.corpora, given.only, given.every, given.align_only)
        return 0
    return int(compare(given.before, given.after, given.show) > 0)


if __name__ == "__main__":
    sys.exit(main())
