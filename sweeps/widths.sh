#!/usr/bin/env bash
# How the curve moves with the number of filters and with dropout: 8 to 32 filters a layer, five epochs, three seeds.
# Then the same filters against live controls, and ones of the same response. filters=64 sweeps/widths.sh is one more
# width: on 2 cores, 5 to 15 minutes for each of its six networks.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m protocol=keras_report,described model.filters=${filters:-8,16,32} model.dropout=0.5,0 \
  seed=0,1,2 mu=10,100,500 trainer.max_epochs=5 tracking=off visualize=off curve.points=1 curve.images=100 \
  hydra.sweep.dir=outputs/widths${filters:+_$filters} "$@"
.venv/bin/python interpret.py -m protocol.control=live,norm model.filters=${filters:-8,16,32} \
  seed=0,1,2 mu=10,100 trainer.max_epochs=5 tracking=off visualize=off curve.points=1 curve.images=100 \
  hydra.sweep.dir=outputs/widths_controls${filters:+_$filters} "$@"
