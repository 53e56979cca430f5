"""A read-only Hub on loopback that the real huggingface_hub client talks to (HF_ENDPOINT).

Repositories are folders: `root/models/owner/name` and `root/datasets/owner/name`. A folder named `name@revision` beside
one is that repository at another revision.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


class Hub:
    """The server; use it as a context manager."""

    def __init__(self, root):
        self.root = Path(root)
        self.requests = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self, body=True)

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                hub.answer(self, body=True, posted=self.rfile.read(length))

            def do_HEAD(self):
                hub.answer(self, body=False)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def folder(self, kind, name, revision):
        """Folder of a repository at a revision, which may also be the commit's hash."""
        base = self.root / kind / name
        for folder in [base, *base.parent.glob(f"{base.name}@*")]:
            if folder.is_dir() and revision in (self.commit(folder), folder.name.partition("@")[2] or "main"):
                return folder
        return None

    @staticmethod
    def files(folder):
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def commit(self, folder):
        digest = hashlib.sha1(folder.name.encode(), usedforsecurity=False)
        for path in self.files(folder):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def answer(self, request, *, body, posted=b""):
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {path}")
        if match := API.match(path):
            kind, name, what, revision, _ = match.groups()
            folder = self.folder(kind, name, revision or "main")
            if folder is None:
                known = (self.root / kind / name).is_dir()
                self.refuse(request, "RevisionNotFound" if known else "RepoNotFound")
            else:
                self.send_json(request, self.describe(folder, name, what, posted), body)
        elif match := RESOLVE.match(path):
            dataset, name, revision, file = match.groups()
            folder = self.folder("datasets" if dataset else "models", name, revision)
            self.send_file(request, folder, file, body)
        else:
            self.refuse(request, "EntryNotFound")

    def describe(self, folder, name, what, posted):
        if what in ("tree", "paths-info"):
            entries = [
                {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": "0" * 40}
                for path in self.files(folder)
            ]
            if what == "paths-info":
                wanted = re.findall(r"[^&=]+", unquote(posted.decode()))
                entries = [entry for entry in entries if any(entry["path"] in word for word in wanted)]
            return entries
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in self.files(folder)]
        sha = self.commit(folder)
        return {
            "id": name,
            "sha": sha,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": siblings,
        }

    def send_file(self, request, folder, file, body):
        if folder is None:
            self.refuse(request, "RepoNotFound")
            return
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            self.refuse(request, "EntryNotFound", self.commit(folder))
            return
        content = path.read_bytes()
        headers = {"X-Repo-Commit": self.commit(folder), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self.send(request, 200, content, headers, body)

    def send_json(self, request, value, body):
        self.send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def refuse(self, request, code, commit=None):
        headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})
        self.send(request, 404, b"{}", headers, True)

    @staticmethod
    def send(request, status, content, headers, body):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if body and request.command != "HEAD":
            request.wfile.write(content)
