#!/usr/bin/python3
"""Models larger than memory: odmoe beside llama.cpp on the same file under the same hard limit.

    bench/scenarios/limited_memory.py --model replay.gguf --limit 'memlimit' --llama 'llama-completion' \
        [--odmoe build/release/cli/odmoe] [--shares 12.5,25,50,100] [--rounds 3] [--tokens 64] [--json FILE]

--limit is a command that runs another one with a limit on all its memory, page cache included, from a cold page
cache (LIMIT SIZE COMMAND...; needs root).  The limit is the share of the model file's size; odmoe is told a budget
5 % (at least 32 MiB) below it.  The prompt is made of the replay's own steps, so that every engine routes as recorded.
Every round runs, in turns,
  - odmoe, warm: the second pass of a process over the same steps, which tries out the drive anew before,
  - odmoe, cold: one process that evaluates the prompt and decodes (what a user waits for, the drive being known),
  - llama.cpp with each of --llama-flags, cold: mapped files have no other start under a limit.
Prints Markdown: medians, and the ratio of the medians of warm odmoe to llama.cpp's best flags.  A run of llama.cpp that
does not end in --timeout seconds counts as that.  The roofline of decoding is the slower of computing (odmoe's own speed
when nothing is read: the fastest share of the same round) and reading: bytes per token over the drive's bandwidth, the
larger of what the same process probed before and of what the drive brought while at least one read was under way, since
shared drives are not the same from one minute to the next.  "At work" is how much of the time that was.
"""
import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def prompt(steps, n, left):
    """n steps in a row (from the first again after the last), with `left` more to decode before the replay ends."""
    return "".join(f" s{(steps - left - n + i) % steps:04d}" for i in range(n))


def median(values):
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def first_byte_and_rest(command, timeout):
    """-> seconds to the first byte on stdout, stderr, exit status; None as status after a timeout."""
    with tempfile.TemporaryFile("w+") as err:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL,
                                   start_new_session=True)
        os.set_blocking(process.stdout.fileno(), False)
        first = None
        status = None
        while time.monotonic() - start < timeout:
            data = process.stdout.read()
            if data and first is None:
                first = time.monotonic() - start
            status = process.poll()
            if status is not None:
                break
            time.sleep(0.02)
        if status is None:
            os.killpg(process.pid, 9)
            process.wait()
        err.seek(0)
        return first, err.read(), status


def odmoe(a, limit, budget, cache, what):
    """The command; what it finds out about the drive is kept in `cache`."""
    return [*a.limit, limit, "env", f"XDG_CACHE_HOME={cache}", *a.odmoe, *what, a.model, "-n", str(a.tokens),
            "--context", str(a.context), "-t", str(a.threads), "--memory", budget, *a.odmoe_flags]


def odmoe_cold(a, limit, budget, prompt_file, cache):
    with tempfile.NamedTemporaryFile("r", suffix=".json") as stats:
        command = [*odmoe(a, limit, budget, cache, ["run"]), "--file", prompt_file, "--temperature", "0", "--stats",
                   stats.name]
        first, err, status = first_byte_and_rest(command, a.timeout)
        if status != 0:
            sys.exit(f"{shlex.join(command)}: exit {status}\n{err[-2000:]}")
        s = json.load(open(stats.name))
    return {"prefill": s["prefill"]["tokens_per_second"], "decode": s["decode"]["tokens_per_second"], "ttft": first,
            "hit_rate": s["experts"]["hit_rate"], "io": s["io"], "predictor": s["predictor"],
            "peak": s["memory"]["peak_resident_bytes"]}


