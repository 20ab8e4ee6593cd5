#!/usr/bin/python3
"""`odmoe serve` among clients that mean it no good: what they can make it take is in its memory plan, and it goes on.

    bench/scenarios/hostile_requests.py MODEL [--requests 1000] [--at-once 8] [--odmoe build/release/cli/odmoe]
        [--memory 50%] [--context 1024] [--limit PROGRAM] [--seed 1] [-- --max-connections 16 ...]

Sends that many requests, drawn by chance and so many at a time: bodies as large as may be and larger, JSON that grows
when it is read (empty lists, numbers, keys by the hundred thousand, deep nesting), prompts that nothing divides, texts
and lists of hundreds of thousands of tokens to convert, schemas that are large as grammars, as many choices and
probabilities as may be asked for, files and batches that are none, too long or cancelled, damaged HTTP, bodies that come
slowly or never, connections that idle, listen, half close or leave.  Each may be refused with a status that says why; what is right at rest must be answered right while
all that goes on, and after it bit for bit as before.

Prints Markdown; ends with status 1 when anything was wrong: a request without an answer, a failure of the server (500), a
wrong answer, a peak of memory above the plan's budget and 5 %, memory that did not come back, descriptors or threads
left over, or a server that SIGTERM does not end with status 0.

With --limit the server runs under that program, which is called `PROGRAM BYTES COMMAND...` and ends the command
when it takes more than so many bytes, here the budget and 5 %.  What comes after `--` goes to the server.
"""
import argparse
import collections
import http.client
import json
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time

from serving import MIB, ServerProcess

PATIENCE = 300  # seconds until a request counts as not answered: a limit for a machine that hangs
REFUSED = {400, 408, 413, 414, 415, 429, 431, 499, 501, 503, 504, 505}


