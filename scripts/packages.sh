#!/usr/bin/env bash
# Makes sure that the packages are there that MUSE is built from; on Debian 12 it installs what is missing.
# usage: packages.sh [build] [test] [coverage] [fuzz]   (default: build)
set -euo pipefail

# The one list, by Debian's names.
build_packages=(make gcc g++ libc6-dev meson ninja-build pkg-config libyaml-dev libjansson-dev libxxhash-dev
  zlib1g-dev libzstd-dev libsnappy-dev libcurl4-openssl-dev libpcre2-dev libutf8proc-dev libsentencepiece-dev
  llvm-19-dev)
test_packages=(libcriterion-dev python3)
# Tests that need these are skipped without them: kernels for aarch64 on an emulated processor.
optional_test_packages=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
coverage_packages=(gcovr)
fuzz_packages=(clang-19 libclang-rt-19-dev)

wanted=() optional=()
for group in "${@:-build}"; do
  case $group in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}") optional+=("${optional_test_packages[@]}") ;;
    coverage) wanted+=("${coverage_packages[@]}") ;;
    fuzz) wanted+=("${fuzz_packages[@]}") ;;
    *) echo "packages.sh: unknown group '$group' (build, test, coverage or fuzz)" >&2; exit 2 ;;
  esac
done

# Is what the package gives usable here, however it came?
is_there() {
  case $1 in
    make | gcc | g++ | meson | python3 | gcovr | pkg-config) command -v "$1" >/dev/null ;;
    libc6-dev) [ -e /usr/include/stdio.h ] ;;
    ninja-build) command -v ninja >/dev/null ;;
    libyaml-dev) pkg-config --exists yaml-0.1 ;;
    libjansson-dev) pkg-config --exists jansson ;;
    libxxhash-dev) pkg-config --exists libxxhash ;;
    zlib1g-dev) pkg-config --exists zlib ;;
    libpcre2-dev) pkg-config --exists libpcre2-8 ;;
    libutf8proc-dev) pkg-config --exists libutf8proc ;;
    libsentencepiece-dev) pkg-config --exists sentencepiece ;;
    libzstd-dev) pkg-config --exists libzstd ;;
    libsnappy-dev) [ -e /usr/include/snappy-c.h ] ;;
    libcurl4-openssl-dev) pkg-config --exists libcurl ;;
    libcriterion-dev) pkg-config --exists criterion ;;
    llvm-19-dev) command -v llvm-config-19 >/dev/null ;;
    clang-19) command -v clang-19 >/dev/null ;;
    libclang-rt-19-dev) compgen -G '/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-*.a' >/dev/null ;;
    qemu-user) command -v qemu-aarch64 >/dev/null ;;
    gcc-aarch64-linux-gnu) command -v aarch64-linux-gnu-gcc >/dev/null ;;
    libc6-dev-arm64-cross) [ -e /usr/aarch64-linux-gnu/lib/libc.a ] ;;
    *) return 1 ;;
  esac 2>/dev/null
}

missing=() wished=()
for package in "${wanted[@]}"; do is_there "$package" || missing+=("$package"); done
for package in "${optional[@]}"; do is_there "$package" || wished+=("$package"); done
[ ${#missing[@]} -gt 0 ] || [ ${#wished[@]} -gt 0 ] || exit 0

# Nothing but what can be done without is missing: says so and leaves.
go_without() {
  [ ${#missing[@]} -eq 0 ] || return 0
  echo "without ${wished[*]} the tests of kernels for aarch64 are skipped" >&2
  exit 0
}

id='' version=''
if [ -r /etc/os-release ]; then
  id=$(. /etc/os-release && echo "${ID:-}")
  version=$(. /etc/os-release && echo "${VERSION_ID:-}")
fi
if [ "$id" != debian ] || [ "$version" != 12 ]; then
  go_without
  echo "MUSE needs these packages (Debian's names), and installs them by itself only on Debian 12: ${missing[*]}." \
    "Install them with your system's package manager, then run the command again." >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    go_without
    echo "MUSE needs packages that only root can install; run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
install() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2; }

echo "installing: ${missing[*]} ${wished[*]}" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 || go_without
[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
[ ${#wished[@]} -eq 0 ] || install "${wished[@]}" ||
  echo "without ${wished[*]} the tests of kernels for aarch64 are skipped" >&2
