#!/usr/bin/env python3
"""How fast `odmoe convert` writes, beside copying the same file with direct I/O and with cp.

    bench/scenarios/convert_speed.py MODEL.gguf FOLDER [--odmoe build/cli/odmoe] [--layout packed] [--rounds 5]

FOLDER needs room for one copy, on the drive that is meant. The ways take turns; each is timed until its
bytes are on the drive. Prints seconds of every round and, for medians, the share of dd's speed.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import time


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)
    os.sync()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--odmoe", default="build/cli/odmoe")
    parser.add_argument("--layout", default="packed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cp", action="store_true", help="also through the page cache, with cp and sync")
    args = parser.parse_args()

    out = os.path.join(args.folder, "convert_speed.out")
    ways = {
        "dd": [["dd", f"if={args.model}", f"of={out}", "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none"]],
        "convert": [[args.odmoe, "convert", args.model, out, "--layout", args.layout]],
    }
    if args.cp:
        ways["cp"] = [["cp", "--sparse=never", "--reflink=never", args.model, out], ["sync", out]]
    seconds = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, commands in ways.items():
            remove(out)
            start = time.monotonic()
            for command in commands:
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[way].append(time.monotonic() - start)
    remove(out)

    size = os.path.getsize(args.model) / 2**20
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, times in seconds.items():
        print(f"{way:8} {size / medians[way]:6.0f} MiB/s  {medians['dd'] / medians[way]:.2f} of dd  "
              + " ".join(f"{t:.2f}" for t in times))


if __name__ == "__main__":
    main()
