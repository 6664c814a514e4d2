"""Make model weights load, under any names, and go back as they came.

>>> import treealign
>>> treealign.KeyTree.from_leaves([("weight", (2, 3), "float32")]).keys
('weight',)
"""

from importlib import import_module
from typing import Any

# where each public name lives; imported on first use, so that `import treealign` costs nothing and imports no torch
_HOME = {
    "read_tree": "treealign.tree.reading",
    "KeyTree": "treealign.tree.keytree",
    "suggest": "treealign.suggestion",
    "load": "treealign.checkpoint.loading",
    "save": "treealign.checkpoint.saving",
    "audit": "treealign.changes.auditing",
    "attach": "treealign.checkpoint.hooks",
    "convert_checkpoint": "treealign.checkpoint.conversion.converting",
    "emit": "treealign.dialects.emitting",
    "ConversionMapping": "treealign.mapping.conversion_mapping",
    "PrefixChange": "treealign.mapping.transforms",
    "Rename": "treealign.mapping.transforms",
    "Convert": "treealign.mapping.transforms",
    "operations": "treealign.mapping.operations",
    "TreealignError": "treealign.errors",
    "OpenQuestionsWarning": "treealign.errors",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  a test pins the names
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'treealign' has no attribute {name!r}")
    home = import_module(_HOME[name])
    value = home if name == "operations" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
