#!/usr/bin/env python3
"""Checks odmoe on this machine and writes one page of results to send back: what `./dev selftest` runs.

    bench/scenarios/selftest.py --odmoe build/release/cli/odmoe --out FOLDER [--quick] [--layers 8] [--tests PROGRAM]...

- unit tests: each PROGRAM of GoogleTest's that is named
- exactness: the logits of a text are the same bits at every budget, by every policy, reader and predictor, from a GGUF and from an
  expert directory, on each device that ggml finds; and so is what is written
- memory: what the system counts for a process stays within the budget that it was given
- speed: memory, drive, prefill and decoding on each device, of a model of gpt-oss-20b's shapes with --layers layers (0.4 GiB each; 0:
  none), which needs numpy

Nothing but Python 3.9 and odmoe is needed; it runs on macOS and Linux.  FOLDER gets selftest.md, the page, and what was made on the
way; a model that was made before is used again.  Ends with 1 when something is not as it should be, which the page then begins with.
"""
import argparse
import array
import hashlib
import itertools
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import machine
from machine import Failed, run

TOP = Path(__file__).resolve().parents[2]
TEXT = ("In the beginning was the word, and the word was with the people of the United States; and it came to pass that the king said "
        "unto his servants, What is the matter? And they answered him, saying, We know not, O king, for the roads are bad, and the post "
        "comes but twice a week. ") * 4
BUDGETS = ("1%", "10%", "50%", "100%")
POLICIES = ("forecast", "lru", "layer-lru", "lfu", "lfu-aging")
PREDICTORS = ("none", "stale-gate")


class Page:
    def __init__(self):
        self.parts, self.wrong = [], []

    def add(self, title, text):
        self.parts.append(f"## {title}\n\n{text}")
        print(f"\n{title}\n{text}", file=sys.stderr, flush=True)

    def expect(self, good, words):
        if not good:
            self.wrong.append(words)
        return good


def say(words):
    print(f"selftest: {words}", file=sys.stderr, flush=True)


