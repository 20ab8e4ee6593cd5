#!/usr/bin/env python3
"""Runs the commands whose output the documentation shows, and compares.

    printed_output_test.py ODMOE FILE.md...            exit code 0: as shown, 1: not, 77: cannot be run here
    printed_output_test.py --update ODMOE FILE.md...   writes what is printed now into the files

A code block is run when a comment stands on the line before it:

    <!-- printed -->                  "$ COMMAND" lines and what each prints
    <!-- printed beside: COMMAND -->  the same while COMMAND, an odmoe serve, serves on port 8080 of the text (any free one in truth)
    <!-- printed by: COMMAND -->      what that server itself says until it is ready

Speeds, hits, ids and what the machine has a say in are masked.  Sizes in which the process's own memory is may differ by a tenth,
and what odmoe plan makes of them by a hundredth.
What a model writes is compared where ggml has the kernels that it was printed with (PRINTED_WITH): others round differently.
"""
import difflib
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORT = "127.0.0.1:8080"
SECONDS = 300
MARK = re.compile(r"<!-- printed(?: (beside|by): (.*))? -->")
SIZE = re.compile(r"\d+(?:\.\d+)? (?:B|[KMGT]iB)\b")
# Lines with sizes in which the process's own memory is.
OF_THE_PROCESS = re.compile(r"memory plan, |  buffers  ")
# Lines of odmoe plan whose figures follow from those sizes.
OF_A_PLAN = re.compile(r"    slots  |    of all experts  |  (hit rate|experts in memory|memory allows|drive allows|both|RAM )|.* waits for (drive|memory)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MASKS = [(re.compile(pattern), put) for pattern, put in [
    (r"\d+(\.\d+)? [KMGT]?i?B/s", "# B/s"),
    (r"\d+(\.\d+)?/s", "#/s"),
    (r"\d+\.\d % of (\d+|#) experts were in memory, [^,;]* read by \w+", r"# % of \1 experts were in memory, # read by #"),
    (r"at most [^;]* resident", "at most # resident"),
    (r'"id":"[^"]*"', '"id":"#"'),
    (r'"created":\d+', '"created":#'),
    (r'"created_at":"[^"]*"', '"created_at":"#"'),
    (r'"((?:total|load|prompt_eval|eval)_duration)":\d+', r'"\1":#'),
    (r'"(cache_hits|cache_misses|hit_rate|working_set_experts)":[\d.]+', r'"\1":#'),
]]


class Block:
    """A code block that is run: the lines between its fences are first to last of its file."""

    def __init__(self, path, relation, server, lines, first, last):
        self.path, self.relation, self.server, self.first, self.last = path, relation, server, first, last
        self.lines = lines[first:last]

    def parts(self):
        """(lines of the command, lines that it prints), one after another."""
        if self.relation == "by":
            return [([], self.lines)]
        parts = []
        for line in self.lines:
            if parts and not is_whole(parts[-1][0]):
                parts[-1][0].append(line)
            elif line.startswith("$ "):
                parts.append(([line], []))
            elif parts:
                parts[-1][1].append(line)
            else:
                sys.exit(f"{self.path}:{self.first + 1}: the block begins with no command")
        return parts


def is_whole(command):
    text = "\n".join(command)[2:]
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.rstrip().endswith(("|", "\\"))


def blocks(path):
    lines = path.read_text().splitlines()
    found = []
    for i, line in enumerate(lines):
        mark = MARK.fullmatch(line)
        if not mark:
            continue
        if i + 1 == len(lines) or not lines[i + 1].startswith("```"):
            sys.exit(f"{path}:{i + 1}: no code block follows")
        found.append(Block(path, mark[1], mark[2], lines, i + 2, lines.index("```", i + 2)))
    return found


