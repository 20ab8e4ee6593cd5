#!/usr/bin/env bash
# From a model to a shadow model, in small.  ODMOE names the program (default: odmoe in PATH); the results are left
# in the folder given, or in one that is removed.
#
#   examples/quickstart.sh [FOLDER]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
model=$here/../models/demo.gguf
odmoe=${ODMOE:-odmoe}
if [ $# -gt 0 ]; then
  work=$1
  mkdir -p "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
show() { printf '\n$ odmoe %s\n' "$*" >&2; "$odmoe" "$@"; }

# What do the routers see and choose?
show collect "$model" --corpus "$here/text.txt" --tokens 12000 --document-tokens 128 --output "$work/data"
# The routing alone is enough to ask how much memory would do.
show collect "$model" --corpus "$here/text.txt" --tokens 2000 --document-tokens 128 --routing-only \
  --output "$work/routing.trace.xz"
show simulate "$work/routing.trace.xz" --no-plot
# Learn it.  Small and short: docs/shadow-model.md has what more data and epochs bring.
show train --data "$work/data" --output "$work/shadow.safetensors" --hidden 128 --epochs 3 --lookahead 2

# What is it worth beside predictors that need no training?
show evaluate --data "$work/data" --shadow "$work/shadow.safetensors"

# Data of known structure: what is reached can be held against what is possible.
show collect --synthetic --n-embd 32 --layers 3 --experts 16 --top-k 2 --tokens 12000 --output "$work/synthetic"
show train --data "$work/synthetic" --output "$work/synthetic.safetensors" --kind linear --epochs 10 --lookahead 2 \
  --learning-rate 0.004
