"""Work that is killed before each of its calls to the system, one after the other."""

from __future__ import annotations

import os

from treealign import TreealignError

# every call by which a run changes what is on the disk
CALLS = (
    *("open", "pwrite", "copy_file_range", "sendfile", "fsync", "fdatasync", "ftruncate"),
    *("mkdir", "rename", "replace", "link", "unlink", "remove", "rmdir"),
)
KILLED, FAILED = 9, 1


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_child(work, prepare=lambda: None):
    """The exit status of a process that does the work."""
    child = os.fork()
    if not child:
        status = FAILED
        try:
            prepare()
            work()
            status = 0
        except TreealignError:
            pass
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_before(call):
    """Let a process die, without cleaning up, before one of its calls."""
    left = [call]

    def counted(function):
        def called(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)
            return function(*arguments, **options)

        return called

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def deaths(work):
    """The work, killed before its first call, its second, and so on, until it comes to its end."""
    for call in range(1000):
        status = in_child(work, lambda call=call: dying_before(call))
        assert status in (0, KILLED)
        yield call
        if status == 0:
            return
    raise AssertionError("it does not end")
