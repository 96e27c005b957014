#!/usr/bin/env bash
# The map of tipping points: filters × dropout × seeds, each network searched around its own. Some three hours on 2
# cores with 64 filters a layer, one without; called again, it goes on where it was.
# filters=8 seeds=0 out=outputs/map_8 sweeps/map.sh is a part of it; model.depth=3,5 a further axis.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${seeds:=0,1,2}" "${filters:=8,16,32,64}" "${dropout:=0.5,0}" "${out:=outputs/map}"
.venv/bin/python sweeps/tipping_point.py "model.filters=$filters" "model.dropout=$dropout" "seed=$seeds" \
  trainer.max_epochs=5 tracking=off curve.points=4 "hydra.sweep.dir=$out" "$@"
