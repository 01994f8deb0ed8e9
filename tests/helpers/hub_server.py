"""A small local Hugging Face Hub for tests: the real clients run against it, unmodified and without a network.

It speaks the part of the Hub's HTTP API by which `huggingface_hub`, `transformers` and `datasets` read and push
model and dataset repositories. Files lie on disk: every commit has its own folder below the server's root,
hard-linked to one store of contents. The clients read `HF_ENDPOINT` when they are imported, so run them in a
subprocess with `env=server.env(home)`.

Simpler than the real Hub: any valid token may write to any namespace, there are no gated repositories and no pull
requests, `expand` is ignored, and a README's metadata is neither validated nor served as `cardData`.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".model", ".parquet", ".arrow", ".npz", ".pkl", ".gz")
LFS_THRESHOLD = 10 * 1024 * 1024  # the Hub stores any larger file with LFS, whatever its name
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
ACTIONS = ("branch", "commit", "info", "paths-info", "preupload", "refs", "resolve", "revision", "tree")
BLOCK = 1 << 20
Reply = tuple[int, dict[str, str], bytes | tuple[Path, int, int]]  # status, headers, body or (file, start, length)


class HubError(Exception):
    """An answer that is not a success; `code` decides which exception the client raises."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None) -> None:
        super().__init__(message)
        ascii_message = message.encode("ascii", "replace").decode()  # a header holds nothing else
        named = {"X-Error-Message": ascii_message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.status, self.headers = status, {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Entry:
    """One file of a commit; `lfs` tells whether git holds a pointer instead of the content."""

    file: Path
    size: int
    sha256: str
    git_oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What the clients compare with the hash of a local file."""
        return self.sha256 if self.lfs else self.git_oid

    def describe(self, path: str) -> dict[str, Any]:
        """The entry as the `tree` and `paths-info` endpoints give it."""
        info = {"type": "file", "path": path, "size": self.size, "oid": self.git_oid}
        size = {"size": self.size, "pointerSize": len(lfs_pointer(self.sha256, self.size))}
        return info | ({"lfs": {"oid": self.sha256, "sha256": self.sha256, **size}} if self.lfs else {})


@dataclass(frozen=True)
class Commit:
    """A snapshot of a repository."""

    sha: str
    message: str
    date: str
    entries: Mapping[str, Entry]


@dataclass
class Repo:
    """A repository: its commits by sha and the refs (`refs/heads/main`) that point to them."""

    id: str
    type: str
    private: bool
    folder: Path
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        """The commit that a branch name, a full ref name or a commit sha stands for."""
        sha = self.refs.get(f"refs/heads/{revision}") or self.refs.get(revision) or revision
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def tree(self, commit: Commit, below: str, recursive: bool) -> list[dict[str, Any]]:
        """The files and folders below a path, or the path itself where it is a file."""
        if below in commit.entries:
            return [commit.entries[below].describe(below)]
        prefix = f"{below}/" if below else ""
        found: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(commit.entries.items()):
            if path.startswith(prefix):
                for folder in map(str, list(PurePosixPath(path).parents)[-2::-1]):
                    if folder.startswith(prefix):
                        oid = hashlib.sha1(f"{commit.sha}/{folder}".encode()).hexdigest()
                        found[folder] = {"type": "directory", "path": folder, "size": 0, "oid": oid}
                found[path] = entry.describe(path)
        if below and not found:
            raise HubError(404, f"{below} does not exist on {commit.sha}", "EntryNotFound")
        return [info for path, info in found.items() if recursive or "/" not in path[len(prefix) :]]

    def info(self, commit: Commit) -> dict[str, Any]:
        """What `model_info` and `dataset_info` read."""
        told = {path: entry.describe(path) for path, entry in sorted(commit.entries.items())}
        siblings = [{"rfilename": path, "blobId": file["oid"], **file} for path, file in told.items()]
        flags = {"private": self.private, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        names = {"_id": hashlib.sha1(self.id.encode()).hexdigest()[:24], "id": self.id, "author": self.id.split("/")[0]}
        dates = {"createdAt": next(iter(self.commits.values())).date, "lastModified": commit.date}
        return {**names, **flags, **dates, "sha": commit.sha, "siblings": siblings}


def lfs_pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def is_lfs(path: str, size: int) -> bool:
    """Whether the Hub would store this file with LFS."""
    return path.endswith(LFS_SUFFIXES) or size > LFS_THRESHOLD


class HubServer:
    """The server, as a context manager: `with HubServer(tmp_path) as server: ...`."""

    def __init__(self, root: Path, tokens: Mapping[str, str] | None = None) -> None:
        self.root = Path(root)
        self.tokens = dict({"hf_test": "tester"} if tokens is None else tokens)
        self.url = ""
        self.requests: list[tuple[str, str]] = []  # (method, path with query) of every request
        self.strays: list[tuple[str, str]] = []  # requests that were meant for other hosts: see `env`
        self.repos: dict[tuple[str, str], Repo] = {}  # by (type, id)
        self.uploads: dict[str, tuple[str, int]] = {}  # grant -> the (sha256, size) that may be PUT with it
        self.lock = threading.RLock()

    def __enter__(self) -> "HubServer":
        (self.root / "contents").mkdir(parents=True, exist_ok=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The whole environment for a subprocess: this process's one, its Hugging Face settings replaced.

        The server is also named as the HTTP proxy for every other host. It refuses such a request and notes it in
        `strays`, so no test depends on a network, or on how long a name lookup takes to fail.
        """
        drop = re.compile(r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS)_|.*_PROXY$", re.IGNORECASE)
        env = {name: value for name, value in os.environ.items() if not drop.match(name)}
        env |= {"HOME": str(home), "HF_HOME": str(Path(home) / "hf"), "HF_ENDPOINT": self.url}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        env |= {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "DISABLE_SAFETENSORS_CONVERSION": "1"}  # both call other hosts
        env |= {"http_proxy": self.url, "https_proxy": self.url, "no_proxy": "127.0.0.1,localhost"}
        return env | ({"HF_TOKEN": token} if token else {})

    def add_model(self, repo_id: str, folder: Path) -> str:
        """Serve the files of a folder as a model (again: as a new commit) and return the commit sha."""
        return self._add(repo_id, "model", Path(folder))

    def add_dataset(self, repo_id: str, splits: Mapping[str, Any]) -> str:
        """Serve a dataset: each split is a `datasets.Dataset`, a list of rows or the path of a parquet file."""
        from datasets import Dataset

        with tempfile.TemporaryDirectory() as folder:
            for split, rows in splits.items():
                target = Path(folder) / "data" / f"{split}-00000-of-00001.parquet"
                target.parent.mkdir(exist_ok=True)
                if isinstance(rows, (str, Path)):
                    shutil.copyfile(rows, target)
                else:
                    (rows if isinstance(rows, Dataset) else Dataset.from_list(list(rows))).to_parquet(target)
            return self._add(repo_id, "dataset", Path(folder))

    def files(self, repo_id: str, repo_type: str = "model") -> dict[str, Path]:
        """The files at the head of `main`, by their path in the repository; `KeyError` where there is no such repo."""
        return {path: entry.file for path, entry in self.repos[repo_type, repo_id].at("main").entries.items()}

    def commits(self, repo_id: str, repo_type: str = "model") -> list[tuple[str, str]]:
        """(sha, message) of every commit, the newest last; `KeyError` where there is no such repo."""
        return [(commit.sha, commit.message) for commit in self.repos[repo_type, repo_id].commits.values()]

    def new_repo(self, repo_id: str, repo_type: str, private: bool = False) -> Repo:
        """Make a repository that has no commit yet."""
        repo = Repo(repo_id, repo_type, private, self.root / f"{repo_type}s" / repo_id)
        return self.repos.setdefault((repo_type, repo_id), repo)

    def store(self, blocks: Iterable[bytes], expected: tuple[str, int] | None = None) -> tuple[str, int]:
        """Put a content into the store and return its (sha256, size); nothing is kept unless it is as expected."""
        part, digest, size = self.root / "contents" / f"{secrets.token_hex(8)}.part", hashlib.sha256(), 0
        with part.open("wb") as file:
            for block in blocks:
                size += file.write(block)
                digest.update(block)
        found = (digest.hexdigest(), size)
        if expected not in (None, found):
            part.unlink()
            raise HubError(400, f"The content has (sha256, size) {found}, expected {expected}")
        part.replace(part.with_name(found[0]))
        return found

    def entry(self, sha256: str, lfs: bool) -> Entry:
        """Describe a stored content."""
        file = self.root / "contents" / sha256
        size = file.stat().st_size
        blob = lfs_pointer(sha256, size) if lfs else file.read_bytes()
        return Entry(file, size, sha256, hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest(), lfs)

    def commit(self, repo: Repo, branch: str, entries: Mapping[str, Entry], message: str) -> Commit:
        """Make a commit that holds exactly these entries, and move the branch to it."""
        sha = secrets.token_hex(20)
        placed: dict[str, Entry] = {}
        for path, entry in sorted(entries.items()):
            placed[path] = replace(entry, file=repo.folder / sha / path)
            placed[path].file.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.root / "contents" / entry.sha256, placed[path].file)
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        repo.commits[sha] = Commit(sha, message, date, placed)
        repo.refs[f"refs/heads/{branch}"] = sha
        return repo.commits[sha]

    def _add(self, repo_id: str, repo_type: str, folder: Path) -> str:
        entries: dict[str, Entry] = {}
        for file in filter(Path.is_file, folder.rglob("*")):
            path = file.relative_to(folder).as_posix()
            sha256, size = self.store([file.read_bytes()])
            entries[path] = self.entry(sha256, is_lfs(path, size))
        with self.lock:
            return self.commit(self.new_repo(repo_id, repo_type), "main", entries, f"Add {repo_id}").sha


def upload_mode(file: Mapping[str, Any], held: Entry | None) -> dict[str, Any]:
    """How a file is to be sent; with the hash of the one it replaces the client leaves out what has not changed."""
    mode = "lfs" if is_lfs(file["path"], file["size"]) else "regular"
    told = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
    return told | ({"oid": held.etag} if held else {})


def as_json(data: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(data).encode()


class HubHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection for the `HubServer` in `hub`."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: without this every small answer waits 40 ms

    def handle_any(self) -> None:
        """Answer one request, whatever its method; an unread body would be taken for the next request."""
        body = self.blocks()
        try:
            status, headers, content = self.answer(body)
        except HubError as error:
            status, headers, content = error.status, error.headers, json.dumps({"error": str(error)}).encode()
        for _ in body:
            continue
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if isinstance(content, bytes) else content[2]))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(content, bytes):
            self.wfile.write(content)
            return
        path, start, left = content
        with path.open("rb") as file:
            file.seek(start)
            while left > 0:
                left -= self.wfile.write(file.read(min(left, BLOCK)))

    do_CONNECT = do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `HubServer.requests` is the log."""

    def blocks(self) -> Iterator[bytes]:
        """The body of the request, in blocks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (block := self.rfile.read(min(left, BLOCK))):
            left -= len(block)
            yield block

    def answer(self, body: Iterator[bytes]) -> Reply:
        """Find out what is asked for, and by whom."""
        viewer = "://datasets-server." in self.path  # the address that `datasets` makes of HF_ENDPOINT; optional for it
        foreign = not (viewer or self.path.startswith("/"))
        (self.hub.strays if foreign else self.hub.requests).append((self.command, self.path))
        if foreign or viewer:
            raise HubError(403 if foreign else 404, f"Not served here: {self.path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user = self.hub.tokens.get(token)
        if token and self.user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        url = urlsplit(self.path)
        self.query = {name: values[-1].lower() for name, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        match parts:
            case ["api", "whoami-v2"]:
                return as_json({"type": "user", "name": self.writer(), "fullname": self.user, "orgs": []})
            case ["api", "agent-harnesses"]:
                return as_json({"standardEnvVars": [], "harnesses": {}})
            case ["api", "validate-yaml"]:
                return as_json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                return self.create_repo(json.loads(b"".join(body)))
            case ["lfs-upload", grant] if self.command == "PUT":
                if grant not in self.hub.uploads:
                    raise HubError(403, "Not a granted upload")
                self.hub.store(body, self.hub.uploads[grant])
                return 200, {}, b""
            case ["lfs-verify"]:
                return as_json({"verified": bool(self.writer())})
        parts = parts[1:] if parts[0] == "api" else parts
        kind = "dataset" if parts[0] == "datasets" else "model"
        parts = parts[1:] if parts[0] in ("datasets", "models") else parts
        cut = next((index for index in (1, 2) if parts[index : index + 1] and parts[index] in ACTIONS), len(parts))
        repo = self.repo(kind, "/".join(parts[:cut]).removesuffix(".git"))
        method = "GET" if self.command == "HEAD" else self.command
        return self.answer_for(repo, method, parts[cut:], b"".join(body))

    def writer(self) -> str:
        """The user, who must be logged in.

        With an https address the client itself takes a 401 on a repository for `RepositoryNotFoundError`; the same
        code says so where the address is http.
        """
        if self.user is None:
            create = self.path.startswith(("/api/repos/", "/api/whoami"))
            raise HubError(401, "Invalid username or password.", None if create else "RepoNotFound")
        return self.user

    def repo(self, kind: str, repo_id: str) -> Repo:
        """A repository that the user may see; the Hub tells nobody whether any other one exists."""
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None or (repo.private and self.user != repo_id.split("/")[0]):
            self.writer()
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repo

    def create_repo(self, asked: dict[str, Any]) -> Reply:
        """Make a repository with the first commit that the Hub gives it; one that exists is answered 409."""
        user = self.writer()
        repo_id = f"{asked.get('organization') or user}/{asked['name']}"
        kind = asked.get("type") or "model"
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        with self.hub.lock:
            exists = (kind, repo_id) in self.hub.repos
            if not exists:
                private = asked.get("private") is True or asked.get("visibility") == "private"
                repo = self.hub.new_repo(repo_id, kind, private)
                entry = self.hub.entry(self.hub.store([GIT_ATTRIBUTES])[0], lfs=False)
                self.hub.commit(repo, "main", {".gitattributes": entry}, "initial commit")
        told = {"url": url, "name": repo_id} | ({"error": f"You already created this {kind} repo"} if exists else {})
        return as_json(told, 409 if exists else 200)

    def answer_for(self, repo: Repo, method: str, parts: list[str], body: bytes) -> Reply:
        """Answer a request about one repository."""
        match method, parts:
            case "GET", []:
                return as_json(repo.info(repo.at("main")))
            case "GET", ["revision", revision]:
                return as_json(repo.info(repo.at(revision)))
            case "GET", ["tree", revision, *path]:
                recursive = self.query.get("recursive") in ("true", "1")
                return as_json(repo.tree(repo.at(revision), "/".join(path), recursive))
            case "GET", ["resolve", revision, *path]:
                return self.send_file(repo.at(revision), "/".join(path))
            case "GET", ["refs"]:
                heads = [{"name": ref[11:], "ref": ref, "targetCommit": sha} for ref, sha in repo.refs.items()]
                return as_json({"branches": heads, "converts": [], "tags": [], "pullRequests": []})
            case "POST", ["paths-info", revision]:
                commit, paths = repo.at(revision), parse_qs(body.decode()).get("paths", [])
                known = {info["path"]: info for info in repo.tree(commit, "", recursive=True)}
                return as_json([known[path.strip("/")] for path in paths if path.strip("/") in known])
            case "POST", [_, *_]:
                self.writer()
                return self.write_to(repo, parts, body)
        raise HubError(404, f"Not an endpoint of this server: {self.command} {self.path}")

    def write_to(self, repo: Repo, parts: list[str], body: bytes) -> Reply:
        """Answer a request of a logged-in user that changes a repository or prepares a change."""
        match parts:
            case ["info", "lfs", "objects", "batch"]:
                return as_json({"transfer": "basic", "objects": list(map(self.grant, json.loads(body)["objects"]))})
            case ["preupload", revision]:
                held, files = repo.at(revision).entries, json.loads(body)["files"]
                return as_json({"files": [upload_mode(file, held.get(file["path"])) for file in files]})
            case ["branch", branch]:
                if f"refs/heads/{branch}" in repo.refs:
                    raise HubError(409, f"Reference already exists: {branch}")
                start = json.loads(body or b"{}").get("startingPoint", "main")
                repo.refs[f"refs/heads/{branch}"] = repo.at(start).sha
                return as_json({})
            case ["commit", branch] if "create_pr" not in self.query:
                with self.hub.lock:
                    made = self.make_commit(repo, branch, [json.loads(line) for line in body.splitlines()])
                prefix = "datasets/" if repo.type == "dataset" else ""
                url = f"{self.hub.url}/{prefix}{repo.id}/commit/{made.sha}"
                return as_json({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})
        raise HubError(400, f"This server does not support {self.command} {self.path}")

    def grant(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Allow one LFS upload; the address itself is the permission, for the client sends no token with it."""
        told = {"oid": wanted["oid"], "size": wanted["size"]}
        if (self.hub.root / "contents" / wanted["oid"]).exists():
            return told
        grant = secrets.token_hex(16)
        self.hub.uploads[grant] = (wanted["oid"], wanted["size"])
        urls = {"upload": f"{self.hub.url}/lfs-upload/{grant}", "verify": f"{self.hub.url}/lfs-verify"}
        return {**told, "actions": {name: {"href": url} for name, url in urls.items()}}

    def make_commit(self, repo: Repo, branch: str, lines: list[dict[str, Any]]) -> Commit:
        """Apply the operations of a commit, the first line of which is its header."""
        header, head = lines[0]["value"], repo.at(f"refs/heads/{branch}")
        if header.get("parentCommit") not in (None, head.sha):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        entries = dict(head.entries)
        for operation in lines[1:]:
            key, value = operation["key"], operation["value"]
            path = value["path"].rstrip("/")
            gone = [known for known in entries if f"{known}/".startswith(f"{path}/")]
            if ".." in path.split("/") or path.startswith("/"):
                raise HubError(400, f"Invalid path: {path}")
            if key == "file":
                sha256, _ = self.hub.store([base64.b64decode(value["content"])])
                entries[path] = self.hub.entry(sha256, lfs=False)
            elif key == "lfsFile":
                if not (self.hub.root / "contents" / value["oid"]).exists():
                    raise HubError(400, f"The content of {path} was not uploaded")
                entries[path] = self.hub.entry(value["oid"], lfs=True)
            elif gone if key == "deletedFolder" else path in entries:
                entries = {known: entry for known, entry in entries.items() if known not in gone}
            else:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        return self.hub.commit(repo, branch, entries, header["summary"])

    def send_file(self, commit: Commit, path: str) -> Reply:
        """A file or the asked range of it, with the headers by which the clients cache it."""
        entry = commit.entries.get(path)
        if entry is None:
            raise HubError(404, "Entry not found", "EntryNotFound", commit.sha)
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
        if entry.lfs:
            headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None or asked[0] == "bytes=-":
            return 200, headers, (entry.file, 0, entry.size)
        first, last = asked.groups()
        start = int(first) if first else max(entry.size - int(last), 0)
        end = min(int(last), entry.size - 1) if first and last else entry.size - 1
        if start > end:
            return 416, {**headers, "Content-Range": f"bytes */{entry.size}"}, b""
        headers["Content-Range"] = f"bytes {start}-{end}/{entry.size}"
        return 206, headers, (entry.file, start, end - start + 1)
