#!/usr/bin/env bash
# How the curve moves with the number of filters and with dropout: 8 to 64 filters a layer, five epochs, three seeds;
# then the networks with dropout against live controls, and ones of the same response. An hour or two on 2 cores;
# filters=16 seeds=0 out=outputs/width_16 sweeps/widths.sh is a part of it, filters=128 what figure4.sh has.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2}" "${filters:=8,16,32,64}" "${out:=outputs/widths}"
options=("model.filters=$filters" "seed=$seeds" trainer.max_epochs=5)
options+=(tracking=off visualize=off curve.points=1 curve.images=100 "$@")
run() { .venv/bin/python interpret.py -m "${options[@]}" "$@"; }
run protocol=keras_report,described model.dropout=0.5,0 mu=10,100,500 "hydra.sweep.dir=$out"
run protocol=keras_report,described protocol.control=live,norm mu=10,100 "hydra.sweep.dir=${out}_controls"
