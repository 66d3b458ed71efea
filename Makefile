# The user's verbs. The build itself is Meson's (meson.build); scripts/ hold what a verb does in more than a line.
BUILD ?= build
# Of data and data-ja: documents of each set, 0 for all of them; how they become tokens.
SAMPLES ?= 100000
TOKENIZER ?= bytes
PREFIX ?= /usr/local

# The way to a model of one's own. ARGS is added to the call, such as make train-compressed ARGS="--device cuda --resume".
ARGS ?=
RECIPE ?= configs/dataset_mixing.yaml
CONFIG_1B ?= configs/phase8_1b.yaml
CONFIG_10B ?= configs/phase8_10b_rtx3080.yaml
RUN ?= runs/phase8_1b

.PHONY: help build quickstart data-lite data data-ja recipe report test install clean coverage asan fuzz compress-1b compress-10b train-compressed train-10b

help:
	@echo "make quickstart        build, then train a small model on texts of this machine and let it write (5 minutes)"
	@echo "make data-lite         fetch 1,000 documents of cosmopedia (or, offline, use the text on this machine)"
	@echo "make data              fetch the English and code sets, SAMPLES=$(SAMPLES) documents of each (0: all)"
	@echo "make data-ja           fetch the Japanese sets"
	@echo "make recipe            what to train on: questions, in English or Japanese, about the token sets in data/"
	@echo "make compress-1b       the compressed 1B model to start from (0.4 GB, seconds)"
	@echo "make compress-10b      the same of 10B (2.0 GB, a minute)"
	@echo "make train-compressed  train the 1B model from it with the recipe $(RECIPE)"
	@echo "make train-10b         the same of 10B, where memory allows it"
	@echo "make report            a page of a run to look at in a browser: RUN=runs/NAME ($(RUN))"
	@echo "make test              build and run all tests"
	@echo "make build             build only (into $(BUILD)/)"
	@echo "make install           install under PREFIX=$(PREFIX)"
	@echo "make coverage          run all tests with line coverage (into build-cov/)"
	@echo "make asan              run the tests, but those of NVRTC, with address and undefined-behaviour sanitizers (into build-asan/)"
	@echo "make fuzz              run every reader of files on damaged ones, a minute each (into build-fuzz/)"
	@echo "make clean             remove the build folders"

build:
	@scripts/packages.sh build
	@scripts/build.sh $(BUILD)

quickstart: build
	@scripts/quickstart.sh $(BUILD)

# Each verb is one call of a program, which is shown, and so serves without make, too.
# What is there already is not fetched again.
data-lite: build
	$(BUILD)/muse-data fetch cosmopedia --max-samples 1000 --tokenize $(TOKENIZER) $(ARGS) \
	  --else-from /usr/share/doc --else-from /usr/share/common-licenses

data: build
	$(BUILD)/muse-data fetch cosmopedia evol_instruct_code wikitext103 arxiv_abstracts factuality_source \
	  --max-samples $(SAMPLES) --tokenize $(TOKENIZER) $(ARGS)

data-ja: build
	$(BUILD)/muse-data fetch wiki_ja japanese_instruct mc4_ja --max-samples $(SAMPLES) --tokenize $(TOKENIZER) $(ARGS)

recipe: build
	$(BUILD)/muse-data recipe -o $(RECIPE) $(ARGS)

compress-1b: build
	$(BUILD)/muse-run compress $(CONFIG_1B) -o checkpoints/compressed_1b_start $(ARGS)

compress-10b: build
	$(BUILD)/muse-run compress $(CONFIG_10B) -o checkpoints/compressed_10b_start $(ARGS)

train-compressed: build
	$(BUILD)/muse-run train $(CONFIG_1B) --init checkpoints/compressed_1b_start --data $(RECIPE) -o runs/phase8_1b $(ARGS)

# The budget of 8 GiB in the configuration is a goal; here the memory that is there decides.
train-10b: build
	$(BUILD)/muse-run train $(CONFIG_10B) --set memory_budget=0 --init checkpoints/compressed_10b_start \
	  --data $(RECIPE) -o runs/phase8_10b $(ARGS)

report: build
	$(BUILD)/muse-run report $(RUN)

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

# The text of the kernels is written in other suites, too; compiling it is NVRTC's part.
asan:
	@scripts/packages.sh build test
	@scripts/build.sh build-asan -Dtests=enabled -Db_sanitize=address,undefined -Db_lundef=false
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 scripts/test.sh build-asan --no-suite nvrtc

# Elsewhere than on Debian 12 another clang may serve; if none does, fuzz.sh says so.
fuzz:
	@scripts/packages.sh build
	@scripts/packages.sh fuzz || true
	@scripts/fuzz.sh build-fuzz $(ARGS)

clean:
	@rm -rf $(BUILD) build-cov build-asan build-fuzz
