#!/usr/bin/env bash
# From nothing to a trained model that writes: texts of this machine, bytes, a plan, some minutes of training, a sample.
# usage: quickstart.sh FOLDER_OF_PROGRAMS
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
config=configs/muse-tiny.yaml
texts=data/quickstart-text data=data/quickstart run=runs/quickstart

say() { printf '\n== %s\n' "$*"; }

for program in muse-data musec muse-run; do
  [ -x "$build/$program" ] || { echo "there is no program $build/$program; run: make build" >&2; exit 1; }
done
# Each quickstart starts afresh; these folders are its own.
rm -rf "$run" "$data" "$data.bin" "$data.idx"
mkdir -p data "$run"

say "1. Collecting text from /usr/share (documentation, licences, manual pages)"
scripts/collect_text.sh "$texts"

say "2. Turning it into tokens (one a byte)"
"$build/muse-data" tokenize "$texts" --tokenizer bytes -o "$data"

say "3. Compiling $config to a training plan"
"$build/musec" "$config" -o "$run/tiny.plan"

say "4. Training on the CPU (a few minutes; Ctrl-C saves and stops)"
status=0
"$build/muse-run" train "$run/tiny.plan" --data "$data" -o "$run" || status=$?
if [ "$status" -eq 75 ]; then
  say "Stopped and saved. To go on: $build/muse-run train $run/tiny.plan --data $data -o $run --resume"
fi
[ "$status" -eq 0 ] || exit "$status"

say "5. What the model writes after 'The '"
"$build/muse-run" generate "$run/tiny.plan" --checkpoint "$run" --prompt 'The ' --max-tokens 300 --temperature 0.8

cat <<END

== Done. What next?
  more text from the model   $build/muse-run generate $run/tiny.plan --checkpoint $run --prompt 'This program '
  its loss on held-out text  $build/muse-run eval $run/tiny.plan --checkpoint $run --data $data
  how the training went      $build/muse-run report $run (a page for the browser)
  your own texts             $build/muse-data tokenize YOUR_FOLDER --tokenizer bytes -o data/mine
                             $build/muse-run train $run/tiny.plan --data data/mine -o runs/mine
  another model              copy $config, change it (docs/configuration.md explains the keys), and compile it:
                             $build/musec my.yaml -o my.plan
  what a model would need    $build/musec --estimate configs/phase8_10b.yaml
END
