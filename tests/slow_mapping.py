"""The textbook way to run a conversion mapping: key by key, pattern by pattern, with nothing shared and nothing folded.

It reads patterns with regular expressions of its own, so that it agrees with treealign only where both are right.
"""

from __future__ import annotations

import re
from itertools import product

from treealign.mapping.transforms import Convert, PrefixChange, Rename

CAPTURE = re.compile(r"\{(\w+?)([+-]\d+)?(?::([^}]*))?\}")


def segments_of(run):
    return re.split(r"\.(?![^{]*\})", run)


def read(text):
    anywhere, at_end = text.startswith("**."), text.endswith("$")
    return anywhere, at_end, segments_of(text.removeprefix("**.").removesuffix("$"))


def limits_of(*texts):
    """What each capture may hold, and its smallest index such that no side is negative."""
    limits = {}
    for text in texts:
        for name, shift, limit in CAPTURE.findall(text):
            entry = limits.setdefault(name, {"low": 0, "high": 10**30, "options": None})
            entry["high"] = min(entry["high"], 10**18 - 1) if shift else entry["high"]  # nobody numbers layers beyond
            entry["low"] = max(entry["low"], -int(shift or 0))
            if ".." in limit:
                low, high = map(int, limit.split(".."))
                entry["low"], entry["high"] = max(entry["low"], low), high
            elif limit:
                entry["options"] = limit.split("|")
    return limits


def read_segment(wanted, found, limits):
    """What a segment of a pattern captures, or None."""
    names, regex, end = [], "", 0
    for hit in CAPTURE.finditer(wanted):
        name, shift, _ = hit.groups()
        options = limits[name]["options"]
        names.append((name, int(shift or 0), options))
        group = "|".join(map(re.escape, options)) if options else "0|[1-9][0-9]*"
        regex += re.escape(wanted[end : hit.start()]) + f"({group})"
        end = hit.end()
    match = re.fullmatch(regex + re.escape(wanted[end:]), found)
    if match is None:
        return None
    captures = {}
    for (name, shift, options), text in zip(names, match.groups(), strict=True):
        captures[name] = text if options else int(text) - shift
        if not options and not limits[name]["low"] <= captures[name] <= limits[name]["high"]:
            return None
    return captures


def find(text, key, start, limits):
    """(first segment, segment behind the last, captures) of the first match, or None."""
    anywhere, at_end, wanted = read(text)
    for at in range(start, len(key) + 1 if anywhere else start + 1):
        run = key[at : at + len(wanted)]
        if len(run) < len(wanted) or (at_end and at + len(wanted) < len(key)):
            continue
        found = [read_segment(w, k, limits) for w, k in zip(wanted, run, strict=True)]
        if None not in found:
            return at, at + len(wanted), {n: v for captures in found for n, v in captures.items()}
    return None


def fill(text, captures):
    def written(hit):
        name, shift, _ = hit.groups()
        return str(captures[name] + int(shift or 0)) if isinstance(captures[name], int) else captures[name]

    return [CAPTURE.sub(written, segment) for segment in read(text)[2]]


def rewrite(transform, key):
    """(new keys, captures) of one key, or None."""
    segments = key.split(".")
    start, captures = 0, {}
    if transform.under:
        scope = find(transform.under, segments, 0, limits_of(transform.under))
        if scope is None:
            return None
        _, start, captures = scope
    if isinstance(transform, PrefixChange):
        return change_prefix(transform, segments, start, captures)
    if isinstance(transform, Rename):
        return rename(transform, segments, start, captures)
    return convert(transform, segments, start, captures)


def change_prefix(change, segments, start, captures):
    levels, below = (change.add or change.remove).split("."), segments[start:]
    if change.add:
        return ([".".join(segments[:start] + levels + below)], captures) if below else None
    if below[: len(levels)] != levels or len(below) == len(levels):
        return None
    return [".".join(segments[:start] + below[len(levels) :])], captures


def rename(transform, segments, start, captures):
    found = [
        (hit[0], -hit[1], at, hit[2], target)
        for at, (source, target) in enumerate(transform.pairs)
        if (hit := find(source, segments, start, limits_of(source, target)))
    ]
    if not found:
        return None
    at, end, _, held, target = min(found, key=lambda f: f[:3])
    return [".".join(segments[:at] + fill(target, held) + segments[-end:])], {**captures, **held}


def lone_captures(convert):
    sides = [{n for t in side for n, _, _ in CAPTURE.findall(t)} for side in (convert.sources, convert.targets)]
    return sides[0] ^ sides[1]


