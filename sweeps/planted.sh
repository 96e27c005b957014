#!/usr/bin/env bash
# The table of docs/planted.md: filters known to be relevant, found at eight values of mu; about a minute on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PYTHON:=.venv/bin/python}"
out=outputs/interpret/planted_$(date +%Y-%m-%d_%H-%M-%S)
"$PYTHON" interpret.py -m data=planted model=planted selection=homotopy mu=0.3,1,1.5,2,4,6,10,100 \
    protocol.control=live tracking=off visualize=off "hydra.sweep.dir=$out" "$@"
"$PYTHON" sweeps/planted.py "$out"
