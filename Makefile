# The two main commands: `make run` starts the demo, `make test` runs all checks.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOST ?= 127.0.0.1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
# Empty: without bytecode files, each process of the tests would compile the service again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run install install-dev db demo serve test lint types tests tests-postgresql stress bench
.PHONY: screenshots pictures wheel lock audit format clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: demo serve  ## Install, create the database, load the demo, and serve it on 127.0.0.1:8000

install: $(VENV)/installed  ## Create the virtual environment with the packages of the service

install-dev: $(VENV)/installed-dev  ## Add the packages of the tests

$(VENV)/installed: requirements.txt deploy/requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is required. Set PYTHON, as in: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

db: install  ## Create or upgrade the database
	$(BIN)/flask init-db
	$(BIN)/flask upgrade-db

demo: db  ## Load the data of the integration guide, and print how to use it
	$(BIN)/flask demo --url http://$(HOST):$(PORT)

serve: install  ## Run the server
	$(BIN)/flask serve --host $(HOST) --port $(PORT)

test: lint  ## Run lint, then the type check and the tests at the same time
	@$(MAKE) --no-print-directory --jobs 2 types tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

tests: install-dev
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

tests-postgresql: install-dev  ## Run the tests for both engines on PostgreSQL
	TEST_ENGINE=postgresql $(BIN)/pytest -n 2 --dist worksteal -m both_engines $(ARGS)

stress: install-dev  ## Run the stress tests (hours); ARGS="--only kills" runs one, ARGS="--list" lists all
	$(BIN)/python -m tests.stress $(ARGS)

bench: install-dev  ## Compare with an empty Flask reply, a simple Flask + Peewee app and pgbench
	$(BIN)/python -m bench $(ARGS)

screenshots: install-dev  ## Save screenshots of every page in .screenshots/, in both sizes and colors
	$(BIN)/python tests/support/screenshots.py

pictures: install-dev  ## Update the pictures of the README and of docs/sheets.md
	$(BIN)/python tests/support/screenshots.py --readme

wheel: install-dev  ## Build a wheel with the `budget-sync` command, in dist/
	$(BIN)/python -m build --wheel --no-isolation

lock: install  ## Update deploy/requirements.lock after a change of requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	(echo "# requirements.txt with the hash of every file. Written by: make lock"; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links requirements.txt) > $(VENV)/requirements.lock
	mv $(VENV)/requirements.lock deploy/requirements.lock

audit: install  ## Look up known vulnerabilities of the pinned packages (needs the network)
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	deploy/audit $(BIN)/pip-audit

format: install-dev  ## Format the code and apply the automatic fixes of lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Delete the virtual environment and the caches, but not the instance folder
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
