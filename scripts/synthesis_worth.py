"""What each generator of candidates and each improvement of a list is worth: rules and CPU without it.

    python scripts/synthesis_worth.py [SWITCH ...] [--every 6]

Each switch replaces one function of `treealign.synthesize` for a process of its own, which makes the mappings of the
corpora in data/ from their known answers: `pairs` whole, of the others each so-many-th case. Rules are those of all
cases, matches are those that no rule makes.
"""

from __future__ import annotations

import argparse
import contextlib
import lzma
import multiprocessing
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from json import loads
from pathlib import Path
from typing import Any

from bench_synthesis import matches

from treealign import KeyTree
from treealign.synthesize import synthesize

CORPUS = Path(__file__).parent.parent / "data" / "corpus"
# corpus, and how many times as many cases as `--every` says are left out
CORPORA = (("pairs", 0), ("originals", 0.5), ("transformers", 1), ("real_text", 2), ("real_vision", 3))


def _same(given: Any, *_: Any) -> Any:
    return given


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _first_kind(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda contents, places, every: islice(original(contents, places, every), 1)


# name -> module, attribute, and what stands there instead, made of what stood there
SWITCHES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "nothing": ("synthesis", "_NAMES", _same),
    "contents: series that count on": ("synthesis", "with_series", lambda _: list),
    "contents: a choice of words": ("synthesis", "with_choices", lambda _: lambda contents: []),
    "contents: what remains beside shared edits": ("contents", "_Nodes.has", lambda _: lambda *__: False),
    "templates: series inside names": ("task", "merge_series", lambda _: list),
    "templates: leaves of a module as one": ("task", "join_templates", lambda _: lambda given, _: given),
    "lists cut in another way first": ("synthesis", "recut", lambda _: _nothing),
    "choice: the program": ("choosing", "Chooser._solved", lambda _: _nothing),
    "choice: costs mended, hard ones first": ("greedy", "_MOST_ROUNDS", lambda _: 1),
    "moves: ranges and indices": ("contexts", "_ways", _first_kind),
    "moves: for some places": ("building", "Builder._in_part", lambda _: lambda *__: False),
    "moves: exchanges": ("building", "Builder._exchange", lambda _: lambda *__: False),
    "moves: several edits as one": ("building", "Builder._coarser", lambda _: lambda *__: False),
    "moves: what refused the last one asked first": ("tracks", "_MOST_REFUSING", lambda _: 0),
    "contents: once more without series": ("synthesis", "_told", lambda _: _nothing),
    "written out: for each whole name": ("synthesis", "_exactly", lambda _: _nothing),
}


def cases(every: int) -> Iterator[dict[str, Any]]:
    for name, times in CORPORA:
        with lzma.open(CORPUS / f"{name}.jsonl.xz", "rt") as lines:
            yield from map(loads, islice(lines, 0, None, max(1, round(every * times))))


def measure(switch: str, every: int) -> tuple[int, int, int, float]:
    """How many cases, rules and lost matches there are, and seconds of CPU."""
    module, path, replaced = SWITCHES[switch]
    holder: Any = import_module(f"treealign.synthesize.{module}")
    *owners, attribute = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    setattr(holder, attribute, replaced(getattr(holder, attribute)))
    count = rules = lost = 0
    seconds = 0.0
    for case in cases(every):
        checkpoint = KeyTree.from_leaves([tuple(x[:3]) for x in case["checkpoint"]])
        model = KeyTree.from_leaves([tuple(x) for x in case["model"]], tied=case.get("tied"), ordered=True)
        pairs, conversions = matches(case)
        assert checkpoint.folds, "folding is no part of synthesis"
        assert model.folds
        start = time.process_time()
        found = synthesize(pairs, conversions, checkpoint, model)
        seconds += time.process_time() - start
        count, rules, lost = count + 1, rules + len(found.mapping), lost + len(found.lost)
    return count, rules, lost, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("switches", nargs="*", metavar="SWITCH", help="those whose name holds this text")
    parser.add_argument("--every", type=int, default=6)
    arguments = parser.parse_args()
    measure("nothing", 1_000_000)  # imports are made before the first fork
    print("without                                      rules  lost  CPU s")
    for switch in SWITCHES:
        if arguments.switches and not any(text in switch for text in arguments.switches):
            continue
        with contextlib.closing(multiprocessing.get_context("fork").Pool(1)) as pool:
            _, rules, lost, seconds = pool.apply(measure, (switch, arguments.every))
        print(f"{switch:43s} {rules:6,} {lost:5,} {seconds:6.1f}", flush=True)


if __name__ == "__main__":
    main()
