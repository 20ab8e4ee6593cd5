#!/usr/bin/python3
"""`odmoe batch` at several widths: tokens a second, and bytes of experts read for each token.

    bench/scenarios/batch_width.py --model replay.gguf --replay-steps 1024 [--odmoe build/release/cli/odmoe] [--memory 12.5%]
        [--widths 1,4,16,64,256] [--requests 64] [--tokens 48] [--prompt-tokens 32] [--context 512] [--threads 2] [--prompts 4]
        [--limit 'memlimit' --limit-bytes 900M] [--llama 'llama-server' --llama-flags=--no-repack] [-- more options of odmoe batch]

For each width the same requests are answered, at least as many as the width: greedy, exactly --tokens tokens, prompts that begin at
places of the replay of their own (--replay-steps) or of words.  Every OUT has to be the same bytes.  Shown are the tokens written a
second from the first request on, those read and written together, bytes read for each of these and by the plan (--plan), the share of
the time in which reads were waited for, and that of the threads' time in which they computed.  --limit is a command that runs another
one under a hard limit on all its memory, page cache included, from a cold page cache (LIMIT BYTES COMMAND...).

With --llama the same requests are asked of llama-server under the same limit as well, with as many parallel slots as the width, each of
--context tokens, and as many clients; time is counted from the first request, once it is ready, to the last answer.  What it reads is
what the system read from the drive for its process (/proc/PID/io).

Prints Markdown.  On a machine that does other things as well the times mean nothing; the bytes do.
"""
import argparse
import concurrent.futures
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from serving import ServerProcess


def requests_text(options, n):
    lines = []
    for i in range(n):
        if options.replay_steps:
            room = options.replay_steps - options.prompt_tokens - options.tokens - 1
            at = i * 2654435761 % 2**32 % room
            prompt = "".join(f" s{at + k:04d}" for k in range(options.prompt_tokens))
        else:
            prompt = f"{i}: " + "the king of number " * (options.prompt_tokens // 4)
        body = {"prompt": prompt, "max_tokens": options.tokens, "temperature": 0, "ignore_eos": True}
        lines.append(json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions", "body": body}))
    return "\n".join(lines) + "\n"


def run(options, folder, source, width):
    out, stats = folder / f"out{width}", folder / "stats.json"
    command = shlex.split(options.limit) + [options.limit_bytes] if options.limit else []
    command += [options.odmoe, "batch", options.model, source, "-o", out, "--width", width, "--memory", options.memory,
                "--context", options.context, "--threads", options.threads, "--prompts", options.prompts, "--created", 1,
                "--stats", stats] + options.more
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"width {width}: {done.stderr.strip()}")
    said = json.loads(stats.read_text())
    lines = out.read_text().splitlines()
    written = sum(json.loads(line)["response"]["body"]["usage"]["completion_tokens"] for line in lines)
    if written != len(lines) * options.tokens:
        sys.exit(f"width {width}: {written} tokens instead of {len(lines) * options.tokens}")
    both = said["prefill"]["tokens"] + said["decode"]["tokens"]
    evaluating = sum(said[phase]["tokens"] / said[phase]["tokens_per_second"]
                     for phase in ("prefill", "decode") if said[phase]["tokens"])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"width": width, "written": written / evaluating, "both": both / evaluating,
            "read": said["io"]["demand_read_bytes"] + said["io"]["prefetch_read_bytes"], "tokens": both,
            "stall": said["io"]["stall_us"] / 1e6 / evaluating, "cpu": cpu / seconds / options.threads,
            "memory": said["memory"]["peak_resident_bytes"], "bytes": out.read_bytes()}


def complete(url, body):
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=24 * 3600) as answer:
        return json.load(answer)["usage"]


class LlamaServer(ServerProcess):
    def __init__(self, options, width):
        self.address = options.llama_port, f"http://127.0.0.1:{options.llama_port}"
        limit = shlex.split(options.limit) + [options.limit_bytes] if options.limit else []
        super().__init__([
            *limit, *shlex.split(options.llama), "-m", os.path.abspath(options.model), "--port", str(options.llama_port), "-np", str(width),
            "-c", str(options.context * width), "-t", str(options.threads), "-tb", str(options.threads), "--no-webui", "--no-warmup",
            "--no-cache-prompt", "--cache-ram", "0", *shlex.split(options.llama_flags)])

    def is_ready(self):
        self.port, self.url = self.address
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def read_bytes(self):
        with open(f"/proc/{self.pid}/io", encoding="ascii") as file:
            return int(dict(line.split(": ") for line in map(str.strip, file))["read_bytes"])

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_llama(options, source, width):
    bodies = [json.loads(line)["body"] for line in source.read_text().splitlines()]
    with LlamaServer(options, width) as server:
        before, began, cpu = server.read_bytes(), time.monotonic(), server.cpu_seconds()
        with concurrent.futures.ThreadPoolExecutor(width) as clients:
            usages = list(clients.map(lambda body: complete(server.url, body), bodies))
        seconds, read = time.monotonic() - began, server.read_bytes() - before
        busy = (server.cpu_seconds() - cpu) / seconds / options.threads
        resident = server.usage().peak
    written = sum(usage["completion_tokens"] for usage in usages)
    if written != len(bodies) * options.tokens:
        sys.exit(f"llama-server, width {width}: {written} tokens instead of {len(bodies) * options.tokens}")
    both = written + sum(usage["prompt_tokens"] for usage in usages)
    return {"written": written / seconds, "both": both / seconds, "read": read, "tokens": both, "cpu": busy, "memory": resident}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--odmoe", default="build/release/cli/odmoe")
    parser.add_argument("--memory", default="12.5%")
    parser.add_argument("--widths", default="1,4,16,64,256")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--replay-steps", type=int, default=0)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--limit", default="")
    parser.add_argument("--limit-bytes", default="")
    parser.add_argument("--llama", default="", help="command of llama-server")
    parser.add_argument("--llama-flags", default="--no-repack")
    parser.add_argument("--llama-port", type=int, default=18123)
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:at])
    options.more = arguments[at + 1:]
    print("| width | requests | tokens/s written | read and written | MiB read per token | waiting for reads | cores computing | resident |")
    print("|---|---|---|---|---|---|---|---|")
    beginnings = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width in map(int, options.widths.split(",")):
            n = max(options.requests, width)
            source = folder / f"in{n}"
            source.write_text(requests_text(options, n))
            said = run(options, folder, source, width)
            if beginnings.setdefault(n, said["bytes"]) != said["bytes"]:
                sys.exit(f"width {width}: other answers than at the width before")
            print(f"| {width} | {n} | {said['written']:.2f} | {said['both']:.2f} | {said['read'] / said['tokens'] / 2**20:.1f} | "
                  f"{said['stall']:.0%} | {said['cpu']:.0%} | {said['memory'] / 2**20:.0f} MiB |", flush=True)
            if options.llama:
                peer = run_llama(options, source, width)
                print(f"| {width}, llama-server | {n} | {peer['written']:.2f} | {peer['both']:.2f} | "
                      f"{peer['read'] / peer['tokens'] / 2**20:.1f} | | {peer['cpu']:.0%} | {peer['memory'] / 2**20:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
