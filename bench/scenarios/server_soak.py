#!/usr/bin/python3
"""`odmoe serve` under a mixed load for long: nothing may be wrong, leak or grow.

    bench/scenarios/server_soak.py MODEL --requests 10000 [--clients 6]
    bench/scenarios/server_soak.py MODEL --minutes 60 [--clients 3] [--pause 0.05]
        [--odmoe build/release/cli/odmoe] [--memory 50%] [--seed 1] [--json FILE] [-- --threads 1 ...]

First some fifty requests are asked one by one, with nobody else there: completions and chats, greedy and with a
seed, answers in JSON, calls of tools, long prompts that share their beginning, tokens, and requests that are
refused.  Their answers, with the logarithms of the tokens' probabilities, are what the same requests must be
answered with from then on, whoever else is served, as streams or not.

--requests asks that many of them, drawn by chance, with --clients at a time.

--minutes goes on for that long and besides lets clients leave in the middle of streams and before the answer,
close half of their sockets, read slowly or not at all, send requests byte by byte, ask for more at once than the
queue holds (429 is right then), send damaged bodies and requests, and look at the live page.

Memory, descriptors and threads are looked at once a minute (or every twentieth of the requests), and compared at
rest before and after the load.  At the end SIGTERM comes while requests are under way.  What comes after `--` goes
to the server.

Prints Markdown; ends with status 1 when anything was wrong: another answer, a status that should not be, memory
that grew by more than --growth from the first sixth of the load to its end, descriptors or threads left over, or
a server that does not end with status 0.
"""
import argparse
import collections
import http.client
import json
import random
import re
import signal
import socket
import struct
import sys
import threading
import time

from serving import MIB, ServerProcess

QUEUE = 12  # of --minutes: bursts go beyond it
SESSIONS = 4
SPEECH = ("Now is the winter of our discontent made glorious summer by this sun of York, and all the clouds that "
          "lowered upon our house in the deep bosom of the ocean buried. ")
PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"], "properties": {
    "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["king", "queen", None]}, "maxItems": 2}}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "additionalProperties": False, "required": ["days"],
    "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}}}}}


