"""Every number that weighs evidence, with the reason for it.

What ranks candidates settles nothing: those numbers were chosen once, for the order in which guesses come, and no match
is certain for them. What settles is counted in words: a word that both sides use counts 1, and each other kind of
evidence as many words as it is worth.
"""

from __future__ import annotations

# --- what settles, in words -------------------------------------------------------------------------------------------
MARGIN = (
    0.2  # an exchange that loses no more than this loses nothing that counts: less than the least evidence, half a word
)
HINT = 20.0  # what a user says outweighs all else
READ = 4.0  # a whole path that a known library spells so outweighs any words, and nothing that a user says
PAIR_OF_WORDS = 0.5  # two neighbouring words tell less than a word: they repeat its evidence
ANCESTORS = 1.0  # settled ancestors count as much as one word
BESIDE = 3.0  # the shapes of a module's other leaves are no matter of spelling
SAME_PATH = 1.5  # one and the same path on both sides: more than a word, less than two
SETTLED = 0.4  # of the certain leaves below two ancestors, as Dice's coefficient: most of them are common to both
SAME_NODE = 0.6  # Dice's coefficient of two nodes that belong together whatever they are called
SMALL_NODE = 3  # leaves below which a node settles nothing: fewer are exchanged by chance
SURE = 2  # words by which a part must be told from others of its shape: one may be there by chance
KNOWN_PART = 3  # certain leaves from which it is known where a part of the model comes from

# --- what ranks candidates: names, as a cosine in 0..1 ----------------------------------------------------------------
# how much a word counts by its distance from the parameter: its module's own name most, far ancestors least
DEPTH_WEIGHT = (0.8, 1.0, 0.75, 0.55, 0.4, 0.3, 0.25, 0.2)
GENERIC_WEIGHT = 0.3  # a word that any module may have: `layer`, `block`
PAIR_WEIGHT = 0.5  # as in PAIR_OF_WORDS
HINT_WEIGHT = 8.0  # above the sum of all that names can say
NAME_WEIGHT = 0.6  # a whole name repeats its words
ROLE_WEIGHT = 1.3  # what a word means tells more than how it is spelled

# --- what ranks candidates, beside the cosine of their names ----------------------------------------------------------
VOTE_WEIGHT = 0.9  # decided matches below two ancestors speak for others there, a little less than names
COMPANION_PENALTY = 0.5  # another number of leaves, or other ones, beside it in its module
OTHER_PARAMETER = 0.5  # a bias is no weight
SECOND_COPY = 0.3  # an averaged or teacher's copy is taken only where nothing else is there
SAME_PATH_BONUS = 0.6  # half of what names can say: other evidence may outweigh it
SIZED = 2.0  # what a pair of leaves loses whose containers go elsewhere by their sizes: no name outweighs it
WHOLE = 4.0  # outweighs what names say of single leaves: which container is which is said by all of them together

# --- from where on a candidate is one at all --------------------------------------------------------------------------
SIMILAR = 0.45  # names and ancestors of leaves of other sizes, of at most 2: a quarter of what they could say
MIN_SCORE = 0.25  # the same of a conversion, which shapes speak for as well
COMPOSED = 0.4  # what a fused name whose parts are all there adds to it
SHARE = 0.5  # Dice's coefficient from which two levels are drawn as one whatever they are called


def token_weight(token: str) -> float:
    """How much it counts that two patterns share a qualified token; see `treealign.align.words` for the kinds.

    >>> token_weight("@q"), token_weight("q proj")
    (1.0, 0.5)
    """
    return {"!": HINT, "~": READ}.get(token[0], PAIR_OF_WORDS if " " in token else 1.0)
