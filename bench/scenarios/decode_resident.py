#!/usr/bin/python3
"""Speed with every expert resident, or a share of them: odmoe on one or several forms of a model beside llama.cpp, interleaved.

    bench/scenarios/decode_resident.py --odmoe build/release/cli/odmoe --model replay.gguf [--directory replay.repacked]... \
        --llama 'llama-completion' [--llama-flags=--no-repack]... [--rounds 5] [--tokens 100] [--prompt-tokens 256] [--threads 2]

--directory is another form of the same model for odmoe (an expert directory, repacked or not).  --llama is the command that
runs llama-completion (with a wrapper, if it needs one), --llama '' leaves it out; each --llama-flags (none: '') is a row of
its own.  --memory is odmoe's.  Every round runs each once, in turns, forwards and backwards; what counts are the ratios of
the medians, since machines differ and are noisy.  The prompt's words are numbers of a recorded session, as a replay has them.
Prints a Markdown table.
"""
import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys


def run(command, both=False):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr if both else done.stdout


def replay_prompt(steps, n, left):
    """n steps of a replay's session in a row, with `left` more to decode before it ends."""
    return "".join(f" s{(steps - left - n + i) % steps:04d}" for i in range(n))


def odmoe(a, model):
    report = json.loads(run([*shlex.split(a.odmoe), "bench", "infer", model, "-p", a.prompt, "-n", str(a.tokens),
                             "--memory", a.memory, "--context", str(a.context), "-t", str(a.threads), "--warm-up", "1",
                             "--rounds", "1", "--json"]))
    return [report["median"][f"{phase}_tokens_per_second"] for phase in ("prefill", "decode")]


def llama(a, flags):
    text = run([*shlex.split(a.llama), "-m", a.model, "-p", a.prompt, "-n", str(a.tokens), "--temp", "0", "--ignore-eos",
                "-no-cnv", "-c", str(a.context), "-t", str(a.threads), *shlex.split(flags)], both=True)
    speeds = []
    for pattern in (r"prompt eval time =.*?([\d.]+) tokens per second", r"(?<!prompt) eval time =.*?([\d.]+) tokens per second"):
        found = re.search(pattern, text)
        if not found:
            sys.exit("llama-completion printed no eval time:\n" + text[-2000:])
        speeds.append(float(found.group(1)))
    return speeds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--odmoe", default="build/release/cli/odmoe")
    p.add_argument("--llama", default="llama-completion")
    p.add_argument("--llama-flags", action="append")
    p.add_argument("--model", required=True)
    p.add_argument("--directory", action="append", default=[])
    p.add_argument("--memory", default="100%")
    p.add_argument("--prompt", default="hello")
    p.add_argument("--prompt-tokens", type=int, default=0, help="instead of --prompt: steps of the replay's session")
    p.add_argument("--steps", type=int, default=128, help="that the replay was made of")
    p.add_argument("--tokens", type=int, default=100)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    if a.prompt_tokens > 0:
        a.prompt = replay_prompt(a.steps, a.prompt_tokens, a.tokens + 1)
    rows = [(f"odmoe, {model.rstrip('/').rsplit('/', 1)[-1]}", odmoe, model) for model in (a.model, *a.directory)]
    if a.llama:
        rows += [(f"llama.cpp {flags}".rstrip(), llama, flags) for flags in a.llama_flags or ["--no-repack"]]
    for _, measure, what in rows:  # the file into the page cache for llama.cpp, and both programs' pages
        measure(a, what)
    speeds = [[] for _ in rows]
    for i in range(a.rounds):
        for row in range(len(rows)) if i % 2 == 0 else reversed(range(len(rows))):
            speeds[row].append(rows[row][1](a, rows[row][2]))
    print("| engine | prefill tokens/s, each round | median | of the first | decode tokens/s, each round | median | of the first |")
    print("|---|---|---|---|---|---|---|")
    first = None
    for (name, _, _), values in zip(rows, speeds):
        phases = list(zip(*values))
        medians = [statistics.median(phase) for phase in phases]
        first = first or medians
        cells = [f"{' '.join(f'{v:.1f}' for v in phase)} | {median:.2f} | {median / base:.2f}"
                 for phase, median, base in zip(phases, medians, first)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
