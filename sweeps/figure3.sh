#!/usr/bin/env bash
# The report's Figure 3: MatConvNet's network, accuracy on the training images; its 500 dense units ablated or not.
# Three seeds: some 10 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2}" "${out:=outputs/figure3}"
.venv/bin/python interpret.py -m model=matconvnet protocol=matconvnet_report protocol.sites=conv+dense,conv \
  mu=10,100,200 "seed=$seeds" trainer.max_epochs=5 tracking=off visualize=off curve.points=1 curve.images=100 \
  "hydra.sweep.dir=$out" "$@"