class Server:
    """What a COMMAND serves; said: its words until it was ready."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen([*shlex.split(command), "--port", "0"], cwd=ROOT, env=environment, text=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if ": ready: " in line:
                break
        else:
            sys.exit(f"{command} ended: {self.said}")
        self.address = re.search(r"http://([\d.:]+)", "\n".join(self.said))[1]
        self.said = [line.replace(self.address, PORT) for line in self.said]

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=SECONDS)


def trimmed(lines):
    text = "\n".join(lines).strip("\n")
    return [line.rstrip() for line in text.split("\n")]


def run(command, environment, server, errors=subprocess.STDOUT):
    """The lines that it prints, as a terminal would show them; those of standard error alone where `errors` is a pipe."""
    text = "\n".join(command)[2:]
    if server:
        text = text.replace(PORT, server.address)
    done = subprocess.run(["bash", "-c", text], cwd=ROOT, env=environment, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=errors)
    return done.stdout.splitlines() if errors == subprocess.STDOUT else done.stderr.splitlines()


def masked(line):
    for pattern, put in MASKS:
        line = pattern.sub(put, line)
    return line


def bytes_of(size):
    number, unit = size.split()
    return float(number) * 1024 ** " KMGT".index(unit[0] if len(unit) > 1 else " ")


# With other kernels dense weights lie in other layouts, which take more or less.
LAID_OUT = re.compile(r"  dense weights  ")


def alike(shown, now):
    """Whether a line that is shown says what is printed now."""
    shown, now = masked(shown), masked(now)
    if shown == now:
        return True
    if OF_A_PLAN.match(shown):
        words = [re.sub(r"[\s█-▏]+", " ", NUMBER.sub("#", line)) for line in (shown, now)]
        numbers = [[float(number) for number in NUMBER.findall(line)] for line in (shown, now)]
        return words[0] == words[1] and all(abs(a - b) <= 0.11 + a / 100 for a, b in zip(*numbers))
    other_sizes = OF_THE_PROCESS.match(shown) or (LAID_OUT.match(shown) and here != PRINTED_WITH)
    if not (other_sizes and SIZE.sub("#", shown) == SIZE.sub("#", now)):
        return False
    return all(abs(bytes_of(a) - bytes_of(b)) <= bytes_of(a) / 10 for a, b in zip(SIZE.findall(shown), SIZE.findall(now)))


# ggml's version and the extensions by which it chooses among its kernels for x86-64: those that this documentation was printed with.
EXTENSIONS = ("amx_int8", "avx512_fp16", "avx512_bf16", "avx512_vnni", "avx512vbmi", "avx512f", "avx_vnni", "avx2")
PRINTED_WITH = "ggml 1.0.0: avx2"
here = ""  # what it is here


def kernels(odmoe):
    """Which of them it has, by ggml's version and the processor's extensions."""
    version = re.search(r"ggml [\d.]+", subprocess.run([odmoe, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout)[0]
    return f"{version}: {extensions()}"


def extensions():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if platform.machine() == "x86_64" and cpuinfo.exists() else set()
    return " ".join(name for name in EXTENSIONS if name in flags)


def without_text(line):
    """A line without what a model wrote, and how many experts that took."""
    line = re.sub(r"% of \d+ experts were", "% of # experts were", line)
    return re.sub(r'"(text|content|arguments|response)":"(?:[^"\\]|\\.)*"', r'"\1":"#"', line)


def difference(shown, now, exact):
    """Nothing where `now` is what is shown."""
    shown, now = trimmed(shown), trimmed(now)
    if not exact:
        shown, now = [without_text(line) for line in shown], [without_text(line) for line in now]
    if len(shown) == len(now) and all(map(alike, shown, now)):
        return ""
    return "\n".join(difflib.unified_diff([masked(line) for line in shown], [masked(line) for line in now], "shown", "printed",
                                          lineterm=""))


def main():
    arguments = sys.argv[1:]
    update = arguments[0] == "--update"
    odmoe, *paths = arguments[update:]
    for tool in ("curl", "jq", "bash"):
        if not shutil.which(tool):
            print(f"{tool} is missing")
            sys.exit(77)
    global here
    here = kernels(odmoe)
    exact = update or here == PRINTED_WITH
    # Buffers are those of two threads, as on the machine where all was printed.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    failures = n_block = 0
    with tempfile.TemporaryDirectory() as cache:
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "PATH": f"{pathlib.Path(odmoe).resolve().parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": cache}
        for path in map(pathlib.Path, paths):
            found = blocks(path)
            n_block += len(found)
            servers = {}
            new = {}
            for block in found:
                if block.server and block.server not in servers:
                    servers[block.server] = Server(block.server, environment)
                server = servers.get(block.server)
                written = []
                for command, shown in block.parts():
                    if block.relation == "by":
                        now = server.said
                    elif server or exact:
                        now = run(command, environment, server)
                    else:  # the model's text is on standard output: all else is compared
                        now = [without_text(line) for line in run(command, environment, None, errors=subprocess.PIPE)]
                        shown = [line for line in map(without_text, shown) if any(alike(line, other) for other in now)]
                    if not exact and now and "jq " in "\n".join(command):
                        shown = now  # only what a model wrote
                    said = difference(shown, now, exact)
                    if said:
                        failures += 1
                        print(f"{path}:{block.first + 1}: {' '.join(command) or block.server}\n{said}\n")
                    written += ([""] if written else []) + command + ([""] if command and shown and not shown[0] else []) + trimmed(now)
                new[block] = written
            for server in servers.values():
                server.end()
            if update:
                lines = path.read_text().splitlines()
                for block in reversed(found):
                    lines[block.first:block.last] = new[block]
                path.write_text("\n".join(lines) + "\n")
    if update:
        print(f"PRINTED_WITH must be {here!r}")
    if not n_block:
        sys.exit("no block is marked")
    if update:
        return
    print(f"{n_block} blocks, {failures} commands print something else")
    sys.exit(failures > 0)


main()
