#!/usr/bin/env python3
"""Decodes with and without prefetching, in turns, over models, drives and predictors, and prints a table.

  bench/scenarios/prefetch.py --prefetch build/release/bench/scenarios/odmoe_prefetch MODEL...
      [--memory 25%,12.5%] [--threads 1,2] [--drive real,balanced] [--page-cache]
      [--predictor stale-gate,...] [--lookahead 1,2]
      [--recall 0.9,0.8] [--near 0.9] [--rounds 7] [--tokens 32] [--prompt TEXT] [--json FILE]
"""
import argparse
import itertools
import json
import shlex
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prefetch", default="build/release/bench/scenarios/odmoe_prefetch")
    parser.add_argument("--memory", default="25%")
    parser.add_argument("--drive", default="real,balanced")
    parser.add_argument("--threads", default="0")
    parser.add_argument("--page-cache", action="store_true",
                        help="drives that are not the real one read from the page cache: for small experts")
    parser.add_argument("--predictor", default="stale-gate")
    parser.add_argument("--lookahead", default="1")
    parser.add_argument("--recall", help="of right guesses, how many are left, by distance")
    parser.add_argument("--near", help="of the others, how many come right after")
    parser.add_argument("--rounds", default="7")
    parser.add_argument("--tokens", default="32")
    parser.add_argument("--prompt")
    parser.add_argument("--shadow", help="weights of the predictor shadow")
    parser.add_argument("--json", help="where the runs' own lines are added")
    args = parser.parse_args()

    print("| model | memory | threads | drive | predictor, layers ahead | recall | drive idle without "
          "| stalled without | with | tok/s without | with | ratio | the governor's verdict |")
    print("|" + "---|" * 13)
    for model, memory, threads, drive, predictor, lookahead in itertools.product(
            args.models, args.memory.split(","), args.threads.split(","), args.drive.split(","),
            args.predictor.split(","), args.lookahead.split(",")):
        command = shlex.split(args.prefetch) + [
            model, "--memory", memory, "--threads", threads, "--drive", drive, "--predictor", predictor,
            "--lookahead", lookahead, "--rounds", args.rounds, "--tokens", args.tokens]
        if args.page_cache and drive != "real":
            command += ["--page-cache"]
        if args.recall:
            command += ["--recall", args.recall]
        if args.near:
            command += ["--near", args.near]
        if args.prompt:
            command += ["--prompt", args.prompt]
        if predictor == "shadow":
            command += ["--shadow", args.shadow]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr.strip())
        run = json.loads(done.stdout)
        recall = " / ".join(f"{value:.2f}" for value in run["recall"])
        speed = run["drive_bytes_per_second"]
        drive = f"{drive}, {speed / 1e6:.0f} MB/s" if speed > 0 else drive
        verdict = ("many" if run["many_reads"] else "few") if run["prefetching"] else "off"
        print(f"| {run['model']} | {memory} | {threads} | {drive} | {predictor}, {lookahead} | {recall} "
              f"| {run['drive_idle_without']:.0%} | {run['stalled_without']:.0%} | {run['stalled_with']:.0%} "
              f"| {run['tokens_per_second_without']:.1f} | {run['tokens_per_second_with']:.1f} "
              f"| **{run['ratio']:.3f}** | {verdict} |", flush=True)
        if args.json:
            with open(args.json, "a", encoding="utf-8") as file:
                file.write(done.stdout)


if __name__ == "__main__":
    main()
