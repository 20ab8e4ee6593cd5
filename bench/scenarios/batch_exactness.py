#!/usr/bin/python3
"""A mixed batch at several budgets, killed at random points: is every answer what its request gets alone?

    bench/scenarios/batch_exactness.py models/demo.gguf [--odmoe build/release/cli/odmoe] [--requests 500] [--kills 3] [--alone 20]
        [--budgets 100%,20%,1%] [--seed 1] [-- more options of odmoe batch]

Requests are chats, completions and responses, with schemas and tools, greedy, seeded and neither, of one choice and several, long and
short, and some that are wrong.  They are answered one after the other first (--width 1, all experts in memory); then once for each
budget, at a width of its own that changes with each run, and killed (SIGKILL) --kills times when the files have random sizes.  Each OUT
has to be the first one's bytes.  --alone of those that say how they are drawn are answered once more, each by a process of its own, and
say the same.

Prints Markdown; ends with 1 when something differs.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}}, "required": ["name"],
          "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


def request_line(i):
    """A request of its own kind for each i, and whether it says how it is drawn."""
    said = "Tell me of the king" + "".join(f" and of number {i + k}" for k in range(i * 7 % 60))
    messages = [{"role": "user", "content": said}]
    body, url, drawn = {"messages": messages, "max_tokens": 3 + i * 5 % 40}, "/v1/chat/completions", False
    kind = i % 10
    if kind == 0:
        body["temperature"], drawn = 0, True
    elif kind == 1:
        url, drawn = "/v1/completions", True
        body = {"prompt": said, "seed": i, "n": 2, "max_tokens": 5 + i % 20}
    elif kind == 2:
        pass  # drawn with a seed that the line gives
    elif kind == 3:
        url, body = "/v1/responses", {"input": said, "max_output_tokens": 9 + i % 9, "temperature": 0.7}
    elif kind == 4:
        body.update(max_tokens=60, seed=i, response_format={
            "type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}})
        drawn = True
    elif kind == 5:
        body.update(tools=[TOOL], tool_choice="required", max_tokens=90)
    elif kind == 6:
        url, drawn = "/v1/completions", True
        body = {"prompt": said, "temperature": 0, "logprobs": 2, "max_tokens": 4 + i % 30}
    elif kind == 7:
        url, body = "/v1/responses", {"input": said, "max_output_tokens": 40, "temperature": 0, "tools": [
            {"type": "function", "name": "look", "parameters": SCHEMA}]}
    elif kind == 8:
        body.update(seed=i, presence_penalty=0.5, top_p=0.9, stop=["\n\n"], max_tokens=64)
        drawn = True
    else:
        body["messages"] = "none" if i % 20 == 9 else messages
        body["stream"] = i % 20 == 19
    return json.dumps({"custom_id": f"r{i}", "method": "POST", "url": url, "body": body}), drawn


def size(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Scenario:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder

    def command(self, source, out, *more):
        return [self.options.odmoe, "batch", self.options.model, str(source), "-o", str(out), "--context", "1024", "--chunk", "64",
                "--no-probe", "--created", "1700000000", *more, *self.options.more]

    def run(self, source, out, *more):
        done = subprocess.run(self.command(source, out, *more), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"odmoe batch ended with {done.returncode}: {done.stderr[-2000:]}")
        return out.read_bytes()

    def killed_at(self, source, out, n_bytes, *more):
        """Whether it was killed when its files had so many bytes, and not done before."""
        progress = Path(f"{out}.progress")
        process = subprocess.Popen(self.command(source, out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if progress.exists() and size(out) + size(progress) >= n_bytes:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.001)
        if process.returncode != 0:
            sys.exit(f"odmoe batch ended with {process.returncode}")
        return False


def choices_of(line):
    """What an answer says, without the ids that come from its place."""
    body = json.loads(line)["response"]["body"]
    for choice in body["choices"]:
        for call in (choice.get("message") or {}).get("tool_calls") or []:
            call.pop("id")
    return body["choices"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--odmoe", default="build/release/cli/odmoe")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--alone", type=int, default=20)
    parser.add_argument("--budgets", default="100%,20%,1%")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("more", nargs="*", help="of odmoe batch, behind --")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = Scenario(options, folder)
        lines = [request_line(i) for i in range(options.requests)]
        source = folder / "in.jsonl"
        source.write_text("".join(line + "\n" for line, _ in lines))
        wanted = scenario.run(source, folder / "one_by_one", "--width", "1", "--memory", "100%")
        answers = wanted.splitlines()
        assert len(answers) == len(lines)
        failed = sum(b'"status_code":200' not in line for line in answers)
        print(f"{len(lines)} requests, {failed} of them with an error, {len(wanted)} bytes of answers one by one\n")
        print("| experts in memory | widths | killed at bytes | the same bytes |\n|---|---|---|---|", flush=True)
        bad = False
        for n, budget in enumerate(options.budgets.split(",")):
            out, widths, kills = folder / f"out{n}", [], []
            while True:
                there = size(out) + size(Path(f"{out}.progress"))
                widths.append(rng.choice([3, 7, 16, 24, 48]))
                how = ("--width", str(widths[-1]), "--memory", budget)
                if len(kills) == options.kills:
                    scenario.run(source, out, *how)
                    break
                left = (len(wanted) - there) // (options.kills + 1 - len(kills))
                at = there + rng.randrange(max(left, 1)) + 1
                if not scenario.killed_at(source, out, at, *how):
                    break
                kills.append(at)
            same = out.read_bytes() == wanted
            bad = bad or not same or len(kills) < options.kills
            print(f"| {budget} | {', '.join(map(str, widths))} | {', '.join(map(str, kills))} | {'yes' if same else 'NO'} |", flush=True)
        drawn = [i for i, (_, says) in enumerate(lines) if says]
        differ = []
        for i in rng.sample(drawn, min(options.alone, len(drawn))):
            one = folder / f"one{i}.jsonl"
            one.write_text(lines[i][0] + "\n")
            alone = scenario.run(one, folder / f"alone{i}", "--width", "1", "--memory", rng.choice(options.budgets.split(",")))
            if choices_of(alone) != choices_of(answers[i]):
                differ.append(i)
        print(f"\n{min(options.alone, len(drawn))} answered by processes of their own: " +
              (f"DIFFERENT: {differ}" if differ else "they say the same"))
        sys.exit(1 if bad or differ else 0)


main()
