# Weir's build: one non-recursive Makefile, a folder of objects for each profile and compiler.
#
#   make [-j2] [TARGET] [PROFILE=release|debug|asan|tsan] [CC=gcc|clang] [V=1]
#
#   build/weir               the release build
#   build/PROFILE/weir       every other one (build/PROFILE-clang with clang)
#   build/PROFILE/unit/      one binary for each tests/unit/FOLDER/test_FILE.c
#   build/PROFILE/session-driver  tests/session/*.c; a fake_FILE.c there replaces FILE.c
#   build/PROFILE/replay/    one binary for each tests/fuzz/fuzz_NAME.c, reading a folder of inputs

PROFILE  ?= release
CC       := $(if $(filter default,$(origin CC)),gcc,$(CC))
VERSION  := 0.1.0
# The PgBouncer that Weir stands in for, as SHOW VERSION says.
PGBOUNCER := 1.25.2
PREFIX   ?= /usr/local
JOBS     ?= $(shell nproc)
OUT      := build/$(PROFILE)$(if $(filter clang%,$(CC)),-clang)
PACKAGES := libuv libcares libssl libcrypto libpq inih libmicrohttpd libxxhash libidn ldap lber pam libsystemd libcurl \
            jansson

# Seconds for each fuzz target in `make fuzz`.
FUZZ_SECONDS ?= 20

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Werror
CFLAGS_release := -O3 -g -fno-plt -DNDEBUG -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_debug   := -O0 -g -DWEIR_DEBUG
CFLAGS_asan    := -O1 -g -DWEIR_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=all \
                  -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g -DWEIR_DEBUG -fsanitize=thread
CFLAGS_fuzz    := $(CFLAGS_asan) -fsanitize=fuzzer-no-link
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES))
BASE_CFLAGS := -std=c11 -D_GNU_SOURCE -DWEIR_VERSION='"$(VERSION)"' \
               -DPGBOUNCER_VERSION='"$(PGBOUNCER)"' -Iinclude -Itests -pthread \
               $(PKG_CFLAGS)
ALL_CFLAGS := $(BASE_CFLAGS) -MMD -MP $(WARNINGS) $(CFLAGS_$(PROFILE)) $(CFLAGS)
ALL_LDLIBS := $(PKG_LIBS) -lpg_query -lpthread -lm $(LDLIBS)
# V=1 shows whole commands.
SAY        = $(if $(V),,@echo "  $(1) $@";)
LINK       = $(call SAY,LD) $(CC) $(ALL_CFLAGS) -Wl,-z,relro,-z,now $(LDFLAGS) -o $@

SOURCES  := $(filter-out src/main.c,$(wildcard src/*.c src/*/*.c))
HEADERS  := $(wildcard include/*/*.h src/*/*.h tests/*.h tests/*/*.h)
TESTS    := $(wildcard tests/unit/*/*.c tests/session/*.c tests/fuzz/*.c)
C_FILES  := $(wildcard src/main.c) $(SOURCES) $(TESTS) $(HEADERS)
OBJECTS  := $(SOURCES:src/%.c=$(OUT)/%.o)
UNIT     := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(wildcard tests/unit/*/test_*.c))

