"""Settings of the whole suite."""

import pytest
from hypothesis import settings
from loaders import REAL

# a busy machine is no failure
settings.register_profile("treealign", deadline=None)
settings.load_profile("treealign")

# scripts/real_loaders runs these, with the packages that they are about; those in typed/ are read by type checkers only
collect_ignore = ["typed"] if REAL else ["typed", "real_loaders"]


@pytest.fixture
def empty_registry():
    """The registry of transformers without its entries, but for the legacy names; afterwards it is as it was."""
    from treealign.dialects.transformers.entries import registry_restored

    with registry_restored() as registry:
        for name in registry.keys() - {"legacy"}:
            del registry[name]
        yield registry
