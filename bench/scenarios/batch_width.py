#!/usr/bin/python3
"""`odmoe batch` at several widths: tokens a second, and bytes of experts read for each token.

    bench/scenarios/batch_width.py --model replay.gguf --replay-steps 1024 [--odmoe build/release/cli/odmoe] [--memory 12.5%]
        [--widths 1,4,16,64,256] [--requests 64] [--tokens 48] [--prompt-tokens 32] [--context 512] [--threads 2] [--prompts 4]
        [--limit 'memlimit' --limit-bytes 900M] [-- more options of odmoe batch]

For each width the same requests are answered, at least as many as the width: greedy, exactly --tokens tokens, prompts that begin at
places of the replay of their own (--replay-steps) or of words.  Every OUT has to be the same bytes.  Shown are the tokens written a
second from the first request on, those read and written together, bytes read for each of these and by the plan (--plan), the share of
the time in which reads were waited for, and that of the threads' time in which they computed.  --limit is a command that runs another
one under a hard limit on all its memory, page cache included, from a cold page cache (LIMIT BYTES COMMAND...).

Prints Markdown.  On a machine that does other things as well the times mean nothing; the bytes do.
"""
import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path


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


if __name__ == "__main__":
    main()
