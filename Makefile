# Every target does its own set-up, also on a bare Debian 12 with nothing but Python, make and git (see tools/setup.py).

# The interpreter for the set-up: PYTHON=… if given, else the first of these that is 3.11 or newer. The distribution's
# first: it is built with profile-guided optimisation, which a version manager's seldom is, and takes half the time.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
SETUP = $(if $(PYTHON),$(PYTHON),$(error No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3)) tools/setup.py
VENV = .venv/bin
# Commands that the machine lacks are unpacked below .venv; some that it has are off a plain user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin:$(CURDIR)/.venv/debian/bin
ARGS ?=
# Tests wait for processes half of their time; each file is played by one of two workers.
WORKERS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo example test check bench chaos soak proof setup lock clean

help: ## show this text
	@echo 'make TARGET [ARGS=…] [PYTHON=…]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 10

demo: ## start with the embedded model and stream one governed answer (ARGS=--once exits after it)
	@$(SETUP) serve
	@$(VENV)/tollhouse demo $(ARGS)

example: ## start the example web application on 127.0.0.1:8000, with the embedded model
	@$(SETUP) serve
	@$(VENV)/python examples/web-app/start.py $(ARGS)

test: ## run all tests (ARGS='-k budget -x' goes to pytest; WORKERS= plays them one after the other)
	@$(SETUP) test
	@$(VENV)/python -m pytest $(WORKERS) $(ARGS)

check: ## lint, formatting, types, import contract, structure tests
	@$(SETUP) test
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo --cache-dir .cache/import_linter
	$(VENV)/python -m pytest tests/house

bench: ## measure side by side with nginx (ARGS='--quick --json')
	@$(SETUP) bench
	@$(VENV)/python -m bench $(ARGS)

chaos: ## kill, starve and lock gateways under load, and check every book (ARGS='--minutes 10 --json')
	@$(SETUP) test
	@$(VENV)/python -m chaos $(ARGS)

soak: ## flood and fuzz the wire for minutes (ARGS='--minutes 10 --json')
	@$(SETUP) test
	@$(VENV)/python -m tests.wire.soak $(ARGS)

proof: ## chaos, the budgets' state machine and the wire at length: every figure that must be 0 (ARGS='--minutes 20 --json')
	@$(SETUP) test
	@$(VENV)/python -m tests.proof $(ARGS)

setup: ## only set up .venv, for an editor
	@$(SETUP) test

lock: ## compile requirements/*.txt anew (ARGS=--upgrade takes the newest releases)
	@$(SETUP) lock
	@$(VENV)/python tools/lock.py $(ARGS)

clean: ## remove what make has set up and cached
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
