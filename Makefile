# The user's verbs. The build itself is Meson's (meson.build); scripts/ hold what a verb does in more than a line.
BUILD ?= build
PREFIX ?= /usr/local

.PHONY: help build quickstart test install clean coverage asan

help:
	@echo "make quickstart  build, then train a small model on texts of this machine and let it write (5 minutes)"
	@echo "make test        build and run all tests"
	@echo "make build       build only (into $(BUILD)/)"
	@echo "make install     install under PREFIX=$(PREFIX)"
	@echo "make coverage    run all tests with line coverage (into build-cov/)"
	@echo "make asan        run all tests with the address and undefined-behaviour sanitizers (into build-asan/)"
	@echo "make clean       remove the build folders"

build:
	@scripts/packages.sh build
	@scripts/build.sh $(BUILD)

quickstart: build
	@scripts/quickstart.sh $(BUILD)

test:
	@scripts/packages.sh build test
	@scripts/build.sh $(BUILD) -Dtests=enabled
	@scripts/test.sh $(BUILD)

install: build
	@scripts/build.sh $(BUILD) -Dprefix=$(PREFIX)
	@meson install -C $(BUILD) --no-rebuild

coverage:
	@scripts/packages.sh build test coverage
	@scripts/coverage.sh build-cov

asan:
	@scripts/packages.sh build test
	@scripts/build.sh build-asan -Dtests=enabled -Db_sanitize=address,undefined -Db_lundef=false
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 scripts/test.sh build-asan

clean:
	@rm -rf $(BUILD) build-cov build-asan
