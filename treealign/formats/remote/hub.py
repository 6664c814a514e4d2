"""Models on the Hugging Face Hub, ``hf://org/name[@revision][/path]``, through `huggingface_hub`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from treealign.errors import FormatError, install_hint, look_alikes
from treealign.formats.remote.ranged import AbsentError, BrokenOffError, RangedFile, RemoteFolder

_SHAPE = "hf://org/name[@revision][/path]"
_OTHERS = ("datasets", "spaces", "buckets")
# `pathlib` makes one slash of two
_PROTOCOL = re.compile(r"hf:/{0,2}", re.IGNORECASE)
# revisions with slashes that need no quoting
_SLASHED = re.compile(r"refs/(?:pr|convert)/[^/]+")
_TOKEN = "log in with `hf auth login` or set HF_TOKEN"
_AGAIN = "try again later; HF_ENDPOINT says where the hub is"
_MOST_TEXT = 1 << 20  # bytes of an answer that says why
_PATIENCE = 30.0  # seconds for the list of files
_RETRIES = {"max_retries": 2, "base_wait_time": 0.3}


@dataclass(frozen=True)
class HubPath:
    """A place on the hub; `revision` and `path` may be empty."""

    repo: str
    revision: str
    path: str


def parse_hub_url(url: str) -> HubPath:
    """The parts of a URL.

    Raises
    ------
    FormatError
        If it names no model.

    >>> parse_hub_url("hf://org/name@refs/pr/3/unet")
    HubPath(repo='org/name', revision='refs/pr/3', path='unet')
    """
    from urllib.parse import unquote

    parts = _PROTOCOL.sub("", url).rstrip("/").removeprefix("models/").split("/")
    if parts[0] in _OTHERS:
        raise FormatError(f"no model but one of the {parts[0]}", where=url, hint=f"a model is {_SHAPE}")
    at = 1 if "@" in parts[0] else 2
    name, _, revision = "/".join(parts[:at]).partition("@")
    rest = "/".join(parts[at:])
    found = _SLASHED.match(f"{revision}/{rest}") if revision == "refs" else None
    if found:
        revision, rest = found[0], f"{revision}/{rest}"[found.end() :].strip("/")
    if not all(name.split("/")):
        raise FormatError("no model is named", where=url, hint=f"a model is {_SHAPE}")
    return HubPath(name, unquote(revision), rest)


def hub_folder(url: str) -> RemoteFolder:
    """The folder of a repository that `url` names, or that holds the file it names; read at one commit.

    Raises
    ------
    FormatError
        If huggingface_hub is not installed, or the hub does not show it.
    """
    place = parse_hub_url(url)
    with _hub_errors(url):
        from huggingface_hub import HfApi

        info = HfApi().model_info(place.repo, revision=place.revision or None, files_metadata=True, timeout=_PATIENCE)
    sizes = {one.rfilename: one.size for one in info.siblings or ()}
    path, file = (place.path.rpartition("/")[0], place.path) if place.path in sizes else (place.path, "")
    prefix = f"{path}/" if path else ""
    names = [name.removeprefix(prefix) for name in sizes if name.startswith(prefix)]
    if not names:
        facts = look_alikes(place.path, sizes)
        raise AbsentError("the repository has no such file or folder", where=url, facts=facts)
    base = f"hf://{place.repo}{'@' if place.revision else ''}{place.revision}"
    fetch = partial(_fetch, place.repo, info.sha)

    def open_file(name: str) -> RangedFile:
        full, where = prefix + name, f"{base}/{prefix}{name}"
        if full not in sizes:
            raise AbsentError("the repository has no such file", where=where)
        return RangedFile(where, _size_of(where, sizes[full]), partial(fetch, full, where, sizes[full]))

    plain = [name for name in names if "/" not in name]
    return RemoteFolder(f"{base}/{path}".rstrip("/"), file.removeprefix(prefix), lambda: plain, open_file)


def _size_of(where: str, size: int | None) -> int:
    if size is None:
        raise FormatError("the hub does not say how long the file is", where=where, hint=_AGAIN)
    return size


def _fetch(repo: str, commit: str | None, name: str, where: str, size: int, start: int, stop: int) -> bytes:
    """A range of a file; the answer is looked at before its body is read."""
    with _hub_errors(where):
        from huggingface_hub import constants, hf_hub_url

        utils = _utils()
        address = hf_hub_url(repo, name, revision=commit)
        # compressed, a range would be one of other bytes
        wanted = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        request: dict[str, Any] = {"headers": {**utils.build_hf_headers(), **wanted}, "follow_redirects": True}
        patience: dict[str, Any] = {"timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT, **_RETRIES}
        with utils.http_stream_backoff("GET", address, **request, **patience) as response:
            return _body(response, where, size, start, stop)


def _utils() -> Any:
    # what it offers there is public, and yet not marked as such for type checkers
    return import_module("huggingface_hub.utils")


def _body(response: Any, where: str, size: int, start: int, stop: int) -> bytes:
    if response.status_code >= 400:
        if int(response.headers.get("Content-Length", _MOST_TEXT)) < _MOST_TEXT:
            response.read()
        _utils().hf_raise_for_status(response)
    if response.status_code != 206 and int(response.headers.get("Content-Length", size)) > stop - start:
        hint = "download the checkpoint and pass its folder"
        raise FormatError("the server sends whole files only; nothing was fetched", where=where, hint=hint)
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdigit() and int(total) != size:
        facts = [f"the repository lists {size} bytes", f"the server has {total}"]
        raise FormatError("the file is not as long as it should be", where=where, facts=facts, hint=_AGAIN)
    return _read(response, stop - start)


def _read(response: Any, most: int) -> bytes:
    """The body, and no more of it than was asked for."""
    got = bytearray()
    try:
        for part in response.iter_bytes():
            got += part
            if len(got) >= most:
                break
    except Exception as error:  # of whichever HTTP library huggingface_hub uses
        raise BrokenOffError(f"the connection broke off after {len(got)} bytes ({type(error).__name__})") from error
    return bytes(got[:most])


@contextmanager
def _hub_errors(url: str) -> Iterator[None]:
    """What huggingface_hub raises, in words that say what to do."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise FormatError("huggingface_hub is not installed", where=url, hint=install_hint("hub")) from error
    try:
        yield
    except errors.GatedRepoError as error:
        hint = f"accept its terms on its page, then {_TOKEN}"
        raise FormatError("the repository is gated", where=url, facts=_status(error), hint=hint) from error
    except errors.RevisionNotFoundError as error:
        hint = "after the @ stands a branch, a tag or a commit"
        raise FormatError("the repository has no such revision", where=url, facts=_status(error), hint=hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = f"check the spelling; for a private one, {_TOKEN}"
        raise FormatError("no such repository, or a private one", where=url, facts=_status(error), hint=hint) from error
    except errors.EntryNotFoundError as error:
        raise AbsentError("the repository has no such file", where=url, facts=_status(error)) from error
    except errors.HFValidationError as error:
        raise FormatError("no model has such a name", where=url, facts=[str(error)], hint=_SHAPE) from error
    except errors.OfflineModeIsEnabled as error:
        raise FormatError("the hub is switched off", where=url, hint="unset HF_HUB_OFFLINE") from error
    except errors.HfHubHTTPError as error:
        hint = _TOKEN if "401" in str(error) or "403" in str(error) else _AGAIN
        raise FormatError("the hub refuses", where=url, facts=_status(error), hint=hint) from error
    except (FormatError, BrokenOffError):
        raise
    except Exception as error:  # of whichever HTTP library huggingface_hub uses
        reason = f"{type(error).__name__}: {error}".strip()
        raise FormatError("the hub cannot be reached", where=url, facts=[reason], hint=_AGAIN) from error


def _status(error: Exception) -> list[str]:
    """The first line that the library has to say, and what the server added."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = getattr(error, "server_message", None)
    return [*lines[:1], *([said] if said and said not in lines[:1] else [])]
