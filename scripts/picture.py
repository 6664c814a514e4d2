"""Draw the README's picture: the two trees of LLaVA-1.5, and what of the one is what of the other.

    python scripts/picture.py            writes data/llava.svg
    python scripts/picture.py --check    says whether it is what this draws

Drawn from a suggestion: matches whose names differ in the same levels are one line.
"""

from __future__ import annotations

import sys
from collections import Counter
from html import escape
from pathlib import Path

import treealign

ROOT = Path(__file__).parent.parent
LLAVA = ROOT / "data" / "llava-1.5-7b"
PICTURE = ROOT / "data" / "llava.svg"
WIDTH, ROW, TOP, LEFT, RIGHT = 840, 46, 74, 24, 500
STYLE = """\
text{font:15px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}.head{font-weight:600}
.quiet{fill:#59636e;font-size:13px}
.changed{fill:#0a58ca}rect{fill:#f6f8fa;stroke:#d1d9e0}path{fill:none;stroke:#0a58ca;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.changed{fill:#79b8ff}rect{fill:#151b23;
stroke:#3d444d}path{stroke:#79b8ff}}"""


def moves(suggestion: treealign.Suggestion) -> list[tuple[str, str, int]]:
    """(levels of the checkpoint, levels of the model, keys below them), the tails that are the same left out."""
    counts: Counter[tuple[str, str]] = Counter()
    for match in suggestion.matches:
        left, right = match.checkpoint[0].split("."), match.model[0].split(".")
        while len(left) > 1 and len(right) > 1 and left[-1] == right[-1] and left[-2] == right[-2]:
            left, right = left[:-1], right[:-1]
        while left[-1] == right[-1] and len(left) > 1 and len(right) > 1 and left[-1] not in ("lm_head",):
            left, right = left[:-1], right[:-1]
        counts[".".join(left).removesuffix(".weight"), ".".join(right).removesuffix(".weight")] += 1
    return [(left, right, count) for (left, right), count in sorted(counts.items())]


def box(x: int, y: int, width: int, text: str) -> str:
    label = f'<text x="{x + 14}" y="{y + 22}" class="changed">{escape(text)}</text>'
    return f'<rect x="{x}" y="{y}" width="{width}" height="34" rx="6"/>{label}'


def picture() -> str:
    suggestion = treealign.suggest(LLAVA / "checkpoint.json", LLAVA / "transformers-5.24.json")
    rows = moves(suggestion)
    order = sorted(range(len(rows)), key=lambda at: rows[at][1])
    height = TOP + ROW * len(rows) + 40
    drawn = []
    for at, (left, right, count) in enumerate(rows):
        here, there = TOP + ROW * at, TOP + ROW * order.index(at)
        drawn.append(box(LEFT, here, 300, left))
        drawn.append(box(RIGHT, there, 316, right))
        start, end, middle = LEFT + 300, RIGHT, (LEFT + 300 + RIGHT) // 2
        drawn.append(f'<path d="M{start} {here + 17}C{middle} {here + 17} {middle} {there + 17} {end} {there + 17}"/>')
        keys = f"{count} key" + ("s" if count > 1 else "")
        drawn.append(f'<text x="{LEFT + 288}" y="{here + 22}" text-anchor="end" class="quiet">{keys}</text>')
    certain = sum(match.certain for match in suggestion.matches)
    foot = f"{certain} of {len(suggestion.matches)} matches certain; {len(suggestion.mapping)} transforms, proved"
    heads = (
        f'<text x="{LEFT}" y="34" class="head">checkpoint: llava-1.5-7b-hf</text>'
        f'<text x="{RIGHT}" y="34" class="head">model: transformers 5.24</text>'
        f'<text x="{LEFT}" y="56" class="quiet">{len(suggestion.alignment.checkpoint)} keys</text>'
        f'<text x="{RIGHT}" y="56" class="quiet">{len(suggestion.alignment.model)} keys</text>'
    )
    body = "\n".join([heads, *drawn, f'<text x="{LEFT}" y="{height - 14}" class="quiet">{foot}</text>'])
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    title = "<title>What of the LLaVA-1.5 checkpoint is what of the model in transformers</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{title}<style>{STYLE}</style>\n{body}\n</svg>\n'


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture(), encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != picture():
        sys.exit("data/llava.svg is not what is drawn now: python scripts/picture.py")
