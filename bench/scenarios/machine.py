"""What machine this is and what `odmoe bench` says of it, for pages of results.  Standard library of Python 3.9."""
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path


def said(*command):
    """The first line of what a command says; empty where there is no such command, or it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""


def field(path, key):
    try:
        for line in Path(path).read_text(errors="replace").splitlines():
            if line.split(":")[0].split("=")[0].strip() == key:
                return line.replace("=", ":", 1).split(":", 1)[1].strip().strip('"')
    except OSError:
        pass
    return ""


def processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes():
    if platform.system() == "Darwin":
        return int(said("sysctl", "-n", "hw.memsize") or 0)
    return int((field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024


def gib(n):
    return f"{n / 2**30:.2f} GiB"


def facts(odmoe):
    """Pairs of what is told of the machine and what it is."""
    darwin = platform.system() == "Darwin"
    if darwin:
        system = f"macOS {said('sw_vers', '-productVersion')} ({said('sw_vers', '-buildVersion')}), Darwin {platform.release()}"
        processor = f"{said('sysctl', '-n', 'machdep.cpu.brand_string')}, {said('sysctl', '-n', 'hw.model')}"
        fast = said("sysctl", "-n", "hw.perflevel0.physicalcpu")
        if fast:
            processor += f", {fast} performance cores"
    else:
        name = field("/etc/os-release", "PRETTY_NAME") or platform.system()
        system = f"{name}, {platform.system()} {platform.release()}"
        processor = field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    rows = [("system", system), ("processor", f"{processor}; {processors()} processors"),
            ("memory", gib(memory_bytes())), ("page size", f"{os.sysconf('SC_PAGE_SIZE')} bytes"),
            ("odmoe", said(*odmoe, "--version")), ("compiler", said("c++", "--version") or said("cc", "--version"))]
    commit = said("git", "-c", "safe.directory=*", "-C", str(Path(__file__).resolve().parent), "log", "-1", "--format=%h %cs")
    if commit:
        rows.append(("commit", commit))
    for name, command in (("ggml", ("pkg-config", "--modversion", "ggml")), ("NVIDIA", ("nvidia-smi", "-L")),
                          ("NVIDIA's driver", ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"))):
        answer = said(*command)
        if answer:
            rows.append((name, answer))
    return rows


def table(head, rows):
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


class Failed(Exception):
    """A command that did not end as it should; its words are one line."""


def run(command, timeout=600, env=None, both=False):
    """-> what it wrote to stdout, as bytes; with `both` and to stderr after it."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "OMP_WAIT_POLICY": "passive", **(env or {})}) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failed(f"{shlex.join(map(str, command))}: not done in {timeout} s") from None
    if process.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines()
        raise Failed(f"{shlex.join(map(str, command))}: exit {process.returncode}: {words[-1] if words else ''}")
    return out + err if both else out


def devices(odmoe):
    """What `odmoe devices --json` lists, the processor first."""
    return json.loads(run([*odmoe, "devices", "--json"]))


def bench_infer(odmoe, model, *options, prompt, tokens, rounds=3, timeout=600):
    """Medians of `odmoe bench infer`."""
    return json.loads(run([*odmoe, "bench", "infer", model, "-p", prompt, "-n", str(tokens), "--rounds", str(rounds), "--warm-up", "1",
                           "--json", *options], timeout=timeout))


def replay(folder, name, layers, steps=256):
    """A made model of gpt-oss-20b's shapes (replay_model.py) in the folder; None where numpy is missing."""
    path = folder / name
    if path.exists():
        return path
    script = Path(__file__).resolve().parent / "replay_model.py"
    try:
        run([sys.executable, str(script), "--made", "32,4", "--layers", str(layers), "--steps", str(steps), "-o", str(path) + ".part"])
    except Failed as failed:
        if "numpy" not in str(failed):
            raise
        return None
    os.replace(str(path) + ".part", path)
    return path


def replay_prompt(n, steps=256, left=65):
    """n steps of such a model in a row, with `left` more to decode before it ends."""
    return "".join(f" s{(steps - left - n + i) % steps:04d}" for i in range(n))
