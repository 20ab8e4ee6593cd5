#!/usr/bin/python3
"""What the turns of a conversation cost before the answer begins: tokens that are evaluated, and seconds.

    bench/scenarios/server_turns.py --model MODEL [--odmoe build/release/cli/odmoe] [--scenario chat|agent]
        [--reuse exact,conversation,longest] [--state there,gone,disk] [--rounds 1] [--json FILE]

chat: six turns, --asked words (45) asked and --answer tokens (60) answered in each.  agent: ten turns that begin with a
prompt of --begin words, and tools; the model calls one in each turn (its grammar makes sure of that), and the next turn
brings what it gave, --result words.  Everything that the model said goes back as clients send it, as messages.

Before each turn the server has of the ones before:
    there  what one session keeps of them
    gone   nothing: another text took the session, and there is no prompt cache
    disk   what --cache-dir keeps over a restart

Answers are greedy.  Those of `gone` and `disk` are compared with those of `there`, down to the logarithms of their
tokens' probabilities: with `exact` and `conversation` they have to be the same, and status 1 says that they were not;
of `longest` it is shown how many were.

Prints Markdown.  On a machine that does other things as well the times mean nothing; the counts do.
"""
import argparse
import http.client
import json
import re
import shlex
import statistics
import sys
import tempfile
import time

from server_load import prompt_text
from serving import ServerProcess

