"""Files at any URL that fsspec knows: ``https://``, ``s3://``, ``gs://``, ``memory://`` and more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from treealign.errors import FormatError, install_hint
from treealign.formats.remote.ranged import AbsentError, BrokenOffError, RangedFile, RemoteFolder

_PATIENCE = 20.0  # seconds for a web server to say the next word
_DOWNLOAD = "download the checkpoint and pass its folder"
# raised where another attempt would end in the same way
_FINAL = (FormatError, BrokenOffError, ImportError, NotImplementedError, PermissionError, FileNotFoundError)


def fsspec_folder(url: str) -> RemoteFolder:
    """The folder that `url` names, or that holds the file it names.

    Of a web server, a URL names a folder if it ends with a slash; what stands there is read from the page it shows.

    Raises
    ------
    FormatError
        If fsspec or what it needs for this kind of URL is not installed, or there is nothing.
    """
    with _fsspec_errors(url):
        from fsspec.core import url_to_fs

        web = url.startswith(("http://", "https://"))
        system, path = url_to_fs(url, **(_web_options() if web else {}))
        system.invalidate_cache()
        is_folder = path.endswith("/") if web else system.info(path)["type"] == "directory"
    parent, file = (path.rstrip("/"), "") if is_folder else (path.rpartition("/")[0], path.rpartition("/")[2])
    base = url.rstrip("/") if is_folder else url.rpartition("/")[0]

    def names() -> list[str]:
        with _fsspec_errors(base):
            found = system.ls(f"{parent}/" if web else parent, detail=True)
        return [one["name"].rpartition("/")[2] for one in found if one["type"] == "file"]

    return RemoteFolder(base, file, names, lambda name: _opened(system, f"{parent}/{name}", f"{base}/{name}"))


def _web_options() -> dict[str, Any]:
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
    # compressed, a range would be one of other bytes
    return {"client_kwargs": {"timeout": timeout}, "headers": {"Accept-Encoding": "identity"}}


def _opened(system: Any, path: str, url: str) -> RangedFile:
    with _fsspec_errors(url):
        file = system.open(path, "rb", cache_type="none")
    if not file.seekable():
        file.close()
        raise FormatError("the server sends whole files only; nothing was fetched", where=url, hint=_DOWNLOAD)
    with _fsspec_errors(url):
        size = file.seek(0, 2)

    def fetch(start: int, stop: int) -> bytes:
        with _fsspec_errors(url, transfer=True):
            file.seek(start)
            return bytes(file.read(stop - start))

    return RangedFile(url, size, fetch)


@contextmanager
def _fsspec_errors(url: str, *, transfer: bool = False) -> Iterator[None]:
    """What fsspec and the libraries behind it raise, in words that say what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise AbsentError("there is no such file or folder", where=url) from error
    except PermissionError as error:
        hint = "fsspec takes credentials from the environment, or from its configuration file"
        raise FormatError("access is refused", where=url, facts=[str(error)], hint=hint) from error
    except ImportError as error:
        hint = f"{install_hint('hub')}\n  and the package that fsspec asks for"
        raise FormatError("what reads such a URL is not installed", where=url, facts=[str(error)], hint=hint) from error
    except (FormatError, BrokenOffError):
        raise
    except ValueError as error:
        # fsspec's word for a server that ignores ranges, and for a protocol it does not know
        hint = _DOWNLOAD if transfer else ""
        raise FormatError("the URL cannot be read", where=url, facts=[str(error)], hint=hint) from error
    except Exception as error:  # of whichever library is behind the URL
        raise _refusal(error, url, transfer) from error


def _refusal(error: Exception, url: str, transfer: bool) -> Exception:
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    status = getattr(error, "status", None)
    if status in (401, 403):
        hint = "credentials for web servers stand in ~/.netrc, or in fsspec's configuration file"
        return FormatError("the server refuses access", where=url, facts=[reason], hint=hint)
    if transfer and (status is None or status >= 500):
        return BrokenOffError(reason)
    return FormatError("the URL cannot be read", where=url, facts=[reason], hint="try again later")
