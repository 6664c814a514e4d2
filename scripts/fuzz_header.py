"""Fuzz the readers of safetensors headers and of indexes: no crash, no hang, nothing taken that safetensors refuses.

    python scripts/fuzz_header.py                     ten minutes, guided by coverage where atheris is installed
    python scripts/fuzz_header.py --seconds 60 --seed 1 --plain

An input is either a file as it stands, or a header to which the right length and some data are added, so that mutations
get past the first eight bytes. With `atheris` (pip install atheris) libFuzzer chooses the inputs; without, they are
random mutations of well-formed files. What is found is printed with the input in base64, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from treealign.errors import FormatError
from treealign.formats.dtypes import BITS
from treealign.formats.indexes import parse_index
from treealign.formats.safetensors_header import header_of

LONGEST = 4096  # bytes of an input; what can be wrong with a header fits
HANG = 10  # seconds
AS_IT_STANDS, AS_HEADER, AS_INDEX = range(3)
TOKENS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"',
        "\\u0000",
        "\\ud800",
        "\xff",
        "\ufeff",
        " ",
        "\n",
        "-",
        "-0",
        "1e3",
        "0.5",
        "NaN",
    ),
    *(
        "null",
        "true",
        "18446744073709551616",
        "9223372036854775807",
        "4294967296",
        '"__metadata__"',
        '"dtype"',
        '"shape"',
    ),
    *(
        '"data_offsets"',
        '"weight_map"',
        "[0,0]",
        "[0,4]",
        "[4,0]",
        "[4,8]",
        "[]",
        "{}",
        *(f'"{dtype}"' for dtype in BITS),
    ),
)


class FoundError(Exception):
    """What must not be."""


def check(data: bytes, seen: Counter[str]) -> None:
    """One input.

    Raises
    ------
    FoundError
        Our reader took what safetensors refuses, or read it otherwise.
    """
    if not data:
        return
    kind, rest = data[0] % 3, data[1:]
    if kind == AS_INDEX:
        check_index(rest, seen)
        return
    file = rest if kind == AS_IT_STANDS else wrapped(rest)
    try:
        ours = header_of(io.BytesIO(file), "fuzz", len(file))
    except FormatError:
        seen["refused"] += 1
        return
    seen["taken"] += 1
    compare(ours, file)


def wrapped(rest: bytes) -> bytes:
    """A header with its length before it, and as many bytes of data behind as its first byte says."""
    size, header = (rest[0], rest[1:]) if rest else (0, b"")
    return len(header).to_bytes(8, "little") + header + bytes(size)


def compare(ours: Any, file: bytes) -> None:
    try:
        theirs = dict(deserialize(file))
    except SafetensorError as error:
        raise FoundError(f"taken, but safetensors refuses it: {error}") from error
    read = {entry.key: (entry.dtype, list(entry.shape), entry.end - entry.begin) for entry in ours.tensors}
    expected = {key: (one["dtype"], list(one["shape"]), len(one["data"])) for key, one in theirs.items()}
    if read != expected:
        raise FoundError(f"read as {read}, by safetensors as {expected}")


def check_index(raw: bytes, seen: Counter[str]) -> None:
    try:
        index = parse_index(raw, "fuzz")
    except FormatError:
        seen["index refused"] += 1
        return
    seen["index taken"] += 1
    if dict(index.weight_map) != json.loads(raw)["weight_map"]:
        raise FoundError("an index is read otherwise than by json")


def seeds(chance: random.Random) -> Iterator[bytes]:
    """Well-formed inputs of each kind."""
    for count in range(4):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if count % 2 else {}
        at = 0
        for number in range(count):
            dtype, shape = chance.choice([("F32", [1]), ("U8", [4]), ("BF16", [2, 1]), ("F4", [8]), ("I64", [0])])
            size = 0 if 0 in shape else 4
            header[f"layers.{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        raw = json.dumps(header, separators=(",", ":")).encode()
        yield bytes([AS_HEADER, at]) + raw
        yield bytes([AS_IT_STANDS]) + len(raw).to_bytes(8, "little") + raw + bytes(at)
        index = {
            "metadata": {"total_size": at},
            "weight_map": dict.fromkeys(header, "model-00001-of-00001.safetensors"),
        }
        yield bytes([AS_INDEX]) + json.dumps(index).encode()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled, or replaced by what headers are made of."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randint(1, max(1, len(made))) for _ in range(2))
        token = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
        new = (token, b"", bytes(made[at:to]) * 2, bytes([chance.randrange(256)]), str(chance.getrandbits(70)).encode())
        made[at : to if chance.random() < 0.5 else at] = chance.choice(new)
    return bytes(made[:LONGEST])


def plainly(seconds: float, seed: int, seen: Counter[str]) -> None:
    """Random mutations of a pool that grows by what was taken."""
    chance = random.Random(seed)
    pools: dict[int, list[bytes]] = {}
    for data in seeds(chance):
        pools.setdefault(data[0], []).append(data)
    end = time.monotonic() + seconds
    signal.signal(signal.SIGALRM, _hang)
    while time.monotonic() < end:
        pool = pools[chance.choice((AS_HEADER, AS_HEADER, AS_IT_STANDS, AS_INDEX))]
        data = mutated(chance.choice(pool), chance)
        before = seen["taken"] + seen["index taken"]
        signal.alarm(HANG)
        _reported(data, seen)
        signal.alarm(0)
        seen["inputs"] += 1
        if seen["taken"] + seen["index taken"] > before and len(pool) < 5000:
            pool.append(data)


def _hang(*_: object) -> None:
    raise FoundError(f"no answer within {HANG} seconds")


def _reported(data: bytes, seen: Counter[str]) -> None:
    try:
        check(data, seen)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            print(f"FOUND {type(error).__name__}: {error}\n{base64.b64encode(data).decode()}", flush=True)
        raise


def guided(atheris: Any, seconds: int, seed: int, seen: Counter[str]) -> None:
    """By libFuzzer, which ends the process."""

    def one(data: bytes) -> None:
        seen["inputs"] += 1
        _reported(data, seen)
        # libFuzzer ends the process without a last word of ours
        if seen["inputs"] % 500_000 == 0:
            print(dict(seen), flush=True)

    folder = Path(tempfile.mkdtemp(prefix="fuzz-header-"))
    for number, data in enumerate(seeds(random.Random(seed))):
        (folder / f"seed-{number}").write_bytes(data)
    words = folder.with_suffix(".dict")
    spelled = ("".join(f"\\x{byte:02x}" for byte in token.encode("utf-8", "surrogatepass")) for token in TOKENS)
    words.write_text("".join(f'"{word}"\n' for word in spelled))
    limits = [f"-max_total_time={seconds}", f"-timeout={HANG}", f"-max_len={LONGEST}", f"-seed={seed}"]
    kept = [f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1", str(folder)]
    atheris.Setup([sys.argv[0], *limits, *kept], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="do without atheris")
    options = parser.parse_args()
    seen: Counter[str] = Counter()
    atheris = None if options.plain else _atheris()
    import atexit

    atexit.register(lambda: print(dict(seen), flush=True))
    if atheris is not None:
        guided(atheris, options.seconds, options.seed, seen)
    else:
        plainly(options.seconds, options.seed, seen)


def _atheris() -> Any:
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: mutating at random", file=sys.stderr)
        return None
    from treealign.formats import indexes, legible, safetensors_checks, safetensors_header, strict_json

    # what was imported already is instrumented after the fact
    for module in (strict_json, legible, safetensors_checks, safetensors_header, indexes):
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and hasattr(value, "__code__"):
                setattr(module, name, atheris.instrument_func(value))
    return atheris


if __name__ == "__main__":
    main()
