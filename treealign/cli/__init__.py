"""The command line: thin verbs over the public functions; what they print is rendered in modules of its own."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line: exit 0 when clean, 1 with findings, 2 for bad arguments or bad input."""
    from treealign.cli.console import keep_stdout
    from treealign.cli.progress import waiting

    keep_stdout()

    try:
        with waiting():
            status = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        # `treealign show x | head` is no error; a closed descriptor keeps the interpreter from reporting it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def _run() -> int | str | None:
    from treealign.cli.console import report_error
    from treealign.cli.verbs import app
    from treealign.errors import TreealignError

    try:
        app()
    except SystemExit as done:
        return done.code
    except TreealignError as error:
        report_error(str(error))
        return error.status
    except BrokenPipeError:
        raise
    except OSError as error:
        report_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 2
    return 0
