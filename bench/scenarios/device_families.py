#!/usr/bin/env python3
"""Which models a device runs with each placement of their experts, and how far it is from the processor.

    bench/scenarios/device_families.py --odmoe build/release/cli/odmoe [--device NAME] [--asked] [--json FILE] [--seconds 300] MODEL...

Of each model `odmoe devices MODEL --json` says what it lacks, and which placements it tried out; with --asked that is all. Else what should
work is run on a short text in chunks of 48, and all logits are
compared with those of the processor: relative l2 of a position, the median and the most.  With the experts in place and in an arena of the
device they are to be the same bits.  Prints a table for docs/devices.md.  Ends with 1 when a run fails that `odmoe devices` said would work, or
bits differ.  Without --device the first that is listed beside the processor.
"""
import argparse
import array
import json
import math
import sys
import tempfile
from pathlib import Path

import machine
from machine import Failed, run
from selftest import TEXT, relative_l2

PLACEMENTS = ("cpu", "in-place", "device")
CONTEXT, CHUNK = 96, 48


def differences(got, wanted, n_vocab):
    """Relative l2 of each position, sorted."""
    found = []
    for at in range(0, len(wanted), n_vocab):
        position = wanted[at:at + n_vocab]
        found.append(relative_l2(got[at:at + n_vocab], position) if any(position) else math.inf)
    return sorted(found)


class Runs:
    def __init__(self, odmoe, device, folder, seconds, asks):
        self.odmoe, self.device, self.folder, self.seconds, self.asks = odmoe, device, Path(folder), seconds, asks
        (self.folder / "text.txt").write_text(TEXT[:600])

    def asked(self, model):
        """(what the dense part lacks, {placement: what stands in the way})"""
        found = json.loads(run([self.odmoe, "devices", str(model), "--json"], timeout=self.seconds))
        of = next(one for one in found if one["name"].lower() == self.device.lower())
        return of["lacks"], of["expert_placements"]

    def logits(self, model, *options):
        file = self.folder / "logits.f32"
        run([self.odmoe, "perplexity", str(model), "--file", str(self.folder / "text.txt"), "--logits", str(file), "--context", str(CONTEXT),
             "--chunk", str(CHUNK), "--no-probe", "--predictor", "none", *options], timeout=self.seconds)
        values = array.array("f", file.read_bytes())
        file.unlink()
        return values

    def of(self, model):
        try:
            lacks, obstacles = self.asked(model)
        except Failed as failed:
            return {"model": model.stem, "lacks": [], "runs": {placement: {"failed": str(failed)} for placement in PLACEMENTS}}
        row = {"model": model.stem, "lacks": lacks, "runs": {}}
        if lacks:
            return row
        if self.asks:
            row["runs"] = {placement: {"obstacle": obstacles[placement]} if obstacles[placement] else {"works": True} for placement in PLACEMENTS}
            return row
        n_vocab = json.loads(run([self.odmoe, "inspect", str(model), "--json"], timeout=self.seconds))["n_vocab"]
        wanted = self.logits(model, "--device", "cpu")
        got = {}
        for placement in PLACEMENTS:
            if obstacles[placement]:
                row["runs"][placement] = {"obstacle": obstacles[placement]}
                continue
            try:
                got[placement] = self.logits(model, "--device", self.device, "--expert-placement", placement)
            except Failed as failed:
                row["runs"][placement] = {"failed": str(failed)}
                continue
            found = differences(got[placement], wanted, n_vocab)
            row["runs"][placement] = {"median": found[len(found) // 2], "most": found[-1]}
        if "in-place" in got and "device" in got:
            row["same"] = got["in-place"] == got["device"]
        return row


def works(one):
    return "median" in one or "works" in one


def told(one):
    if one is None:
        return "-"
    if "median" in one:
        return f"{one['median']:.2g}, {one['most']:.2g}"
    if "works" in one:
        return "yes"
    return "**failed**" if "failed" in one else "no"


def summary(rows):
    lines = [machine.table(("model", "dense there", "experts in place", "experts in an arena", "what stands in the way"),
                           [(row["model"], *(told(row["runs"].get(placement)) for placement in PLACEMENTS),
                             "lacks " + ", ".join(row["lacks"]) if row["lacks"] else
                             "; ".join(dict.fromkeys(one.get("obstacle") or one.get("failed") for one in row["runs"].values()
                                                     if not works(one))))
                            for row in rows])]
    for placement in PLACEMENTS:
        lines.append(f"experts {placement}: {sum(works(row['runs'].get(placement, {})) for row in rows)} of {len(rows)}")
    same = [row for row in rows if "same" in row]
    if same:
        lines.append(f"in place and in an arena: the same bits of {sum(row['same'] for row in same)} of {len(same)}")
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--odmoe", default="build/release/cli/odmoe")
    arguments.add_argument("--device")
    arguments.add_argument("--asked", action="store_true", help="run nothing")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--seconds", type=int, default=300, help="the most that one run may take")
    arguments.add_argument("models", nargs="+", type=Path)
    given = arguments.parse_args()
    device = given.device or next((one["name"] for one in machine.devices([given.odmoe]) if one["kind"] != "processor"), None)
    if device is None:
        sys.exit("ggml finds no device but the processor (docs/devices.md)")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(given.odmoe, device, folder, given.seconds, given.asked)
        for model in given.models:
            rows.append(runs.of(model))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if given.json:
                given.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(summary(rows), end="")
    wrong = [row["model"] for row in rows if not row.get("same", True) or any("failed" in one for one in row["runs"].values())]
    if wrong:
        sys.exit(f"not as it should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
