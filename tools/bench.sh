#!/usr/bin/env bash
# Measures the whole pipeline on photos whose truth is known: repeats, labels, speed, memory.
#
# Settings  DIH_BENCH_PHOTOS (a labelled folder; default the demo's few photos, of which new shots are taken),
#           DIH_BENCH_UPLOADS (1000), DIH_BENCH_SEED (1)
set -euo pipefail
cd "$(dirname "$0")/.."

program=${CARGO_TARGET_DIR:-target}/release/dih
photos=${DIH_BENCH_PHOTOS:-}
settings=(--uploads "${DIH_BENCH_UPLOADS:-1000}" --seed "${DIH_BENCH_SEED:-1}")
if [ -z "$photos" ]; then
  photos=${DIH_TOOLS:-.tools}/photos
  settings+=(--shots)
fi
for what in repeats labels speed memory; do
  printf '\n== %s, of %s\n' "$what" "$photos"
  "$program" bench "$what" "$photos" "${settings[@]}"
done
