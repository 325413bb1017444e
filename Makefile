# make sweep: install, then the main job on a simulated sky. make test: install, then lint, types and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: sweep test checks tests-with-ray tests-without-ray chromium lint types soak clean

sweep: $(VENV)/.installed
	$(BIN)/aifs-tune run search_spaces/quick_sky.yaml

# Checks first, and beside them, on the other core, the first of the two lanes of tests.
test: $(VENV)/.installed-dev
	$(MAKE) --jobs 2 --output-sync=target checks tests-with-ray tests-without-ray

checks: lint types

tests-with-ray:
	$(BIN)/python -m pytest -m "ray and not soak"

tests-without-ray: $(VENV)/.installed-workflows chromium
	$(BIN)/python -m pytest -m "not ray and not soak"

# for the tests of the service's pages, which are skipped without it
chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  { $(APT_INSTALL) chromium || { apt-get update -qq && $(APT_INSTALL) chromium; }; } >/dev/null; } || \
	  echo "no chromium, and none could be installed: the tests of the pages are skipped"

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
