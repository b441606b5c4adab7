# Two commands do everything on a machine with python3 (3.11+, venv), make and git: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
WORKERS ?= 2

.PHONY: demo test check docs bench bench-clients bench-ingest bench-gateway faults fuzz mutants lock clean browser clients
.DELETE_ON_ERROR:

demo: $(VENV)/.server
	@$(BIN)/leeward demo

test: $(VENV)/.dev browser clients
	@$(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal -q

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_shape.py tests/test_docs.py tests/test_public_api.py tests/test_reliability.py

faults: $(VENV)/.dev browser clients
	@LEEWARD_TEST_HEAVY=1 $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal -q

# Random bytes into every decoder, for as long as it is told: FUZZ_SECONDS=3600 make fuzz
fuzz: $(VENV)/.dev
	@$(BIN)/python tests/fuzz.py --seconds $(or $(FUZZ_SECONDS),60)

mutants: $(VENV)/.dev
	@$(BIN)/python tests/mutants.py

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate.py

bench: $(VENV)/.dev bench-clients
	@$(BIN)/python -m benchmarks

# The client beside its peers, which get an environment of their own: OPTIONS="--quick", "--rows exit", "--full".
bench-clients: .venv-peers/.peers
	@PYTHONPATH=src .venv-peers/bin/python -m benchmarks.clients $(OPTIONS)

# The four wires beside their peers, each in an environment of its own: OPTIONS="--quick", "--rows spans flood", "--peers none".
INGEST_PEERS := mlflow phoenix bugsink
bench-ingest: $(VENV)/.dev $(INGEST_PEERS:%=.venv-%/.peer)
	@$(BIN)/python -m benchmarks.ingest $(OPTIONS)

# The gateway beside its peers: OPTIONS="--quick", "--peers ferro litellm portkey", "--rows faults storm", "--full".
GATEWAY_PEERS := ferro litellm
bench-gateway: $(VENV)/.dev $(GATEWAY_PEERS:%=.venv-gw-%/.peer) benchmarks/gateway/portkey/node_modules/.peer
	@$(BIN)/python -m benchmarks.gateway $(OPTIONS)

.venv-gw-%/.peer: requirements/gateway-peers-%.txt
	@$(PYTHON) -m venv .venv-gw-$*
	@.venv-gw-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< || \
	  echo "$* could not be installed: the table will say so"
	@touch $@

benchmarks/gateway/portkey/node_modules/.peer: benchmarks/gateway/portkey/package-lock.json
	@if command -v npm >/dev/null 2>&1; then \
	  npm ci --prefix benchmarks/gateway/portkey --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1 || \
	  echo "portkey could not be installed: the table will say so"; fi
	@mkdir -p $(@D) && touch $@

.venv-%/.peer: requirements/ingest-peers-%.txt
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< || \
	  echo "$* could not be installed: the table will say so"
	@touch $@

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

# The SDKs that the tests point at a server, unmodified: those of Python in an environment of their own, those of Node.
clients: .venv-clients/.clients tests/clients/node_modules/.clients

.venv-clients/.clients: requirements/clients.txt
	@echo "Installing the SDKs that the tests run, once"
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/clients.txt
	@touch $@

tests/clients/node_modules/.clients: tests/clients/package-lock.json
	@command -v npm >/dev/null 2>&1 || \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm) >/dev/null 2>&1 || true
	@if command -v npm >/dev/null 2>&1; then npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1 && touch $@; fi || \
	  echo "No Node SDKs could be installed: their tests will say that they are skipped"

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
	rm -rf $(VENV) .venv-* tests/clients/node_modules benchmarks/gateway/portkey/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
