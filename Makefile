# Every target works alone on a machine with Python 3.11 or later and a network: the first one to run
# makes .venv. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet
# As many test processes as there are processors.
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-large check fix bench docs stubs lock vectors clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## the whole chain on this machine, explained step by step
	@$(BIN)/sealgate demo

test: check ## linters, types, import rules and every test but the large ones
	$(BIN)/python -m pytest -n $(JOBS) -m "not large"

test-large: $(STAMP) ## the tests that move gigabytes
	$(BIN)/python -m pytest -m large

check: $(STAMP) ## linters, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP) ## format, and mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## the figures of docs/performance.md, side by side with their peers
	$(BIN)/python -m bench

docs: $(STAMP) ## write into the documents what the tests see
	$(BIN)/python -m pytest -n $(JOBS) --write-docs tests/keys/vault/test_vault_fault_table.py

stubs: $(STAMP) ## generate the protobuf stubs anew
	$(BIN)/python -m grpc_tools.protoc -Iproxy/rpc=proto -Iproxy/envelope=proto --python_out=. --mypy_out=quiet:. \
		proxy/rpc/artifact.proto proxy/envelope/envelope.proto

lock: $(STAMP) ## resolve the dependencies anew
	$(LOCK) --upgrade -o requirements.lock
	$(LOCK) --upgrade --group dev -o requirements-dev.lock

vectors: $(STAMP) ## generate tests/vectors anew
	$(BIN)/python -m tests.vectors.generate

clean: ## remove what was set up and built
	rm -rf .venv build dist
