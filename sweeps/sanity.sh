#!/usr/bin/env bash
# Does the selection depend on what the network has learned? Layers initialised anew, all, in a cascade from the output,
# and one by one; labels permuted.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python interpret.py -m seed=0,1,2 model.filters=16 trainer.max_epochs=5 tracking=off curve.points=1 curve.images=100 \
  randomize=all,from:dense1,from:conv2,only:conv1,only:conv5 \
  hydra.sweep.dir=outputs/sanity "$@"
.venv/bin/python interpret.py -m seed=0,1,2 model.filters=16 trainer.max_epochs=5 tracking=off curve.points=1 curve.images=100 \
  protocol.labels=permuted hydra.sweep.dir=outputs/sanity_labels "$@"
