"""Native code that prints does not reach stdout, which carries data."""

from __future__ import annotations

import os

from treealign.synthesize.quiet import native_silence


def test_what_is_written_to_the_descriptor_is_dropped_and_later_output_is_not(capfd):
    with native_silence():
        os.write(1, b"debugging")
    os.write(1, b"data")
    assert capfd.readouterr().out == "data"
