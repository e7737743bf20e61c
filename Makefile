# make run   installs, loads the demo and serves it        make test   lint, types and tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOST ?= 127.0.0.1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run install install-dev db demo serve test lint types tests tests-postgresql stress bench lock audit screenshots pictures format clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: demo serve  ## Install, create the database, load the demo, serve it on 127.0.0.1:8000

install: $(VENV)/installed  ## Make the virtual environment with what the service needs

install-dev: $(VENV)/installed-dev  ## The same, with what tests need

$(VENV)/installed: requirements.txt deploy/requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

db: install  ## Create the database, or upgrade it
	$(BIN)/flask init-db
	$(BIN)/flask upgrade-db

demo: db  ## Load the integration guide's world, and print how to use it
	$(BIN)/flask demo --url http://$(HOST):$(PORT)

serve: install  ## Serve what is there
	$(BIN)/flask serve --host $(HOST) --port $(PORT)

test: lint types tests  ## Lint, types and tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

tests: install-dev
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

tests-postgresql: install-dev  ## Run the behaviour tests on PostgreSQL
	TEST_ENGINE=postgresql $(BIN)/pytest -n 2 --dist worksteal -m both_engines $(ARGS)

stress: install-dev  ## Run the stress tests (hours); ARGS="--list" lists them, ARGS="--only kills --tries 500" runs one
	$(BIN)/python -m tests.stress $(ARGS)

bench: install-dev  ## Measure beside a bare Flask reply, a plain Flask + Peewee app and pgbench
	$(BIN)/python -m bench $(ARGS)

screenshots: install-dev  ## Take a picture of every page, wide and narrow, light and dark, into .screenshots/
	$(BIN)/python tests/support/screenshots.py

pictures: install-dev  ## Take the README's pictures anew
	$(BIN)/python tests/support/screenshots.py --readme

lock: install  ## Write deploy/requirements.lock anew, after a change of requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	(echo "# requirements.txt, every file with its hash. Written by: make lock"; $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links requirements.txt) > $(VENV)/requirements.lock
	mv $(VENV)/requirements.lock deploy/requirements.lock

audit: install  ## Ask for known vulnerabilities of the pinned packages; needs an advisory service on the network
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	deploy/audit $(BIN)/pip-audit

format: install-dev  ## Format the code, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove what was installed; the instance folder stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
