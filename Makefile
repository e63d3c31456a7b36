# Every target works on its own on a machine with Python 3.11 or later and a network. The first one that needs .venv
# creates it. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
# The demo needs the runtime's packages alone. It uses .venv if that is installed already.
DEMO_VENV := $(if $(wildcard $(STAMP)),.venv,.venv-demo)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
ENGINE ?= $(shell command -v docker || command -v podman || command -v buildah)
# The number of test processes: two more than processors, because a test waits for half of its time.
JOBS ?= $(shell expr $$(nproc) + 2)

# Bytecode is kept whatever the environment says: the tests start hundreds of interpreters.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo programs test test-again quick test-large test-cluster fuzz check fix bench docs image release stubs lock vectors refusals snapshots clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# uv installs in a fifth of pip's time. It does not read pip's settings, so where it finds no index, pip installs.
$(STAMP): requirements-dev.lock pyproject.toml
	@echo "Installing the packages for development and tests (about 900 MB) into .venv"
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > .venv/uv.lock
	@$(PIP_INSTALL) --no-deps --requirement .venv/uv.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements-dev.lock || \
		$(PIP_INSTALL) --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv-demo/.installed: requirements.lock
	@echo "Installing the runtime's packages (about 100 MB) into .venv-demo"
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@touch $@

demo: $(DEMO_VENV)/.installed ## show the whole chain on this machine, step by step
	@PYTHONPATH=$(CURDIR)/proxy $(DEMO_VENV)/bin/python -m sealgate demo

programs: $(STAMP) ## build the programs from Go that tests run, so that no test waits for a build
	@PYTHONPATH=tests:proxy $(BIN)/python -m harness.golang

test: check programs ## run linters, type checker, import rules and every test but the large ones
	$(BIN)/python -m pytest -n $(JOBS) -m "not large"

test-again: check ## run the checks, and once more the tests that failed in the last run, one at a time
	$(BIN)/python -m pytest -n 0 -m "not large" --last-failed --last-failed-no-failures none

quick: $(STAMP) ## run the tests that need no server, no child process and no chart
	$(BIN)/python -m pytest -n $(JOBS) -m quick

test-large: $(STAMP) ## run the tests that move gigabytes
	$(BIN)/python -m pytest -m large

test-cluster: $(STAMP) ## run the tests in a Kubernetes with Argo of their own, and write docs/cluster.md; needs root
	PYTHONPATH=tests $(BIN)/python -m cluster --write-docs

# Inputs that each parser gets.
RUNS ?= 1000000

fuzz: $(STAMP) ## fuzz every parser of outside bytes with atheris; RUNS inputs each, and PARSERS names some of them
	@$(BIN)/python -c "import atheris" 2>/dev/null || \
		$(PIP_INSTALL) --requirement requirements-fuzz.lock
	@for name in $${PARSERS:-$$(PYTHONPATH=tests:proxy $(BIN)/python -c "from fuzz.parsers import PARSERS; print(*PARSERS)")}; do \
		echo "== $$name"; $(BIN)/python tests/fuzz/run_atheris.py $$name --runs $(RUNS) || exit 1; done

check: $(STAMP) ## run linters, type checker and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP) ## format the code, and fix what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## measure the figures of docs/performance.md, next to comparable tools
	$(BIN)/python -m bench --page docs/performance.md

image: ## build the image with Docker, Podman or Buildah
	@test -n "$(ENGINE)" || { echo "make image: found no docker, podman or buildah; set ENGINE to one" >&2; exit 2; }
	$(ENGINE) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag sealgate:$(VERSION) .

release: $(STAMP) ## build wheel, source archive and list of parts in dist/, reproducibly
	rm -rf dist
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m hatchling build
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file dist/sealgate-$(VERSION).cdx.json requirements.lock
	cd dist && sha256sum * > SHA256SUMS

docs: $(STAMP) ## write the texts that tests observe into the documents
	$(BIN)/python -m pytest -n $(JOBS) --write-docs tests/keys/vault/test_vault_fault_table.py tests/keys/vault/test_doctor_faults.py tests/argo/test_fault_matrix.py tests/backend/test_store_table.py

stubs: $(STAMP) ## regenerate the protobuf stubs
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -Isealgate/rpc=proto -Isealgate/envelope=proto --python_out=proxy --mypy_out=quiet:proxy \
		sealgate/rpc/artifact.proto sealgate/envelope/envelope.proto

lock: $(STAMP) ## resolve the dependencies again, to their newest versions
	$(LOCK) pyproject.toml --upgrade -o requirements.lock
	$(LOCK) pyproject.toml --upgrade --group dev -o requirements-dev.lock
	$(LOCK) --group pyproject.toml:build --upgrade -o requirements-build.lock

vectors: $(STAMP) ## regenerate tests/vectors
	$(BIN)/python -m tests.vectors.generate

refusals: $(STAMP) ## regenerate docs/refusals.md
	PYTHONPATH=tests $(BIN)/python -m harness.refusals

snapshots: $(STAMP) ## render the chart's snapshots and its README again
	SEALGATE_UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/charts/test_chart_rendering.py tests/charts/test_chart_readme.py -k "equals_its_snapshot or readme_equals"

clean: ## remove the virtual environments and what was built
	rm -rf .venv .venv-demo build dist
