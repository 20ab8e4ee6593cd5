#!/usr/bin/env python3
"""Checks and measures everything on a machine with a GPU in under ten minutes: what `./dev gpu` runs.

    bench/scenarios/gpu.py --odmoe build/release/cli/odmoe --out FOLDER [--test build/release/tests/engine/odmoe_engine_device_test] \\
        [--device NAME] [--layers 12] [--prompt 512] [--model REPLAY] [--llama llama-completion] [--seconds 540]

1. the tests of devices (--test), on the first device that is not the processor
2. logits of the bundled model there at three budgets (the same bits), and how far they are from the processor's
3. a model of gpt-oss-20b's shapes (--layers of 24, 0.4 GiB each; or --model, of replay_model.py), with 100 % and 25 % of its experts in
   memory: a prompt of --prompt steps, decoding, time to the first token, with the dense part on the device and on the processor, in turns; what went
   to and fro for each token
4. the same file by llama.cpp where --llama is there: -ngl 99 -ncmoe 999 (experts on the processor), -ot exps=CPU, and all on the device

FOLDER gets gpu.md and gpu.json after each step, so that what was measured is there whatever happens later.  Steps for which there is no
time are left out, and said.  Without --device the first that `odmoe devices` lists beside the processor.  Ends with 1 when bits differ,
a test fails or a command does.
"""
import argparse
import array
import json
import math
import re
import shlex
import sys
import time
from pathlib import Path

import machine
from machine import Failed, run
from selftest import TEXT, relative_l2

TOP = Path(__file__).resolve().parents[2]
ANSWER, STEPS, CONTEXT = 64, 256, 1024


class Results:
    def __init__(self, out, seconds):
        self.out, self.end, self.parts, self.wrong, self.left_out, self.data = out, time.monotonic() + seconds, [], [], [], {}

    def left(self):
        return self.end - time.monotonic()

    def step(self, name, least_seconds, work):
        """Does it where there is time, and keeps what it says."""
        print(f"gpu: {name}, {self.left():.0f} s left", file=sys.stderr, flush=True)
        if self.left() < least_seconds:
            text = "left out: there was no time for it\n"
            self.left_out.append(name)
        else:
            begin = time.monotonic()
            try:
                text, self.data[name] = work()
            except Failed as failed:
                self.wrong.append(f"{name}: {failed}")
                text = f"FAILED: {failed}\n"
            text += f"\n{time.monotonic() - begin:.0f} s.\n"
        self.parts.append(f"## {name}\n\n{text}")
        print(text, file=sys.stderr, flush=True)
        self.write()

    def write(self):
        head = "Everything is as it should be.\n" if not self.wrong else "**Not as it should be:**\n\n" + "".join(f"- {w}\n" for w in self.wrong)
        (self.out / "gpu.md").write_text("# odmoe on a GPU\n\n" + head + "\n" + "\n".join(self.parts))
        (self.out / "gpu.json").write_text(json.dumps({"wrong": self.wrong, **self.data}, indent=2) + "\n")


def run_tests(program, seconds):
    done = run([str(program), "--gtest_brief=1", "--gtest_filter=*bundled*:Device.*"], timeout=seconds).decode(errors="replace")
    passed = re.search(r"\[  PASSED  \] (\d+)", done)
    skipped = re.search(r"\[  SKIPPED \] (\d+)", done)
    n, left_out = int(passed.group(1)) if passed else 0, int(skipped.group(1)) if skipped else 0
    if n == 0:
        raise Failed(f"{program} ran no test: {done.strip().splitlines()[-1:]}")
    return f"{n} passed, {left_out} skipped\n", {"passed": n, "skipped": left_out}


def check_bits(results, odmoe, device, seconds):
    text = results.out / "text.txt"
    text.write_text(TEXT)
    demo = str(TOP / "models/demo.gguf")

    def logits(where, budget):
        file = results.out / "logits.f32"
        run([*odmoe, "perplexity", demo, "--file", str(text), "--logits", str(file), "--context", "256", "--chunk", "64", "--no-probe",
             "--device", where, "--memory", budget], timeout=seconds)
        values = file.read_bytes()
        file.unlink()
        return values
    first, *others = [logits(device, budget) for budget in ("1%", "25%", "100%")]
    same = all(other == first for other in others)
    if not same:
        results.wrong.append("logits are other bits at other budgets")
    far = relative_l2(array.array("f", first), array.array("f", logits("cpu", "25%")))
    if not far < 0.1:
        results.wrong.append(f"relative l2 {far:.3g} from the processor's logits")
    return f"1 %, 25 % and 100 %: {'the same bits' if same else 'OTHER BITS'}; relative l2 from the processor {far:.3g}\n", {"same": same, "relative_l2": far}


