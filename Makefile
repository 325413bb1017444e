# make sweep: install, then the main job on a simulated sky. make test: install, then lint, types and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: sweep test tests-with-ray tests-without-ray chromium lint types soak clean

sweep: $(VENV)/.installed
	$(BIN)/aifs-tune run search_spaces/quick_sky.yaml

test: lint types
	$(MAKE) --jobs 2 --output-sync=target tests-with-ray tests-without-ray

tests-with-ray:
	$(BIN)/python -m pytest -m "ray and not soak"

tests-without-ray: chromium
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

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
