#!/usr/bin/python3
"""Time per token and memory along a long context, as CSV, as SVG and in the terminal.

    bench/scenarios/long_context.py --program build/release/bench/scenarios/odmoe_long_context MODEL [MODEL ...] \\
        [--tokens 32768] [--memory 100%] [--out long_context] -- [more options of odmoe_long_context]

Writes OUT.csv (a column `model` in front) and OUT.svg, and a table and a plot to standard output.  Fails where
the process was ever larger than its budget.
"""
import argparse
import csv
import io
import math
import os
import shlex
import subprocess
import sys

COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"]


def measure(a, model, more):
    command = [*shlex.split(a.program), model, "--tokens", str(a.tokens), "--memory", a.memory, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def terminal(series, height=12, width=64):
    points = [(float(r["position"]), float(r[what]), mark) for _, what, mark, rows in series for r in rows]
    top = max(y for _, y, _ in points)
    low = min(y for _, y, _ in points)
    most = max(x for x, _, _ in points)
    scale = lambda y: (math.log(y) - math.log(low)) / max(math.log(top) - math.log(low), 1e-9)
    grid = [[" "] * (width + 1) for _ in range(height + 1)]
    for x, y, mark in points:
        grid[height - round(scale(y) * height)][round(x / most * width)] = mark
    for i, row in enumerate(grid):
        value = math.exp(math.log(low) + (1 - i / height) * (math.log(top) - math.log(low)))
        print(f"{value:10.2f} |" + "".join(row))
    print(" " * 11 + "+" + "-" * (width + 1))
    print(" " * 12 + f"0{'position':^{width - 8}}{most:.0f}")
    for name, what, mark, _ in series:
        print(f"{mark}  {name}: {what} (ms, logarithmic)")


def svg(series, path, width=720, height=420, left=70, bottom=50):
    points = [(float(r["position"]), float(r[what])) for _, what, _, rows in series for r in rows]
    most = max(x for x, _ in points)
    low, top = min(y for _, y in points) / 1.2, max(y for _, y in points) * 1.2
    px = lambda x: left + x / most * (width - left - 20)
    py = lambda y: 20 + (1 - (math.log(y) - math.log(low)) / (math.log(top) - math.log(low))) * (height - 20 - bottom)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 20 * len(series)}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(top)) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0 ** exponent
            if low <= value <= top:
                out.append(f'<path d="M{left} {py(value):.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 6}" '
                           f'y="{py(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for i in range(5):
        x = most * i / 4
        out.append(f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:.0f}</text>')
    out.append(f'<text x="{(left + width) / 2}" y="{height - 12}" text-anchor="middle">position, tokens</text>'
               f'<text x="14" y="{height / 2}" transform="rotate(-90 14 {height / 2})" text-anchor="middle">'
               'ms per token</text>')
    for i, (name, what, _, rows) in enumerate(series):
        colour = COLOURS[i // 2 % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if i % 2 else ""
        line = " ".join(f"{px(float(r['position'])):.1f},{py(float(r[what])):.1f}" for r in rows)
        y = height + 20 * i
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
                   f'<path d="M{left} {y}h30" stroke="{colour}" stroke-width="2"{dash}/>'
                   f'<text x="{left + 38}" y="{y + 4}">{name}: {what}</text>')
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


def main():
    argv = sys.argv[1:]
    more = argv[argv.index("--") + 1:] if "--" in argv else []
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default="build/release/bench/scenarios/odmoe_long_context")
    p.add_argument("--tokens", type=int, default=32768)
    p.add_argument("--memory", default="100%")
    p.add_argument("--out", default="long_context")
    p.add_argument("models", nargs="+")
    a = p.parse_args(argv[:argv.index("--")] if "--" in argv else argv)
    results = [(os.path.basename(m).removesuffix(".gguf"), measure(a, m, more)) for m in a.models]
    with open(a.out + ".csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", *results[0][1][0]])
        for name, rows in results:
            writer.writerows([name, *row.values()] for row in rows)
    series = []
    for i, (name, rows) in enumerate(results):
        series.append((name, "decode_ms_per_token", "ox#%&"[i % 5], rows))
        series.append((name, "prefill_ms_per_token", ".,:;'"[i % 5], rows))
    svg(series, a.out + ".svg")
    terminal(series)
    print("\n| model | position | prefill ms/token | decode ms/token | resident MiB | budget MiB | KV MiB in use |")
    print("|---|---|---|---|---|---|---|")
    over = False
    for name, rows in results:
        for r in rows:
            print(f"| {name} | {r['position']} | {float(r['prefill_ms_per_token']):.2f} | "
                  f"{float(r['decode_ms_per_token']):.2f} | {int(r['resident_bytes']) >> 20} | "
                  f"{int(r['budget_bytes']) >> 20} | {int(r['kv_bytes_in_use']) / 2**20:.1f} |")
            over = over or int(r["peak_resident_bytes"]) > int(r["budget_bytes"])
    if over:
        sys.exit("long_context: the process was larger than its budget")


if __name__ == "__main__":
    main()
