# The project's commands. `make run` and `make test` do everything on a bare Debian or Ubuntu.
.DEFAULT_GOAL := help
.PHONY: help setup run demo check test test-vm fuzz bench soak support lock clean packages

BIN  := .venv/bin
UV   := .build/uv/bin/uv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
COMPILED_FROM := scripts/hatch_build.py $(wildcard src/ctrwatch/sensor/bpf/*.[ch] src/ctrwatch/evidence/api/*.proto)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(BIN)/ctrwatch  ## install what is missing and leave .venv/bin/ctrwatch

run: setup  ## follow the containers of this host; ARGS="--format json" go to `ctrwatch events`
	@$(if $(SUDO),echo "sudo is asked for one thing: only root may load a BPF program.",:)
	@$(SUDO) $(BIN)/ctrwatch events $(ARGS)

demo: setup  ## in a second terminal: give birth to a handful of containers
	@scripts/setup.sh --demo
	@$(if $(SUDO),echo "sudo is asked for one thing: only root may start containers.",:)
	@$(SUDO) $(BIN)/python -B -m scripts.demo

check: setup  ## style, types, architecture, and the tests that need no root
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses 2

test:  ## check, then the live tests: real BPF, real runtimes, as root; then those of the virtual machine
	@scripts/setup.sh --test
	$(MAKE) check
	$(SUDO) $(BIN)/python -B -m pytest -p no:cacheprovider tests/live
	$(BIN)/python -B -m pytest -p no:cacheprovider tests/vm

test-vm: setup  ## go every way to make a container on a Debian 12 with systemd, in QEMU; ARGS=COMMAND runs that
	@scripts/setup.sh --vm
	@$(BIN)/python -B -m tests.vm $(or $(ARGS),--keep)

fuzz: setup  ## a million broken inputs at every boundary, for half an hour; ARGS="path --inputs 9999" for less
	$(BIN)/python -B -m tests.fuzz $(ARGS)

bench: setup  ## loss, latency, cost, memory, start: docs/performance.md; ARGS="--quick", or ARGS="loss cost"
	@scripts/setup.sh --test
	$(SUDO) $(BIN)/python -B -m bench $(ARGS)

soak: setup  ## churn of real containers with random kills, MINUTES=30: the Soak section of docs/performance.md
	@scripts/setup.sh --test
	$(SUDO) $(BIN)/python -B -m bench.soak --minutes $(or $(MINUTES),30) --page $(ARGS)

support: setup  ## go every way to make a container on this host, and write docs/support.md
	@scripts/setup.sh --test
	$(SUDO) $(BIN)/python -B -m tests.matrix

lock: setup  ## resolve pyproject.toml's dependencies anew
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links \
	    --group pyproject.toml:dev --group pyproject.toml:build pyproject.toml -o requirements.lock

clean:  ## remove everything that was made
	rm -rf .venv .build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src -name '*.bpf.o' -delete -o -name '*_pb2.py*' -delete

packages:
	@scripts/setup.sh

# The script is written last: where it is, the rest is in place.
$(BIN)/ctrwatch: pyproject.toml requirements.lock $(COMPILED_FROM) | packages
	@$(UV) venv --quiet --allow-existing --python .build/uv/bin/python .venv
	@$(UV) pip sync --quiet --require-hashes requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
