#!/usr/bin/python3
"""Several clients at once: `odmoe serve` and, beside it, llama-server on the same file under the same hard limit.

    bench/scenarios/server_load.py --model replay.gguf [--odmoe build/release/cli/odmoe] [--memory 25%]
        [--sessions 1,4,16] [--tokens 64] [--prompt-tokens 32] [--rounds 1] [--context 1024] [--threads 2] [--in-turns]
        [--llama 'llama-server' --llama-flags '--no-repack'] [--limit 'memlimit' --limit-bytes 25%] [--json FILE]
    bench/scenarios/server_load.py --model model.gguf --prompt-cache [--prompt-tokens 2000]

With N sessions, N clients send a prompt each of their own at the same moment and take their answers as streams of
exactly --tokens tokens, --rounds times; the server is started anew for every N.  Shown are the tokens of all clients
per second (from the first request to the last token, and from when the last client has its first token to when the
first has its last: only tokens written by all of them together), the time to the first token, the time between two
tokens of one client, and of odmoe how many experts were read per token written, and how many tokens a step had
(/v1/stats).  --limit is a command that runs another one with a limit on all its memory, page cache included, from a
cold page cache (LIMIT BYTES COMMAND...; needs root); --limit-bytes may be a share of the model file's size.  odmoe runs
under it too, with a budget 5 % (at least 32 MiB) below it where --memory is not given.

llama-server is asked as odmoe is: as many slots as sessions, each with --context tokens, as many threads, the same
prompts, greedy, no end before --tokens tokens; and no prompt is taken from a cache in either.  An answer of another
length, or another text than the replay's where --replay-steps is given, ends the measurement.

--prompt-cache measures the time to the first token of a prompt that was there before, in one session whose text
was another in between: without the cache, from memory, and from disk after a restart.  Each is the median of
--rounds, each on a prompt of its own.

Prints Markdown.  On a machine that does other things as well the times mean nothing; the counts do.
"""
import argparse
import http.client
import json
import os
import re
import shlex
import statistics
import sys
import tempfile
import threading
import time

from serving import ServerProcess

WORDS = ("the king people word nation father house horse winter summer state union justice peace war night day hand "
         "heart lord man woman child city river mountain sea light fire water bread wine gold silver law truth").split()


def prompt_text(seed, words):
    """Words in an order of the prompt's own; the same seed gives the same text."""
    state = seed * 2654435761 % 2**32 or 1
    text = []
    for _ in range(words):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        text.append(WORDS[state % len(WORDS)])
    return " ".join(text)


def prompt_of(seed, options):
    """A prompt; of a replay model one that starts at a place of its own, so that every engine routes as recorded."""
    if not options.replay_steps:
        return prompt_text(seed, options.prompt_tokens)
    first = seed * 37 % (options.replay_steps - options.prompt_tokens - options.tokens)
    return steps(first, options.prompt_tokens)


def steps(first, count):
    """Of a replay: its tokens in a row."""
    return "".join(f" s{first + i:04d}" for i in range(count))


class Server(ServerProcess):
    def __init__(self, name, command, port=None):
        self.name = name
        self.fixed_port = port
        super().__init__(command)

    def is_ready(self):
        if self.fixed_port is None:
            return super().is_ready()
        self.port = self.fixed_port
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def stats(self):
        return json.loads(self.get("/v1/stats")[1])

    def __exit__(self, *_):
        super().__exit__()
        if peak := re.search(r"peak .*", self.said()):
            print(f"{self.name}: {peak[0]}", file=sys.stderr, flush=True)


class Failed(Exception):
    """What a client was answered is not what it should be."""


