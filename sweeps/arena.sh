#!/usr/bin/env bash
# The arena of docs/arena.md: all selectors on networks of 16, 32 and 64 filters a layer, with dropout and without, five
# seeds each. Hours on 2 cores; called again, it goes on where it was.
# filters=16 seeds=0 out=outputs/arena_16 sweeps/arena.sh is a part of it.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2,3,4}" "${filters:=16,32,64}" "${dropout:=0.5,0}" "${out:=outputs/arena}"
.venv/bin/python -m tipping arena "seed=$seeds" "model.dropout=$dropout" "model.filters=$filters" \
  trainer.max_epochs=5 tracking=off "hydra.sweep.dir=$out" "$@"
