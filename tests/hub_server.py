"""A Hub on loopback that the real huggingface_hub client talks to (HF_ENDPOINT), nothing of the client patched.

It keeps what it is given, in memory, and serves it back byte for byte: models, data sets and Spaces with branches,
tags, commits, large files (LFS), tokens, private repositories, Space variables, and the Hub's own error codes.

    with Hub() as hub:
        hub.put("models", "you/movie-genre", {"config.json": b"{}"})      # or let the client create and fill it
"""

import base64
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".onnx", ".npz", ".parquet", ".bin", ".pt")
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()

Files = dict[str, bytes]


class RefusalError(Exception):
    """An answer other than 200, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: object):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body


def missing(what: str) -> RefusalError:
    """404 for a "Repo", "Revision" or "Entry"."""
    return RefusalError(404, {"Repo": "Repository not found"}.get(what, f"{what} not found"), f"{what}NotFound")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_large(path: str, size: int) -> bool:
    """Whether the Hub keeps a file in its large-file storage (LFS)."""
    return path.endswith(LARGE) or size > 10_000_000


def describe(path: str, content: bytes) -> dict:
    """A file as the tree lists it."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if is_large(path, len(content)):
        digest = sha256(content)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
        entry["oid"] = git_oid(pointer)
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": len(pointer)}
    return entry


@dataclass
class Call:
    """A request, as its action sees it."""

    user: str | None
    role: str | None
    found: dict[str, str]  # what the address names: kind, name, revision, path, ...
    query: dict[str, list[str]]
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)  # of the answer
    repository: "Repository" = field(init=False)

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    @property
    def files(self) -> Files:
        return self.repository.files(self.found["revision"])


@dataclass
class Repository:
    """Commits by hash, and the branches and tags that name them."""

    kind: str
    name: str
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)  # what its creation asked for

    def commit(self, files: Files, branch: str, message: str) -> str:
        parent = self.branches.get(branch, "")
        tree = [f"{path}:{sha256(files[path])}" for path in sorted(files)]
        oid = hashlib.sha1("\n".join([parent, message, *tree]).encode(), usedforsecurity=False).hexdigest()
        self.commits[oid], self.messages[oid], self.branches[branch] = dict(files), message, oid
        return oid

    def resolve(self, revision: str) -> str:
        """Commit of a branch, a tag or a (shortened) hash."""
        for names in (self.branches, self.tags):
            if revision in names:
                return names[revision]
        found = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        if not found:
            raise missing("Revision")
        return found[0]

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.resolve(revision)]


