# `make` says what there is. Everything runs in .venv/, which `make install` fills with the versions of constraints.txt.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# One thread a process: the tests run beside each other, and threads that wait for a core slow all of them down. Three
# workers keep two cores busy: many tests wait for processes that they start.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 3 --dist worksteal --durations=10

.DEFAULT_GOAL := help

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: install
install: $(VENV)/installed ## make .venv with everything but the developers' tools

# Threads that spin while they wait make it five times slower beside other work.
.PHONY: quickstart
quickstart: install ## train a tiny model, measure it before and after, talk to it (five minutes)
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/quickstart/quickstart.py

.PHONY: test
test: install ## all tests
	$(PYTEST)

.PHONY: test-fast
test-fast: install ## the tests without the slow ones
	$(PYTEST) -m "not slow"

# The core of it, as `make test` has it. TRIALS=200 tries everything: so many random kills, every point of writing and
# deleting, five times as many damaged files (a quarter of an hour); TRIALS=1000 takes longer.
TRIALS ?= 0
.PHONY: faults
faults: install ## kill, damage and starve runs, and see that they go on as if nothing had happened
	SFT_FAULT_TRIALS=$(TRIALS) OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/faults

.PHONY: test-engines
test-engines: install ## a real SGLang and a real vLLM on the CPU (a quarter of an hour; tests/engines makes their environments)
	SFT_TEST_ENGINES=1 OMP_NUM_THREADS=2 $(BIN)/python -m pytest tests/engines --durations=10

.PHONY: test-browser
test-browser: $(VENV)/installed-browser ## the page of a run in a headless Chromium (needs chromium and npm from the system)
	npm install --prefix tests/browser --no-package-lock --no-audit --no-fund --silent || echo "no npm: axe-core's checks skip"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest tests/browser --durations=10

# Trackio asks for a pillow that is older than the one all else is tested with, and does not need it for what we send.
.PHONY: test-trackers
test-trackers: $(VENV)/installed ## what TensorBoard, W&B, MLflow and Trackio get of a run (installs the last two)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[trackers]' gradio_client brotli orjson python-multipart
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt trackio
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -q tests/unit/trackers

.PHONY: check
check: $(VENV)/installed-dev ## format, lint, types, direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

# Ours beside other programs: figures into benchmarks/results, the page docs/benchmarks.md made of them. About twenty
# minutes of a machine that does nothing else: make bench BENCH_DATA=alpaca_data.json BENCH_TOKENIZER=FOLDER
BENCH ?= preparation training_step loss_memory generation start_up checkpoints saving
BENCH_ARGS_preparation = --data $(BENCH_DATA) --tokenizer $(BENCH_TOKENIZER)
BENCH_ARGS_training_step = --data $(BENCH_DATA)
BENCH_ARGS_start_up = --data $(BENCH_DATA)

.PHONY: bench
bench: install ## our figures beside those of other programs (BENCH_DATA=alpaca_data.json BENCH_TOKENIZER=FOLDER)
	$(foreach one,$(BENCH),$(BIN)/python benchmarks/$(one).py $(BENCH_ARGS_$(one)) && )$(BIN)/python benchmarks/page.py

.PHONY: bench-peers
bench-peers: ## make the environments of the other programs (10 GB)
	$(PYTHON) benchmarks/peers.py make

.PHONY: bench-losses
bench-losses: $(VENV)/installed-bench ## our loss beside TRL's, our scores beside the published packages'
	$(BIN)/python benchmarks/trl_loss.py
	$(BIN)/python benchmarks/scoring.py

.PHONY: docs
docs: install ## make the site of the documentation in build/docs; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs

.PHONY: clean
clean: ## remove what the tools and the quickstart left; .venv stays
	rm -rf quickstart build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so that installing again does nothing.

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/installed-browser: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $@
