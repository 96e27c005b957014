#!/usr/bin/env bash
# The report's Figure 4: 128 filters a layer, five epochs; under what its Keras code did, and under what its text says.
# With dropout and without it, three seeds: on 2 cores, 10 to 30 minutes for an epoch of each network, and an hour for
# its ablations; trainer.precision=bf16 takes a third where the processor has it. seeds=0 dropout=0.5 sweeps/figure4.sh
# is one network.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m protocol=keras_report,described mu=10,100,500,600,700 model.filters=128 \
  seed=${seeds:-0,1,2} model.dropout=${dropout:-0.5,0} \
  trainer.max_epochs=5 tracking=off visualize=off curve.points=1 curve.images=100 hydra.sweep.dir=outputs/figure4 "$@"
.venv/bin/python interpret.py -m protocol.control=live,norm mu=100,500 model.filters=128 \
  seed=${seeds:-0,1,2} model.dropout=${dropout:-0.5,0} \
  trainer.max_epochs=5 tracking=off visualize=off curve.points=1 curve.images=100 hydra.sweep.dir=outputs/figure4_controls "$@"