class Hub:
    """The server; use it as a context manager. It can be stopped and started again with all it holds.

    Attributes:
        tokens: token -> (user, "read" or "write").
        requests: "METHOD path -> status" of every call, in order.
        break_off: "METHOD path" -> whether to hang up, after half of the body was read, without an answer.
        broken: set when that has happened.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by SHA-256, committed or not
        self.tokens: dict[str, tuple[str, str]] = {}
        self.requests: list[str] = []
        self.break_off: Callable[[str], bool] = lambda request: False
        self.broken = threading.Event()
        self.port = 0

    def put(self, kind: str, name: str, files: Files, branch: str = "main", *, private: bool = False) -> str:
        """Commit these files, and no others, to a repository that is made if need be."""
        repository = self.repositories.setdefault((kind, name), Repository(kind, name, private))
        self.objects |= {sha256(content): content for path, content in files.items() if is_large(path, len(content))}
        return repository.commit(files, branch, "put")

    def repository(self, name: str, kind: str = "models") -> Repository:
        return self.repositories[kind, name]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home: Path, token: str = "", **variables: str) -> dict[str, str]:
        """Variables for a process that takes this for the Hub, with a cache of its own."""
        home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "PYTHONPATH")}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return kept | own | ({"HF_TOKEN": token} if token else {}) | variables

    def start(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                hub.handle(self)

            do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> "Hub":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # One request.

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        name = f"{request.command} {url.path}"
        if self.break_off(name):
            request.rfile.read(int(request.headers.get("Content-Length") or 2) // 2)
            self.requests.append(f"{name} -> broken off")
            self.broken.set()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        call = None
        try:
            body = self.read(request)  # before anything is refused: the connection goes on
            user, role = self.identify(request.headers.get("Authorization", "").removeprefix("Bearer "))
            call = Call(user, role, {}, parse_qs(url.query), body)
            status, content = 200, self.answer(request.command, url.path, call)
            headers = call.headers
        except RefusalError as refusal:
            status, content = refusal.status, {"error": refusal.message, **refusal.body}
            headers = (call.headers if call else {}) | {"X-Error-Message": refusal.message}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
        self.requests.append(f"{name} -> {status}")
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), headers | {"Content-Type": "application/json"}
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    @staticmethod
    def read(request: BaseHTTPRequestHandler) -> bytes:
        if "chunked" not in request.headers.get("Transfer-Encoding", ""):
            return request.rfile.read(int(request.headers.get("Content-Length") or 0))
        body = b""
        while size := int(request.rfile.readline(), 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
        return body

    def answer(self, method: str, path: str, call: Call) -> object:
        for methods, pattern, action in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in methods.split():
                call.found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                if "name" in call.found:
                    call.repository = self.find(call)
                    if action in self.WRITES:
                        self.may_write(call, call.repository.name)
                return action(self, call)
        raise missing("Entry")

    def identify(self, token: str) -> tuple[str | None, str | None]:
        if token and token not in self.tokens:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return self.tokens.get(token, (None, None))

    def find(self, call: Call) -> Repository:
        kind = call.found.get("kind", "models").rstrip("/")
        repository = self.repositories.get((kind, call.found["name"]))
        if repository is None or (repository.private and call.user != repository.name.partition("/")[0]):
            # The Hub does not tell a stranger whether a repository is private or does not exist.
            raise missing("Repo") if call.user else RefusalError(401, "Invalid username or password.", "RepoNotFound")
        return repository

    @staticmethod
    def may_write(call: Call, name: str) -> None:
        if call.user is None:
            raise RefusalError(401, "Invalid username or password.")
        if call.role != "write" or name.partition("/")[0] != call.user:
            raise RefusalError(403, "You don't have the required permissions: use a token with write access")

    # Accounts and repositories.

    def whoami(self, call: Call) -> dict:
        if call.user is None:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        token = {"displayName": "a token", "role": call.role}
        return {"type": "user", "name": call.user, "orgs": [], "auth": {"type": "access_token", "accessToken": token}}

    def validate_yaml(self, call: Call) -> dict:
        """The front matter's errors, those that the Hub refuses a commit for."""
        asked = call.json()
        text = re.match(r"---\n(.*?)\n---", asked["content"], re.S)
        data = yaml.safe_load(text.group(1)) if text else {}
        errors = []
        if asked["repoType"] == "space":
            errors += [f'"{key}" is required' for key in ("sdk", "app_file") if key not in data]
            if len(data.get("short_description", "")) > 60:
                errors.append('"short_description" length must be less than or equal to 60 characters long')
        return {"errors": [{"message": error} for error in errors], "warnings": []}

    def create(self, call: Call) -> dict:
        asked = call.json()
        kind = f"{asked.get('type') or 'model'}s"
        name = f"{asked.get('organization') or call.user}/{asked['name']}"
        self.may_write(call, name)
        url = f"{self.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if (kind, name) in self.repositories:
            raise RefusalError(409, f"You already created this {kind[:-1]} repo", url=url)
        repository = Repository(kind, name, asked.get("visibility") == "private", settings=asked)
        repository.commit({".gitattributes": GITATTRIBUTES}, "main", "initial commit")
        self.repositories[kind, name] = repository
        return {"url": url, "name": name}

    def info(self, call: Call) -> dict:
        repository = call.repository
        oid = repository.resolve(call.found.get("revision", "main"))
        return {
            "id": repository.name,
            "sha": oid,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(repository.commits[oid])],
        }

    def refs(self, call: Call) -> dict:
        def listed(names: dict[str, str], kind: str) -> list[dict]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in names.items()]

        return {
            "branches": listed(call.repository.branches, "heads"),
            "tags": listed(call.repository.tags, "tags"),
            "converts": [],
        }

    def tag(self, call: Call) -> dict:
        return self.name_commit(call.repository, call.repository.tags, call.json()["tag"], call.found["revision"])

    def branch(self, call: Call) -> dict:
        start = call.json().get("startingPoint", "main")
        return self.name_commit(call.repository, call.repository.branches, call.found["branch"], start)

    @staticmethod
    def name_commit(repository: Repository, names: dict[str, str], name: str, revision: str) -> dict:
        oid = repository.resolve(revision)
        if name in names:
            raise RefusalError(409, f"Reference already exists: {name}")
        names[name] = oid
        return {}

    def variables(self, call: Call) -> dict:
        variables = call.repository.variables
        if asked := call.json():
            variables[asked["key"]] = asked["value"]
        return {key: {"key": key, "value": value} for key, value in variables.items()}

    # Reading files.

    def tree(self, call: Call) -> list[dict]:
        prefix = f"{call.found['path']}/" if "path" in call.found else ""
        inside = {path: content for path, content in call.files.items() if path.startswith(prefix)}
        if prefix and not inside:
            raise missing("Entry")
        deep = call.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {
            "/".join(path.split("/")[:depth])
            for path in inside
            for depth in range(prefix.count("/") + 1, path.count("/") + 1)
        }
        entries = [{"type": "directory", "path": name, "size": 0, "oid": git_oid(name.encode())} for name in folders]
        entries += [describe(path, content) for path, content in inside.items()]
        return [entry for entry in entries if deep or "/" not in entry["path"].removeprefix(prefix)]

    def paths_info(self, call: Call) -> list[dict]:
        files, asked = call.files, parse_qs(call.body.decode()).get("paths", [])
        return [describe(path, files[path]) for path in asked if path in files]

    def download(self, call: Call) -> bytes:
        path = call.found["path"]
        call.headers["X-Repo-Commit"] = call.repository.resolve(call.found["revision"])
        content = call.files.get(path)
        if content is None:
            raise missing("Entry")
        call.headers["ETag"] = f'"{describe(path, content).get("lfs", describe(path, content))["oid"]}"'
        return content

    # Writing files.

    def preupload(self, call: Call) -> dict:
        answers = []
        for asked in call.json()["files"]:
            path, large = asked["path"], is_large(asked["path"], asked["size"])
            old = call.files.get(path)
            oid = None if old is None else sha256(old) if large else git_oid(old)
            answers.append(
                {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}
            )
        return {"files": answers}

    def batch(self, call: Call) -> dict:
        objects = []
        for asked in call.json()["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.objects:
                answer["actions"] = {"upload": {"href": f"{self.url}/objects/{asked['oid']}"}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def commit(self, call: Call) -> dict:
        repository, branch, files, message = call.repository, call.found["revision"], dict(call.files), ""
        if branch not in repository.branches:
            raise RefusalError(400, f"{branch} is not a branch")
        for line in call.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise RefusalError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = self.objects[value["oid"]]
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise missing("Entry")
            elif key == "deletedFolder":
                files = {path: content for path, content in files.items() if not path.startswith(value["path"])}
        oid = repository.commit(files, branch, message)
        return {"commitOid": oid, "commitUrl": f"{self.url}/{repository.name}/commit/{oid}"}

    def store(self, call: Call) -> bytes:
        """The upload address given out by `batch`: like a signed address, it asks for no token."""
        if sha256(call.body) != call.found["oid"]:
            raise RefusalError(400, "The content does not have the hash that was announced")
        self.objects[call.found["oid"]] = call.body
        return b""

    _API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
    _PLAIN = r"/(?P<kind>(?:datasets|spaces)/)?(?P<name>[^/]+/[^/]+)"
    ROUTES = (
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("POST", r"/api/repos/create", create),
        ("PUT", r"/objects/(?P<oid>[0-9a-f]{64})", store),
        ("GET", _API + r"(?:/revision/(?P<revision>[^/]+))?", info),
        ("GET", _API + r"/refs", refs),
        ("GET", _API + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", tree),
        ("POST", _API + r"/paths-info/(?P<revision>[^/]+)", paths_info),
        ("POST", _API + r"/preupload/(?P<revision>[^/]+)", preupload),
        ("POST", _API + r"/commit/(?P<revision>[^/]+)", commit),
        ("POST", _API + r"/tag/(?P<revision>[^/]+)", tag),
        ("POST", _API + r"/branch/(?P<branch>[^/]+)", branch),
        ("GET POST", r"/api/(?P<kind>spaces)/(?P<name>[^/]+/[^/]+)/variables", variables),
        ("POST", _PLAIN + r"\.git/info/lfs/objects/batch", batch),
        ("GET HEAD", _PLAIN + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", download),
    )
    WRITES = (preupload, commit, tag, branch, variables, batch)