def complete(server, prompt, tokens):
    """-> times at which the request was sent and at which each event with text came, the usage, and the text."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    if not server.is_odmoe:
        body["cache_prompt"] = False  # nor does odmoe take up prompts of less than a chunk
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=3600)
    times = [time.monotonic()]
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise Failed(f"the server answered {answer.status}: {answer.read().decode(errors='replace')}")
    usage, text = {}, ""
    for line in answer:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise Failed(f"the server said: {event['error']}")
        usage = event.get("usage") or usage
        choices = event.get("choices")
        if choices and (choices[0].get("text") or choices[0].get("finish_reason") is None):
            times.append(time.monotonic())
            text += choices[0].get("text") or ""
    if usage.get("completion_tokens") != tokens:
        raise Failed(f"{server.name} wrote {usage.get('completion_tokens')} tokens where {tokens} were asked for")
    return times, usage, text


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def load(server, clients, options):
    """One table row's figures."""
    results = [None] * clients
    gaps, first, together, failed, seconds, written = [], [], [], [], 0.0, 0
    before = server.stats() if server.is_odmoe else None
    for round_ in range(options.rounds):
        def client(i, round_=round_):
            prompt = prompt_of(1 + i + clients * round_, options)
            try:
                times, usage, text = complete(server, prompt, options.tokens)
                if options.replay_steps and text != steps(int(prompt[-4:]) + 1, options.tokens):
                    raise Failed(f"{server.name} did not go on as the replay after {prompt!r}: {text!r}")
                results[i] = times, usage
            except (Failed, OSError, http.client.HTTPException) as error:
                failed.append(f"{server.name}: {error}")

        threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds += time.monotonic() - start
        if failed:
            sys.exit(failed[0])
        all_times = [times for times, _ in results]
        written += sum(usage["completion_tokens"] for _, usage in results)
        for times in all_times:
            first.append(times[1] - times[0])
            gaps += [b - a for a, b in zip(times[1:], times[2:])]
        begin, end = max(times[1] for times in all_times), min(times[-1] for times in all_times)
        if end > begin:
            shared = sum(begin < t <= end for times in all_times for t in times[1:])
            together.append(shared / (end - begin))
    row = {"sessions": clients, "tokens_per_second": written / seconds,
           "together_per_second": statistics.median(together) if together else None,
           "ttft_s": statistics.median(first), "ttft_max_s": max(first),
           "p50_ms": 1e3 * percentile(gaps, 0.50), "p95_ms": 1e3 * percentile(gaps, 0.95),
           "p99_ms": 1e3 * percentile(gaps, 0.99)}
    if before:
        after = server.stats()
        decode = {key: after["decode"][key] - before["decode"][key] for key in ("tokens", "steps", "experts_read")}
        row["experts_per_token"] = decode["experts_read"] / max(decode["tokens"], 1)
        row["tokens_per_step"] = decode["tokens"] / max(decode["steps"], 1)
    return row


def limited(options, command):
    return shlex.split(options.limit) + [str(options.limit_bytes)] + command if options.limit else command


def odmoe(options, sessions, *more):
    command = [*options.odmoe, "serve", options.model, "--port", "0", "--memory", options.memory, "--context",
               str(options.context), "--sessions", str(sessions), "--queue", "256", "--threads", str(options.threads),
               *more, *options.odmoe_flags]
    server = Server("odmoe", limited(options, command))
    server.is_odmoe = True
    return server


def llama(options, sessions):
    threads = str(options.threads)
    command = [*shlex.split(options.llama), "-m", options.model, "--port", str(options.llama_port), "-np",
               str(sessions), "-c", str(options.context * sessions), "-t", threads, "-tb", threads, "--no-webui",
               "--no-warmup", "--no-cache-prompt", "--cache-ram", "0", *options.llama_flags]
    server = Server("llama-server", limited(options, command), options.llama_port)
    server.is_odmoe = False
    return server


def number(value, form):
    return "" if value is None else format(value, form)


def table(rows):
    print("| | sessions | tokens/s | while all write | TTFT median | max | per token p50 | p95 | p99 | experts read "
          "per token | tokens per step |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['engine']} | {row['sessions']} | {row['tokens_per_second']:.2f} | "
              f"{number(row['together_per_second'], '.2f')} | {row['ttft_s']:.2f} s | {row['ttft_max_s']:.2f} s | "
              f"{row['p50_ms']:.0f} ms | {row['p95_ms']:.0f} ms | {row['p99_ms']:.0f} ms | "
              f"{number(row.get('experts_per_token'), '.1f')} | {number(row.get('tokens_per_step'), '.2f')} |",
              flush=True)


