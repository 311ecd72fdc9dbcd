# Two commands do everything on a fresh machine that has Python 3.11+ and make:
#   make run    sets up a private environment, decodes the real snapshots and judges the command by all cases
#   make test   sets up the same environment and passes all tests and linters
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

PROFILE  := --profile conformance/profiles/command.toml
FLUSHING := '{python}' -m ekvdump decode '--db={db}' '{options}' -- '{snapshot}' '{out}'

.DEFAULT_GOAL := help
.PHONY: help run test bench browser fixtures hostile mutants coverage deep lint format lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# The stamp is newer than what the environment was made from, or the environment is made again.
$(VENV)/stamp: requirements/develop.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	@# The lock names every package, so nothing is left to resolve: pip is told not to, since an older one
	@# would ask for a newer release than the lock's as soon as there is one.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/develop.txt
	$(BIN)/pip check
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

run: $(VENV)/stamp ## decode the real snapshots, and judge the command by all golden cases
	$(BIN)/python tools/run_real.py
	$(BIN)/ekvconform run $(PROFILE)

# Flushes are system calls too, so the command is run with them here.
hostile: $(VENV)/stamp ## run the command under concurrent tampering, with failing system calls, and on large snapshots
	$(BIN)/ekvconform step $(PROFILE) -- $(FLUSHING)
	$(BIN)/ekvconform faults $(PROFILE) -- $(FLUSHING)
	$(BIN)/ekvconform run big $(PROFILE)

browser: $(VENV)/stamp ## look at the HTML report in a headless Chromium
	$(BIN)/python tools/browser.py

fixtures: $(VENV)/stamp ## bring index.toml and cases.jsonl up to date
	$(BIN)/python tools/fixtures.py

mutants: $(VENV)/stamp ## run decoders that are wrong in one way, and see that the cases catch them
	$(BIN)/python tools/mutants.py

# What only `make deep` needs is put into the same environment.
$(VENV)/deep-stamp: requirements/deep.txt $(VENV)/stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/deep.txt
	$(BIN)/pip check
	touch $@

deep: $(VENV)/deep-stamp ## search long: state machines, properties, 100 000 corruptions, changed constants, generated mutants
	seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); echo "seed $$seed"; \
	  $(BIN)/pytest -n auto --hypothesis-profile=deep --hypothesis-seed=$$seed -o faulthandler_timeout=0 \
	  tests/test_*_machine.py tests/test_properties.py tests/test_corruption.py
	$(BIN)/python tools/constants.py
	$(BIN)/python tools/generated_mutants.py
	$(BIN)/python tools/mutants.py --wide

coverage: $(VENV)/stamp ## what of the reference the golden cases reach, without any unit test
	$(BIN)/python tools/fixture_coverage.py

bench: $(VENV)/stamp ## time and memory, as ratios within one run
	$(BIN)/python tools/bench.py

lint: $(VENV)/stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## linters, tests, branch coverage of the reference
	$(BIN)/pytest -n auto --cov --cov-report=term

format: $(VENV)/stamp ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin the requirements again, with hashes and without addresses
	for name in runtime develop deep; do \
	  uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal -p 3.11 \
	    -o requirements/$$name.txt requirements/$$name.in; done

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build .coverage* .hypothesis .mypy_cache .ruff_cache
