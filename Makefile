# Dataloader. `make demo` and `make test` set everything up by themselves; they need Python 3.11+, make and a C library.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PEERS := .venv-bench
PARTS ?=
REPORT ?=
TESTS ?=

.PHONY: help demo up test check format types lint imports coverage matrix bench chaos mutants ddl lock clean
.DEFAULT_GOAL := help

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP) ## Load exchange rates, kill the worker in the middle, see it finish (LIVE=1: from the Bank of Russia)
	@$(BIN)/dataloader demo $(if $(LIVE),--live)

up: $(STAMP) ## Start the service with its embedded PostgreSQL
	@$(BIN)/dataloader up

test: $(STAMP) ## Run the whole test suite (TESTS=path or -k expression for a part)
	@$(BIN)/pytest -n 3 --dist loadgroup $(TESTS)

check: $(STAMP) ## Format, lint, types and the import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

coverage: $(STAMP) ## Run the suite and measure branch coverage against the promised figures
	@$(BIN)/coverage erase
	@$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-branch --cov-report=
	@$(BIN)/coverage report --include='*/dataloader/domain/*' --fail-under=100
	@$(BIN)/coverage report --include='*/dataloader/storage/*' --fail-under=95
	@$(BIN)/coverage report --fail-under=95

matrix: $(STAMP) ## Run the suite on every PostgreSQL that is installed, and through PgBouncer
	@$(BIN)/python -m tests.matrix

bench: $(STAMP) $(if $(DL_BENCH_PEERS_PYTHON),,$(PEERS)/.ready) ## Measure the service beside others in one run (PARTS="drain keys" or all; REPORT=page.md)
	@DL_BENCH_PEERS_PYTHON="$${DL_BENCH_PEERS_PYTHON:-$(PEERS)/bin/python}" \
	  $(BIN)/python -m benchmarks $(PARTS) $(if $(REPORT),--report $(REPORT))

$(PEERS)/.ready: requirements/bench.txt $(STAMP)
	@echo "Setting up $(PEERS) with the queues to compare with (once) ..."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/bench.txt
	@touch $@

chaos: $(STAMP) ## Prove the promises at full size, with real timers and a million rows (about an hour and a half)
	@DL_CHAOS=full $(BIN)/pytest tests/storage/test_plans.py tests/chaos -s -p no:cacheprovider

mutants: $(STAMP) ## Break the code on purpose, once per mutant, and show that the tests notice (NAMES=part of a name)
	@$(BIN)/python -m tests.mutants $(NAMES)

ddl: $(STAMP) ## Generate DDL.sql from the migrations
	@$(BIN)/dataloader migrate --sql > DDL.sql

lock: ## Resolve the dependencies again (needs Poetry with its export plugin)
	poetry lock
	poetry export -q --with dev --all-extras -f requirements.txt -o requirements/dev.txt
	poetry export -q --only bench -f requirements.txt -o requirements/bench.txt
	poetry export -q --only main --all-extras -f requirements.txt -o requirements/embedded.txt
	poetry export -q --only main -f requirements.txt -o requirements/runtime.txt

clean: ## Remove the environments, caches and build results (data under .dataloader stay)
	rm -rf $(VENV) $(PEERS) dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
