"""Print the table of known layouts and chains: on how many cases an entry fires, and the matches that it settles.

python scripts/layout_table.py [--every N] [CORPUS[:N] ...]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from functools import cache

from cases import CORPUS, sampled

from treealign.align.alignment import align
from treealign.align.knowledge.chains import chains, reads
from treealign.align.knowledge.entries import layouts

CORPORA = ("pairs", "originals", "converters")


@cache
def ran() -> dict[str, list[str]]:
    """When an entry was last derived again with nothing changed, and by which script."""
    held: dict[str, list[str]] = json.loads((CORPUS.parent / "layouts-ran.json").read_text("utf-8"))
    return held


def again(name: str) -> str:
    """The same in words."""
    return f" (again {' by '.join(ran()[name])})" if name in ran() else ""


def main() -> None:
    """Align every so many-th case and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=CORPORA)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    fires, settles = defaultdict(set), Counter()
    for corpus in given.corpora:
        for case in sampled(corpus, given.every):
            here, there = case.trees(False)
            for row in (read.chain for tree in (here, there) for read in reads(tree)):
                fires[row.name].add(case.name)
            for link in align(here, there).links:
                for known in (known for p in (*link.left, *link.right) for known in p.library):
                    fires[known.name].add(case.name)
                named = {e.removeprefix("layout ").split(": ")[0] for e in link.evidence if e.startswith("layout ")}
                for name in named if link.certain else ():
                    settles[name] += sum(1 for _ in link.expand())
    print("| entry | fires on | settles | checked |")
    print("|---|---:|---:|---|")
    rows = {row.name: row for row in chains()}
    for name, entry in (*layouts().items(), *rows.items()):
        how = f"run{again(name)}" if entry.run else "read only"
        print(f"| {name} | {len(fires[name])} | {settles[name]} | {how}: {entry.source} |")


if __name__ == "__main__":
    main()
