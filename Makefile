# Two commands do everything on a fresh machine that has Python 3.11+ and make:
#   make run    sets up a private environment, decodes real snapshots and judges the command by all golden cases
#   make test   sets up the same environment with what the tests need, and passes all tests and linters
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
OFFLINE = { echo "make: a download failed; the network is needed once, to set up $(VENV)" >&2; exit 1; }
COMMAND   := --profile conformance/profiles/command.toml
# A flush is a system call too; the profile leaves it out because it takes most of the time of a run.
FLUSHING  := $(COMMAND) -- '{python}' -m ekvdump decode '--db={db}' '{options}' -- '{snapshot}' '{out}'

.DEFAULT_GOAL := help
.PHONY: help run check test test-go nightly bench browser coverage fixtures spec kaitai companions site hostile masking mutants restore lint format lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# A stamp is newer than what its part of the environment was made from, or that part is made again. The lock names
# every package, so nothing is left to resolve: pip is told not to, since an older one would ask for a newer release
# than the lock's as soon as there is one.
$(VENV)/run-stamp: requirements/run.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --require-hashes -r requirements/run.txt || $(OFFLINE)
	$(BIN)/pip check
	$(PIP) --no-build-isolation -e .
	touch $@

$(VENV)/stamp: requirements/develop.txt $(VENV)/run-stamp
	@$(PIP) --require-hashes -r requirements/develop.txt || $(OFFLINE)
	$(BIN)/pip check
	touch $@

$(VENV)/nightly-stamp: requirements/nightly.txt $(VENV)/stamp
	@$(PIP) --require-hashes -r requirements/nightly.txt || $(OFFLINE)
	$(BIN)/pip check
	touch $@

$(VENV)/site-stamp: requirements/site.txt $(VENV)/stamp
	@$(PIP) --require-hashes -r requirements/site.txt || $(OFFLINE)
	$(BIN)/pip check
	touch $@

run: $(VENV)/run-stamp ## decode real snapshots, and judge the command by all golden cases
	$(BIN)/python tools/run_real.py
	$(BIN)/ekvconform run $(COMMAND)

# ---- tiers ----

check: lint ## in a minute: linters, the gate of the spec, golden cases and unit tests of the reference
	$(BIN)/pytest -n auto tests/reference

test: lint ## in eight minutes: linters, all tests, branch coverage of the reference
	$(BIN)/pytest -n auto tests
	$(BIN)/pytest -n auto tests/reference --cov --cov-report=term

test-go: $(VENV)/run-stamp ## build the decoder in Go, and judge it by all golden cases; needs Go
	cd examples/decoder-go && test -z "$$(gofmt -l .)" && go vet ./... && go build -o ../../build/ekvdecoder .
	cd examples/decoder-go && ../../$(BIN)/ekvconform run

nightly: $(VENV)/nightly-stamp ## in hours: campaigns, all mutants, changed constants, generated mutants, long searches
	$(BIN)/python tools/nightly.py

# ---- parts of the tiers ----

lint: $(VENV)/stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

hostile: $(VENV)/run-stamp ## tamper with a small new tree, make each call fail, decode large snapshots
	$(BIN)/ekvconform step envl-expiry-0 $(COMMAND)
	$(BIN)/ekvconform faults $(FLUSHING)
	$(BIN)/ekvconform run big $(COMMAND)

browser: $(VENV)/stamp ## look at the HTML report in a headless Chromium
	$(BIN)/python tools/browser.py

mutants: $(VENV)/stamp ## run decoders that are wrong in one way, and see that the cases catch them
	$(BIN)/python tests/mutation/mutants.py

masking: $(VENV)/stamp ## put a further fault on decoders that have faults already, and see it noticed (an hour)
	$(BIN)/python tests/mutation/masking.py --causes

restore: $(VENV)/stamp ## restore the real snapshots into a real Redis, and read them back; needs redis-server
	$(BIN)/python tools/restore.py

coverage: $(VENV)/stamp ## what of the reference the golden cases reach, without any unit test
	$(BIN)/python tools/fixture_coverage.py

bench: $(VENV)/stamp ## time and memory, as ratios within one run
	$(BIN)/python tools/bench.py

fixtures: $(VENV)/stamp ## bring index and export of the fixtures up to date
	$(BIN)/python tools/fixtures.py

spec: $(VENV)/run-stamp ## bring the link definitions of the spec up to date
	$(BIN)/python tools/spec_links.py

kaitai: $(VENV)/stamp ## compile the Kaitai Struct of the spec; needs npm
	$(BIN)/python tools/compile_kaitai.py

companions: $(VENV)/stamp ## see that the compiled Kaitai Struct is that of the spec; needs npm
	$(BIN)/python tools/compile_kaitai.py --check

site: $(VENV)/site-stamp ## build the site into build/site/, and look at it in a headless Chromium; needs npm
	$(BIN)/python tools/site/build.py
	$(BIN)/python tools/site/check.py

format: $(VENV)/stamp ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One declaration of dependencies, in pyproject.toml; one lock for each part of the environment.
COMPILE := uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal -p 3.11 \
	--extra terminal --extra conform pyproject.toml --group run
lock: ## pin the requirements again, with hashes and without addresses
	$(COMPILE) -o requirements/run.txt
	$(COMPILE) --group develop -o requirements/develop.txt
	$(COMPILE) --group develop --group nightly -o requirements/nightly.txt
	$(COMPILE) --group develop --group site -o requirements/site.txt

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build .coverage* .hypothesis .mypy_cache .ruff_cache
