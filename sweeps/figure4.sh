#!/usr/bin/env bash
# The report's Figure 4: 128 filters a layer, five epochs; under what its Keras code did, and under what its text says;
# beyond and between its mu; against other controls. With dropout and without it, three seeds: on 2 cores, 10 to 30 minutes for an
# epoch of each network, and an hour and a half for its ablations; trainer.precision=bf16 takes a third on some
# processors, and longer on others. seeds=0 dropout=0.5 out=outputs/figure4_first sweeps/figure4.sh is one network.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2}" "${dropout:=0.5,0}" "${out:=outputs/figure4}"
options=(model.filters=128 "seed=$seeds" "model.dropout=$dropout" trainer.max_epochs=5)
options+=(tracking=off visualize=off curve.points=1 curve.images=100 "$@")
run() { .venv/bin/python interpret.py -m "${options[@]}" "$@"; }
run protocol=keras_report,described mu=10,100,500,600,700 "hydra.sweep.dir=$out"
run protocol=keras_report mu=1000,1200,1500 "hydra.sweep.dir=${out}_beyond"
run protocol=described mu=50,200,300 "hydra.sweep.dir=${out}_between"
run protocol=described protocol.control=live,norm mu=10,100 "hydra.sweep.dir=${out}_controls"
