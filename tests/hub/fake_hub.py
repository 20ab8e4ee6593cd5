"""A hub and its CDN on this machine, over HTTPS, which behave as huggingface.co does and fail as they are told.

The hub answers

    GET  /api/models/OWNER/REPO/revision/REVISION?blobs=true     the listing
    HEAD /OWNER/REPO/resolve/COMMIT/PATH                         302 to the CDN, with X-Linked-Etag, X-Linked-Size and
                                                                 X-Repo-Commit

and the CDN, at another port, GET /SIGNATURE/SHA256 with ranges.  Each is a thread of this process; `requests` has what
was asked.
"""
import hashlib
import http.server
import json
import re
import ssl
import subprocess
import threading
import urllib.parse

COMMIT = "c0ffee" + "0" * 34


def make_certificate(folder):
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    return certificate, key


class Hub:
    def __init__(self, folder):
        self.certificate, key = make_certificate(folder)
        self.lock = threading.Lock()
        self.files = {}  # by repository: {path: bytes}
        self.requests = []  # (server, method, path, headers)
        self.reset()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.hub, self.cdn = (self._serve(handler, context) for handler in (self._hub_handler(), self._cdn_handler()))
        self.url = f"https://127.0.0.1:{self.hub.server_address[1]}"
        self.cdn_url = f"https://127.0.0.1:{self.cdn.server_address[1]}"

    def reset(self):
        self.requests.clear()
        self.token = None  # that is asked for; None: none
        self.gated = False
        self.listing = None  # bytes to answer with instead of the true listing
        self.hashes = {}  # false ones, by path
        self.sizes = {}  # the same
        self.refuse_hub = []  # answers for the next requests: (status, headers)
        self.refuse_cdn = []
        self.break_at = []  # of the whole of what the CDN sends: bytes after which it breaks the connection, one by one
        self.sent = 0
        self.no_ranges = False
        self.signature = 0  # of URLs that hold
        self.etag = '"cdn"'
        self.rate = None  # bytes a second of each connection

    def _serve(self, handler, context):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # clients that go away are no news
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def _handler(self, name):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def note(self):
                with hub.lock:
                    hub.requests.append((name, self.command, self.path, dict(self.headers)))

            def answer(self, status, headers=(), body=b""):
                self.send_response(status)
                for key, value in dict(headers).items():
                    self.send_header(key, value)
                if "Content-Length" not in dict(headers):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        return Handler

    def _hub_handler(self):
        hub = self

        class Handler(self._handler("hub")):
            def do_GET(self):
                self.note()
                if hub.refuse_hub:
                    return self.answer(*hub.refuse_hub.pop(0))
                if hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model o/r is restricted."})
                if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.answer(401, {"X-Error-Message": "Invalid username or password."})
                path = urllib.parse.unquote(self.path)
                if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^?]+)\?blobs=true", path):
                    return self.list(*match.groups())
                if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                    return self.resolve(*match.groups())
                self.answer(404, {"X-Error-Code": "EntryNotFound"})

            do_HEAD = do_GET

            def list(self, repo, revision):
                if repo not in hub.files:
                    return self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
                if revision not in ("main", COMMIT):
                    return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
                if hub.listing is not None:
                    return self.answer(200, {"Content-Type": "application/json"}, hub.listing)
                siblings = [{"rfilename": path, "size": hub.size(path, data), "blobId": hashlib.sha1(path.encode()).hexdigest(),
                             "lfs": {"sha256": hub.hash(path, data), "size": hub.size(path, data), "pointerSize": 134}}
                            for path, data in hub.files[repo].items()]
                listing = {"_id": "0", "id": repo, "sha": COMMIT, "private": False, "gated": "auto" if hub.gated else False,
                           "gguf": {"total": 1, "architecture": "qwen3moe", "context_length": 4096}, "siblings": siblings}
                self.answer(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())

            def resolve(self, repo, commit, path):
                data = hub.files.get(repo, {}).get(path)
                if data is None or commit != COMMIT:
                    return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                self.answer(302, {"Location": f"{hub.cdn_url}/{hub.signature}/{hub.hash(path, data)}?path={urllib.parse.quote(path)}",
                                  "X-Linked-Etag": f'"{hub.hash(path, data)}"', "X-Linked-Size": str(hub.size(path, data)),
                                  "X-Repo-Commit": COMMIT, "ETag": '"of-the-pointer"'})

        return Handler

    def _cdn_handler(self):
        hub = self

        class Handler(self._handler("cdn")):
            def do_GET(self):
                self.note()
                with hub.lock:
                    refusal = hub.refuse_cdn.pop(0) if hub.refuse_cdn else None
                if refusal:
                    return self.answer(*refusal)
                url = urllib.parse.urlparse(self.path)
                if int(url.path.split("/")[1]) != hub.signature:
                    return self.answer(403, body=b"Request has expired")
                path = urllib.parse.parse_qs(url.query)["path"][0]
                data = next(files[path] for files in hub.files.values() if path in files)
                begin, end, headers, status = 0, len(data), {"ETag": hub.etag, "Accept-Ranges": "bytes"}, 200
                if not hub.no_ranges and (match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
                    begin, end, status = int(match[1]), min(int(match[2]) + 1, len(data)), 206
                    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(end - begin))
                self.end_headers()
                self.send(memoryview(data)[begin:end])

            def send(self, data):
                piece = 64 * 1024 if hub.rate is None else max(1, hub.rate // 20)
                for at in range(0, len(data), piece):
                    part = data[at:at + piece]
                    with hub.lock:
                        breaks = hub.break_at and hub.sent + len(part) > hub.break_at[0]
                        if breaks:
                            part = part[:max(0, hub.break_at.pop(0) - hub.sent)]
                        hub.sent += len(part)
                    self.wfile.write(part)
                    if breaks:
                        self.wfile.flush()
                        self.close_connection = True
                        self.connection.close()
                        return
                    if hub.rate is not None:
                        threading.Event().wait(0.05)

        return Handler

    def hash(self, path, data):
        if path not in self.hashes:
            return _sha256(data)
        return self.hashes[path]

    def size(self, path, data):
        return self.sizes.get(path, len(data))


_known = {}


def _sha256(data):
    """Of data that does not change."""
    if id(data) not in _known:
        _known[id(data)] = (data, hashlib.sha256(data).hexdigest())
    return _known[id(data)][1]
