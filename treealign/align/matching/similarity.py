"""How alike the names of two patterns are: the cosine of their weighted words and roles. It ranks candidates."""

from __future__ import annotations

import math

import numpy as np

from treealign.align.knowledge.weights import (
    DEPTH_WEIGHT,
    GENERIC_WEIGHT,
    HINT_WEIGHT,
    NAME_WEIGHT,
    PAIR_WEIGHT,
    ROLE_WEIGHT,
)
from treealign.align.matching.scoring import Floats, Side
from treealign.align.words import Token


def token_weights(left: Side, right: Side) -> dict[str, float]:
    """How much sharing each token tells: rare tokens more than common ones, roles more than words."""
    total = left.size + right.size
    frequency = left.frequency + right.frequency
    kinds = {t.text: t for side in (left, right) for ts in side.tokens for t in ts}
    top = math.log(1 + total)
    weights = {}
    for text, token in kinds.items():
        rarity = 0.25 + 0.75 * math.log((1 + total) / frequency[text]) / top
        if text[0] in "!~":
            weights[text] = HINT_WEIGHT
            continue
        weights[text] = rarity * _kind_weight(token)
    return weights


def _kind_weight(token: Token) -> float:
    if token.text[0] == "@":
        return ROLE_WEIGHT
    if " " in token.text:
        return PAIR_WEIGHT
    if token.text[0] == "=":
        return NAME_WEIGHT
    return 1.0 if token.qualified or token.ordinal else GENERIC_WEIGHT


def name_scores(left: Side, right: Side) -> Floats:
    """Cosine of weighted tokens, (patterns left, patterns right), in 0..1."""
    weights = token_weights(left, right)
    ids = {text: at for at, text in enumerate(weights)}
    a, b = (_incidence(side, ids, weights) for side in (left, right))
    scores: Floats = a @ b.T
    return scores


def _incidence(side: Side, ids: dict[str, int], weights: dict[str, float]) -> Floats:
    table: Floats = np.zeros((len(side.patterns), len(ids)), np.float32)
    for row, ts in enumerate(side.tokens):
        for t in ts:
            depth = DEPTH_WEIGHT[min(t.depth, len(DEPTH_WEIGHT) - 1)]
            table[row, ids[t.text]] = max(table[row, ids[t.text]], depth * weights[t.text])
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(norms == 0, 1, norms), np.float32)
