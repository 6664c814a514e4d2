"""The registry of transformers found again, on a sample: `scripts/replay_registry.py` does it for all classes."""

from __future__ import annotations

import pytest
from real_models import quiet_transformers
from releases import need_class
from replay_registry import replay, sample

# checkpoints that keep rotary rows in another order, which no shape shows: `suggest` settles it by values or a probe
ROTARY = {"Step3p7Model"}


@pytest.mark.parametrize("name", sample(30))
def test_a_hidden_entry_is_suggested_emitted_and_loads_and_saves_with_transformers_alone(name):
    quiet_transformers()
    need_class(name)
    result = replay(name)
    assert result.startswith("suggestion: 8 keys hold other numbers") if name in ROTARY else result == "pass"