def measure_load(options):
    rows = []
    for sessions in (int(n) for n in options.sessions.split(",")):
        with odmoe(options, sessions) as server:
            rows.append({"engine": "odmoe"} | load(server, sessions, options))
        if options.in_turns:  # as many clients, one session: each waits for the one before
            with odmoe(options, 1) as server:
                rows.append({"engine": "odmoe, one by one"} | load(server, sessions, options))
        if options.llama:
            with llama(options, sessions) as server:
                rows.append({"engine": "llama-server"} | load(server, sessions, options))
        print(f"{sessions} sessions done", file=sys.stderr)
    table(rows)
    return rows


def measure_prompt_cache(options):
    def first_token(server, seed):
        times, usage, _ = complete(server, prompt_of(seed, options), 1)
        return times[-1] - times[0], usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]

    rows = []

    def add(name, measured):
        rows.append({"engine": name, "ttft_s": statistics.median(m[0] for m in measured),
                     "cached": measured[0][1], "prompt": measured[0][2]})

    seeds = range(1, options.rounds + 1)
    with tempfile.TemporaryDirectory() as directory:
        with odmoe(options, 1) as server:
            first = [first_token(server, seed) for seed in seeds]
            again = [first_token(server, seed) for seed in seeds] if options.rounds > 1 else []
        add("new", first)
        if again:
            add("again, no cache", again)
        cache = ("--prompt-cache", options.prompt_cache_size, "--cache-dir", directory)
        with odmoe(options, 1, *cache) as server:
            for seed in seeds:
                first_token(server, seed)
            first_token(server, 1000)
            add("again, from memory", [first_token(server, seed) for seed in seeds])
        with odmoe(options, 1, *cache) as server:
            add("after a restart, from disk", [first_token(server, seed) for seed in seeds])
    print("| prompt | tokens | of them reused | TTFT | of a new one's |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['engine']} | {row['prompt']} | {row['cached']} | {row['ttft_s']:.2f} s | "
              f"{row['ttft_s'] / rows[0]['ttft_s']:.2f} |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--odmoe", type=shlex.split, default=["build/release/cli/odmoe"])
    parser.add_argument("--odmoe-flags", type=shlex.split, default=[])
    parser.add_argument("--memory", help="budget of odmoe (25%%, or a little less than --limit-bytes)")
    parser.add_argument("--sessions", default="1,4,16")
    parser.add_argument("--in-turns", action="store_true", help="also as many clients on one session")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=32, help="words of each prompt")
    parser.add_argument("--replay-steps", type=int, default=0,
                        help="the model replays a trace of so many steps: prompts are parts of it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama", default="", help="command of llama-server")
    parser.add_argument("--llama-flags", type=shlex.split, default=[])
    parser.add_argument("--llama-port", type=int, default=18080)
    parser.add_argument("--limit", default="", help="command that limits memory")
    parser.add_argument("--limit-bytes", default="", help="how many, or a share of the model's file: 25%%")
    parser.add_argument("--prompt-cache", action="store_true", help="measure that instead")
    parser.add_argument("--prompt-cache-size", default="512MiB")
    parser.add_argument("--json", help="write what was measured here as well")
    options = parser.parse_args()
    if options.limit and not options.limit_bytes:
        parser.error("--limit needs --limit-bytes")
    if options.limit:
        share = re.fullmatch(r"([\d.]+)%", options.limit_bytes)
        options.limit_bytes = (int(os.stat(options.model).st_size * float(share[1]) / 100) if share
                               else int(options.limit_bytes))
    if not options.memory:
        options.memory = (f"{options.limit_bytes - max(options.limit_bytes // 20, 32 << 20) >> 20}MiB" if options.limit
                          else "25%")
    if options.replay_steps and options.replay_steps <= options.prompt_tokens + options.tokens:
        parser.error("--replay-steps must be more than --prompt-tokens and --tokens together")
    rows = measure_prompt_cache(options) if options.prompt_cache else measure_load(options)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
