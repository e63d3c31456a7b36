# Every target works alone on a machine with Python 3.11 or later and a network: the first one to run
# makes .venv. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
ENGINE ?= $(shell command -v docker || command -v podman || command -v buildah)
# As many test processes as there are processors.
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-large check fix bench docs image release stubs lock vectors refusals snapshots clean

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

image: ## the image, where Docker, Podman or Buildah is
	@test -n "$(ENGINE)" || { echo "make image: there is no docker, podman or buildah; name one as ENGINE" >&2; exit 2; }
	$(ENGINE) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag sealgate:$(VERSION) .

release: $(STAMP) ## the wheel, the source archive and the list of parts, in dist/, the same bytes each time
	rm -rf dist
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m hatchling build
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file dist/sealgate-$(VERSION).cdx.json requirements.lock
	cd dist && sha256sum * > SHA256SUMS

docs: $(STAMP) ## write into the documents what the tests see
	$(BIN)/python -m pytest -n $(JOBS) --write-docs tests/keys/vault/test_vault_fault_table.py

stubs: $(STAMP) ## generate the protobuf stubs anew
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -Isealgate/rpc=proto -Isealgate/envelope=proto --python_out=proxy --mypy_out=quiet:proxy \
		sealgate/rpc/artifact.proto sealgate/envelope/envelope.proto

lock: $(STAMP) ## resolve the dependencies anew
	$(LOCK) pyproject.toml --upgrade -o requirements.lock
	$(LOCK) pyproject.toml --upgrade --group dev -o requirements-dev.lock
	$(LOCK) --group pyproject.toml:build --upgrade -o requirements-build.lock

vectors: $(STAMP) ## generate tests/vectors anew
	$(BIN)/python -m tests.vectors.generate

refusals: $(STAMP) ## write docs/refusals.md anew
	PYTHONPATH=tests $(BIN)/python -m harness.refusals

snapshots: $(STAMP) ## render the chart's snapshots anew
	SEALGATE_UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/charts/test_chart_rendering.py -k equals_its_snapshot

clean: ## remove what was set up and built
	rm -rf .venv build dist
