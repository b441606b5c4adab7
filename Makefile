# Two commands do everything on a machine with python3 (3.11+, venv), make and git: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
WORKERS ?= 2

.PHONY: demo test check docs bench bench-clients faults mutants lock clean browser
.DELETE_ON_ERROR:

demo: $(VENV)/.server
	@$(BIN)/leeward demo

test: $(VENV)/.dev browser
	@$(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal -q

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_shape.py tests/test_docs.py tests/test_public_api.py tests/test_reliability.py

faults: $(VENV)/.dev browser
	@LEEWARD_TEST_HEAVY=1 $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal -q

mutants: $(VENV)/.dev
	@$(BIN)/python tests/mutants.py

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate.py

bench: $(VENV)/.dev bench-clients
	@$(BIN)/python -m benchmarks

# The client beside its peers, which get an environment of their own: OPTIONS="--quick", "--rows exit", "--full".
bench-clients: .venv-peers/.peers
	@PYTHONPATH=src .venv-peers/bin/python -m benchmarks.clients $(OPTIONS)

.venv-peers/.peers: requirements/peers.txt
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/peers.txt
	@touch $@

# The page tests drive Debian's Chromium; elsewhere any Chromium on the PATH will do.
browser:
	@command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || \
	  { echo "Installing Chromium for the page tests, once"; \
	    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1 || \
	    echo "No Chromium could be installed: the page tests will say that they are skipped"; }

lock: $(VENV)/.dev
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	@sh requirements/lock.sh $(BIN)/python

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.server: requirements/server.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "Installing about 200 MB, once"
	@$(PIP) -r requirements/build.txt -r requirements/server.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	@echo "Installing the development tools, once"
	@$(PIP) -r requirements/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
