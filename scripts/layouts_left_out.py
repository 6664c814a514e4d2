"""Leave out what is known of libraries, and see that nothing that is certain becomes wrong.

    python scripts/layouts_left_out.py [--every N] [--singly] [CORPUS[:N] ...]

Each case is aligned with all entries of the tables of layouts and of chains, without all those that fire on it, and,
with `--singly`, without each one of these. Counts groups that are certain and right, certain and wrong (by keys, and by
the numbers that the operations compute where the gold tells them), and open. Exits 1 where anything certain is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from cases import Case, Group, sampled
from numbering import computes

from treealign.align.alignment import align
from treealign.align.knowledge import chains, entries, reading, recognising, saying, settling
from treealign.align.knowledge.recognising import recognised
from treealign.align.patterns import build_patterns

CORPORA = ("pairs", "originals", "single_files", "converters", "real_vision", "real_text", "transformers", "synthetic")
HOLDERS = (entries, reading, recognising, saying, settling)


@contextmanager
def left_out(names: Collection[str]) -> Iterator[None]:
    """The tables without the entries and rows of these names."""
    layouts, rows = entries.layouts(), chains.chains()
    some = {name: entry for name, entry in layouts.items() if name not in names}
    fewer = tuple(row for row in rows if row.name not in names)
    held = [(module, module.layouts) for module in HOLDERS if hasattr(module, "layouts")]
    table = chains.chains
    try:
        for module, _ in held:
            module.layouts = lambda: some  # type: ignore[attr-defined]
        chains.chains = lambda: fewer  # type: ignore[assignment]
        yield
    finally:
        for module, function in held:
            module.layouts = function  # type: ignore[attr-defined]
        chains.chains = table


def fired(case: Case) -> list[str]:
    """The entries and rows that hold for any leaf of a case."""
    names = set()
    for tree in case.trees(False):
        names |= {known.name for p in recognised(build_patterns(tree), tree.modules) for known in p.library}
        names |= {read.chain.name for read in chains.reads(tree)}
    return sorted(names)


def counts(case: Case) -> Counter[str]:
    """How many groups of a case are certain and right, certain and wrong, or open."""
    here, there = case.trees(False)
    truth = {frozenset(group.checkpoint): group for group in case.groups}
    found: Counter[str] = Counter()
    for link in align(here, there).links:
        for cells in link.expand():
            keys = tuple(here.keys[at] for at in cells.left), tuple(there.keys[at] for at in cells.right)
            group = truth.get(frozenset(keys[0]))
            match = SimpleNamespace(checkpoint=keys[0], model=keys[1], operations=link.operations)
            if not link.certain:
                found["open"] += 1
            elif group is None or not set(keys[1]) <= set(group.model) or not _is_right(match, group, case):
                found["SILENT"] += group is not None
            else:
                found["right"] += 1
    return found


def _is_right(match: SimpleNamespace, group: Group, case: Case) -> bool:
    """Whether a match computes what its group says; one name for one needs no numbers."""
    return (group.renames and not match.operations) or computes(match, group, case) is not False


def main() -> int:
    """Print one line for each corpus and way, and each case with something certain and wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=CORPORA)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--singly", action="store_true")
    given = parser.parse_args()
    silent = 0
    for corpus in given.corpora:
        total: dict[str, Counter[str]] = {}
        for case in sampled(corpus, given.every):
            names = fired(case)
            ways = {"all entries": [], "its own left out": names} if names else {"all entries": []}
            if given.singly:
                ways = {"each one of its own left out": [], **{name: [name] for name in names}}
            for way, without in ways.items():
                with left_out(without):
                    found = counts(case)
                if found["SILENT"]:
                    print(f"{corpus} {case.name}, {way}: {found['SILENT']} certain and wrong", flush=True)
                kind = way if not given.singly else "each one of its own left out"
                total.setdefault(kind, Counter()).update({**found, "cases": 1})
        for way, found in total.items():
            silent += found["SILENT"]
            print(f"{corpus}, {way}: {found['cases']} runs, {found['right']} certain and right, {found['open']} open, "
                  f"SILENT {found['SILENT']}", flush=True)  # fmt: skip
    return bool(silent)


if __name__ == "__main__":
    sys.exit(main())
