"""What mmengine's own code makes of a key."""

from __future__ import annotations

from collections import OrderedDict
from unittest import mock

from mmengine.runner import checkpoint


def revised(pairs, name):
    """The key that reaches `load_state_dict` of a model."""
    with mock.patch.object(checkpoint, "load_state_dict") as reached:
        # a plain dict it takes only where there are keys to revise
        checkpoint._load_checkpoint_to_model(None, OrderedDict({name: None}), revise_keys=pairs)
    (found,) = reached.call_args.args[1]
    return found