# A fake_FILE.c of the session driver defines what it needs of FILE.c, which then stays in the archive.
SESSION  := $(patsubst tests/%.c,$(OUT)/tests/%.o,$(wildcard tests/session/*.c))

FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

all: $(if $(filter build/release,$(OUT)),build/weir,$(OUT)/weir) ## the release build: build/weir

debug: ## build/debug/weir: no optimisation, slow checks on
asan: ## build/asan/weir: with AddressSanitizer and UBSan
tsan: ## build/tsan/weir: with ThreadSanitizer
debug asan tsan:
	$(MAKE) PROFILE=$@ build/$@/weir

build/weir: build/release/weir
	cp $< $@.new && mv $@.new $@

$(OUT)/weir: $(OUT)/main.o $(OUT)/libweir.a
	$(LINK) $^ $(ALL_LDLIBS)

$(OUT)/libweir.a: $(OBJECTS)
	@rm -f $@.new
	$(call SAY,AR) ar rcs $@.new $^ && mv $@.new $@

$(OUT)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(call SAY,CC) $(CC) $(ALL_CFLAGS) -c -o $@ $<

$(OUT)/tests/%.o: tests/%.c Makefile
	@mkdir -p $(@D)
	$(call SAY,CC) $(CC) $(ALL_CFLAGS) -c -o $@ $<

$(OUT)/unit/%: $(OUT)/tests/unit/%.o $(OUT)/libweir.a
	@mkdir -p $(@D)
	$(LINK) $^ $(ALL_LDLIBS) -lcmocka

$(OUT)/session-driver: $(SESSION) $(OUT)/libweir.a
	$(LINK) $^ $(ALL_LDLIBS)

$(OUT)/replay/%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/tests/fuzz/replay.o $(OUT)/libweir.a
	@mkdir -p $(@D)
	$(LINK) $^ $(ALL_LDLIBS)

$(OUT)/fuzz/%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/libweir.a
	@mkdir -p $(@D)
	$(LINK) -fsanitize=fuzzer $^ $(ALL_LDLIBS)

##
unit: $(UNIT) ## builds and runs the unit tests of PROFILE
	@set -e; for test in $^; do echo "== $$test"; $$test; done

session: $(if $(wildcard tests/session/*.c),$(OUT)/session-driver) ## builds and runs the session driver
	@set -e; for test in $^; do echo "== $$test"; $$test; done

replay: $(FUZZ_NAMES:%=$(OUT)/replay/%) ## feeds the committed inputs to each fuzz target
	@set -e; for test in $^; do $$test tests/fuzz/corpus/$$(basename $$test); done

fuzz: ## fuzzes each target for FUZZ_SECONDS, 20 by default (clang)
	$(call need,clang,clang)
	$(call need,$$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$$(uname -m).a,libclang-rt-14-dev)
	$(MAKE) PROFILE=fuzz CC=clang fuzz-run

fuzz-run: $(FUZZ_NAMES:%=$(OUT)/fuzz/%)
	@set -e; for test in $^; do name=$$(basename $$test); echo "== fuzzing $$name"; \
	    mkdir -p build/fuzz-corpus/$$name build/fuzz-found; \
	    $$test -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
	        -print_final_stats=1 -verbosity=0 -artifact_prefix=build/fuzz-found/$$name- \
	        build/fuzz-corpus/$$name tests/fuzz/corpus/$$name; \
	done

test: ## installs what is missing, builds and runs all tests: scripts/test
	scripts/test

##
everything: all $(UNIT) $(FUZZ_NAMES:%=$(OUT)/replay/%) $(if $(TESTS),$(OUT)/session-driver)

check: ## all gates: warnings, format, clang-tidy, layers, sizes, banned calls, sanitizers
	$(MAKE) -j$(JOBS) check-sources
	$(MAKE) -j$(JOBS) CC=gcc everything
	$(MAKE) -j$(JOBS) CC=clang everything
	$(MAKE) -j$(JOBS) -Otarget check-tidy
	$(MAKE) -j$(JOBS) PROFILE=asan unit replay
	$(MAKE) -j$(JOBS) PROFILE=tsan unit
	@echo "make check: all gates are passed"

check-sources: check-format check-rules check-man ## the gates that need no compiler

check-format:
	$(call need,clang-format-14,clang-format)
	@clang-format-14 --dry-run --Werror $(C_FILES)

check-rules:
	$(call need,python3,python3)
	@set -e; for rule in layers sizes banned; do \
	    scripts/check-$$rule --self-test; scripts/check-$$rule; done

check-man: $(wildcard man/*.[1-8])
	$(call need,man,man-db)
	@set -e; for page in $^; do \
	    said=$$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l $$page 2>&1 >/dev/null); \
	    [ -z "$$said" ] || { echo "$$page: $$said"; exit 1; }; done

check-tidy: $(patsubst src/%.c,build/tidy/%.ok,$(wildcard src/main.c) $(SOURCES))

build/tidy/%.ok: src/%.c .clang-tidy $(HEADERS)
	$(call need,clang-tidy-14,clang-tidy)
	@mkdir -p $(@D)
	$(call SAY,TIDY) clang-tidy-14 --quiet --warnings-as-errors='*' $< -- $(BASE_CFLAGS) 2>$@.log || \
	    { cat $@.log; exit 1; }
	@touch $@

# $(call need,PROGRAM OR FILE,PACKAGE): a check that lacks its tool fails.
need = @command -v $(1) >/dev/null || [ -e $(1) ] || \
    { echo "$(1) is missing; install the Debian package $(2)" >&2; exit 1; }

##
install: all ## binary, man pages, sample file and unit below DESTDIR/PREFIX
	install -D -m 755 build/weir $(DESTDIR)$(PREFIX)/bin/weir
	for page in man/*.[1-8]; do install -D -m 644 -t \
	    $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page || exit 1; done
	for file in conf/*.ini; do install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/weir $$file || exit 1; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|' conf/weir.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/weir.service

clean: ## removes all that was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^##$$/ {print ""} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' Makefile
	@echo; echo "  PROFILE=release|debug|asan|tsan  CC=gcc|clang  PREFIX=/usr/local  DESTDIR=  JOBS=2"

-include $(shell find build -name '*.d' 2>/dev/null)
.PHONY: all debug asan tsan unit session replay fuzz fuzz-run test everything check check-sources \
        check-format check-rules check-man check-tidy install clean help
.SECONDARY:
