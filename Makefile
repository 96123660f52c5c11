# Everything runs as root on Debian 12 or newer; each target installs what it needs first.

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo lab-up lab-down lab-status test soak image-tools image-test bench lint format lock

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
	    printf '  make %-11s %s\n' "$$name" "$$text"; done

setup:  ## Install what is missing: packages, .venv, kubectl
	@lab/setup.sh

demo: setup  ## Start the lab, show kubectl working through it, take the lab down
	@$(BIN)/python -m lab demo

lab-up: setup  ## Start the lab and leave it running; .lab/env tells where everything is
	@$(BIN)/python -m lab up

lab-down:  ## Remove every trace of the lab
	@test ! -x $(BIN)/python || $(BIN)/python -m lab down

lab-status: setup  ## Say which parts of the lab run
	@$(BIN)/python -m lab status

test: setup  ## Run all tests
	$(BIN)/pytest

image-tools:  ## Install what builds and runs the container image in its tests
	@which buildah mmdebstrap runc >/dev/null || (apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends buildah mmdebstrap runc >/dev/null)

image-test: setup image-tools  ## Build the container image on a local base, run it, ask it
	$(BIN)/pytest tests/integration/deploy

SOAK := E2E_ABORTS=500 E2E_BULK_TIMES=20 E2E_COPY_BYTES=500000000 E2E_COPY_FILES=10000 \
	E2E_CUTS=20 E2E_CUT_SECONDS=10 E2E_EXITS=20 E2E_FORWARD_BYTES=50000000 \
	E2E_ROTATION_SECONDS=2

soak: setup  ## Run the end-to-end tests with large amounts
	$(SOAK) $(BIN)/pytest tests/e2e

bench: setup  ## Measure side by side with a plain TLS relay (HAProxy)
	@which haproxy >/dev/null || (apt-get update -qq && apt-get install -y -qq haproxy)
	$(BIN)/python -m bench

lint: setup  ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock:  ## Renew requirements.lock; uv has to be on the PATH
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --extra dev --no-header --output-file requirements.lock pyproject.toml