class Server(ServerProcess):
    """With what its plan says."""

    def __init__(self, command):
        super().__init__(command)
        plan = re.search(r"memory plan, ([\d.]+) (KiB|MiB|GiB)", self.said())
        self.budget = int(float(plan[1]) * {"KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}[plan[2]])

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        return connection

    def ask(self, path, body, method="POST", headers=None):
        """-> status, text"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
            try:
                connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all was sent: the answer is there all the same
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def completion(**more):
    return {"prompt": "KING", "max_tokens": 4, "temperature": 0} | more


def chat(**more):
    return {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4, "temperature": 0} | more


def schema_of(properties):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "additionalProperties": False, "properties": properties}}}


class Requests:
    """The kinds.  Each takes a random generator and gives what was answered, as a word or a status."""

    def __init__(self, server, max_body):
        self.server = server
        self.max_body = max_body

    def all(self):
        return [getattr(self, name) for name in dir(self) if name.startswith("ask_")]

    def post(self, path, body, **more):
        return self.server.ask(path, body, **more)[0]

    def sizes(self, rng):
        """Mostly as much as a body may have, at times more."""
        return int(self.max_body * rng.choice((0.05, 0.3, 0.9, 0.97, 1.5)))

    # Bodies and JSON.

    def ask_amplifying_json(self, rng):
        unit, end = rng.choice((("[],", "[]"), ("{},", "{}"), ("1,", "1"), ("\"\",", "\"\""), ("[[[]]],", "1"),
                                ("{\"a\":1},", "1"), ("\"\\u0000\",", "1"), ("1e5,", "1"), ("null,", "1")))
        listed = "[" + unit * (self.sizes(rng) // len(unit)) + end + "]"
        path, body = rng.choice((("/v1/completions", "{\"prompt\":%s,\"max_tokens\":1}"),
                                 ("/v1/chat/completions", "{\"messages\":%s}"),
                                 ("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":%s}]}"),
                                 ("/v1/chat/completions", "{\"messages\":[],\"unknown\":%s}"),
                                 ("/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":1,\"stop\":%s}"),
                                 ("/detokenize", "{\"tokens\":%s}"), ("/tokenize", "{\"content\":%s}")))
        return self.post(path, body % listed)

    def ask_many_keys(self, rng):
        n = self.sizes(rng) // 10
        keys = "".join(f"\"{i:x}\":1," for i in range(n))
        where = rng.choice(("{%s\"prompt\":\"x\"}", "{\"prompt\":\"x\",\"logit_bias\":{%s\"a\":1}}",
                            "{\"prompt\":\"x\",\"response_format\":{%s\"type\":\"text\"}}", "{\"x\":{%s\"a\":1}}"))
        return self.post("/v1/completions", where % keys)

    def ask_keys_in_arguments(self, rng):
        arguments = "{" + "".join(f"\"{i:x}\":[]," for i in range(self.sizes(rng) // 16)) + "\"a\":1"
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments + rng.choice("}]")}}
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c", "content": "y"}]
        return self.post("/v1/chat/completions", chat(messages=messages))

    def ask_long_numbers(self, rng):
        digits = "1" * self.sizes(rng)
        number = rng.choice(("%s", "0.%s", "1e%s", "-%s")) % digits
        where = rng.choice(("{\"prompt\":\"x\",\"seed\":%s}", "{\"prompt\":\"x\",\"zz\":%s}",
                            "{\"prompt\":\"x\",\"guided_json\":\"{\\\"enum\\\":[%s]}\"}"))
        status, text = self.server.ask("/v1/completions", where % number)
        assert len(text) < 4096, f"an error of {len(text)} bytes"
        return status

    def ask_schema_as_text(self, rng):
        unit = rng.choice(("[],", "{},", "1,", "null,"))
        schema = "[" + unit * (self.sizes(rng) // len(unit)) + "1]"
        where = rng.choice(("{\"prompt\":\"x\",\"guided_json\":\"%s\"}", "{\"prompt\":\"x\",\"json_schema\":\"%s\"}"))
        return self.post("/v1/completions", where % schema)

    def ask_deep(self, rng):
        n = rng.choice((60, 65, 100_000, self.max_body // 2))
        opening, closing = rng.choice((("[", "]"), ("{\"a\":", "}")))
        n = min(n, self.max_body // 6)
        return self.post("/v1/completions", "{\"prompt\":" + opening * n + "1" + closing * n + "}")

    def ask_damaged_json(self, rng):
        body = bytearray(json.dumps(chat(stop=["a"] * 16, seed=1)).encode())
        for _ in range(rng.randrange(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        return self.post("/v1/chat/completions", bytes(body))

    def ask_large_string(self, rng):
        unit = rng.choice(("x", "1", " ", "<|", "\\u0000", "\\ud83d\\ude00", "é", "\\n", "ab ", "<|im_start|>", "-", "漢"))
        text = unit * (self.sizes(rng) // len(unit.encode()))
        path, body = rng.choice((("/v1/completions", "{\"prompt\":\"%s\",\"max_tokens\":1}"),
                                 ("/v1/completions", "{\"prompt\":[\"%s\"],\"max_tokens\":1,\"n\":16}"),
                                 ("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}"),
                                 ("/v1/chat/completions", "{\"messages\":[{\"role\":\"%s\",\"content\":\"x\"}]}"),
                                 ("/v1/completions", "{\"model\":\"%s\",\"prompt\":\"x\",\"max_tokens\":1}"),
                                 ("/v1/completions", "{\"stop\":\"%s\",\"prompt\":\"x\",\"max_tokens\":1}"),
                                 ("/tokenize", "{\"content\":\"%s\"}"),
                                 ("/tokenize", "{\"content\":\"%s\",\"with_pieces\":true}")))
        return self.post(path, (body % text).encode())

    def ask_many_messages(self, rng):
        n = rng.choice((1000, 4096, 20_000))
        parts = [{"type": "text", "text": "a"}] * rng.choice((1, 20))
        messages = [{"role": rng.choice(("user", "assistant")), "content": rng.choice(("x", parts))} for _ in range(n)]
        return self.post("/v1/chat/completions", chat(messages=messages))

    def ask_many_tools(self, rng):
        tools = [{"type": "function", "function": {"name": f"f{i}", "description": "d" * rng.choice((1, 5000)),
                  "parameters": {"type": "object", "properties": {f"p{j}": {"type": "string"} for j in range(20)}}}}
                 for i in range(rng.choice((100, 128, 5000)))]
        return self.post("/v1/chat/completions", chat(tools=tools, tool_choice=rng.choice(("auto", "required"))))

    # Tokens.

    def ask_token_lists(self, rng):
        n = self.sizes(rng) // 4
        tokens = ("1," * n)[:-1]
        path, body = rng.choice((("/detokenize", "{\"tokens\":[%s]}"),
                                 ("/v1/completions", "{\"prompt\":[%s],\"max_tokens\":1}"),
                                 ("/v1/completions", "{\"prompt\":[[%s]],\"max_tokens\":1,\"n\":16}")))
        return self.post(path, body % tokens)

    def ask_most_of_the_context(self, rng):
        return self.post("/v1/completions", completion(prompt=[1] * 900, max_tokens=1, n=rng.choice((1, 16))))

    def ask_logit_bias(self, rng):
        n = rng.choice((1000, 1024, 100_000))
        return self.post("/v1/completions", completion(logit_bias={str(i % 3000) + " " * (i // 3000): 1 for i in range(n)}))

    def ask_many_logprobs(self, rng):
        n = rng.choice((4, 16))
        return rng.choice((
            lambda: self.post("/v1/completions", completion(n=n, logprobs=20, max_tokens=64, ignore_eos=True)),
            lambda: self.post("/v1/completions", completion(prompt="a b c " * 100, logprobs=20, echo=True, max_tokens=1)),
            lambda: self.post("/v1/chat/completions", chat(n=n, logprobs=True, top_logprobs=20, max_tokens=64))))()

    def ask_many_generations(self, rng):
        return self.post("/v1/completions", completion(prompt=["A", "B", "C", "D"], n=16, max_tokens=2,
                                                       stop=["x" * 1000] * rng.choice((1, 16, 17))))

    # Grammars.

    def ask_large_schema(self, rng):
        n = rng.choice((100, 2500))
        return self.post("/v1/chat/completions", chat(response_format=rng.choice((
            schema_of({f"p{i}": {"type": "string"} for i in range(n)}),
            schema_of({f"p{i}": {"type": "string", "maxLength": 2000} for i in range(n)}),
            schema_of({"a": {"enum": [f"value {i}" for i in range(rng.choice((900, 20_000)))]}}),
            schema_of({"a": {"type": "string", "pattern": "^(a{0,900}b{0,900}){0,900}$"}}),
            schema_of({"a": {"type": "array", "minItems": 10_000, "items": {"type": "string", "maxLength": 1000}}}),
            schema_of({"a": {"type": "number", "multipleOf": 0.37, "minimum": 0, "maximum": 1e15}}),
            schema_of({"a": {"anyOf": [{"const": {"x": i}} for i in range(n)]}})))))

    def ask_schema_of_references(self, rng):
        depth = rng.choice((8, 30))
        definitions = {f"d{i}": {"type": "object", "properties": {
            "a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(depth)}
        definitions[f"d{depth}"] = {"type": "string"}
        schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
        return self.post("/v1/chat/completions", chat(response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))

    # Files and batches.

    def form(self, text, purpose="batch", name="x.jsonl"):
        return ("--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + purpose + "\r\n--xyz\r\n"
                f"Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n" + text + "\r\n--xyz--\r\n").encode()

    def upload(self, form):
        return self.server.ask("/v1/files", form, headers={"Content-Type": "multipart/form-data; boundary=xyz"})

    def line(self, custom_id, body):
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body})

    def ask_damaged_forms(self, rng):
        form = bytearray(self.form("x" * rng.choice((0, 100, 100_000)), rng.choice(("batch", "other", "x" * 100_000)),
                                   rng.choice(("../../x", "x" * 10_000, "\0", "a\"b"))))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(min(len(form), 600))
            form[at:at + rng.randrange(3)] = rng.choice((b"\r\n", b"--xyz", b"\r\n--xyz\r\n", b"\0", b"x" * 9000, b"\""))
        return self.upload(bytes(form))[0]

    def ask_batches(self, rng):
        size = self.sizes(rng)
        text = rng.choice((lambda: "\n".join(self.line(f"r{i}", completion()) for i in range(rng.randrange(1, 6))),
                           lambda: "\n".join("{}" for _ in range(size // 3)), lambda: "{" * size, lambda: "\n" * size,
                           lambda: self.line("r", {"prompt": [[]] * (size // 4)}), lambda: self.line("r" * size, completion()),
                           lambda: self.line("r", completion(prompt="x" * size)),
                           lambda: self.line("r", {"prompt": "x", "n": 16, "max_tokens": 16, "logprobs": 5})))()
        status, answer = self.upload(self.form(text))
        if status != 200:
            return status
        file = json.loads(answer)["id"]
        status, answer = self.server.ask("/v1/batches", {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "1h",
                                                         "metadata": {str(i): "x" * 2000 for i in range(rng.choice((0, 16)))}})
        if status != 200:
            return status
        batch = json.loads(answer)["id"]
        if rng.random() < 0.6:
            self.server.ask(f"/v1/batches/{batch}/cancel", {})
        for path in ("/v1/files", "/v1/batches?limit=100", f"/v1/files/{file}/content"):
            status = self.server.ask(path, None, method="GET")[0]
        self.server.ask(f"/v1/files/{file}", None, method="DELETE")
        return status

    def batches_end(self):
        """Waits until all batches are over."""
        for _ in range(10 * PATIENCE):
            _, text = self.server.ask("/v1/batches?limit=100", None, method="GET")
            ended = ("completed", "failed", "cancelled", "expired")
            if all(batch["status"] in ended for batch in json.loads(text)["data"]):
                return
            time.sleep(0.1)
        raise ValueError("a batch does not end")

    # HTTP.

    def raw(self, data, leave=False, half_close=False):
        with self.server.connect() as connection:
            try:
                connection.sendall(data)
                if leave:
                    return "left"
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                answer = b""
                while chunk := connection.recv(65536):
                    answer = (answer + chunk)[:64]
                    if not half_close:
                        break
            except (BrokenPipeError, ConnectionResetError):
                return "closed"
        status = re.match(rb"HTTP/1\.1 (\d+)", answer)
        if answer and not status:
            raise ValueError(f"no HTTP was answered: {answer!r}")
        return int(status[1]) if status else "closed"

    def post_head(self, path, length, more=""):
        return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
                f"Content-Length: {length}\r\n\r\n").encode()

    def ask_damaged_http(self, rng):
        data = bytearray(self.post_head("/v1/completions", 12) + b"{\"prompt\":1}")
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            piece = rng.choice((b"\r\n", b"\x00", b"\xff" * 100, b"Content-Length: 1\r\n", b" ", b"Host: x\r\n", b"a" * 9000))
            data[at:at + rng.randrange(3)] = piece
        return self.raw(bytes(data), half_close=True)

    def ask_many_headers(self, rng):
        lines = "".join(f"X-{i}: {'v' * rng.choice((1, 800))}\r\n" for i in range(rng.choice((50, 99, 5000))))
        return self.raw(self.post_head("/tokenize", 15, lines) + b"{\"content\":\"x\"}", half_close=True)

    def ask_more_than_is_announced(self, rng):
        return self.raw(self.post_head("/v1/completions", self.max_body * 10) + b"x" * rng.choice((10, 1_000_000)))

    def ask_chunked(self, rng):
        size = rng.choice((1, 100, 60_000))
        chunk = f"{size:x}\r\n{'x' * size}\r\n".encode()
        n = min(self.sizes(rng) // size, 20_000)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        return self.raw(head + chunk * n + rng.choice((b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"zz\r\n")),
                        half_close=True)

    def ask_half_a_body(self, rng):
        """Stalls, then leaves, or closes half of the connection."""
        with self.server.connect() as connection:
            connection.sendall(self.post_head("/v1/completions", self.max_body - 1))
            connection.sendall(b"x" * int(self.max_body * rng.random() * 0.9))
            time.sleep(rng.random())
            if rng.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            elif rng.random() < 0.5:  # with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "left"

    def ask_slowly(self, rng):
        with self.server.connect() as connection:
            for byte in (self.post_head("/tokenize", 15) + b"{\"content\":\"x\"}")[:rng.randrange(20, 140)]:
                connection.sendall(bytes([byte]))
                time.sleep(0.01)
        return "left"

    def ask_idle_connections(self, rng):
        connections = [self.server.connect() for _ in range(rng.randrange(1, 12))]
        try:
            for connection in connections:
                if rng.random() < 0.5:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(rng.random())
        except (BrokenPipeError, ConnectionResetError):
            return "closed"
        finally:
            for connection in connections:
                connection.close()
        return "left"

    def ask_to_listen(self, rng):
        with self.server.connect() as connection:
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if rng.random() < 0.5:
                connection.recv(1000)
            time.sleep(rng.random())
        return "left"

    def ask_and_do_not_read(self, rng):
        with self.server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            body = json.dumps(rng.choice((
                completion(stream=True, ignore_eos=True, max_tokens=200, logprobs=20),
                completion(ignore_eos=True, max_tokens=100, logprobs=20, n=4)))).encode()
            connection.sendall(self.post_head("/v1/completions", len(body)) + body)
            time.sleep(2 * rng.random())
        return "left"

    def ask_and_leave(self, rng):
        body = json.dumps(completion(prompt="x " * 400, max_tokens=400, ignore_eos=True,
                                     stream=rng.random() < 0.5)).encode()
        return self.raw(self.post_head("/v1/completions", len(body)) + body, leave=True)

    def ask_other_methods(self, rng):
        method = rng.choice(("PUT", "DELETE", "GET", "PATCH", "OPTIONS", "BREW"))
        return self.post(rng.choice(("/v1/completions", "/tokenize", "/nothing")), "x" * 1000, method=method)


# What must be answered right at rest, among the others and after them.
RIGHT = [("/v1/completions", completion(prompt="KING RICHARD:", max_tokens=12, logprobs=2)),
         ("/v1/chat/completions", chat(max_tokens=12, logprobs=True, top_logprobs=2)),
         ("/v1/completions", completion(prompt="Once upon a time", n=2, seed=3, temperature=1, max_tokens=8)),
         ("/tokenize", {"content": "To be, or not", "with_pieces": True})]


def essence(text):
    answer = json.loads(text)
    return {key: answer[key] for key in answer if key not in ("id", "created", "usage")}


class Attack:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.TemporaryDirectory()
        command = [options.odmoe, "serve", options.model, "--port", "0", "--memory", options.memory, "--context",
                   str(options.context), "--chunk", "128", "--timeout", "60", "--drain", "5", "--batch-dir", self.folder.name,
                   "--batch-disk", "64MiB", *options.server_flags]
        self.server = Server(command)
        self.most = int(self.server.budget * 1.05)
        if options.limit:
            self.server.end(PATIENCE)
            self.server = Server([options.limit, str(self.most), *command])
        self.requests = Requests(self.server, options.max_body)
        self.lock = threading.Lock()
        self.left = options.requests
        self.counts = collections.Counter()
        self.wrong = []
        self.done = threading.Event()
        self.right = [self.answer_of(i) for i in range(len(RIGHT))]
        self.health_max = 0.0
        # Sessions of batches have been used once, too.
        lines = "\n".join(self.requests.line(f"r{i}", completion()) for i in range(8))
        file = json.loads(self.requests.upload(self.requests.form(lines))[1])["id"]
        self.server.ask("/v1/batches", {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "1h"})
        self.requests.batches_end()

    def is_wrong(self, what):
        with self.lock:
            self.wrong.append(what)
            print(f"wrong: {what}", file=sys.stderr, flush=True)

    def answer_of(self, i):
        """What is answered at last, whoever else has the memory or the places now."""
        path, body = RIGHT[i]
        while True:
            status, text = self.server.ask(path, body)
            if status not in (429, 503):
                return status, essence(text) if status == 200 else text.decode()
            time.sleep(0.2)

    def attack(self, seed):
        rng = random.Random(seed)
        kinds = self.requests.all()
        while True:
            with self.lock:
                if self.left == 0:
                    return
                self.left -= 1
            kind = rng.choice(kinds)
            name = kind.__name__.removeprefix("ask_").replace("_", " ")
            begun = time.monotonic()
            try:
                what = kind(rng)
            except (OSError, ValueError, http.client.HTTPException) as error:
                if isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
                    what = "closed"
                else:
                    self.is_wrong(f"{name}: {error!r} after {time.monotonic() - begun:.0f} s")
                    what = "failed"
            if isinstance(what, int) and what >= 500 and what not in REFUSED:
                self.is_wrong(f"{name}: {what}")
            if self.server.process.poll() is not None:
                self.is_wrong(f"{name}: the server ended with {self.server.process.returncode}")
                with self.lock:
                    self.left = 0
            with self.lock:
                self.counts[name, str(what)] += 1

    def watch(self):
        """Right answers all the while, and whether the server is there at all."""
        i = 0
        while not self.done.is_set():
            try:
                i = (i + 1) % len(RIGHT)
                if (answer := self.answer_of(i)) != self.right[i]:
                    self.is_wrong(f"among the others {RIGHT[i]} was answered {answer}, not {self.right[i]}")
            except (OSError, ValueError, http.client.HTTPException) as error:
                if self.server.process.poll() is None and not isinstance(error, ConnectionError):
                    self.is_wrong(f"among the others {RIGHT[i]}: {error!r}")
            self.done.wait(0.3)

    def at_rest(self, before):
        """What the server has once threads and descriptors are as before, or will not be."""
        for _ in range(300):
            now = self.server.usage()
            if now.threads is None or (now.threads <= before.threads and now.descriptors <= before.descriptors):
                return now
            time.sleep(0.2)
        return now

    def run(self):
        time.sleep(0.5)
        before = self.server.usage()
        try:
            with open(f"/proc/{self.server.pid}/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # the peak is counted from here on
        except OSError:
            pass
        begun = time.monotonic()
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        attackers = [threading.Thread(target=self.attack, args=(self.options.seed * 1000 + i,))
                     for i in range(self.options.at_once)]
        for thread in attackers:
            thread.start()
        for thread in attackers:
            thread.join()
        seconds = time.monotonic() - begun
        self.done.set()
        watcher.join()
        if self.server.process.poll() is None:
            self.look_after(before)
        self.report(before, seconds)
        return 1 if self.wrong else 0

    def look_after(self, before):
        for i, right in enumerate(self.right):
            if (answer := self.answer_of(i)) != right:
                self.is_wrong(f"afterwards {RIGHT[i]} was answered {answer}, not {right}")
        self.requests.batches_end()
        self.after = self.at_rest(before) if before.threads is not None else None
        if self.after:
            now = self.after
            if now.peak > self.most:
                self.is_wrong(f"at its peak it had {now.peak / MIB:.1f} MiB, and its plan and 5 % are "
                              f"{self.most / MIB:.1f} MiB")
            # What the plan calls buffers, experts and KV cache it may have taken only now.
            if now.resident > max(before.resident * 1.25, before.resident + 12 * MIB):
                self.is_wrong(f"it had {before.resident / MIB:.1f} MiB at rest, and {now.resident / MIB:.1f} MiB "
                              "afterwards")
            if now.threads > before.threads or now.descriptors > before.descriptors:
                self.is_wrong(f"it had {before.threads} threads and {before.descriptors} descriptors at rest, and "
                              f"{now.threads} and {now.descriptors} afterwards")
        # In the middle of requests, of which none may keep it.
        ends = [threading.Thread(target=self.last_request, args=(i,)) for i in range(4)]
        for thread in ends:
            thread.start()
        time.sleep(0.3)
        self.server.terminate()
        for thread in ends:
            thread.join()
        status = self.server.wait(PATIENCE)
        if status != 0:
            self.is_wrong(f"it ended with {status}:\n{self.server.said()[-2000:]}")

    def last_request(self, i):
        rng = random.Random(i)
        try:
            (self.requests.ask_amplifying_json, self.requests.ask_half_a_body, self.requests.ask_large_schema,
             self.requests.ask_and_do_not_read)[i](rng)
        except (OSError, http.client.HTTPException):
            pass

    def report(self, before, seconds):
        print(f"\n{self.options.requests} requests, {self.options.at_once} at a time, in {seconds:.0f} s\n")
        kinds = sorted({name for name, _ in self.counts})
        print("| kind | answers |\n|---|---|")
        for kind in kinds:
            answers = ", ".join(f"{what} ({n})" for (name, what), n in sorted(self.counts.items()) if name == kind)
            print(f"| {kind} | {answers} |")
        after = getattr(self, "after", None)
        if after:
            print(f"\nplan {self.server.budget / MIB:.1f} MiB; resident {before.resident / MIB:.1f} MiB before, at most "
                  f"{after.peak / MIB:.1f} MiB, {after.resident / MIB:.1f} MiB afterwards; threads {before.threads} and "
                  f"{after.threads}, descriptors {before.descriptors} and {after.descriptors}")
        print(f"\nwrong: {len(self.wrong)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--odmoe", default="build/release/cli/odmoe")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--memory", default="50%")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--max-body", type=int, default=0, help="what the server takes, if it is told; bytes")
    parser.add_argument("--limit", help="program that runs a command with a limit of memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("server_flags", nargs="*")
    options = parser.parse_args()
    if options.max_body:
        options.server_flags += ["--max-body", str(options.max_body)]
    else:
        options.max_body = MIB + 128 * options.context
    sys.exit(Attack(options).run())


if __name__ == "__main__":
    main()
