# `make demo` and `make test` set up all they need: a virtual environment in .venv from the lock files.
# They need Python 3.11 or newer with venv, and make; no root, no compiler, no broker, no mail server.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= hardwire.yaml
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-home-assistant check run app lock clean python

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## an alert becomes a mail: no hardware, broker or mail server needed   [ARGS=--stay]
	@$(BIN)/hardwire demo $(ARGS)

test: $(VENV)/.test  ## all tests   [ARGS="-k outbox"]
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

# HARDWIRE_HOME_ASSISTANT=DIR keeps them, or has them already; four processes, two for each version.
test-home-assistant: $(VENV)/.test  ## on real Home Assistants, which it installs (Debian, root, 4 GB)
	@export HARDWIRE_HOME_ASSISTANT="$${HARDWIRE_HOME_ASSISTANT:-$(CURDIR)/.home-assistant}" \
		&& tests/home_assistant/setup.sh "$$HARDWIRE_HOME_ASSISTANT" \
		&& $(BIN)/python -m pytest --numprocesses 4 $(ARGS) tests/home_assistant

check: $(VENV)/.test  ## what CI checks beside the tests: style, types, import plan
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/architecture

run: $(VENV)/.demo  ## the service with a configuration   [CONFIG=hardwire.yaml]
	@$(BIN)/hardwire run --config $(CONFIG)

COMPILE := uv pip compile -q --universal --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'
LOCKED := -c requirements/test.lock pyproject.toml requirements/build.in
lock:  ## renew the lock files from pyproject.toml (needs uv)
	$(COMPILE) -U --extra demo --extra test pyproject.toml requirements/build.in -o requirements/test.lock
	$(COMPILE) --extra demo $(LOCKED) -o requirements/demo.lock
	$(COMPILE) $(LOCKED) -o requirements/run.lock
	$(COMPILE) --extra spi --extra gpio $(LOCKED) -o requirements/board.lock
	$(COMPILE) -U requirements/board-build.in -o requirements/board-build.lock

APP := dist/home-assistant-app
app:  ## the app for Home Assistant, whole, in dist/home-assistant-app
	@rm -rf $(APP) && mkdir -p $(APP)/source
	@cp -R deploy/home-assistant-app/. $(APP)
	@tar -c --exclude=__pycache__ pyproject.toml README.md LICENSE requirements plugin | tar -x -C $(APP)/source
	@echo $(APP)

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-output dist .home-assistant

python:
	@test -n "$(PYTHON)" || { echo "Hardwire needs Python 3.11 or newer: install python3 (Debian: apt install" \
		"python3 python3-venv), or name one: make PYTHON=/path/to/python3.11 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11:" \
		"name a newer one: make PYTHON=/path/to/python3.11 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the module venv:" \
		"install it (Debian, Ubuntu, Raspberry Pi OS: sudo apt install python3-venv) and try again" >&2; exit 1; }

$(BIN)/python: | python
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: requirements/demo.lock pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) ..."
	@$(INSTALL) --require-hashes -r requirements/demo.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.lock pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for the tests ..."
	@$(INSTALL) --require-hashes -r requirements/test.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
