#!/usr/bin/python3
"""--memory auto beside a program that takes memory and gives it back, under one limit for both.

    LIMIT 2200M bench/scenarios/memory_pressure.py build/release/cli/odmoe MODEL [--take-mib 900] [--tokens 1500]

LIMIT is a command that runs another one under a limit of all its memory (a cgroup), such as the reference
data's tools/memlimit; this script, odmoe and the other program then share it.  MODEL is larger than the limit.

odmoe writes its text twice: left in peace with a quarter of the experts, and with --memory auto while another
process takes memory a quarter of the way through, and gives it back half way through.  The texts must be equal,
nobody may be killed, the arena must have shrunk and grown again.  Prints what happened, token by token in
brief: the rate in each part and the longest wait for a token.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HOG = """
import sys, time
blocks = []
for _ in range({mib} // 32):
    blocks.append(bytearray(b'x') * (32 << 20))
    time.sleep(32 / {rate})
print('taken', flush=True)
sys.stdin.read()
"""


def start(a, memory, extra, log):
    return subprocess.Popen([*a.odmoe.split(), "--log-level", "info", "run", a.model, "-p", a.prompt, "-n", str(a.tokens),
                             "--temperature", "0", "--ignore-eos", "--context", str(a.tokens + 512), "--memory", memory,
                             *extra], stdout=subprocess.PIPE, stderr=log)


def read(process, every=None):
    """The text, and when each piece of it came."""
    text, times = b"", []
    while piece := os.read(process.stdout.fileno(), 65536):
        text += piece
        times.append((time.monotonic(), len(text)))
        if every:
            every(len(text))
    process.wait()
    return text, times


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("odmoe")
    p.add_argument("model")
    p.add_argument("--prompt", default="hello")
    p.add_argument("--tokens", type=int, default=1500)
    p.add_argument("--take-mib", type=int, default=900)
    p.add_argument("--rate", type=int, default=1000, help="MiB per second at which memory is taken")
    a = p.parse_args()

    right, _ = read(start(a, "25%", [], subprocess.DEVNULL))
    if not right:
        sys.exit("memory_pressure: odmoe wrote nothing")
    size = len(right)
    state = {"hog": None, "phase": 0, "taken": None, "returned": None}

    def press(done):
        if state["phase"] == 0 and done > size // 4:
            state["hog"] = subprocess.Popen([sys.executable, "-c", HOG.format(mib=a.take_mib, rate=a.rate)],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            state["phase"], state["taken"] = 1, time.monotonic()
        elif state["phase"] == 1 and done > size // 2:
            if state["hog"].poll() is not None:
                sys.exit("memory_pressure: the other program was killed")
            state["hog"].communicate()
            state["phase"], state["returned"] = 2, time.monotonic()

    with tempfile.TemporaryFile() as log, tempfile.NamedTemporaryFile() as stats_file:
        begin = time.monotonic()
        process = start(a, "auto", ["--stats", stats_file.name], log)
        text, times = read(process, press)
        log.seek(0)
        lines = log.read().decode()
        stats = json.load(stats_file) if process.returncode == 0 else {}
    if process.returncode != 0:
        sys.exit(f"memory_pressure: odmoe ended with {process.returncode}\n{lines}")
    changes = re.findall(r"arena of experts (\w+) to ([\d.]+ \w+)", lines)
    parts = {"before": (times[0][0], state["taken"]), "while memory is taken": (state["taken"], state["returned"]),
             "after": (state["returned"], times[-1][0])}
    print("| part | seconds | tokens/s | longest wait, ms |\n|---|---|---|---|")
    for name, (first, last) in parts.items():
        inside = [t for t in times if first <= t[0] <= last]
        waits = [y[0] - x[0] for x, y in zip(inside, inside[1:])]
        share = (inside[-1][1] - inside[0][1]) / size
        print(f"| {name} | {last - first:.1f} | {share * a.tokens / (inside[-1][0] - inside[0][0]):.1f} | "
              f"{1e3 * max(waits):.0f} |")
    print("\narena: " + ", ".join(f"{what} to {to}" for what, to in changes))
    print(f"resizes {stats['memory']['arena_resizes']}, hit rate {stats['experts']['hit_rate']:.3f}, "
          f"peak {stats['memory']['peak_resident_bytes'] >> 20} MiB, {time.monotonic() - begin:.0f} s")
    if text != right:
        sys.exit("memory_pressure: the text differs")
    kinds = [what for what, _ in changes]
    if "shrinks" not in kinds or "grows" not in kinds[kinds.index("shrinks"):]:
        sys.exit("memory_pressure: the arena did not shrink and grow again; take more memory or more tokens")
    print("memory_pressure: the text is right")


if __name__ == "__main__":
    main()
