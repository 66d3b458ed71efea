#!/usr/bin/env bash
# Runs the fuzzers (tests/fuzz), with the address and undefined-behaviour sanitizers, each for a minute, as many at a
# time as there are cores. A finding is printed so that it can be repeated anywhere.
# usage: fuzz.sh FOLDER [--required] [--seconds N] [--keep] [NAME...]
#   --required  a clang without libFuzzer is a failure; else it is a reason to skip
#   --seconds   how long each one runs (60)
#   --keep      then stores the inputs that reach more than the stored ones do, in tests/fuzz/corpus
#   NAME        only these: config, parquet, tokenizer_json, ...
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
required=0 seconds=60 keep=0 names=()
while [ $# -gt 0 ]; do
  case $1 in
    --required) required=1 ;;
    --seconds) seconds=$2; shift ;;
    --keep) keep=1 ;;
    *) names+=("fuzz_$1") ;;
  esac
  shift
done

work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/muse-fuzz-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return 0; }' >"$work/probe.c"
found=''
for cc in "${CC:-}" clang-19 clang; do
  [ -n "$cc" ] && $cc -fsanitize=fuzzer,address,undefined "$work/probe.c" -o "$work/probe" 2>"$work/why" || continue
  found=$cc
  break
done
if [ -z "$found" ]; then
  echo "the fuzzers need clang with libFuzzer and the sanitizers, which is not here; on Debian 12:" \
    "apt-get install clang-19 libclang-rt-19-dev, else name such a compiler: CC=... make fuzz" >&2
  [ "$required" -eq 0 ] && { echo "SKIP: there is no clang with libFuzzer"; exit 0; }
  exit 1
fi

options=(-Dfuzz=true -Dtests=disabled -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false)
flags='-fsanitize=fuzzer-no-link -fno-sanitize-recover=all'
if [ ! -f "$folder/build.ninja" ]; then
  CC=$found CXX=${found/clang/clang++} meson setup "$folder" "${options[@]}" -Dc_args="$flags" -Dcpp_args="$flags" || exit 1
fi
ninja -C "$folder" fuzzers || exit 1
rm -f "$folder"/tests/fuzz/findings/*
export TMPDIR=$work ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
for symbolizer in llvm-symbolizer-19 llvm-symbolizer; do
  path=$(command -v $symbolizer) && export ASAN_SYMBOLIZER_PATH=$path && break
done
# Of two flags the later counts, so these go before those of the test.
scripts/test.sh "$folder" --no-rebuild --suite fuzz --test-args="-max_total_time=$seconds" \
  --timeout-multiplier "$((seconds / 60 + 1))" "${names[@]}" | tee "$work/tests"
status=${PIPESTATUS[0]}

for finding in "$folder"/tests/fuzz/findings/*; do
  [ -f "$finding" ] || continue
  status=1 name=$(basename "$finding")
  program=fuzz_${name%%-*}
  [[ $program == fuzz_tokenizer_* ]] && program=fuzz_tokenizer
  echo
  echo "FINDING $name, $(wc -c <"$finding") bytes:"
  head -c 512 "$finding" | od -A x -t x1z
  echo "The whole, in base64; to repeat it: base64 -d >input, then $folder/tests/fuzz/$program input"
  base64 "$finding"
done

# Adds to the stored inputs of a reader those that reach most beyond them: at most 24, of 8 kB in all. libFuzzer writes
# what it merges in the order of what each adds.
keep_inputs() {
  local name=$1 program=$folder/tests/fuzz/fuzz_$1 stored=tests/fuzz/corpus/$1
  [[ $name == tokenizer_* ]] && program=$folder/tests/fuzz/fuzz_tokenizer
  rm -rf "$work/small" "$work/merged"
  mkdir "$work/small"
  cp -r "$stored" "$work/merged"
  find "$folder/tests/fuzz/corpus/$name" -type f -size -2048c -exec cp -t "$work/small" {} +
  "$program" -set_cover_merge=1 "$work/merged" "$work/small" >"$work/log" 2>&1 || return 1
  (cd "$stored" && find . -type f -printf '%P\n') | (cd "$work/merged" && xargs rm -f)
  find "$work/merged" -type f -printf '%T@ %s %p\n' | sort -n |
    awk '{ bytes += $2 } bytes <= 8192 && NR <= 24 { print $3 }' >"$work/new"
  echo "$name: $(wc -l <"$work/new") new inputs"
  xargs -r cp -t "$stored" <"$work/new"
}
if [ "$keep" -eq 1 ] && [ "$status" -eq 0 ]; then
  for stored in tests/fuzz/corpus/*/; do
    name=$(basename "$stored")
    [ ${#names[@]} -gt 0 ] && [[ " ${names[*]} " != *" fuzz_$name "* ]] || keep_inputs "$name"
  done
fi
# The sum of the tests is the last line of what ran them; a finding that is none of them is none of it.
tail -1 "$work/tests"
exit "$status"
