#!/bin/sh
# Holds a running server against its contract: run.sh URL TOKEN
# Left out: checks that need a call which deletes (there is none), and that every content which fits the schema is taken
# (bytes that are no picture fit it, and are refused).
set -eu
exec "$(dirname "$0")/.venv/bin/schemathesis" run "$1/openapi.json" \
  --header "Authorization: Bearer $2" \
  --phases examples,coverage,fuzzing \
  --checks all \
  --exclude-checks positive_data_acceptance,use_after_free,ensure_resource_availability \
  --max-examples 25 --generation-deterministic \
  --request-timeout 20 --no-color
