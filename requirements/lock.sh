#!/bin/sh
# Writes the pinned, hashed requirement files. No index address gets into them.
# chdb-core's metadata asks for pandas and pyarrow (266 MB in all); the engine runs without them (181 MB), so they
# and what only they need are left out. A test runs the store's child in that environment.
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}
compile() {
  out=$1; shift
  "$python" -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-header --no-annotate --python-version 3.11 \
    --no-emit-package leeward \
    --output-file "requirements/$out.txt" "$@"
}
compile server pyproject.toml --extra server --no-emit-package pandas --no-emit-package pyarrow \
  --no-emit-package numpy --no-emit-package python-dateutil --no-emit-package pytz --no-emit-package tzdata --no-emit-package six
compile build --group pyproject.toml:build
compile dev --group pyproject.toml:test --group pyproject.toml:check --constraint requirements/server.txt
compile peers requirements/peers.in
compile clients requirements/clients.in
for peer in mlflow phoenix bugsink; do compile "ingest-peers-$peer" "requirements/ingest-peers-$peer.in"; done
compile gateway-peers-ferro requirements/gateway-peers-ferro.in
compile gateway-peers-litellm requirements/gateway-peers-litellm.in --override requirements/gateway-peers-litellm.overrides
