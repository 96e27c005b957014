#!/usr/bin/env bash
# What make gpu needs on a machine that has torch, Lightning, scipy and the like, but neither network nor Hydra: pure
# wheels of the locked versions, unpacked, MNIST, and which commit this is. All of it goes to build/carry, which git
# ignores; copy the folder along with the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${TIPPING_DATA:=data}" "${PYTHON:=.venv/bin/python}"
out=build/carry
missing=(hydra-core omegaconf antlr4-python3-runtime)
rm -rf "$out"
mkdir -p "$out"
for package in "${missing[@]}"; do
  grep -i "^$package==" requirements.lock
done > "$out/wheels.txt"
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$out/wheels" --requirement "$out/wheels.txt"
for wheel in "$out"/wheels/*.whl; do
  [[ $wheel == *-none-any.whl ]] || { echo "carry.sh: $wheel is not pure: it would not run there" >&2; exit 1; }
done
"$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$out/site" "$out"/wheels/*.whl
cp -r "$TIPPING_DATA/MNIST" "$out/MNIST"
PYTHONPATH=src:benchmarks "$PYTHON" -c "
import json
from gpu.work import versions
print(json.dumps({key: versions()[key] for key in ('commit', 'code')}))" > "$out/code.json"
du -shc "$out/wheels" "$out/site" "$out/MNIST"
