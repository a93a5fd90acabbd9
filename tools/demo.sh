#!/usr/bin/env bash
# Streams a simulated crowd of devices through all stages, cuts a version, trains a first model, audits the ledger.
#
# Takes     what `make setup` and `make build` made. Gives a summary, and ends with the line
#           `AUDIT uploads=N answered=N missing=0 twice=0`. Fails if anything fails.
# Keeps     all state in `.dih-demo`; every run begins anew.
# Settings  DIH_DEMO_UPLOADS (default 600), DIH_DEMO_SEED (1), DIH_DEMO_HOME (.dih-demo)
set -euo pipefail
cd "$(dirname "$0")/.."

uploads=${DIH_DEMO_UPLOADS:-600}
seed=${DIH_DEMO_SEED:-1}
home=${DIH_DEMO_HOME:-.dih-demo}
photos=${DIH_TOOLS:-.tools}/photos
program=${CARGO_TARGET_DIR:-target}/release/dih

fail() { echo "demo: $*" >&2; exit 1; }
[ -x "$program" ] || fail "there is no $program; run \`make demo\`, which builds it"
[ -f "$photos/labels.csv" ] || fail "there are no photos in $photos; run \`make setup\`"

# Only a folder that a demo made is cleared away.
mark=$home/made-by-demo
if [ -e "$home" ] && [ ! -e "$mark" ]; then fail "$home was made by somebody else; set DIH_DEMO_HOME"; fi
rm -rf "$home"
mkdir -p "$home"
touch "$mark"

dih() { "$program" --home "$home" "$@"; }
step() { printf '\n== %s\n' "$*"; }

begun=$SECONDS
step "set up the broker, the stores and the model in $home"
dih setup

step "run all stages, and stream $uploads uploads of a simulated crowd (seed $seed) into them"
"$program" --home "$home" run & # not through the function: the signal is for the program itself
stages=$!
trap 'kill "$stages" 2>/dev/null || true' EXIT
dih simulate "$photos" --uploads "$uploads" --seed "$seed" --truth "$home/truth.csv"
kill -TERM "$stages"
wait "$stages" || fail "the stages stopped with an error"
trap - EXIT

step "finish what is still on its way"
dih run --until-idle
streamed=$((SECONDS - begun))

step "cut a version, check it, train a first model"
dih datasets create demo --title "Demo" --description "Shots of a simulated crowd"
dih datasets cut demo | tee "$home/cut.txt"
version=$(sed -nE 's/^(demo@[0-9]+): .*/\1/p' "$home/cut.txt")
dih datasets verify "$version"
dih train "$version" | tee "$home/train.txt"

step "summary"
echo "uploads by verdict"
dih audit | sed 's/^/  /'
echo
echo "data set $version"
dih datasets show "$version" | sed -n '/^label /,/^\//p' | grep -v '^/' | sed 's/^/  /'
echo
sed 's/^/  /' "$home/cut.txt" "$home/train.txt"
echo
echo "  streamed in $streamed s; all in $((SECONDS - begun)) s"
echo "  truth about every upload   $home/truth.csv"
echo "  what became of each        $program --home $home verdicts"
echo "  every decision about one   $program --home $home explain 7"
echo
dih audit --line