def unit_tests(page, programs):
    rows = []
    for program in programs:
        begin = time.monotonic()
        done = subprocess.run([str(program), "--gtest_brief=1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=1800, check=False, env={**machine.os.environ, "OMP_WAIT_POLICY": "passive"})
        lines = done.stdout.decode(errors="replace").splitlines()

        def count(mark):
            found = [line.split("]", 1)[1].split()[0] for line in lines if line.startswith(mark)]
            return int(found[0]) if found and found[0].isdigit() else 0
        failed = sorted({line.split("]", 1)[1].split("(")[0].strip() for line in lines if line.startswith("[  FAILED  ] ") and "." in line})
        page.expect(done.returncode == 0, f"{Path(program).name} ended with {done.returncode}: {', '.join(failed) or lines[-1:]}")
        rows.append((Path(program).name, count("[  PASSED  ]"), count("[  SKIPPED ]"), len(failed), f"{time.monotonic() - begin:.0f} s"))
    page.add("Unit tests", machine.table(("program", "passed", "skipped", "failed", "took"), rows))


def relative_l2(got, wanted):
    difference = math.fsum((a - b) ** 2 for a, b in zip(got, wanted))
    return math.sqrt(difference / math.fsum(b * b for b in wanted))


class Exactness:
    def __init__(self, page, odmoe, out, quick):
        self.page, self.odmoe, self.out, self.quick = page, odmoe, out, quick
        self.text = out / "text.txt"
        self.text.write_text(TEXT)

    def logits(self, model, device, options):
        file = self.out / "logits.f32"
        run([*self.odmoe, "perplexity", str(model), "--file", str(self.text), "--logits", str(file), "--context", "256", "--chunk", "64",
             "--no-probe", "--device", device, *options])
        return file.read_bytes()

    def written(self, model, device, options):
        return run([*self.odmoe, "run", str(model), "-p", "KING RICHARD:", "-n", "40", "--temperature", "0", "--ignore-eos", "--context", "256",
                    "--no-probe", "--device", device, *options])

    def choices(self, readers, short):
        every = [(b, p, r, q) for b, p, r, q in itertools.product(BUDGETS, POLICIES, readers, PREDICTORS)]
        if not short:
            return every
        # Each of each kind, beside the first of the others.
        return [(b, POLICIES[0], readers[0], PREDICTORS[-1]) for b in BUDGETS] + [("10%", p, readers[-1], "none") for p in POLICIES]

    def sweep(self, model, device, readers, short):
        """-> logits of the first, and a row."""
        first, texts, differ, failed, n = None, {}, [], [], 0
        begin = time.monotonic()
        for budget, policy, reader, predictor in self.choices(readers, short):
            options = ["--memory", budget, "--policy", policy, "--reader", reader, "--predictor", predictor]
            n += 1
            try:
                got = self.logits(model, device, options)
                if policy == POLICIES[0]:
                    texts.setdefault(self.written(model, device, options), []).append(" ".join(options))
                    n += 1
            except Failed as words:
                failed.append(str(words))
                continue
            first = first or got
            if got != first:
                differ.append(" ".join(options))
        name = f"{Path(model).name} on {device}"
        for words in failed[:3]:
            self.page.expect(False, f"{name}: {words}")
        self.page.expect(not differ, f"{name}: other bits with {'; '.join(differ[:5])}")
        self.page.expect(len(texts) <= 1, f"{name}: {len(texts)} texts are written where one should be")
        good = not failed and not differ and len(texts) <= 1
        digest = hashlib.sha256(first or b"").hexdigest()[:12]
        row = [Path(model).name, device, n, "the same bits" if good else f"{len(differ)} differ, {len(failed)} failed", digest,
               f"{time.monotonic() - begin:.0f} s"]
        return first, row

    def check(self, models, devices, readers):
        rows = []
        for number, model in enumerate(models):
            wanted = None
            for device in devices:
                say(f"{Path(model).name} on {device['name']}")
                lacks = json.loads(run([*self.odmoe, "devices", str(model), "--json"]))
                lacks = next((d["lacks"] for d in lacks if d["name"] == device["name"]), [])
                if lacks:
                    rows.append((Path(model).name, device["name"], 0, "it lacks " + ", ".join(lacks), "", "", ""))
                    continue
                cpu = device["name"] == devices[0]["name"]
                first, row = self.sweep(model, device["name"], readers, self.quick or number > 0 or not cpu)
                if first is None:
                    rows.append((*row, ""))
                    continue
                values = array.array("f", first)
                if cpu:
                    wanted = values
                    rows.append((*row, ""))
                else:
                    far = relative_l2(values, wanted) if wanted is not None and len(wanted) == len(values) else math.nan
                    self.page.expect(far < 0.1, f"{Path(model).name} on {device['name']}: relative l2 {far:.3g} from the processor's logits")
                    rows.append((*row, f"{far:.2g}"))
        self.page.add("Exactness", "Budgets " + ", ".join(BUDGETS) + "; policies " + ", ".join(POLICIES) + "; readers " + ", ".join(readers) +
                      "; predictors " + ", ".join(PREDICTORS) + ". The last column is how far the logits are from the processor's (relative l2).\n\n" +
                      machine.table(("model", "device", "runs", "", "logits", "took", "from the processor"), rows))


def memory(page, odmoe, model, devices):
    rows = []
    for device in devices:
        plan = json.loads(run([*odmoe, "inspect", str(model), "--json", "--context", "1024", "--device", device["name"]]))
        for name, budget in plan["budget_bytes"].items():
            budget_mib = -(-budget // 2**20) + 1
            script = ("import json,resource,subprocess,sys\n"
                      "done=subprocess.run(sys.argv[1:],stdin=subprocess.DEVNULL,stdout=subprocess.DEVNULL)\n"
                      "print(json.dumps([done.returncode,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))")
            said = run([sys.executable, "-c", script, *odmoe, "run", str(model), "-p", TEXT[:400], "-n", "40", "--ignore-eos", "--context", "1024",
                        "--seed", "1", "--no-probe", "--memory", f"{budget_mib}MiB", "--device", device["name"]])
            status, peak = json.loads(said)
            peak *= 1 if sys.platform == "darwin" else 1024
            page.expect(status == 0, f"{device['name']}: run at {budget_mib} MiB ended with {status}")
            within = peak <= budget_mib * 2**20
            # What a driver that computes on the processor takes for itself is not planned (docs/devices.md).
            page.expect(within or device["computes_on_the_processor"] and device["kind"] != "processor",
                        f"{device['name']}: {peak / 2**20:.0f} MiB were taken of a budget of {budget_mib}")
            rows.append((device["name"], name, f"{budget_mib} MiB", f"{peak / 2**20:.0f} MiB", "yes" if within else "NO"))
    page.add("Memory", machine.table(("device", "budget", "is", "most that was resident", "within it"), rows))


def speed(page, odmoe, out, layers, devices, quick):
    model = machine.replay(out, f"replay{layers}.gguf", layers) if layers > 0 else None
    if model is None:
        page.add("Speed", "Not measured: " + ("numpy is missing (pip3 install numpy, apt install python3-numpy).\n" if layers > 0 else "not asked for.\n"))
        return
    drives = out / "cache"
    environment = {"XDG_CACHE_HOME": str(drives)}
    inspected = json.loads(run([*odmoe, "inspect", str(model), "--json"], env=environment))
    rows = [("memory", f"{inspected['estimate']['memory_bytes_per_second'] / 1e9:.1f} GB/s, all processors")]
    fetched = json.loads(run([*odmoe, "bench", "fetch", str(model), "--json"], env=environment))
    copy = fetched["copies"][0]
    if "bytes_per_second" in copy:
        rows.append(("drive", f"{copy['bytes_per_second'] / 1e9:.2f} GB/s by {fetched['reader']}, {copy['depth']} reads of {copy['read_bytes'] >> 10} KiB in "
                              f"flight; one takes {copy['latency_us']} us ({copy['drive']})"))
    if "store" in fetched:
        rows.append(("experts", f"{fetched['store']['bytes_per_second'] / 1e9:.2f} GB/s through the store"))
    text = machine.table(("", ""), rows)
    runs = []
    for device in devices:
        for share in ("25%", "100%"):
            say(f"speed on {device['name']}, {share} of the experts")
            try:
                report = machine.bench_infer(odmoe, str(model), "--memory", share, "--context", "1024", "--device", device["name"],
                                             prompt=machine.replay_prompt(64 if quick else 128), tokens=16 if quick else 64,
                                             rounds=1 if quick else 3)["median"]
            except Failed as words:
                page.expect(False, str(words))
                continue
            runs.append((device["name"], share, f"{report['prefill_tokens_per_second']:.1f}", f"{report['decode_tokens_per_second']:.2f}",
                         f"{report['hit_rate']:.3f}", f"{100 * report['stall_share']:.0f} %", f"{report['read_bytes_per_token'] / 2**20:.1f}"))
    text += f"\ngpt-oss-20b's shapes, {layers} layers ({machine.gib(model.stat().st_size)}), a made routing:\n\n"
    text += machine.table(("device", "experts in memory", "prefill, tokens/s", "decoding, tokens/s", "hit rate", "stalled", "MiB read per token"), runs)
    auto = run([*odmoe, "run", str(model), "-p", " s0000", "-n", "2", "--temperature", "0", "--context", "1024", "--memory", "50%", "--stats",
                str(out / "auto.json")], env=environment)
    if auto:
        chosen = (json.loads((out / "auto.json").read_text()).get("device") or {}).get("name")
        text += f"\n`--device auto` chose {chosen or 'the processor'}.\n"
    page.add("Speed", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odmoe", default=str(TOP / "build/release/cli/odmoe"))
    parser.add_argument("--out", type=Path, default=Path("selftest"))
    parser.add_argument("--tests", action="append", default=[], type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="fewer combinations, shorter runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out, odmoe, page = options.out.resolve(), [options.odmoe], Page()
    begin = time.monotonic()

    demo = TOP / "models/demo.gguf"
    devices = machine.devices(odmoe)
    listed = "".join(f"- {d['name']}: {d['description']}, {d['kind']}, {machine.gib(d['memory_bytes'])}"
                     f"{', of the host' if d['shares_host_memory'] else ''}{', reads host memory in place' if d['reads_host_memory'] else ''}\n"
                     for d in devices)
    page.add("Machine", machine.table(("", ""), machine.facts(odmoe)) + "\nDevices:\n\n" + listed)
    if options.tests:
        unit_tests(page, options.tests)

    models = [demo]
    for layout in "packed", "files":
        directory = out / f"demo.{layout}"
        shutil.rmtree(directory, ignore_errors=True)
        run([*odmoe, "convert", str(demo), str(directory), "--layout", layout, "--page-size", str(machine.os.sysconf("SC_PAGE_SIZE"))])
        models.append(directory)
    try:
        run([*odmoe, "run", str(demo), "-p", "KING", "-n", "1", "--reader", "io_uring", "--no-probe"])
        readers = ("io_uring", "pread")
    except Failed:
        readers = ("pread",)
    Exactness(page, odmoe, out, options.quick).check(models, devices, readers)
    memory(page, odmoe, demo, devices)
    speed(page, odmoe, out, options.layers, devices, options.quick)

    verdict = "Everything is as it should be.\n" if not page.wrong else "**Not as it should be:**\n\n" + "".join(f"- {w}\n" for w in page.wrong)
    text = f"# odmoe selftest\n\n{verdict}\n{time.strftime('%Y-%m-%d', time.gmtime())}, {(time.monotonic() - begin) / 60:.1f} minutes.\n\n" + "\n".join(page.parts)
    (out / "selftest.md").write_text(text)
    print(f"{'FAILED' if page.wrong else 'good'}: {out / 'selftest.md'} is the page to send back")
    return 1 if page.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