def odmoe_warm(a, limit, budget, prompt_file, cache):
    command = [*odmoe(a, limit, budget, cache, ["bench", "infer"]), "-p", Path(prompt_file).read_text(), "--warm-up", "1",
               "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)[:300]}: exit {done.returncode}\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    r = report["median"]
    return {"probed": report.get("probed_bytes_per_second"), "reading": r["read_bytes_per_second"],
            "prefill": r["prefill_tokens_per_second"], "decode": r["decode_tokens_per_second"],
            "stall": r["stall_share"], "hit_rate": r["hit_rate"], "bytes": r["read_bytes_per_token"]}


def llama(a, limit, flags, prompt_file):
    command = [*a.limit, limit, *a.llama, "-m", a.model, "-f", prompt_file, "-n", str(a.llama_tokens), "--temp", "0",
               "--ignore-eos", "-no-cnv", "--no-display-prompt", "--no-warmup", "-c", str(a.context), "-t", str(a.threads),
               *shlex.split(flags)]
    first, err, status = first_byte_and_rest(command, a.timeout)
    result = {"prefill": None, "decode": None, "ttft": first, "end": "" if status == 0 else
              f"did not finish in {a.timeout} s" if status is None else f"exit {status}"}
    for name, pattern in (("prefill", r"prompt eval time =.*?([\d.]+) tokens per second"),
                          ("decode", r"(?<!prompt) eval time =.*?([\d.]+) tokens per second")):
        found = re.search(pattern, err)
        if found:
            result[name] = float(found.group(1))
    return result


def flag_sets(a, share):
    """llama.cpp's flags that are for this share."""
    sets = []
    for f in (a.llama_flags or ["--no-repack"]) if a.llama else []:
        only, colon, rest = f.partition(":")
        if not colon or only == share:
            sets.append(rest if colon else f)
    return sets


def roofline(compute, run):
    """Tokens per second that decoding could have reached in this run; `compute` with nothing to read."""
    drive = max(run["probed"] or 0, run["reading"])
    return 1 / max(1 / compute, run["bytes"] / drive) if drive else compute


def at_work(run):
    """Share of the time of decoding in which the drive had something to read."""
    return min(1.0, run["decode"] * run["bytes"] / run["reading"]) if run["reading"] else 0.0


def show(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--odmoe", type=shlex.split, default=["build/release/cli/odmoe"])
    p.add_argument("--odmoe-flags", type=shlex.split, default=[])
    p.add_argument("--llama", type=shlex.split, default=[], help="none: odmoe alone")
    p.add_argument("--llama-flags", action="append",
                   help="one set of flags; may be given several times, as SHARE:FLAGS for one share (default: --no-repack)")
    p.add_argument("--limit", type=shlex.split, required=True)
    p.add_argument("--shares", default="12.5,25,50,100")
    p.add_argument("--steps", type=int, default=128, help="steps that the replay knows")
    p.add_argument("--prompt-tokens", type=int, default=512)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--llama-tokens", type=int, default=8)
    p.add_argument("--context", type=int, default=1024)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--timeout", type=int, default=900)
    p.add_argument("--json", type=Path, help="every single result")
    a = p.parse_args()

    size = os.stat(a.model).st_size
    runs = {}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompt_file:
        prompt_file.write(prompt(a.steps, a.prompt_tokens, a.tokens + 1))
        prompt_file.flush()
        for r in range(a.rounds):
            for share in a.shares.split(","):
                limit = int(size * float(share) / 100)
                budget = limit - max(limit // 20, 32 << 20)
                with tempfile.TemporaryDirectory() as cache:
                    for name, run in {"odmoe, warm": odmoe_warm, "odmoe, cold": odmoe_cold}.items():
                        runs.setdefault(share, {}).setdefault(name, []).append(
                            run(a, str(limit), str(budget >> 20) + "MiB", prompt_file.name, cache))
                for flags in flag_sets(a, share):
                    done = runs[share].setdefault(f"llama.cpp {flags}".strip(), [])
                    if not (done and done[0]["end"]):  # what did not end once is not tried again
                        done.append(llama(a, str(limit), flags, prompt_file.name))
                print(f"{share} %, round {r + 1} of {a.rounds} done", file=sys.stderr)
                if a.json:
                    a.json.write_text(json.dumps(runs, indent=1))

    kinds = ("decode", "prefill", "stall", "hit_rate", "bytes", "probed", "reading")
    warm = {s: {k: median([x[k] for x in runs[s]["odmoe, warm"]]) for k in kinds} for s in runs}
    compute = [max(runs[s]["odmoe, warm"][r]["decode"] for s in runs) for r in range(a.rounds)]
    rooflines = {s: [roofline(compute[r], x) for r, x in enumerate(runs[s]["odmoe, warm"])] for s in runs}
    print(f"{Path(a.model).name}: {size / 2**30:.2f} GiB, prompt of {a.prompt_tokens} tokens, {a.rounds} rounds\n")
    print("| memory | engine | prefill tok/s | decode tok/s | first token, s | hit rate | MiB per token | stalled "
          "| GiB/s probed | while reading | drive at work | of the roofline |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for share in runs:
        for name, results in runs[share].items():
            m = {k: median([x.get(k) for x in results]) for k in ("prefill", "decode", "ttft")}
            cells = [""] * 7
            if name == "odmoe, warm":
                w = warm[share]
                most = rooflines[share]
                part = median([x["decode"] / top for x, top in zip(results, most)])
                cells = [f"{w['hit_rate']:.3f}", f"{w['bytes'] / 2**20:.1f}", f"{w['stall']:.0%}",
                         show(w["probed"] and w["probed"] / 2**30), show(w["reading"] / 2**30) if w["bytes"] else "-",
                         f"{median([at_work(x) for x in results]):.0%}", f"{part:.0%} of {median(most):.1f}"]
            end = next((x["end"] for x in results if x.get("end")), "")
            decode = show(m["decode"], 3) + (f" ({end})" if end else "")
            print(f"| {share} % | {name} | {show(m['prefill'])} | {decode} | {show(m['ttft'], 1)} | " + " | ".join(cells) + " |")
    print()
    for share in runs:
        others = {n: r for n, r in runs[share].items() if n.startswith("llama.cpp")}
        for what in ("decode", "prefill"):
            best = max((m for r in others.values() if (m := median([x[what] for x in r])) is not None), default=None)
            if best:
                print(f"{share} %: {what} {warm[share][what] / best:.2f} times llama.cpp's best")
            elif others:
                print(f"{share} %: {what}: llama.cpp gave no figure")


if __name__ == "__main__":
    main()
