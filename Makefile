# Bare `make` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_PHOTO := tests/data/photos/mountain_path.jpg
DEMO_SCENE := .demo/mountain_path

.DEFAULT_GOAL := help
.PHONY: help setup fmt check test test-slow test-gpu demo bench bench-gpu

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Create .venv and install everything

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

fmt: $(STAMP)  ## Format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

check: $(STAMP)  ## Lint, types, architecture, size budget
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	$(BIN)/python tests/house/budget.py

test: $(STAMP)  ## The quick suite: two and a half minutes on two cores, a minute more while kernels compile
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: $(STAMP)  ## The rest that needs no GPU: whole runs, a real browser, a wheel
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(STAMP)  ## What needs an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

demo: $(STAMP)  ## Turn a shipped photograph into a scene and say where the viewer is
	$(BIN)/worldstereo run $(DEMO_PHOTO) --out $(DEMO_SCENE)
	@echo "Open $(abspath $(DEMO_SCENE))/viewer.html in a browser, or: $(BIN)/worldstereo view $(DEMO_SCENE)"

bench: $(STAMP)  ## Time, memory and quality of whole runs on two photos
	$(BIN)/worldstereo bench tests/data/photos/mountain_path.jpg tests/data/photos/living_room.jpg

bench-gpu: $(STAMP)  ## The video model at full size, with random weights: time, memory, profile
	$(BIN)/worldstereo bench-video
