# Everything runs from .venv, made from the one lock file; after the first call no network is needed.
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV_VERSION := 0.13.9
READY := .venv/.ready
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup run examples projects test test-cluster check dist compile schemas simulate reliability format clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(READY)  ## install everything from uv.lock into .venv; what else is in there stays

$(READY): uv.lock pyproject.toml components/pyproject.toml serving/pyproject.toml pipelines/pyproject.toml examples/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "Python 3.11 with venv is needed (Debian: apt-get install python3-venv)"; exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv sync --locked --inexact --python $(BIN)/python --compile-bytecode
	@touch $@

run: $(READY)  ## the whole loop on real data: train, gate, release, serve, promote, roll back (minutes)
	@$(BIN)/sluice run

EXAMPLES ?= imported digits delay support
examples: $(READY)  ## the stories of examples/, one after the other, each in a home of its own, then projects (minutes each)
	@for story in $(EXAMPLES); do echo "== $$story"; SLUICE_HOME=.sluice/examples/$$story $(BIN)/sluice run --fresh --story $$story || exit; done

examples: $(if $(filter file,$(origin EXAMPLES)),projects)

KINDS ?= binary multi-class multi-label regression counts
projects: $(READY)  ## a repository of one's own for each kind of target, begun and played in a temporary folder
	@for kind in $(KINDS); do echo "== a repository: $$kind"; folder=$$(mktemp -d); \
	  (cd $$folder && $(CURDIR)/$(BIN)/sluice init shop --target $$kind && $(CURDIR)/$(BIN)/sluice run) || exit; rm -r $$folder; done

test: export PYTHONDONTWRITEBYTECODE =   # each of the processes would compile the tests and all of ours again
WORKERS ?= $(shell nproc)   # more fill the time that tests wait, and make those late that measure it
test: $(READY)  ## all tests, a file at a time on each processor
	@$(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/cluster

test-cluster: $(READY)  ## the manifests, images and a whole promotion on the cluster that KUBECONFIG names
	@test -n "$$KUBECONFIG" || { echo "KUBECONFIG is unset: name the cluster to test on"; exit 2; }
	@$(BIN)/pytest -m cluster tests/cluster/test_docs.py tests/cluster/test_quickstart.py
	@$(BIN)/pytest -m cluster --numprocesses 2 --ignore tests/cluster/test_docs.py --ignore tests/cluster/test_quickstart.py tests/cluster

check: $(READY)  ## lint, format, types, import arrows, compiled pipelines, published schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m sluice_pipelines.compile --check
	$(BIN)/python -m sluice.schemas --check

dist: $(READY)  ## build a wheel and a source distribution of each package into dist/
	rm -rf dist
	$(BIN)/uv build --all-packages --offline --no-build-isolation --python $(BIN)/python --out-dir dist

compile: $(READY)  ## compile the pipelines, their Kubernetes objects and their drawings
	$(BIN)/python -m sluice_pipelines.compile

schemas: $(READY)  ## write the published JSON schemas into docs/schemas/
	$(BIN)/python -m sluice.schemas

REPLAY := --hours 720 --rollouts 10000 --write docs/simulation.md --replay tests/replay_pairs
POLICY ?= manifests/overlays/dev/gate-policy.yaml
simulate: $(READY)  ## play the shipped policy against known worlds; rewrites docs/simulation.md and its pictures
	$(BIN)/sluice simulate $(POLICY) --rollouts 10000 --write docs/simulation.md
	$(BIN)/sluice simulate $(POLICY) --compare --rollouts 500 --write docs/simulation.md
	$(BIN)/sluice simulate $(POLICY) $(REPLAY)/flights.parquet
	$(BIN)/sluice simulate $(POLICY) $(REPLAY)/two-hours-late.parquet --margin-sd 2
	$(BIN)/sluice simulate $(POLICY) $(REPLAY)/flights.parquet --compare --rollouts 500
	$(BIN)/sluice simulate $(POLICY) $(REPLAY)/two-hours-late.parquet --margin-sd 2 --compare --rollouts 500

REPORT ?= docs/reliability.md
reliability: $(READY)  ## break the release on purpose, row by row; rewrites docs/reliability.md (FULL=1: longer)
	@$(BIN)/python -W ignore -m tests.faults $(if $(FULL),--full) --report $(REPORT)

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## forget the state of all runs (.sluice/); the environment stays
	rm -rf .sluice
