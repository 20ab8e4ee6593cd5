#!/usr/bin/env python3
"""Two servers behind packaging/haproxy.cfg: conversations stay where their cache is, what one refuses another
answers, and one that is killed in the middle is missed by nobody but those whom it was answering.

    haproxy_test.py ODMOE MODEL CONFIG
"""
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from served import Server, check

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
DEADLINE = 120


class Refuser:
    """A server that is well and refuses all that it is asked."""

    def __init__(self, status):
        refuser = self
        self.refused = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, code):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                self.answer(200)

            def do_POST(self):
                refuser.refused += 1
                self.answer(status)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()


class Balancer:
    """haproxy with our configuration, but for where it listens and its servers."""

    def __init__(self, config, folder, ports):
        with open(config, encoding="utf-8") as file:
            text = file.read()
        text = re.sub(r"(?m)^    server .*\n", "", text)
        # A server that has much to do is not to be taken for a dead one by its health checks.
        text, n = re.subn(r"fall 2\b", "fall 20", text)
        check(n == 1, "the configuration's health checks are others")
        for i, port in enumerate(ports):
            text += f"    server engine{i} 127.0.0.1:{port}\n"
        end = time.monotonic() + DEADLINE
        while not self.start(text, os.path.join(folder, "haproxy.cfg"), end):
            check(time.monotonic() < end, "haproxy finds no port")

    def start(self, text, path, end):
        """On a port that is free now; false when somebody else took it meanwhile."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        text, n = re.subn(r"bind :8080", f"bind 127.0.0.1:{self.port}", text)
        check(n == 1, "the configuration listens elsewhere")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        checked = subprocess.run([HAPROXY, "-c", "-f", path], capture_output=True, text=True, check=False)
        check(checked.returncode == 0 and "WARNING" not in checked.stderr, checked.stdout + checked.stderr)
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", path], stderr=subprocess.PIPE, text=True)
        while True:
            if self.process.poll() is not None:
                said = self.process.stderr.read()
                check("Address already in use" in said or "cannot bind" in said, f"haproxy has ended: {said}")
                return False
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=DEADLINE):
                    return True
            except OSError:
                check(time.monotonic() < end, "haproxy does not answer")
                time.sleep(0.05)

    def chat(self, messages, n=4, stream=False):
        """-> the open answer."""
        body = json.dumps({"model": "x", "messages": messages, "max_tokens": n, "temperature": 0, "stream": stream,
                           "ignore_eos": True})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", body.encode(),
                                         {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=DEADLINE)

    def answer(self, messages):
        """-> (who answered, the answer)."""
        with self.chat(messages) as answer:
            return answer.headers["X-Served-By"], json.load(answer)

    def end(self):
        self.process.terminate()
        self.process.wait(DEADLINE)


def conversation(i):
    return [{"role": "system", "content": "You speak as kings do."},
            {"role": "user", "content": f"The story of the king number {i}, and of what he said unto his servants:"}]


def conversations_stay(balancer):
    served = []
    for i in range(8):
        messages = conversation(i)
        for turn in range(3):
            who, answer = balancer.answer(messages)
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            if turn == 0:
                served.append(who)
            else:
                check(who == served[-1], f"conversation {i} went from {served[-1]} to {who}")
                check(cached > 0, f"turn {turn} of conversation {i} found nothing in the cache")
            messages += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "-"},
                         {"role": "user", "content": "And then?"}]
    check(len(set(served)) == 2, f"all conversations are at {served[0]}")
    # Without a system's message, and with content in parts.
    for messages in (conversation(1)[1:],
                     [dict(message, content=[{"type": "text", "text": message["content"]}])
                      for message in conversation(2)]):
        first, answer = balancer.answer(messages)
        messages += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "-"},
                     {"role": "user", "content": "And then?"}]
        then, answer = balancer.answer(messages)
        check(first == then and answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, "a conversation moved")
    return served


def refusals_are_tried_elsewhere(odmoe_port, config, folder):
    for status in (429, 503):
        refuser = Refuser(status)
        balancer = Balancer(config, folder, [refuser.port, odmoe_port])
        try:
            for i in range(6):
                who, answer = balancer.answer(conversation(i))
                check(who == "engine1" and answer["usage"]["completion_tokens"] == 4, f"{who}: {answer}")
            check(refuser.refused > 0, f"nobody was refused with {status}")
        finally:
            balancer.end()
            refuser.end()


def one_is_killed(balancer, servers, served):
    victim = served[0]
    other = next(i for i, who in enumerate(served) if who != victim)
    streams = {}
    for i in (other, 0):  # the victim's last, so that it is in the middle of it when it is killed
        streams[i] = balancer.chat(conversation(i), n=900, stream=True)
        check(streams[i].headers["X-Served-By"] == served[i], "a conversation moved")
        streams[i].readline()  # it has begun
    os.kill(servers[int(victim.removeprefix("engine"))].pid, signal.SIGKILL)
    try:
        broken = streams[0].read()
    except OSError:
        broken = b""
    except http.client.IncompleteRead as error:
        broken = error.partial
    check(b"[DONE]" not in broken, "what the killed server had begun was ended as if whole")
    check(b"[DONE]" in streams[other].read(), "the other server's answer was cut")
    for i in range(8):  # nobody waits for a health check to notice
        who, answer = balancer.answer(conversation(i))
        check(who == served[other] and answer["usage"]["completion_tokens"] == 4, f"{who}: {answer}")


def one_ends_in_order(balancer, server):
    """The last one: what it was writing is written, and then there is nobody."""
    stream = balancer.chat(conversation(0), n=200, stream=True)
    stream.readline()
    server.terminate()
    check(b"[DONE]" in stream.read(), "an answer was cut by SIGTERM")


def main():
    if HAPROXY is None:
        print("skipped: there is no haproxy")
        return 77
    odmoe, model, config = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as folder, \
            Server(odmoe, model, "--threads", "1", "--sessions", "4", "--no-probe", context=1024) as first, \
            Server(odmoe, model, "--threads", "1", "--sessions", "4", "--no-probe", context=1024) as second:
        refusals_are_tried_elsewhere(first.port, config, folder)
        balancer = Balancer(config, folder, [first.port, second.port])
        try:
            served = conversations_stay(balancer)
            servers = [first, second]
            one_is_killed(balancer, servers, served)
            left = next(s for i, s in enumerate(servers) if f"engine{i}" != served[0])
            one_ends_in_order(balancer, left)
        finally:
            balancer.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
