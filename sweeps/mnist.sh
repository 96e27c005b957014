#!/usr/bin/env bash
# The README's MNIST table: one network, four values of mu; 1 to 4 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m mu=10,100,500,700 tracking=off "$@"