TOOLS = [{"type": "function", "function": {
    "name": name, "description": description,
    "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}
    for name, description, properties in (
        ("read_file", "Reads lines of a file.", {"path": {"enum": ["src/main.c", "src/list.c", "README.md"]},
                                                 "first": {"type": "integer", "minimum": 1, "maximum": 999}}),
        ("search", "Searches all files.", {"word": {"enum": ["king", "house", "winter", "river", "gold"]}}),
        ("run_tests", "Runs the tests.", {"verbose": {"type": "boolean"}}))]


class Server:
    """A server with one session, and one conversation at a time."""

    def __init__(self, options, reuse, directory=None):
        command = [*options.odmoe, "serve", options.model, "--port", "0", "--memory", options.memory, "--context",
                   str(options.context), "--sessions", "1", "--threads", str(options.threads), "--chunk",
                   str(options.chunk), "--prompt-reuse", reuse, *options.odmoe_flags]
        if directory:
            command += ["--prompt-cache", options.prompt_cache_size, "--cache-dir", directory]
        self.process = ServerProcess(command)

    def ask(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=3600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            sys.exit(f"the server answered {answer.status}: {text.decode(errors='replace')}")
        return json.loads(text)

    def first_token_seconds(self):
        """So far, of all requests: as the server measures it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return float(re.search(r"^odmoe_ttft_seconds_sum (\S+)", text, re.M)[1])

    def turn(self, body):
        before = self.first_token_seconds()
        answer = self.ask("/v1/chat/completions", body)
        usage = answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        choice = answer["choices"][0]
        return {"prompt": usage["prompt_tokens"], "evaluated": usage["prompt_tokens"] - cached,
                "ttft_s": self.first_token_seconds() - before, "message": choice["message"],
                "logprobs": [token["logprob"] for token in (choice.get("logprobs") or {}).get("content") or []]}

    def take_session(self):
        self.ask("/v1/completions", {"prompt": "Something else altogether, and long ago", "max_tokens": 1})

    def end(self):
        if self.process.end() != 0:
            sys.exit(f"the server did not end well:\n{self.process.said()[-2000:]}")


def chat_turns(options, seed):
    """Yields bodies of requests; is sent what was answered."""
    messages = []
    for turn in range(options.turns or 6):
        messages.append({"role": "user", "content": prompt_text(100 * seed + turn + 1, options.asked)})
        answer = yield {"messages": messages, "max_tokens": options.answer, "temperature": 0, "ignore_eos": True,
                        "logprobs": True}
        messages.append({"role": "assistant", "content": answer["content"]})


def agent_turns(options, seed):
    messages = [{"role": "system", "content": prompt_text(100 * seed + 1, options.begin)},
                {"role": "user", "content": prompt_text(100 * seed + 2, options.asked)}]
    for turn in range(options.turns or 10):
        answer = yield {"messages": messages, "tools": TOOLS, "tool_choice": "required", "temperature": 0,
                        "parallel_tool_calls": False, "logprobs": True}
        message = {"role": "assistant", "content": answer.get("content") or "", "tool_calls": answer["tool_calls"]}
        messages += [message, {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"],
                               "content": prompt_text(100 * seed + turn + 3, options.result)}]


def converse(options, reuse, state, seed):
    """The turns of one conversation."""
    bodies = (chat_turns if options.scenario == "chat" else agent_turns)(options, seed)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        kept = directory if state == "disk" else None
        server = Server(options, reuse, kept)
        body = next(bodies)
        while True:
            if rows and state == "gone":
                server.take_session()
            elif rows and state == "disk":
                server.end()
                server = Server(options, reuse, kept)
            rows.append(server.turn(body))
            try:
                body = bodies.send(rows[-1]["message"])
            except StopIteration:
                break
        server.end()
    return rows


def same(a, b):
    def said(message):
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return message.get("content"), calls
    return said(a["message"]) == said(b["message"]) and a["logprobs"] == b["logprobs"]


def table(name, rows, form):
    print(f"| {name} | " + " | ".join(form(row) for row in rows) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--odmoe", type=shlex.split, default=["build/release/cli/odmoe"])
    parser.add_argument("--odmoe-flags", type=shlex.split, default=[])
    parser.add_argument("--scenario", choices=("chat", "agent"), default="chat")
    parser.add_argument("--reuse", default="exact,conversation,longest")
    parser.add_argument("--state", default="there,gone,disk")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--asked", type=int, default=45, help="words of a question")
    parser.add_argument("--answer", type=int, default=60, help="tokens of an answer of a chat")
    parser.add_argument("--begin", type=int, default=5000, help="words that an agent begins with")
    parser.add_argument("--result", type=int, default=300, help="words that a tool gives")
    parser.add_argument("--memory", default="50%")
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="conversations; seconds are medians")
    parser.add_argument("--prompt-cache-size", default="1GiB")
    parser.add_argument("--json", help="write what was measured here as well")
    options = parser.parse_args()
    measured, wrong = [], 0
    for reuse in options.reuse.split(","):
        there = {}
        for state in options.state.split(","):
            rounds = [converse(options, reuse, state, seed) for seed in range(1, options.rounds + 1)]
            equal = total = 0
            for seed, rows in enumerate(rounds):
                first = there.setdefault(seed, rows)
                total += len(rows)
                equal += sum(same(a, b) for a, b in zip(first, rows))
            turns = [{"prompt": rows[0]["prompt"], "evaluated": rows[0]["evaluated"],
                      "ttft_s": statistics.median(row["ttft_s"] for row in rows)} for rows in zip(*rounds)]
            measured.append({"reuse": reuse, "state": state, "turns": turns, "same": equal, "answers": total})
            print(f"{time.strftime('%H:%M:%S')} {reuse}, {state}: {equal} of {total} answers as those of "
                  f"{options.state.split(',')[0]}", file=sys.stderr, flush=True)
            wrong += total - equal if reuse != "longest" else 0
    n = len(measured[0]["turns"])
    print("| evaluated of turn | " + " | ".join(str(i + 1) for i in range(n)) + " | all | same answers |")
    print("|---|" + "---|" * (n + 2))
    table("the prompt", measured[0]["turns"] + [{"prompt": sum(t["prompt"] for t in measured[0]["turns"])}, {"prompt": ""}],
          lambda row: str(row["prompt"]))
    for one in measured:
        table(f"{one['reuse']}, {one['state']}",
              one["turns"] + [{"evaluated": sum(t["evaluated"] for t in one["turns"])},
                              {"evaluated": f"{one['same']} of {one['answers']}"}],
              lambda row: str(row["evaluated"]))
    print("\n| TTFT of turn | " + " | ".join(str(i + 1) for i in range(n)) + " |\n|---|" + "---|" * n)
    for one in measured:
        table(f"{one['reuse']}, {one['state']}", one["turns"], lambda row: f"{row['ttft_s']:.2f} s")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(measured, file, indent=2)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
