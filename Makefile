# make sweep: install, then the main job on a simulated sky. make test: install, then lint, types and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: sweep test tests-with-ray tests-without-ray lint types soak clean

sweep: $(VENV)/.installed
	$(BIN)/aifs-tune run search_spaces/quick_sky.yaml

test: lint types
	$(MAKE) --jobs 2 --output-sync=target tests-with-ray tests-without-ray

tests-with-ray:
	$(BIN)/python -m pytest -m "ray and not soak"

tests-without-ray: $(VENV)/.installed-workflows
	$(BIN)/python -m pytest -m "not ray and not soak"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -s -m soak

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.installed-workflows: $(VENV)/.installed examples/workflows.txt
	command -v jq >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y jq; } || echo "jq is missing" >&2
	test -x $(VENV)/workflows/bin/python || $(PYTHON) -m venv $(VENV)/workflows
	$(VENV)/workflows/bin/python -m pip --disable-pip-version-check install --quiet --requirement examples/workflows.txt
	$(VENV)/workflows/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
