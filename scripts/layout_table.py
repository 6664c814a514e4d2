"""Print the table of known layouts: on how many cases of each corpus an entry fires, and the matches that it settles.

python scripts/layout_table.py [--every N] [CORPUS ...]
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict

from cases import read_cases

from treealign.align.alignment import align
from treealign.align.knowledge.entries import layouts

CORPORA = ("pairs", "originals")


def main() -> None:
    """Align every so many-th case and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=CORPORA)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    fires, settles = defaultdict(set), Counter()
    for corpus in given.corpora:
        for case in list(read_cases(corpus))[:: given.every]:
            for link in align(*case.trees(False)).links:
                for known in (known for p in (*link.left, *link.right) for known in p.library):
                    fires[known.name].add(case.name)
                named = {e.removeprefix("layout ").split(": ")[0] for e in link.evidence if e.startswith("layout ")}
                for name in named if link.certain else ():
                    settles[name] += sum(1 for _ in link.expand())
    print("| entry | fires on | settles | checked |")
    print("|---|---:|---:|---|")
    for name, entry in layouts().items():
        how = "run" if entry.run else "read only"
        print(f"| {name} | {len(fires[name])} | {settles[name]} | {how}: {entry.source} |")


if __name__ == "__main__":
    main()
