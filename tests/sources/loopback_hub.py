"""A Hub of our own on 127.0.0.1: the read side of its HTTP interface, as far as `datasets` uses it, over a dict.

`REPOS[repo][commit][path] = bytes`; `TAGS[repo][tag] = commit`. Every request is recorded in `server.requests`.
"""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Repos = dict[str, dict[str, dict[str, bytes]]]
_API = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<verb>revision|tree|paths-info)/(?P<rest>.*))?$")
_FILE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.*)$")


class Hub(ThreadingHTTPServer):
    """The server; `server_address` has its port."""

    def __init__(self, repos: Repos, tags: dict[str, dict[str, str]]):
        self.repos, self.tags, self.requests = repos, tags, list[str]()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.server.requests.append(f"{self.command} {path}")
        api, file = _API.match(path), _FILE.match(path)
        found = api or file
        if found is None:
            return self._send(404, b"{}")
        repo = found["repo"]
        if repo not in self.server.repos:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if file is not None:
            return self._send_file(repo, self._commit(repo, file["revision"]), file["path"])
        assert api is not None
        revision, _, inside = (api["rest"] or "main").partition("/")
        commit = self._commit(repo, revision)
        if commit is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = self.server.repos[repo][commit]
        if api["verb"] == "tree":
            return self._send_json(self._list(files, inside, "recursive=True" in url.query))
        if api["verb"] == "paths-info":
            return self._send_json([self._entry(name, data) for name, data in files.items()
                                    if name in self.form.get("paths", [])])
        return self._send_json({"id": repo, "sha": commit, "private": False, "tags": [], "downloads": 0, "likes": 0,
                                "siblings": [{"rfilename": name} for name in files]})

    def _commit(self, repo: str, revision: str) -> str | None:
        commits = self.server.repos[repo]
        named = self.server.tags.get(repo, {}).get(revision, revision)
        return named if named in commits else None

    def _list(self, files: dict[str, bytes], inside: str, recursive: bool) -> list[dict[str, Any]]:
        start = f"{inside}/" if inside else ""
        below = [name for name in files if name.startswith(start)]
        folders = {name[:at] for name in below for at in range(len(start), len(name)) if name[at] == "/"}
        entries = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(folders)]
        entries += [self._entry(name, files[name]) for name in below]
        return [entry for entry in entries if recursive or "/" not in entry["path"][len(start):]]

    @staticmethod
    def _entry(name: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _send_file(self, repo: str, commit: str | None, path: str) -> None:
        data = self.server.repos[repo][commit].get(path) if commit is not None else None
        if commit is None or data is None:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            return self._send(404, b"", {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})})
        return self._send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
