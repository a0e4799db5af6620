# Two commands do everything: `make render` and `make test`. Each sets up what it needs.
PYTHON ?= python3
INPUT ?= examples
OUTPUT ?= output/examples
CONFIG ?= pocket
ARGS ?=
BIN := .venv/bin

.PHONY: render test test-all nightly chaos lint docs pocket wheel clean

render: .venv/ready  ## render INPUT to films below OUTPUT
	$(BIN)/storyreel render $(INPUT) --output $(OUTPUT) --config $(CONFIG) $(ARGS)

# One thread for each of two workers: on two cores more threads only wait for each other.
test: .venv/ready-dev  ## run the tests but for the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=10 $(ARGS)

test-all: .venv/ready-dev  ## run all tests: chaos, long waits, thorough fuzzing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or not slow" --hypothesis-profile=thorough \
		--durations=10 $(ARGS)

nightly: lint test-all docs  ## what should pass once a night

chaos: .venv/ready-dev  ## every failure at every stage; CHAOS_SEED=n chooses where and when
	$(BIN)/python -m pytest tests/chaos -m "slow or not slow" -n 0 --durations=0 $(ARGS)

docs: .venv/ready-dev  ## build the documentation as a site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: .venv/ready-dev  ## style, types and the layers' imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pocket: PROCESSES ?= 2
pocket: .venv/ready  ## train a pocket model from nothing into build/pocket (hours; resumes)
	$(BIN)/python -m torch.distributed.run --standalone --nproc-per-node $(PROCESSES) -m storyreel.training \
		--config configs/training/pocket.toml $(ARGS)

wheel: .venv/ready-dev  ## build an installable wheel, with configs and the pocket model in it
	$(BIN)/python -m build --wheel

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Storyreel needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,s3]'
	touch $@

clean:  ## remove the environment and the wheels; films and trained models stay
	rm -rf .venv dist
