# Weir's build: one non-recursive Makefile, a folder of objects for each profile.
#
#   make [PROFILE=release|debug|asan|tsan] [CC=gcc|clang]

PROFILE  ?= release
CC       := $(if $(filter default,$(origin CC)),gcc,$(CC))
VERSION  := 0.1.0
PREFIX   ?= /usr/local
OUT      := build/$(PROFILE)$(if $(filter clang%,$(CC)),-clang)
PACKAGES := libuv libssl libcrypto libpq inih libmicrohttpd libxxhash libidn

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Werror
CFLAGS_release := -O2 -g -DNDEBUG
CFLAGS_debug   := -O0 -g -DWEIR_DEBUG
CFLAGS_asan    := -O1 -g -DWEIR_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=all \
                  -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g -DWEIR_DEBUG -fsanitize=thread
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -DWEIR_VERSION='"$(VERSION)"' -Iinclude -MMD -MP -pthread \
              $(WARNINGS) $(CFLAGS_$(PROFILE)) \
              $(shell pkg-config --cflags $(PACKAGES)) $(CFLAGS)
ALL_LDLIBS := $(shell pkg-config --libs $(PACKAGES)) -lpg_query -lpthread -lm $(LDLIBS)

SOURCES  := $(filter-out src/main.c,$(wildcard src/*.c src/*/*.c))
OBJECTS  := $(SOURCES:src/%.c=$(OUT)/%.o)
UNIT     := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(wildcard tests/unit/*/test_*.c))

all: build/weir ## the release build: build/weir

build/weir: $(if $(filter release,$(PROFILE)),$(OUT)/weir)
	cp $(OUT)/weir $@

$(OUT)/weir: $(OUT)/main.o $(OUT)/libweir.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDLIBS)

$(OUT)/libweir.a: $(OBJECTS)
	rm -f $@
	ar rcs $@ $^

$(OUT)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(OUT)/unit/%: tests/unit/%.c $(OUT)/libweir.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests -o $@ $< $(OUT)/libweir.a $(ALL_LDLIBS) -lcmocka

unit: $(UNIT) ## builds and runs the unit tests of PROFILE
	@set -e; for t in $(UNIT); do echo "== $$t"; $$t; done

-include $(shell find build -name '*.d' 2>/dev/null)
.PHONY: all unit
