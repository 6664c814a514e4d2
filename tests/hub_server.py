"""A stand-in for the Hugging Face Hub on this machine: its endpoints for models, with a store elsewhere, and faults."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_SIZE = 2000  # longer files lie in the store, to which the hub redirects


@dataclass
class Hub:
    """What the hub has, how it misbehaves, and what it was asked.

    `listed` gives lengths that differ from those of the files; `faults` are tried in order, one a transfer.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", COMMIT)
    listed: dict[str, int] = field(default_factory=dict)
    gated: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    token: str = "secret"
    honours_ranges: bool = True
    faults: list[str] = field(default_factory=list)
    pause: float = 0.0
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0
    most_at_once: int = 0
    endpoint: str = ""
    store: str = ""
    lock: Lock = field(default_factory=Lock)
    at_once: int = 0

    def asked(self, part: str) -> list[dict[str, str]]:
        """The headers of each request whose path has `part`."""
        return [headers for _, path, headers in self.requests if part in path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.endpoint`, its store at another address."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) for _ in range(2)]
    hub.endpoint, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            path = unquote(address.path)
            hub.requests.append((self.command, path, {key.lower(): value for key, value in self.headers.items()}))
            with hub.lock:
                hub.at_once += 1
                hub.most_at_once = max(hub.most_at_once, hub.at_once)
            try:
                self.route(path)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with hub.lock:
                    hub.at_once -= 1

        def route(self, path: str) -> None:
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self.model(found[1], found[2] or "main")
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve(found[1], found[2], found[3])
            elif found := re.fullmatch(r"/store/([^/]+/[^/]+)/(.+)", path):
                self.transfer(hub.repos[found[1]][found[2]])
            elif found := re.fullmatch(r"/files/([^/]+/[^/]+)/", path):
                links = "".join(f'<a href="{name}">{name}</a>' for name in hub.repos[found[1]])
                self.answer(200, links.encode(), {"Content-Type": "text/html"})
            elif (found := re.fullmatch(r"/files/([^/]+/[^/]+)/(.+)", path)) and found[2] in hub.repos[found[1]]:
                self.transfer(hub.repos[found[1]][found[2]])
            else:
                self.answer(404, b"", {})

        def allowed(self, repo: str) -> bool:
            return self.headers.get("Authorization") == f"Bearer {hub.token}"

        def known(self, repo: str, revision: str) -> bool:
            if repo not in hub.repos or (repo in hub.private and not self.allowed(repo)):
                self.refuse(
                    401 if not self.headers.get("Authorization") else 404, "RepoNotFound", "Repository not found"
                )
            elif revision not in hub.revisions:
                self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            else:
                return True
            return False

        def model(self, repo: str, revision: str) -> None:
            if not self.known(repo, revision):
                return
            sizes = {name: hub.listed.get(name, len(content)) for name, content in hub.repos[repo].items()}
            siblings = [{"rfilename": name, "size": size, "blobId": "0" * 40} for name, size in sizes.items()]
            about = {"id": repo, "modelId": repo, "sha": COMMIT, "private": repo in hub.private, "siblings": siblings}
            self.answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

        def resolve(self, repo: str, revision: str, name: str) -> None:
            if not self.known(repo, revision):
                return
            if repo in hub.gated and not self.allowed(repo):
                self.refuse(401, "GatedRepo", f"Access to model {repo} is restricted.")
                return
            if name not in hub.repos[repo]:
                self.refuse(404, "EntryNotFound", "Entry not found")
                return
            content = hub.repos[repo][name]
            about = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(content).hexdigest()}"'}
            if len(content) < LFS_SIZE:
                self.transfer(content, about)
            else:
                about |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": about["ETag"]}
                self.answer(302, b"", {**about, "Location": f"{hub.store}/store/{repo}/{name}"})

        def transfer(self, content: bytes, about: dict[str, str] | None = None) -> None:
            headers = {"Accept-Ranges": "bytes", **(about or {})}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if hub.honours_ranges else None
            if not wanted:
                self.answer(200, content, headers)
                return
            start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
            if start >= len(content):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            self.answer(206, content[start:stop], headers)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            fault = hub.faults.pop(0) if hub.faults and status in (200, 206) and "Range" in self.headers else ""
            if fault == "unavailable":
                status, body, headers = 503, b"", {}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.pause and status == 206:
                time.sleep(hub.pause)
            if fault == "slow":
                time.sleep(1)
            if fault == "cut":
                self.write(body[: len(body) // 2])
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.write(body)

        def write(self, body: bytes) -> None:
            for at in range(0, len(body), 1 << 16):
                self.wfile.write(body[at : at + (1 << 16)])
                with hub.lock:
                    hub.sent += len(body[at : at + (1 << 16)])

    return Handler