def distinct_requests():
    """-> [(kind, method, path, body)]: those with a body may be asked as a stream where their kind can be one."""
    found = []

    def add(kind, path, body, method="POST"):
        found.append((kind, method, path, body))

    def completion(kind, prompt, **more):
        add(kind, "/v1/completions", {"prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 2} | more)

    def chat(kind, text, **more):
        add(kind, "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 12,
                                           "temperature": 0, "logprobs": True, "top_logprobs": 2} | more)

    for prompt in ("KING RICHARD:", "The state of the union", "In the beginning God", "My lord,", "We the people of",
                   "And it came to pass that", "ROMEO: But soft,", "O"):
        completion("completion", prompt)
    for seed in range(4):
        completion("completion, seed", "Once upon a time", temperature=1, seed=seed, top_p=0.9)
    for i in range(5):  # the context takes one to three chunks of them, whole ones are taken up again
        completion("completion, long prompt", SPEECH * (6 + 2 * i) + f"Part {i}:", max_tokens=6)
    completion("completion, penalties", "the the the", frequency_penalty=1, presence_penalty=0.5)
    completion("completion, stop", "KING RICHARD:", max_tokens=40, stop=[","])
    add("completion, echo", "/v1/completions", {"prompt": "KING HENRY: What", "max_tokens": 4, "temperature": 0,
                                                "echo": True, "logprobs": 3})
    add("completion, several", "/v1/completions", {"prompt": ["A", "B"], "n": 2, "max_tokens": 4, "seed": 5})
    for text in ("Who are you?", "What is a king?", "Speak of war.", "Good morrow", "Why?", SPEECH * 5):
        chat("chat", text)
    for seed in range(4):
        chat("chat, JSON schema", "Describe a king.", max_tokens=200, temperature=1, seed=seed,
             response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}})
    chat("chat, JSON", "Describe a queen.", max_tokens=30, response_format={"type": "json_object"})
    for seed in range(2):
        chat("chat, tool", "Weather?", max_tokens=100, temperature=1, seed=seed, tools=[WEATHER],
             tool_choice="required", parallel_tool_calls=False)
    for text in ("To be, or not", SPEECH * 20, "é 漢字 \u0000"):
        add("tokenize", "/tokenize", {"content": text})
    add("detokenize", "/detokenize", {"tokens": [890, 297, 11, 499, 348]})
    add("models", "/v1/models", None, "GET")
    completion("refused", "x", temperature=-1)
    completion("refused", "long " * 5000)
    completion("refused", [10**9])
    chat("refused", "x", response_format={"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "string", "pattern": "(a)\\1"}}})
    add("refused", "/v1/chat/completions", {"messages": []})
    add("refused", "/v1/completions", "{\"prompt\": ")
    add("refused", "/v1/nothing", {})
    add("refused", "/v1/completions", None, "GET")
    return found


def essence(answer):
    """What of an answer is the same every time: choices without the ids of calls, and the usage."""
    if "error" in answer:
        return answer
    if "choices" not in answer:
        return {key: answer[key] for key in answer}
    choices = []
    for choice in answer["choices"]:
        said = choice.get("message") or {}
        choices.append({"text": choice.get("text") or said.get("content") or "",
                        "calls": [call["function"] for call in said.get("tool_calls") or []],
                        "finish": choice["finish_reason"], "logprobs": choice["logprobs"]})
    usage = {key: answer["usage"][key] for key in ("prompt_tokens", "completion_tokens")}
    return {"choices": choices, "usage": usage}


def merge_logprobs(whole, part):
    if part is None:
        return whole
    if whole is None:
        return part
    return {key: whole[key] + part[key] if isinstance(part[key], list) else part[key] for key in part}


def essence_of_stream(events):
    """The same of a stream's events."""
    choices = collections.defaultdict(lambda: {"text": "", "calls": [], "finish": None, "logprobs": None})
    usage = None
    for event in events:
        if "error" in event:
            return event
        if event.get("usage"):
            usage = {key: event["usage"][key] for key in ("prompt_tokens", "completion_tokens")}
        for choice in event["choices"]:
            whole, delta = choices[choice["index"]], choice.get("delta") or {}
            whole["text"] += choice.get("text") or delta.get("content") or ""
            whole["finish"] = choice["finish_reason"] or whole["finish"]
            whole["logprobs"] = merge_logprobs(whole["logprobs"], choice.get("logprobs"))
            for call in delta.get("tool_calls") or []:
                if call["index"] == len(whole["calls"]):
                    whole["calls"].append({"name": "", "arguments": ""})
                for key, value in call["function"].items():
                    whole["calls"][call["index"]][key] += value
    return {"choices": [choices[i] for i in sorted(choices)], "usage": usage}


class Server(ServerProcess):
    def ask(self, method, path, body, connection=None):
        """-> status, headers, answer (parsed, or the events of a stream)"""
        own = connection is None
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            data = body if isinstance(body, str) or body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            if "event-stream" in answer.getheader("Content-Type", ""):
                text = answer.read().decode()
                events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
                if not events or events[-1] != "[DONE]":
                    raise ValueError("a stream ended without [DONE]")
                return answer.status, answer.headers, [json.loads(event) for event in events[:-1]]
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            if own:
                connection.close()

    def resources(self):
        """-> bytes resident, open descriptors, threads; None for what this system does not tell"""
        usage = self.usage()
        return usage.resident, usage.descriptors, usage.threads


class Soak:
    def __init__(self, options):
        self.options = options
        self.requests = distinct_requests()
        self.lock = threading.Lock()
        self.counts = collections.Counter()  # (kind, status or what happened)
        self.wrong = []
        self.samples = []  # (seconds, resident, descriptors, threads, tokens written)
        self.stop = threading.Event()
        self.left = options.requests
        command = [options.odmoe, "serve", options.model, "--port", "0", "--memory", options.memory, "--context",
                   "1024", "--chunk", "128", "--sessions", str(SESSIONS), "--prompt-cache", "8MiB", "--queue",
                   str(QUEUE if options.minutes else 256), *options.server_flags]
        self.server = Server(command)
        self.right = []
        for kind, method, path, body in self.requests:
            status, _, answer = self.server.ask(method, path, body)
            if (status >= 400) != (kind == "refused") or status >= 500:
                sys.exit(f"server_soak: {path} {body} was answered {status}: {answer}")
            self.right.append((status, essence(answer)))
        self.start = time.monotonic()

    def count(self, kind, what):
        with self.lock:
            self.counts[kind, str(what)] += 1

    def is_wrong(self, what):
        with self.lock:
            self.wrong.append(what)
            if len(self.wrong) <= 20:
                print(f"wrong: {what}", file=sys.stderr, flush=True)

    def check(self, i, rng, connection=None, may_refuse=False):
        """Asks request i and compares; False when it was told to come back."""
        kind, method, path, body = self.requests[i]
        streams = isinstance(body, dict) and "completions" in path and kind != "refused" and rng.random() < 0.5
        name = kind + (", stream" if streams else "")
        sent = body | {"stream": True, "stream_options": {"include_usage": True}} if streams else body
        try:
            try:
                status, headers, answer = self.server.ask(method, path, sent, connection)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                # Before a byte of the answer: a connection that idled may have ended, as HTTP has it.
                if connection is None or not connection.used:
                    raise
                self.count("connection", "had ended")
                connection.close()
                status, headers, answer = self.server.ask(method, path, sent, connection)
            if connection:
                connection.used = True
        except (OSError, ValueError, http.client.HTTPException) as error:
            if connection:
                connection.close()
                connection.used = False
            if not self.stop.is_set():
                self.is_wrong(f"{name}: {error!r}")
            return True
        self.count(name, status)
        if status in (429, 503) and may_refuse:
            if status == 429 and not 1 <= int(headers.get("Retry-After", 0)):
                self.is_wrong("429 without Retry-After")
            return False
        said = essence_of_stream(answer) if isinstance(answer, list) else essence(answer)
        if (status, said) != self.right[i]:
            self.is_wrong(f"request {i}, {name}: {status} {json.dumps(said)}, not {json.dumps(self.right[i])}")
        return True

    # Clients.  Each has chances of its own.

    def client(self, rng):
        """Asks and compares, on a connection that it keeps for a while."""
        connection = None
        while not self.stop.is_set():
            if self.options.requests:
                with self.lock:
                    if self.left == 0:
                        return
                    self.left -= 1
            if connection is None or rng.random() < 0.1:
                connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
                connection.used = False
            i = rng.randrange(len(self.requests))
            # What was not understood ends its connection; so does every damaged answer.
            own = connection if self.requests[i][0] != "refused" else None
            while not self.check(i, rng, own, may_refuse=bool(self.options.minutes)):
                self.stop.wait(rng.random())
                if self.stop.is_set():
                    return
            if self.options.pause:
                self.stop.wait(rng.random() * 2 * self.options.pause)

    def connect(self, receive_buffer=0):
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", self.server.port))
        return connection

    def post(self, path, body):
        data = json.dumps(body).encode()
        return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\n\r\n").encode() + data

    def endless(self, rng):
        prompt = SPEECH * rng.choice((1, 1, 10, 20)) + str(rng.random())
        return self.post("/v1/completions", {"prompt": prompt, "max_tokens": 700 if len(prompt) < 500 else 50,
                                             "stream": rng.random() < 0.7, "ignore_eos": True})

    def leave(self, rng):
        """Goes away in the middle of a stream, of a prompt, or of its own request."""
        with self.connect() as connection:
            request = self.endless(rng)
            how = rng.choice(("at once", "in the stream", "in the request"))
            connection.sendall(request[:rng.randrange(len(request))] if how == "in the request" else request)
            if how == "in the stream":
                for _ in range(rng.randrange(1, 8)):
                    connection.recv(rng.choice((64, 4096)))
            elif rng.random() < 0.5:
                time.sleep(rng.random() * 0.3)
            if rng.random() < 0.5:  # with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return how

    def half_close(self, rng):
        """Sends no more: the request ends, and the server closes."""
        with self.connect() as connection:
            connection.sendall(self.endless(rng))
            time.sleep(rng.random() * 0.1)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        return "closed"

    def read_slowly(self, rng):
        with self.connect(receive_buffer=2048) as connection:
            connection.sendall(self.endless(rng))
            if rng.random() < 0.3:
                self.stop.wait(13)  # takes nothing
                return "not at all"
            for _ in range(60):
                if self.stop.is_set() or not connection.recv(128):
                    break
                time.sleep(0.1)
        return "slowly"

    def send_slowly(self, rng):
        with self.connect() as connection:
            for byte in self.endless(rng)[:rng.randrange(20, 150)]:
                connection.sendall(bytes([byte]))
                if self.stop.wait(0.2):
                    break
        return "left"

    def listen(self, rng):
        with self.connect() as connection:
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            end = time.monotonic() + rng.random() * 15
            while time.monotonic() < end and not self.stop.is_set() and connection.recv(4096):
                pass
        return "left"

    def hostile(self, rng):
        """A request with some bytes changed: refused or answered, never a failure of the server."""
        _, method, path, body = rng.choice(self.requests)
        data = bytearray(self.post(path, body) if isinstance(body, dict) else
                         f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            change = rng.randrange(3)
            if change == 0:
                data[at] = rng.randrange(256)
            elif change == 1:
                del data[at:at + rng.randrange(1, 30)]
                data = data or bytearray(b"x")
            else:
                data[at:at] = rng.choice((b"\r\n", b"[" * 200, b"1e999", b"\x00", b"\xff\xfe", b"{", b"\"", b"-1"))
        with self.connect() as connection:
            try:
                connection.sendall(data)
                if rng.random() < 0.7:
                    connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
                status = re.match(rb"HTTP/1.1 (\d+)", answer)
            except ConnectionError:
                return "closed"
        if answer and not status:
            self.is_wrong(f"no HTTP was answered to {bytes(data)!r}: {answer[:200]!r}")
        if status and int(status[1]) >= 500 and int(status[1]) not in (501, 503, 505):
            self.is_wrong(f"{status[1].decode()} was answered to {bytes(data)!r}: {answer[-400:]!r}")
        return status[1].decode() if status else "closed"

    def burst(self, rng):
        """More at once than there is room for: some are told to come back, the others get what is right."""
        self.stop.wait(10 + rng.random() * 20)
        threads = []
        for _ in range(2 * (QUEUE + SESSIONS)):
            own = random.Random(rng.random())
            i = own.choice([i for i, request in enumerate(self.requests) if "completion" in request[0]])
            threads.append(threading.Thread(target=self.check, args=(i, own, None, True)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "done"

    def repeat(self, name, action, rng):
        while not self.stop.is_set():
            try:
                self.count(name, action(rng))
            except ConnectionError:  # the server may close on those who behave so
                self.count(name, "closed by the server")
            except OSError as error:
                if not self.stop.is_set():
                    self.is_wrong(f"{name}: {error!r}")
            self.stop.wait(rng.random() * 4 * self.options.pause)

    # What is looked at.

    def sample(self):
        status, _, stats = self.server.ask("GET", "/v1/stats", None)
        if status != 200:
            self.is_wrong(f"/v1/stats: {status}")
        self.samples.append((time.monotonic() - self.start, *self.server.resources(), stats["decode"]["tokens"]))
        print("{:.0f} s: {} requests, memory {}, descriptors {}, threads {}, tokens {}".format(
            self.samples[-1][0], sum(self.counts.values()), *self.samples[-1][1:]), file=sys.stderr, flush=True)

    def rest(self):
        """Waits until nothing is left of what was before, and says what is used then."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            health = self.server.ask("GET", "/health", None)[2]
            if health["requests"] == {"running": 0, "queued": 0}:
                break
            time.sleep(0.1)
        else:
            self.is_wrong(f"requests are left over: {health}")
        time.sleep(15)  # idle connections and the threads that served them end
        return self.server.resources()

    def end(self):
        """SIGTERM while requests are under way: they end as they should, or are told that the server ends."""
        rng = random.Random(0)
        threads = [threading.Thread(target=self.check, args=(i, rng, None, True)) for i in range(SESSIONS)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        self.server.terminate()
        for thread in threads:
            thread.join()
        code = self.server.wait(60)
        if code is None:
            code = "none within a minute"
        if code != 0:
            self.is_wrong(f"after SIGTERM the server ended with {code}:\n{self.server.said()[-2000:]}")
        return code

    def run(self):
        options = self.options
        before = self.rest()
        self.start = time.monotonic()
        actions = {"left": self.leave, "half closed": self.half_close, "read slowly": self.read_slowly,
                   "sent slowly": self.send_slowly, "listened": self.listen, "hostile": self.hostile,
                   "burst": self.burst} if options.minutes else {}
        rng = random.Random(options.seed)
        threads = [threading.Thread(target=self.client, args=(random.Random(rng.random()),))
                   for _ in range(options.clients)]
        threads += [threading.Thread(target=self.repeat, args=(name, action, random.Random(rng.random())))
                    for name, action in actions.items()]
        for thread in threads:
            thread.start()
        if options.minutes:
            end = self.start + 60 * options.minutes
            while (now := time.monotonic()) < end and self.server.process.poll() is None:
                time.sleep(min(60, end - now))
                if time.monotonic() - now > 90:  # whoever idled meanwhile was cut off
                    self.count("machine", "stood still")
                self.sample()
            self.stop.set()
        else:
            for part in range(19, -1, -1):
                while self.left > part * options.requests // 20 and self.server.process.poll() is None:
                    time.sleep(0.05)
                self.sample()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - self.start
        self.stop.clear()
        after = self.rest()
        for i in range(len(self.requests)):  # alone, as at the start
            self.check(i, rng)
        return before, after, seconds, self.end()


def mib(value):
    return "not told here" if value is None else f"{value / MIB:.1f} MiB"


def report(soak, before, after, seconds, code):
    print(f"{sum(soak.counts.values())} requests in {seconds:.0f} s, {soak.samples[-1][-1]} tokens written\n")
    statuses = sorted({status for _, status in soak.counts}, key=lambda s: (not s.isdigit(), s))
    print(f"| | {' | '.join(statuses)} |\n|---{'|---' * len(statuses)}|")
    for kind in sorted({kind for kind, _ in soak.counts}):
        print(f"| {kind} | {' | '.join(str(soak.counts[kind, status] or '') for status in statuses)} |")
    memory = [sample[1] for sample in soak.samples if sample[1] is not None]
    early = memory[len(memory) // 6] if memory else None
    peak = max(memory) if memory else None
    print(f"\n| | |\n|---|---|\n| wrong | {len(soak.wrong)} |\n| memory at rest before | {mib(before[0])} |\n"
          f"| after a sixth | {mib(early)} |\n| last | {mib(memory[-1] if memory else None)} |\n"
          f"| most | {mib(peak)} |\n| at rest after | {mib(after[0])} |\n"
          f"| descriptors at rest, before and after | {before[1]}, {after[1]} |\n"
          f"| threads at rest, before and after | {before[2]}, {after[2]} |\n| status after SIGTERM | {code} |")
    if memory and memory[-1] - early > soak.options.growth * MIB:
        soak.is_wrong(f"memory grew by {mib(memory[-1] - early)}")
    for name, i in (("descriptors", 1), ("threads", 2)):
        if before[i] is None:
            print(f"{name}: skipped, this system does not tell", file=sys.stderr)
        elif after[i] > before[i]:
            soak.is_wrong(f"{name} are left over: {after[i]}, {before[i]} before")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--requests", type=int, default=0)
    how.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0, help="mean seconds that a client waits between two requests")
    parser.add_argument("--odmoe", default="build/release/cli/odmoe")
    parser.add_argument("--memory", default="50%")
    parser.add_argument("--growth", type=float, default=8, help="MiB")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write what was counted here as well")
    parser.add_argument("server_flags", nargs="*")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("server_soak: ended"))
    soak = Soak(options)
    try:
        result = soak.run()
    finally:
        soak.stop.set()
    report(soak, *result)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"counts": [[*key, n] for key, n in sorted(soak.counts.items())], "samples": soak.samples,
                       "wrong": soak.wrong, "before": result[0], "after": result[1]}, file, indent=1)
    sys.exit(1 if soak.wrong else 0)


if __name__ == "__main__":
    main()
