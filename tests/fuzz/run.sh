#!/bin/sh
# run.sh FUZZER - runs one for FUZZ_SECONDS (5), in a corpus that is thrown away;
# what lies in the folder of its name here is where it begins. What it fails on is kept
# beside the fuzzer, as found-*.
set -eu
seeds=${0%/*}/$(basename "$1" | sed 's/^fuzz_//')
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
[ ! -d "$seeds" ] || cp "$seeds"/* "$corpus"
"$1" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=25 \
  -rss_limit_mb=1024 -max_len=4096 -artifact_prefix="$(dirname "$1")/found-" \
  -print_final_stats=1 "$corpus"
