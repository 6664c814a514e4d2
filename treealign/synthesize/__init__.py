"""From a finished alignment to the minimal conversion mapping."""

from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.synthesis import synthesize

__all__ = ["Conversion", "Synthesis", "synthesize"]