def measure(results, odmoe, model, device, n_prompt, seconds):
    rows, data = [], {}
    for share in ("100%", "25%"):
        for where in (device, "cpu"):
            prompt = machine.replay_prompt(n_prompt, STEPS, ANSWER + 1)
            report = machine.bench_infer(odmoe, str(model), "--memory", share, "--context", str(CONTEXT), "--device", where, "--no-probe",
                                         prompt=prompt, tokens=ANSWER, rounds=2, timeout=seconds)["median"]
            stats = results.out / "stats.json"
            run([*odmoe, "run", str(model), "-p", prompt, "-n", "16", "--temperature", "0", "--ignore-eos", "--memory", share, "--context", str(CONTEXT),
                 "--device", where, "--no-probe", "--stats", str(stats)], timeout=seconds)
            told = json.loads(stats.read_text())
            exchange = told.get("device") or {}
            data[f"{where} {share}"] = {**report, "ttft_ms": told["prefill"]["ttft_ms"], "device": exchange, "memory": told["memory"]}
            ms = 1000 / report["decode_tokens_per_second"]
            rows.append((where, share, f"{report['prefill_tokens_per_second']:.1f}", f"{report['decode_tokens_per_second']:.2f}", f"{ms:.1f}",
                         f"{told['prefill']['ttft_ms']:.0f}", f"{report['hit_rate']:.3f}", f"{100 * report['stall_share']:.0f} %",
                         *(f"{exchange[name]:.0f}" if exchange.get(name) is not None else "-"
                           for name in ("operations_per_step", "graphs_per_token", "waits_per_step", "sent_bytes_per_layer", "fetched_bytes_per_layer",
                                        "exchange_us_per_layer", "launch_us_per_layer", "wait_us_per_layer"))))
    text = machine.table(("dense part on", "experts in memory", f"prefill of {n_prompt}, tokens/s", "decoding, tokens/s", "ms for a token", "first token, cold, ms",
                          "hit rate", "stalled", "operations", "graphs for a token", "waits", "bytes to it for a layer", "bytes back", "exchange, us", "launch, us", "wait, us"), rows)
    return text, data


def llama(results, command, model, n_prompt, threads, seconds):
    rows, data = [], {}
    for words in ("-ngl 99 -ncmoe 999", "-ngl 99 -ot exps=CPU", "-ngl 99", "-ngl 0"):
        if results.left() < 45:
            rows.append((words, "no time", "", ""))
            continue
        try:
            said = run([*shlex.split(command), "-m", str(model), "-p", machine.replay_prompt(n_prompt, STEPS, ANSWER + 1), "-n", str(ANSWER), "--temp", "0",
                        "--ignore-eos", "-no-cnv", "-c", str(CONTEXT), "-t", str(threads), *shlex.split(words)], timeout=min(seconds, results.left()), both=True)
        except Failed as failed:  # an option that this llama.cpp does not have says nothing of odmoe
            rows.append((words, f"failed: {str(failed)[-120:]}", "", ""))
            continue
        found = [re.search(pattern, said.decode(errors="replace")) for pattern in
                 (r"prompt eval time =.*?([\d.]+) tokens per second", r"(?<!prompt) eval time =.*?([\d.]+) tokens per second", r"load time = *([\d.]+) ms")]
        speeds = [float(match.group(1)) if match else math.nan for match in found]
        data[words] = speeds
        rows.append((words, *(f"{value:.2f}" for value in speeds)))
    return machine.table(("llama.cpp", f"prefill of {n_prompt}, tokens/s", "decoding, tokens/s", "load time, ms"), rows), data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odmoe", default=str(TOP / "build/release/cli/odmoe"), help="a command")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--llama", default="")
    parser.add_argument("--seconds", type=float, default=540)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results, odmoe = Results(options.out.resolve(), options.seconds), shlex.split(options.odmoe)

    listed = machine.devices(odmoe)
    others = [d["name"] for d in listed if d["kind"] != "processor"]
    if not others:
        sys.exit("gpu: odmoe devices lists the processor alone: docs/devices.md says what a GPU needs")
    device = options.device or others[0]
    results.step("Machine", 0, lambda: (machine.table(("", ""), machine.facts(odmoe)) + "\n" +
                                        machine.table(("device", "is", "memory", "of the host's", "reads host memory in place"),
                                                      [(d["name"], d["description"], machine.gib(d["memory_bytes"]), d["shares_host_memory"],
                                                        d["reads_host_memory"]) for d in listed]), listed))
    if options.test:
        results.step("Tests of devices", 20, lambda: run_tests(options.test, min(240, results.left() - 5)))
    results.step("Bits", 20, lambda: check_bits(results, odmoe, device, min(120, results.left())))

    made = []

    def make():
        path = options.model or machine.replay(results.out, f"replay{options.layers}.gguf", options.layers, STEPS)
        if path is None:
            raise Failed("numpy is missing: no model was made (apt install python3-numpy)")
        made.append(path)
        return f"{path.name}, {machine.gib(path.stat().st_size)}\n", {"bytes": path.stat().st_size}
    results.step("Model", 60, make)
    if made:
        results.step("Speed", 60, lambda: measure(results, odmoe, made[0], device, options.prompt, max(results.left() - 5, 30)))
        if options.llama:
            results.step("Beside llama.cpp", 60, lambda: llama(results, options.llama, made[0], options.prompt, machine.processors(), 150))
    left_out = f", without {', '.join(results.left_out)}, for which there was no time" if results.left_out else ""
    print(f"{'FAILED' if results.wrong else 'good'}{left_out}: {results.out / 'gpu.md'}")
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
