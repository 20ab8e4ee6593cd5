#!/usr/bin/env bash
# The table of hit rates in docs/residency.md, again: every policy on every recorded trace.
#   bench/scenarios/hit_rates.sh [PROGRAM]        traces from $ODMOE_SHARED/traces; JSON goes to $OUT, if set
set -euo pipefail
program=${1:-build/release/cli/odmoe}
traces=${ODMOE_SHARED:?"set ODMOE_SHARED to the folder of reference data"}/traces
out=${OUT:-$(mktemp -d)}
simulate() {
  local name=$1
  shift
  printf '%s\n' "$name"
  "$program" simulate "$@" --budget 6.25%,12.5%,25%,50% --policy all --json "$out/$name.json" --no-plot
}
simulate gpt-oss-20b "$traces/gpt-oss-20b.trace.xz" --sessions 0:421:60
simulate qwen3-30b "$traces/qwen3-30b-a3b.route.csv"
simulate gpt-oss-120b "$traces/gpt-oss-120b.route.csv"
printf '\npart of the distance from layer-lru to belady that forecast closes\n'
python3 - "$out" <<'PY'
import json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    cells = {}
    for cell in json.loads(path.read_text()):
        cells.setdefault(cell["budget_percent"], {})[cell["policy"]] = cell["hits"]
    parts = []
    for percent, hits in cells.items():
        distance = hits["belady"] - hits["layer-lru"]
        part = (hits["forecast"] - hits["layer-lru"]) / distance if distance else 1
        behind = [name for name in ("lru", "layer-lru", "lfu") if hits["forecast"] < hits[name]]
        parts.append(f"{percent:g} %: {part:.3f}" + (f" (behind {', '.join(behind)})" if behind else ""))
    print(f"{path.stem:>13}  " + "  ".join(parts))
PY
