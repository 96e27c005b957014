#!/usr/bin/env bash
# The MNIST table of docs/data.md: one network, four values of mu; 1 to 4 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m mu=10,100,500,700 tracking=off "$@"
