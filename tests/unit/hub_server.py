"""A hub of one's own: what huggingface_hub asks of it to upload and fetch."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Hub:
    """A local server that keeps repositories in memory.

    ``address`` is what HF_ENDPOINT wants, ``repos`` maps a name to its files
    {path: bytes}, ``requests`` lists what was asked. The files after upload n
    stay to be had as the revision ``vn``. Use it with ``with``.
    """

    def __init__(self):
        self.repos, self.requests, self.revisions = {}, [], {}
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo, revision="main"):
        """Files {path: bytes} of a repository, now or at a revision."""
        if revision == "main":
            return self.repos[repo]
        return self.revisions[revision]

    def keep(self, repo):
        """Keep the present files as a revision; returns its name."""
        files = dict(self.repos[repo])
        commit = commit_of(files)
        count = sum(name.startswith("v") for name in self.revisions)
        self.revisions[commit] = self.revisions[f"v{count + 1}"] = files
        return commit


def commit_of(files):
    """Name of a state of a repository: a hash of its files."""
    digest = hashlib.sha1()
    for path, content in sorted(files.items()):
        digest.update(path.encode() + content)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing: pytest's output is no place for it."""

    def answer(self, value, status=200, headers=(), body=True):
        content = value
        if not isinstance(value, bytes):
            content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_POST(self):
        self.hub.requests.append(f"POST {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            text = self.read_chunks()
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            wanted = json.loads(text)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.hub.repos.setdefault(name, {})
            self.answer({"url": f"{self.hub.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = json.loads(text)["files"]
            self.answer(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "regular",
                            "shouldIgnore": False,
                        }
                        for file in files
                    ]
                }
            )
        elif parts[4] == "commit":
            name = "/".join(parts[2:4])
            for line in text.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    file = entry["value"]
                    content = base64.b64decode(file["content"])
                    self.hub.repos[name][file["path"]] = content
                elif entry["key"] == "deletedFile":
                    del self.hub.repos[name][entry["value"]["path"]]
            self.answer(
                {
                    "commitUrl": f"{self.hub.address}/{name}/commit/1",
                    "commitOid": self.hub.keep(name),
                }
            )

    def read_chunks(self):
        """Body of a request that does not say its length."""
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def do_HEAD(self):
        self.get(body=False)

    def do_GET(self):
        self.get(body=True)

    def get(self, body):
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(self.path.split("?")[0]).strip("/")
        parts = path.removeprefix("api/models/").split("/")
        name = "/".join(parts[:2])
        if name not in self.hub.repos:
            error = [("X-Error-Code", "RepoNotFound")]
            self.answer({"error": "no such"}, 404, error, body)
            return
        # <name>, <name>/(revision|tree|resolve)/<revision>/<path>
        revision = parts[3] if len(parts) > 3 else "main"
        files = self.hub.files(name, revision)
        commit = commit_of(files)
        if parts[2:3] == ["tree"]:
            self.answer(tree_of(files), body=body)
        elif path.startswith("api/models/"):
            about = {"id": name, "sha": commit, "private": False, "tags": []}
            siblings = [{"rfilename": path} for path in files]
            self.answer({**about, "siblings": siblings}, body=body)
        else:
            self.file(files, "/".join(parts[4:]), commit, body)

    def file(self, files, path, commit, body):
        """Answer with a file, or say that there is none."""
        headers = [("X-Repo-Commit", commit)]
        if path not in files:
            headers.append(("X-Error-Code", "EntryNotFound"))
            self.answer({"error": "no such"}, 404, headers, body)
            return
        headers.append(("ETag", f'"{hashlib.sha1(files[path]).hexdigest()}"'))
        self.answer(files[path], headers=headers, body=body)


def tree_of(files):
    """Listing of a repository's files."""
    return [
        {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        for path, content in files.items()
    ]