def values(convert, name, limits, captures):
    if limits[name]["options"]:
        return limits[name]["options"]
    table = dict(convert.counts).get(name)
    low, high = limits[name]["low"], limits[name]["high"]
    return list(range(low, low + table.resolve(captures) if table else high + 1))


def convert(transform, segments, start, captures):
    limits = limits_of(*transform.sources, *transform.targets)
    hits = [
        (h[0], -h[1], at, h[2]) for at, s in enumerate(transform.sources) if (h := find(s, segments, start, limits))
    ]
    if not hits:
        return None
    at, end, _, held = min(hits, key=lambda h: h[:3])
    lone, held = lone_captures(transform), {**captures, **held}
    if any(held[n] not in values(transform, n, limits, held) for n in lone if n in held):
        return None
    made = []
    for target in transform.targets:
        running = [n for n, _, _ in CAPTURE.findall(target) if n in lone]
        for way in product(*(values(transform, n, limits, held) for n in running)):
            filled = fill(target, {**held, **dict(zip(running, way, strict=True))})
            made.append(".".join(segments[:at] + filled + segments[-end:]))
    return made, held


def matches(text, key):
    return find(text, key.split("."), 0, limits_of(text))


def verdict(transform, key, captures, keys):
    """ "apply", "skip" or "unknown" for a key that a transform touches."""
    if not transform.before and not transform.after:
        return "apply"
    held = [any(matches(t, k) for t in side for k in keys) for side in (transform.before, transform.after)]
    if held == [True, True]:
        return by_group(transform, key, captures, keys)
    if held == [False, False]:
        return "unknown" if transform.before and transform.after else "skip" if transform.before else "apply"
    return "apply" if held[0] else "skip"


def by_group(transform, key, captures, keys):
    own = [any(matches(t, key) for t in side) for side in (transform.before, transform.after)]
    if own[0] != own[1]:
        return "apply" if own[0] else "skip"
    evidence = []
    for side, texts in enumerate((transform.before, transform.after)):
        for text, other in product(texts, keys):
            hit = matches(text, other)
            if hit and all(captures.get(n, v) == v for n, v in hit[2].items()):
                depth = max([n + 1 for n, segment in enumerate(read(text)[2]) if "{" in segment], default=0)
                modules = other.split(".")[: hit[0] + depth]
                above = key.split(".")[: len(modules)] == modules
                evidence.append((len(modules) if above else -1, side))
    nearest = max((depth for depth, _ in evidence), default=-1)
    sides = {side for depth, side in evidence if depth == nearest}
    return "unknown" if len(sides) != 1 else "skip" if sides == {1} else "apply"


class Unknown(Exception):
    pass


class Meeting(Exception):
    pass


def trace(transforms, keys, converted=None):
    """{key: (targets, touched)}; raises `Unknown` or `Meeting`."""
    keys = list(dict.fromkeys(keys))
    traced = {key: trace_key(transforms, key, keys, converted) for key in keys}
    owners = {}
    for key, (targets, _, entry) in traced.items():
        owner = (entry[0], entry[2]) if entry else key
        for target in targets:
            if owners.setdefault(target, owner) != owner:
                raise Meeting(target)
        if entry and owners.setdefault(entry[:2], key) != key:
            raise Meeting(entry)
    return {key: (tuple(targets), tuple(touched)) for key, (targets, touched, _) in traced.items()}


def trace_key(transforms, key, keys, converted):
    names, touched, entry = (key,), [], None
    for index, transform in enumerate(transforms):
        if isinstance(transform, Convert) and entry:
            continue
        rewritten = [rewrite_unless_there(transform, name, converted) for name in names]
        if not any(rewritten):
            continue
        captures = next(found[1] for found in rewritten if found)
        done = decide(transform, key, captures, keys, converted)
        if done == "unknown":
            raise Unknown(key)
        if done == "skip":
            continue
        taken, old = isinstance(transform, Convert), names[0]
        names = tuple(n for name, found in zip(names, rewritten, strict=True) for n in (found[0] if found else [name]))
        entry = (index, old, names) if taken else entry
        touched.append(index)
    return names, touched, entry


def decide(transform, key, captures, keys, converted):
    if converted is None:
        return verdict(transform, key, captures, keys)
    return "skip" if converted and (transform.before or transform.after) else "apply"


def rewrite_unless_there(transform, name, converted):
    added = isinstance(transform, PrefixChange) and transform.add
    return None if converted is True and added and has_levels(transform, name) else rewrite(transform, name)


def has_levels(change, key):
    levels = change.add.split(".")
    segments = key.split(".")
    scope = find(change.under, segments, 0, limits_of(change.under)) if change.under else (0, 0, {})
    start = scope[1] if scope else len(segments)
    return segments[start : start + len(levels)] == levels
