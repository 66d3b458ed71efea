#!/usr/bin/env bash
# Configures a build folder when it is new or the options say something new, and builds it.
# usage: build.sh FOLDER [-Doption=value...]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
if [ ! -f "$folder/build.ninja" ]; then
  meson setup "$folder" "$@"
elif [ $# -gt 0 ]; then
  meson configure "$folder" "$@"
fi
ninja -C "$folder"
