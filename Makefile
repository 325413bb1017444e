# make sweep: install, then the main job on a simulated sky. make test: install, then lint, types, docs and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: sweep test test-portable checks tests-with-ray tests-of-parts tests-of-servers tests-of-trainers tests-on-jax programs lint types docs soak page-libraries clean

sweep: $(VENV)/.installed
	$(BIN)/aifs-tune run search_spaces/quick_sky.yaml

# Three lanes of tests on two cores, as two of them often wait. The third one has the checks, then the last three.
test: $(VENV)/.installed-dev
	$(MAKE) --jobs 3 --output-sync=target checks tests-with-ray tests-of-parts tests-of-servers tests-of-trainers \
	  tests-on-jax

checks: lint types docs

tests-with-ray:
	$(BIN)/python -m pytest -m "ray and not soak"

tests-of-parts: programs
	$(BIN)/python -m pytest -m "not ray and not server and not soak" --ignore tests/trainers

tests-of-trainers: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not ray and not server and not soak" tests/trainers

tests-of-servers: programs
	$(BIN)/python -m pytest -m "server and not soak"

# What depends on the backend of Keras, once more on JAX; all of it takes longer (make soak).
JAX_PYTEST := KERAS_BACKEND=jax $(BIN)/python -m pytest
tests-on-jax: $(VENV)/.installed-dev
	$(JAX_PYTEST) tests/trainers/test_backends.py tests/trainers/test_fused.py

# chromium for the tests of the service's pages, jq for that of a shell script; they are skipped without
programs:
	@{ command -v chromium && command -v jq; } >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  { $(APT_INSTALL) chromium jq || { apt-get update -qq && $(APT_INSTALL) chromium jq; }; } >/dev/null; } || \
	  echo "no chromium or no jq, and none could be installed: the tests that need them are skipped"

# The tests of parts as on other processors: their sums differ in the last bits, and no test may depend on these.
PARTS := $(BIN)/python -m pytest -m "not ray and not server and not soak"
test-portable: $(VENV)/.installed-dev programs
	ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell $(PARTS)
	TF_ENABLE_ONEDNN_OPTS=0 OPENBLAS_CORETYPE=Sandybridge $(PARTS)
	OPENBLAS_CORETYPE=Nehalem XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 taskset --cpu-list 0 $(PARTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# A full build each time: an incremental one does not repeat the warnings of pages that did not change.
docs: $(VENV)/.installed-dev
	rm -rf docs/_build docs/reference/generated
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

soak: $(VENV)/.installed-dev $(VENV)/.installed-workflows $(VENV)/.installed-validator programs
	$(BIN)/python -m pytest -s -m soak
	$(JAX_PYTEST) -m "" tests/trainers/test_backends.py tests/trainers/test_fused.py tests/trainers/test_losses.py tests/trainers/test_augment_images.py
	$(JAX_PYTEST) tests/trainers/test_trainer_contract.py tests/trainers/test_transfer.py -k "Test"
	$(JAX_PYTEST) tests/trainers/test_residual.py tests/trainers/test_cnn_values.py -k "TestResidualCnnTrainer or TestCnnValues"
	$(JAX_PYTEST) -m "" tests/trainers/test_model_export.py tests/trainers/test_views.py -k "not detector"
	$(JAX_PYTEST) tests/trainers/test_own_model.py -k "TestSequential or TestFunctional or TestSubclassed"

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.installed-workflows: $(VENV)/.installed examples/workflows.txt
	test -x $(VENV)/workflows/bin/python || $(PYTHON) -m venv $(VENV)/workflows
	$(VENV)/workflows/bin/python -m pip --disable-pip-version-check install --quiet --requirement examples/workflows.txt
	$(VENV)/workflows/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	touch $@

$(VENV)/.installed-validator: $(VENV)/.installed tests/validator.txt
	test -x $(VENV)/validator/bin/python || $(PYTHON) -m venv $(VENV)/validator
	$(VENV)/validator/bin/python -m pip --disable-pip-version-check install --quiet --requirement tests/validator.txt
	touch $@

# The libraries of the service's pages, by npm, as one file that is shipped: nothing is built at installation.
page-libraries:
	npm --prefix page_libraries ci --ignore-scripts
	npm --prefix page_libraries run build

clean:
	rm -rf $(VENV) docs/_build docs/reference/generated page_libraries/node_modules .pytest_cache .mypy_cache .ruff_cache
