"""What each pass and each judge of the aligner is worth: what is right, open and wrong without it.

    python scripts/aligner_worth.py [NAME ...] [--every 8] [--json FILE]

Each is left out in turn while the cases of the corpora in data/ are aligned, `pairs` whole, of the others each
so-many-th. Counted are the groups of keys of the known answers: right and certain, right and open, wrong and open, and
wrong though certain, each as the difference from the aligner as it is. What cannot be left out, since all others build
on it, is not listed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cases import Case, read_cases

from treealign.align import pipeline
from treealign.align.alignment import align
from treealign.align.asking.question import expand_matches
from treealign.align.matching import assigning

CORPORA = ("pairs", "originals", "transformers", "real_text", "real_vision")
COUNTS = ("right", "open", "wrong", "SILENT")
NEEDED = {"read_names", "fold", "anchor", "hear", "shrink", "read_words", "match", "link"}
NEEDED |= {"leave_over", "join_proved", "judge"}
LISTS = {"pass": (pipeline, "PASSES"), "judge": (pipeline, "JUDGES"), "lesson": (assigning, "LESSONS")}


def read_sample(every: int) -> list[Case]:
    found = []
    for corpus in CORPORA:
        step = 1 if corpus == "pairs" else every * (4 if corpus == "real_vision" else 1)
        found += list(read_cases(corpus))[::step]
    return found


def count(case: Case) -> Counter[str]:
    sides = case.trees()
    alignment = align(*sides)
    by_key = {key: m for link in alignment.links for m in expand_matches(link, sides) for key in m.model}
    found: Counter[str] = Counter()
    for group in case.groups:
        made = [by_key.get(key) for key in group.model if key not in case.tied]
        if not made or group.ties:
            continue
        right = [m is not None and set(m.checkpoint) == set(group.checkpoint) for m in made]
        certain = [m is not None and m.certain for m in made]
        silent = any(sure and not so for sure, so in zip(certain, right, strict=True))
        found["SILENT" if silent else "wrong" if not all(right) else "right" if all(certain) else "open"] += 1
    return found


def total(cases: Sequence[Case]) -> Counter[str]:
    found: Counter[str] = Counter()
    for case in cases:
        try:
            found.update(count(case))
        except Exception as error:
            found[f"{type(error).__name__}"] += 1
    return found


def switches() -> dict[str, tuple[Any, str, Callable[..., Any]]]:
    """By name: where the list is, and what to leave out of it."""
    found = {}
    for kind, (module, attribute) in LISTS.items():
        for one in getattr(module, attribute):
            name = one.__name__.removeprefix("judge_")
            if name not in NEEDED:
                found[f"{kind} {name}"] = module, attribute, one
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cases = read_sample(given.every)
    base = total(cases)
    print(f"{len(cases)} cases{'':30}" + "".join(f"{name:>9}" for name in COUNTS))
    print(f"{'as it is':40}" + "".join(f"{base[name]:9,}" for name in COUNTS), flush=True)
    results = {"as it is": dict(base)}
    for name, (module, attribute, without) in switches().items():
        if given.names and not any(wanted in name for wanted in given.names):
            continue
        whole = getattr(module, attribute)
        setattr(module, attribute, tuple(one for one in whole if one is not without))
        try:
            found = total(cases)
        finally:
            setattr(module, attribute, whole)
        results[name] = dict(found)
        print(f"{name:40}" + "".join(f"{found[one] - base[one]:+9,}" for one in COUNTS), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
