#!/usr/bin/env bash
# Runs all tests in a build that counts lines, and reports what they reach. Fails when a test does, and when they reach
# less than 85 % of the lines. The last line is the sum of the tests.
# usage: coverage.sh FOLDER
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$1
# Little optimisation, so that lines stay lines; gcc's warnings at this level are not the ones the project is held to.
# Counters that two threads raise at once without atomics come out negative, which gcovr refuses.
scripts/build.sh "$folder" -Dtests=enabled -Db_coverage=true -Dc_args=-fprofile-update=atomic -Doptimization=1 \
  -Dwerror=false || exit 1
find "$folder" -name '*.gcda' -delete # counts of an earlier run
# What NVRTC compiles counts no line that emitting it does not.
scripts/test.sh "$folder" --no-rebuild --no-suite nvrtc --timeout-multiplier 4 | tee "$folder/test-output.txt"
status=${PIPESTATUS[0]}
# What counts is the libraries and programs; tests and benchmarks do not.
gcovr --root . --filter 'ir/' --filter 'ops/' --filter 'passes/' --filter 'compiler/' --filter 'corpus/' --filter 'runtime/' \
  --fail-under-line 85 --print-summary --txt "$folder/coverage.txt" "$folder" || status=1
echo "line coverage of each file: $folder/coverage.txt"
tail -1 "$folder/test-output.txt"
exit "$status"
