# make demo: the main job on the embedded digits; make test: checks and tests; make test-long: the long ones too; make
# test-cluster: sweeps on a Slurm and searches on a PostgreSQL that it starts; make bench-solver, bench-ablation,
# bench-visualize: the solver and the ablations beside others, pictures beside a pass over the images; make bench-arena:
# all selectors beside such a pass; make
# bench-figure4: where the time of the report's Figure 4 goes; make bench-cost: what a map costs; make bench-start: how
# long commands take to begin. Each makes the environment first. make gpu: minutes of a borrowed GPU as rows, docs/gpu.md;
# make carry: what that needs on a machine without packages. These two take what is there.
PYTHON ?= python3
BIN = .venv/bin
FILTERS ?= 128
PRECISION ?= float32
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# where there is no environment, as on a borrowed machine, the python there, with what make carry has gathered
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
GPU_PATH = PYTHONPATH=src:benchmarks$(if $(wildcard $(BIN)/python),,:build/carry/site)
GPU_PATH += TIPPING_DATA=$${TIPPING_DATA:-$(if $(wildcard build/carry/MNIST),build/carry,data)}

.PHONY: gpu carry demo test test-here test-card test-long test-cluster check beside bench-solver bench-ablation \
  bench-figure4 bench-visualize bench-cost bench-start bench-arena clean

demo: .venv/installed
	$(BIN)/python interpret.py -m mu=10,100,500,700 data=digits model.filters=32 trainer.max_epochs=20 tracking=off

# side by side, so that no core waits for the end of one before the next begins
test: .venv/installed beside
	$(MAKE) --no-print-directory --jobs=3 --output-sync=line check test-here test-card

test-here: .venv/installed
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-card: .venv/installed
	$(PYTEST) --device card

test-long: check beside
	$(BIN)/python -m pytest --long --override-ini faulthandler_timeout=7200

test-cluster: .venv/installed
	$(BIN)/python -m pytest --cluster --numprocesses 2 --dist loadfile tests/cluster tests/command/test_submitted.py

# packages that tests meet as a user's, not in the environment: Lightning imports torchvision where it finds it
beside: .venv/beside/torchvision .venv/beside/datasets .venv/beside/zennit .venv/beside/spams

.venv/beside/%: tests/beside/%.txt .venv/installed
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ --requirement $<
	touch $@

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gpu:
	@test -n "$(OUT)" || { echo "make gpu: give a folder for its rows, such as OUT=build/gpu" >&2; exit 1; }
	$(GPU_PATH) $(GPU_PYTHON) -m gpu --out "$(OUT)" $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(DEVICE),--device $(DEVICE)) $(if $(SIZE),--size $(SIZE)) $(if $(STAGES),--stages $(STAGES))

carry:
	benchmarks/gpu/carry.sh

bench-solver: .venv/compared
	$(BIN)/python benchmarks/solver.py

bench-ablation: .venv/compared
	$(BIN)/python benchmarks/ablation.py
	$(BIN)/python benchmarks/graphs.py --threads 1

bench-figure4: .venv/installed
	rm -rf outputs/bench_figure4_$(FILTERS)
	$(BIN)/python interpret.py -m protocol=keras_report mu=10,100,500,600,700 model.filters=$(FILTERS) trainer.max_epochs=5 \
	  trainer.precision=$(PRECISION) curve.points=1 curve.images=100 visualize=off tracking=off \
	  hydra.sweep.dir=outputs/bench_figure4_$(FILTERS) store.dir=outputs/bench_figure4_$(FILTERS)/store
	$(BIN)/python benchmarks/figure4.py outputs/bench_figure4_$(FILTERS)

bench-arena: .venv/installed
	$(BIN)/python benchmarks/contest.py --filters $(or $(WIDTH),32)

bench-visualize: .venv/installed
	$(BIN)/python benchmarks/visualize.py

bench-cost: .venv/installed
	$(BIN)/python benchmarks/cost.py

bench-start: .venv/installed
	$(BIN)/python benchmarks/start.py

.venv/compared: .venv/installed benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --requirement benchmarks/requirements.txt
	touch $@

# torch first: where a CPU build is at hand, pip then takes it, and nothing else pulls in another one
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv
