#!/usr/bin/env bash
# Does the selection depend on what the network has learned? Layers initialised anew, all, in a cascade from the output,
# and one by one; labels permuted. Three seeds: some 10 minutes on 2 cores, once the three networks are trained.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2}" "${out:=outputs/sanity}"
options=(mu=10 model.filters=16 "seed=$seeds" trainer.max_epochs=5 tracking=off curve.images=1000 "$@")
run() { .venv/bin/python interpret.py -m "${options[@]}" "$@"; }
run randomize=none,from:dense1,from:conv5,from:conv4,from:conv3,from:conv2,all,only:conv1,only:conv2,only:conv3,only:conv4,only:conv5 \
  "hydra.sweep.dir=$out"
run protocol.labels=permuted "hydra.sweep.dir=${out}_labels"
