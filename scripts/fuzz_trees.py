"""Many random trees under random true transformations: how much is certain, and whether any of it is wrong.

    python scripts/fuzz_trees.py [--first 0] [--count 1000]

Prints every seed of which a certain match is wrong, by the numbers that it computes, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from random_trees import certain_and_wrong, truth_of


def main() -> int:
    """Run the seeds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    wanted = parser.parse_args()
    failed = 0
    for seed in range(wanted.first, wanted.first + wanted.count):
        if wrong := certain_and_wrong(truth_of(seed)):
            failed += 1
            print(f"{seed}: {len(wrong)} certain and wrong, {wrong[0]}", flush=True)
    print(f"{wanted.count} trees, {failed} with a match that is certain and wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
