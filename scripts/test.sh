#!/usr/bin/env bash
# Runs all tests of a build folder and prints, as the last line, "N passed, N failed, N skipped".
# Fails when a test failed and when none ran.
# usage: test.sh FOLDER [meson test options...]
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
log=$folder/meson-logs/testlog.json
rm -f "$log"
meson test -C "$folder" --print-errorlogs "$@"
status=$?
python3 scripts/count_tests.py "$log" || exit 1
exit $status
