#!/usr/bin/env bash
# The report's Figure 4: 128 filters a layer, five epochs; under what its Keras code did, and under what its text says.
# One seed and network: some 10 minutes of training in float32 an epoch, and 15 of ablation, on 2 cores.
# Options follow, such as seed=0,1,2 model.dropout=0 trainer.precision=bf16.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m protocol=keras_report,described mu=10,100,500,600,700 model.filters=128 \
  trainer.max_epochs=5 tracking=off curve.points=1 curve.images=100 hydra.sweep.dir=outputs/figure4 "$@"
.venv/bin/python interpret.py -m protocol.control=live,norm mu=10,100,500,600,700 model.filters=128 \
  trainer.max_epochs=5 tracking=off curve.points=1 curve.images=100 hydra.sweep.dir=outputs/figure4_controls "$@"
