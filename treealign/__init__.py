"""Make model weights load, under any names, and go back as they came.

>>> import treealign
>>> treealign.KeyTree.from_leaves([("weight", (2, 3), "float32")]).keys
('weight',)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # what type checkers and editors see; at run time each is imported on first use, below
    from treealign.align.asking.question import Option, Question
    from treealign.align.links import Ambiguity, Match
    from treealign.changes.auditing import Audit, audit
    from treealign.changes.results import Change, Reference
    from treealign.checkpoint.conversion.converting import ConversionResult, convert_checkpoint
    from treealign.checkpoint.hooks import Attachment, attach
    from treealign.checkpoint.loading import LoadResult
    from treealign.checkpoint.saving import SaveResult, save
    from treealign.dialects.emitting import emit
    from treealign.errors import OpenQuestionsWarning, TreealignError
    from treealign.loading import load
    from treealign.mapping import operations
    from treealign.mapping.conversion_mapping import ConversionMapping
    from treealign.mapping.convert import Convert
    from treealign.mapping.mismatches import Mismatch
    from treealign.mapping.transforms import PrefixChange, Rename
    from treealign.proof import Proof, prove, record, verify
    from treealign.suggestion import Suggestion, suggest
    from treealign.tree.keytree import KeyTree
    from treealign.tree.reading import read_tree

__version__ = "0.1.0"
__all__ = [
    "Ambiguity",
    "Attachment",
    "Audit",
    "Change",
    "ConversionMapping",
    "ConversionResult",
    "Convert",
    "KeyTree",
    "LoadResult",
    "Match",
    "Mismatch",
    "OpenQuestionsWarning",
    "Option",
    "PrefixChange",
    "Proof",
    "Question",
    "Reference",
    "Rename",
    "SaveResult",
    "Suggestion",
    "TreealignError",
    "attach",
    "audit",
    "convert_checkpoint",
    "emit",
    "load",
    "operations",
    "prove",
    "read_tree",
    "record",
    "save",
    "suggest",
    "verify",
]

# where each of them lives: imported on first use, so that `import treealign` costs nothing and imports no torch
_HOME = {
    "Ambiguity": "treealign.align.links",
    "Attachment": "treealign.checkpoint.hooks",
    "Audit": "treealign.changes.auditing",
    "Change": "treealign.changes.results",
    "ConversionMapping": "treealign.mapping.conversion_mapping",
    "ConversionResult": "treealign.checkpoint.conversion.converting",
    "Convert": "treealign.mapping.convert",
    "KeyTree": "treealign.tree.keytree",
    "LoadResult": "treealign.checkpoint.loading",
    "Match": "treealign.align.links",
    "Mismatch": "treealign.mapping.mismatches",
    "OpenQuestionsWarning": "treealign.errors",
    "Option": "treealign.align.asking.question",
    "PrefixChange": "treealign.mapping.transforms",
    "Proof": "treealign.proof",
    "Question": "treealign.align.asking.question",
    "Reference": "treealign.changes.results",
    "Rename": "treealign.mapping.transforms",
    "SaveResult": "treealign.checkpoint.saving",
    "Suggestion": "treealign.suggestion",
    "TreealignError": "treealign.errors",
    "attach": "treealign.checkpoint.hooks",
    "audit": "treealign.changes.auditing",
    "convert_checkpoint": "treealign.checkpoint.conversion.converting",
    "emit": "treealign.dialects.emitting",
    "load": "treealign.loading",
    "operations": "treealign.mapping",
    "prove": "treealign.proof",
    "read_tree": "treealign.tree.reading",
    "record": "treealign.proof",
    "save": "treealign.checkpoint.saving",
    "suggest": "treealign.suggestion",
    "verify": "treealign.proof",
}

if not TYPE_CHECKING:
    import_module("treealign.shown").render_with(
        lambda result: import_module("treealign.cli.printing").text(result),
        lambda result: import_module("treealign.cli.printing").html(result),
    )

    # hidden from type checkers, which would take any name for granted

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _HOME:
            raise AttributeError(f"module 'treealign' has no attribute {name!r}")
        home = import_module(_HOME[name])
        value = import_module(f"{_HOME[name]}.{name}") if name == "operations" else getattr(home, name)
        globals()[name] = value
        return value

    def __dir__():  # noqa: ANN202
        return [*globals(), *_HOME]
