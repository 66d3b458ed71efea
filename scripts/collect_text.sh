#!/usr/bin/env bash
# Collects text that a Debian machine has anyway (licences, package documentation, manual pages) into a folder.
# usage: collect_text.sh FOLDER [MEGABYTES]   (default: 6)
# The choice is the same on every run on the same machine. Prints how much it found.
set -euo pipefail
export LC_ALL=C
folder=$1
budget=$((${2:-6} * 1000000))
largest=150000 # bytes that one file may contribute, so that no single text dominates
rm -rf "$folder"
mkdir -p "$folder"

# Mixes the packages: any order does, as long as it is the same every time and not the alphabetic one.
mix() { shuf --random-source=<(yes muse 2>/dev/null); }

list_documents() {
  find /usr/share/doc -type f \( -iname 'README*' -o -iname '*.txt' -o -iname '*.txt.gz' -o -iname '*.md' \
    -o -iname '*.md.gz' -o -iname 'NEWS*' -o -iname 'FAQ*' -o -name copyright \) -size -400k 2>/dev/null | sort | mix
}
list_manual_pages() { find /usr/share/man/man[1-8] -type f -size +1k 2>/dev/null | sort | mix; }

# Licences first, then documentation and (English) manual pages in turn, until one of them ends.
list_files() {
  find -L /usr/share/common-licenses -type f 2>/dev/null | sort
  paste -d '\n' <(list_documents) <(list_manual_pages) | grep .
}

# Manual pages as prose: requests go, but for the words of those that only change the font or start a section.
plain() {
  case $1 in
    /usr/share/man/*)
      sed -E -e "/^[.']\\\\\"/d" -e 's/^\.(SH|SS|[BIR]|[BIR][BIR]) +//' -e "/^[.']/d" \
        -e 's/\\f(\[[A-Z]*\]|\([A-Z]{2}|.)//g' -e 's/\\-/-/g' -e "s/\\\\\(aq/'/g" -e 's/\\[&|c]//g' -e 's/\\e/\\/g'
      ;;
    *) cat ;;
  esac
}

total=0 n=0
declare -A seen # many packages ship the same text
while IFS= read -r path; do
  [ "$total" -lt "$budget" ] || break
  out=$folder/$(printf '%05d' "$n").txt
  # -cdf: unpacks what is packed and passes the rest.
  gzip -cdf -- "$path" 2>/dev/null | head -c "$largest" | plain "$path" >"$out" || true
  size=$(stat -c %s "$out")
  # Short texts are stubs ("see the other package"); grep -I takes a file with NUL bytes for binary.
  if [ "$size" -lt 1000 ] || ! grep -qI . "$out"; then continue; fi
  sum=$(cksum <"$out")
  [ -z "${seen[$sum]:-}" ] || continue
  seen[$sum]=1
  total=$((total + size)) n=$((n + 1))
done < <(list_files)
rm -f "$folder/$(printf '%05d' "$n").txt" # what the last round looked at and did not take

if [ "$total" -lt 500000 ]; then
  echo "only $total bytes of text were found under /usr/share; install documentation (for example the package" \
    "perl-doc or manpages), or train on your own texts as docs describe" >&2
  exit 1
fi
echo "$n texts, $((total / 100000))00 kB"
