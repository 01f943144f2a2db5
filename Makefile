# SPDX-License-Identifier: Apache-2.0
# controlnet.c
#   make            the program build/controlnet and the library build/libcontrolnet.a
#   make test       installs what is missing, builds, runs every test; closes with "N passed, N failed, N skipped"
#   make demo       scenes, a canny ControlNet trained on models/tiny-sd, out/demo/report.html
#   make serve      the page and the interfaces on models/tiny-sd; prints the address (SERVE_ARGS: more options)
#   make install    program, library, header, pkg-config file, manual page, completions of bash, zsh and fish
#   make lint       layout, layers, banned functions, names, include circles, licences, the last commit;
#                   clang-tidy over the files that changed (TIDY_BASE=COMMIT: since then)
#   make format     lays the sources out as lint wants them
#   make cppcheck   cppcheck over src/
#   make fuzz       FUZZ_CASES (2000) changed files through the program, and every fuzz target for
#                   FUZZ_SECONDS (60) seconds
#   make sanitize   tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make races      tests of what several threads share under ThreadSanitizer (clang)
#   make torture    every call of files, locks and memory fails once, over whole commands: hours
#   make compdb     compile_commands.json for editors and clang's tools
#   make test-gpu   what make test leaves out on a GPU or Mesa's software Vulkan: all of the networks, training steps, drawings
#   make test-full  Stable Diffusion 1.5 at its real size (REFERENCE=DIR with fullsize/), needs 12 GB
#   make clean      removes build/ and build-*/
#   build/bench draw|decode|train|ops   seconds, GFLOP/s and memory at SD 1.5 size, JSON lines (docs/performance.md)
# Variables: CC=gcc|clang  JOBS=N  V=1 (whole commands)  MPI=0|1  SERVER=0|1  VULKAN=0|1  GIF=0|1 TIFF=0|1 AVIF=0|1 JXL=0|1  SANITIZE=address|undefined|thread
#            BUILD=build  PREFIX=/usr/local

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
BUILD ?= build
OPT ?= -O3 -g
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

# One short line a file; V=1 shows the command instead.
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(Q),@printf '  %-10s %s\n' '$(1)' '$(2)')

WARN := -Wall -Wextra -Wconversion -Wshadow -Wno-sign-conversion -Wstrict-prototypes -Wvla -Wno-pass-failed
# x86-64-v2 is the floor; the kernels that gain from more pick their variant at run time.
ARCH ?= -march=x86-64-v2
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE $(OPT) $(ARCH) $(WARN) -fopenmp -fno-math-errno -fno-trapping-math -Iinclude -Isrc -MMD -MP $(CFLAGS)
LDLIBS := -ldnnl -lxsmm -lxsmmnoblas -lpng -lz -ljpeg -lwebpdemux -lwebp -ljansson -lpcre2-8 -lutf8proc -larchive -lm -lpthread -ldl
LDFLAGS_ALL := -fopenmp $(LDFLAGS)

comma := ,
ifneq ($(SANITIZE),)
BUILD := build-$(subst $(comma),-,$(SANITIZE))
# With checks in between, gcc knows too few ranges of numbers to tell what fits.
CFLAGS_ALL += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -O1 $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
LDFLAGS_ALL += -fsanitize=$(SANITIZE)
ifneq ($(findstring undefined,$(SANITIZE)),)
CFLAGS_ALL += -fno-sanitize-recover=all
endif
endif

# Several processes train together where OpenMPI is (MPI=0 builds without it).
MPI ?= $(if $(shell pkg-config --exists ompi-c 2>/dev/null && echo yes),1,0)
ifeq ($(MPI),1)
LDLIBS += $(shell pkg-config --libs ompi-c)
endif
# Pictures of these kinds are read where their libraries are (GIF=0, TIFF=0, AVIF=0, JXL=0 build without).
have = $(if $(shell pkg-config --exists $(1) 2>/dev/null && echo yes),1,0)
GIF ?= $(if $(shell echo '\#include <gif_lib.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes),1,0)
TIFF ?= $(call have,'libtiff-4 >= 4.5')
AVIF ?= $(call have,libavif)
JXL ?= $(call have,libjxl)
# These and the server's library are opened when they are needed (src/base/library.h), by the name that the
# linker would write down.
soname = $(shell readelf -d "$$($(CC) -print-file-name=lib$(1).so)" 2>/dev/null | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
PICTURES_LEFT_OUT := $(if $(filter 1,$(GIF)),,gif) $(if $(filter 1,$(TIFF)),,tiff) $(if $(filter 1,$(AVIF)),,avif) \
                     $(if $(filter 1,$(JXL)),,jxl)
# `controlnet serve` is there where libmicrohttpd is (SERVER=0 builds without).
SERVER ?= $(call have,'libmicrohttpd >= 0.9.71')
SERVER_SRC := $(if $(filter 1,$(SERVER)),$(wildcard src/server/*.c))
PAGE := $(wildcard src/server/page/*)
SERVER_OBJ := $(SERVER_SRC:%.c=$(BUILD)/%.o) $(if $(filter 1,$(SERVER)),$(BUILD)/page/page_files.o)
# A GPU can be drawn on where Vulkan's headers and a compiler of its kernels are (VULKAN=0 builds
# without); libvulkan itself is looked for when a device is asked for.
VULKAN ?= $(if $(shell echo '\#include <vulkan/vulkan_core.h>' | $(CC) -E -x c - >/dev/null 2>&1 && \
                      command -v glslangValidator),1,0)
GPU_LEFT_OUT := $(if $(filter 1,$(VULKAN)),src/gpu/gpu_none.c,$(filter-out src/gpu/gpu_none.c,$(wildcard src/gpu/*.c)))
GPU_KERNELS := $(wildcard src/gpu/kernels/*.k)
# Every source of the library but the kernels, which are compiled several times (below).
LIB_SRC := $(filter-out src/cli/% src/server/% src/cpu/kernels/% $(if $(filter 1,$(MPI)),src/dist/ranks_one.c,src/dist/ranks_mpi.c) \
           $(PICTURES_LEFT_OUT:%=src/image/%.c) $(GPU_LEFT_OUT), \
           $(shell find src -name '*.c' | LC_ALL=C sort))
KERNEL_SRC := $(wildcard src/cpu/kernels/*.c src/cpu/kernels/conv/*.c)
STORED_SRC := $(wildcard src/cpu/kernels/stored/*.c)
BF16_SRC := $(wildcard src/cpu/kernels/bf16/*.c)
ISAS := v2 v3 v4
STORES := f32 bf16
CLI_SRC := $(wildcard src/cli/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(BF16_SRC:%.c=$(BUILD)/%.o) $(foreach isa,$(ISAS),$(KERNEL_SRC:%.c=$(BUILD)/$(isa)/%.o) \
           $(foreach store,$(STORES),$(STORED_SRC:%.c=$(BUILD)/$(isa)-$(store)/%.o)))
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/%.o) $(SERVER_OBJ)
LIB := $(BUILD)/libcontrolnet.a

# tests/unit/NAME.c and tests/ops/NAME.c are one program each; golden, e2e and fullsize take a folder of fixtures.
UNIT := $(patsubst tests/unit/test_%.c,$(BUILD)/tests/unit_%,$(wildcard tests/unit/test_*.c))
OPS := $(patsubst tests/ops/test_%.c,$(BUILD)/tests/ops_%,$(wildcard tests/ops/test_*.c))
# What looks into the device's backend, which a build without Vulkan hasn't.
ifneq ($(VULKAN),1)
UNIT := $(filter-out $(patsubst tests/unit/test_%.c,$(BUILD)/tests/unit_%,$(shell grep -lE 'include "gpu/(gpu_ops|hazards|vk_)' tests/unit/*.c)),$(UNIT))
endif
# tests/support/unit needs cmocka, which only unit tests have.
SUPPORT_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))
UNIT_OBJ := $(SUPPORT_OBJ) $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/unit/*.c)) $(BUILD)/src/server/base64.o
BIG := $(patsubst tests/golden/%.c,$(BUILD)/tests/%,$(wildcard tests/golden/*.c)) \
       $(patsubst tests/e2e/%.c,$(BUILD)/tests/%,$(wildcard tests/e2e/*.c))
BENCH := $(if $(wildcard bench/bench.c),$(BUILD)/bench)
# The program with calls that can be made to fail, and what makes them (tests/faults).
FAULTS := $(BUILD)/tests/controlnet-faults $(BUILD)/tests/torture $(BUILD)/tests/replay
TOOLS := $(patsubst tools/%.c,$(BUILD)/tools/%,$(wildcard tools/*.c))
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))

.PHONY: all tests lib test test-gpu test-full serve torture sanitize races demo lint cppcheck fuzz clean deps install format help compdb
all: $(BUILD)/controlnet $(BENCH) $(TOOLS)
tests: $(UNIT) $(OPS) $(BIG) $(FAULTS) $(EXAMPLES)
lib: $(LIB)

help:
	@sed -n '/^#  /{s/^# \{0,3\}//;p;}; /^# Variables/{s/^# //;p;}; /^$$/q' Makefile

# What make would run for every object, written down.
compdb:
	@$(MAKE) -nB V=1 --no-print-directory all tests $(FUZZ:build-fuzz/%=$(BUILD)/tests/fuzz/%.o) | awk -f tools/compdb.awk >compile_commands.json

deps:
	@sh tools/deps.sh

# One make for the packages, a second one that sees them.
test: deps
	@$(MAKE) -j$(JOBS) --no-print-directory all tests
	@sh tools/run-tests.sh $(BUILD)

test-gpu: deps
	@$(MAKE) -j$(JOBS) --no-print-directory all tests
	@sh tools/run-tests.sh $(BUILD) gpu

REFERENCE ?= ../shared/reference
test-full: deps
	@$(MAKE) -j$(JOBS) --no-print-directory tests
	$(BUILD)/tests/fullsize $(REFERENCE)/fullsize

# Unit, ops, golden and badinput tests under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize: deps
	@$(MAKE) -j$(JOBS) --no-print-directory SANITIZE=address,undefined all tests
	@LSAN_OPTIONS=suppressions=$(CURDIR)/tests/sanitize/leaks.txt:print_suppressions=0 \
	 ASAN_OPTIONS=detect_stack_use_after_return=0:allocator_may_return_null=1 \
	 UBSAN_OPTIONS=print_stacktrace=1 CN_TEST_JOBS=$(JOBS) sh tools/run-tests.sh build-address-undefined sanitized

# By clang, whose OpenMP tells ThreadSanitizer where its threads meet (libarcher, which it finds by itself). Libraries aren't instrumented.
RACES := buckets bulk canny dataset prepare store train_data $(if $(filter 1,$(SERVER)),server serve serve_others serve_models serve_train)
RACES := $(filter $(RACES:%=$(BUILD)/tests/unit_%),$(UNIT))
races: deps
	@$(MAKE) -j$(JOBS) --no-print-directory CC=clang SANITIZE=thread $(RACES:$(BUILD)/%=build-thread/%) build-thread/controlnet
	@TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 \
	 sh tools/run-tests.sh build-thread $(notdir $(RACES))

torture: deps
	@$(MAKE) -j$(JOBS) --no-print-directory all tests
	@$(BUILD)/tests/torture --all $(SCENARIO)

demo: deps
	@$(MAKE) -j$(JOBS) --no-print-directory all
	@sh tools/demo.sh $(BUILD)

# ControlNets are those in models/ and what make demo trained.
serve: deps
	@$(MAKE) -j$(JOBS) --no-print-directory $(BUILD)/controlnet
	@$(BUILD)/controlnet serve -m models/tiny-sd --control-nets models --control-nets out/demo --preview vae $(SERVE_ARGS)

C_FILES := $(shell git ls-files 'src/**.[ch]' 'include/*.h' 'tests/**.[ch]' 'bench/*.[ch]' 'tools/*.c' 'examples/*.c' 2>/dev/null)
lint:
	@sh tools/check-layers.sh
	@sh tools/check-banned.sh
	@sh tools/check-files.sh
	@sh tools/check-commit.sh
	@sh tools/matrix-kernels.sh --check >/dev/null
	@sh tools/tidy.sh
	@clang-format --dry-run --Werror $(C_FILES)
cppcheck:
	@sh tools/cppcheck.sh
format:
	@clang-format -i $(C_FILES)

# libFuzzer wants clang; the library is built a second time for it, with both sanitizers. Kernels go without
# (KERNEL_CFLAGS): clang takes minutes for some, and make sanitize has them.
FUZZ_SECONDS ?= 60
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,build-fuzz/fuzz_%,$(filter-out $(if $(filter 1,$(SERVER)),,%/fuzz_request.c),$(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_CASES ?= 2000
fuzz: deps
	@$(MAKE) -j$(JOBS) --no-print-directory BUILD=build-fuzz CC=clang CFLAGS='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -O1' \
	  KERNEL_CFLAGS=-fno-sanitize=fuzzer-no-link,address,undefined LDFLAGS='-fsanitize=address,undefined' $(FUZZ) build-fuzz/controlnet build-fuzz/tests/mutants
	@echo "== changed files"; ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 build-fuzz/tests/mutants build-fuzz/controlnet $(FUZZ_CASES) 1 100000
	@printf '%s\n' $(FUZZ:build-fuzz/fuzz_%=%) | xargs -P $(JOBS) -I '{}' sh -c 'cd build-fuzz && mkdir -p corpus/{} && \
	  if ./fuzz_{} -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -verbosity=0 -print_final_stats=1 -artifact_prefix={}- corpus/{} ../tests/fuzz/corpus/{} >{}.log 2>&1; \
	  then echo "ok   {}: $$(sed -n "s/^stat::number_of_executed_units: *//p" {}.log) inputs"; else tail -n 80 {}.log; echo "FAIL {}: build-fuzz/{}.log"; exit 1; fi'
build-fuzz/fuzz_request: $(SERVER_OBJ)
build-fuzz/fuzz_%: build-fuzz/tests/fuzz/fuzz_%.o build-fuzz/libcontrolnet.a
	$(call say,LD,$@)
	$(Q)clang -fopenmp -fsanitize=fuzzer,address,undefined $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) -o $@

# What --help says, as a manual page and for shells.
$(BUILD)/share/%: $(BUILD)/controlnet tools/describe.sh
	@mkdir -p $(@D)
	$(call say,DESCRIBE,$@)
	$(Q)sh tools/describe.sh $< $* >$@.new && mv $@.new $@
SHARE := $(addprefix $(BUILD)/share/,man bash zsh fish)

VERSION := $(shell sed -n 's/^.define CN_VERSION "\(.*\)"/\1/p' include/controlnet.h)
TO = $(DESTDIR)$(PREFIX)
install: $(BUILD)/controlnet $(LIB) $(SHARE)
	install -d $(TO)/bin $(TO)/lib/pkgconfig $(TO)/include $(TO)/share/man/man1 \
	    $(TO)/share/bash-completion/completions $(TO)/share/zsh/site-functions $(TO)/share/fish/vendor_completions.d
	install $(BUILD)/controlnet $(TO)/bin
	install -m 644 $(LIB) $(TO)/lib
	install -m 644 include/controlnet.h $(TO)/include
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' 'Name: controlnet' \
	    'Description: trains ControlNets for Stable Diffusion and draws with them' 'Version: $(VERSION)' \
	    'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lcontrolnet -fopenmp $(LDLIBS)' >$(TO)/lib/pkgconfig/controlnet.pc
	install -m 644 $(BUILD)/share/man $(TO)/share/man/man1/controlnet.1
	install -m 644 $(BUILD)/share/bash $(TO)/share/bash-completion/completions/controlnet
	install -m 644 $(BUILD)/share/zsh $(TO)/share/zsh/site-functions/_controlnet
	install -m 644 $(BUILD)/share/fish $(TO)/share/fish/vendor_completions.d/controlnet.fish

# What the library consists of: with another VULKAN=, MPI= or the like than before it is made anew.
$(BUILD)/members: FORCE
	@mkdir -p $(@D)
	@echo '$(LIB_OBJ)' | cmp -s - $@ || echo '$(LIB_OBJ)' >$@
.PHONY: FORCE
FORCE:
$(LIB): $(LIB_OBJ) $(BUILD)/members
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $(LIB_OBJ)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@

# The own kernels, once per instruction set (x86-64-v2, AVX2, AVX-512), those of stored/ also per storage
# type of activations; chosen at run time.
# Products and sums contract to fused operations here; a machine computes the same bytes at every run.
KERNEL_FLAGS = -ffp-contract=fast -march=x86-64-$(1) $(if $(filter v4,$(1)),-mprefer-vector-width=512) -DCN_ISA=$(1) $(KERNEL_CFLAGS)
$(BUILD)/src/cpu/kernels/bf16/%.o: src/cpu/kernels/bf16/%.c
	@mkdir -p $(@D)
	$(call say,CC bf16,$<)
	$(Q)$(CC) $(CFLAGS_ALL) $(call KERNEL_FLAGS,v4) -mavx512bf16 -mamx-tile -mamx-bf16 -c $< -o $@
define kernel_rule
$(BUILD)/$(1)/%.o: %.c
	@mkdir -p $$(@D)
	$$(call say,CC $(1),$$<)
	$$(Q)$$(CC) $$(CFLAGS_ALL) $$(call KERNEL_FLAGS,$(1)) -c $$< -o $$@
endef
define stored_rule
$(BUILD)/$(1)-$(2)/%.o: %.c
	@mkdir -p $$(@D)
	$$(call say,CC $(1) $(2),$$<)
	$$(Q)$$(CC) $$(CFLAGS_ALL) $$(call KERNEL_FLAGS,$(1)) -DCN_STORE=$(2) -DCN_STORE_$(shell echo $(2) | tr a-z A-Z) -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call kernel_rule,$(isa))))
$(foreach isa,$(ISAS),$(foreach store,$(STORES),$(eval $(call stored_rule,$(isa),$(store)))))

# Kernels of GPUs: C's preprocessor, then Vulkan's front end, then one header of numbers.
$(BUILD)/generated/spirv/%.h: src/gpu/kernels/%.k $(wildcard src/gpu/kernels/*.h) src/gpu/kernels/prelude.glsl
	@mkdir -p $(@D)
	$(call say,SPIRV,$<)
	$(Q)(cat src/gpu/kernels/prelude.glsl && $(CC) -E -P -x c -Isrc -include src/gpu/kernels/words.glsl.h $<) >$(@:.h=.comp)
	$(Q)glslangValidator -V --quiet --target-env vulkan1.2 --vn cn_spv_$* -o $@.new $(@:.h=.comp) && mv $@.new $@
# Kernels for matrix units, whose SPIR-V tools/matrix-kernels.sh makes.
$(BUILD)/generated/spirv/%.h: src/gpu/kernels/matrix/%.spv
	@mkdir -p $(@D)
	$(Q)(echo 'const uint32_t cn_spv_$*[] = {' && od -An -v -tx4 $< | sed 's/\([0-9a-f]\{8\}\)/0x\1,/g' && echo '};') >$@.new && mv $@.new $@
$(BUILD)/generated/gpu/kernel_words.h: $(GPU_KERNELS:src/gpu/kernels/%.k=$(BUILD)/generated/spirv/%.h) \
  $(patsubst src/gpu/kernels/matrix/%.spv,$(BUILD)/generated/spirv/%.h,$(wildcard src/gpu/kernels/matrix/*.spv))
	@mkdir -p $(@D)
	$(Q)grep -hv '#pragma once' $^ >$@
$(BUILD)/src/gpu/kernel_codes.o: CFLAGS_ALL += -I$(BUILD)/generated
ifeq ($(VULKAN),1)
$(BUILD)/src/gpu/kernel_codes.o: $(BUILD)/generated/gpu/kernel_words.h
endif

$(BUILD)/src/dist/ranks_mpi.o: CFLAGS_ALL += $(shell pkg-config --cflags ompi-c 2>/dev/null)

$(BUILD)/src/image/gif.o: CFLAGS_ALL += '-DCN_SONAME_GIF="$(call soname,gif)"'
$(BUILD)/src/image/tiff.o: CFLAGS_ALL += '-DCN_SONAME_TIFF="$(call soname,tiff)"'
$(BUILD)/src/image/avif.o: CFLAGS_ALL += '-DCN_SONAME_AVIF="$(call soname,avif)"'
$(BUILD)/src/image/jxl.o: CFLAGS_ALL += '-DCN_SONAME_JXL="$(call soname,jxl)"'
$(BUILD)/src/server/http_daemon.o: CFLAGS_ALL += '-DCN_SONAME_MHD="$(call soname,microhttpd)"'
$(BUILD)/src/image/formats.o: CFLAGS_ALL += $(patsubst %,-DCN_WITHOUT_%,$(shell echo $(PICTURES_LEFT_OUT) | tr a-z A-Z))

# The page's files as one C source.
$(BUILD)/page/page_files.c: $(PAGE) tools/embed.sh
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)sh tools/embed.sh $(PAGE) >$@.new && mv $@.new $@
$(BUILD)/page/page_files.o: $(BUILD)/page/page_files.c
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@
$(BUILD)/src/cli/cli_serve.o: CFLAGS_ALL += $(if $(filter 1,$(SERVER)),,-DCN_WITHOUT_SERVER)

$(BUILD)/controlnet: $(CLI_OBJ) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
# build/bench is the program, so its objects live beside it
$(BUILD)/bench-obj/%.o: bench/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@
$(BUILD)/bench: $(patsubst bench/%.c,$(BUILD)/bench-obj/%.o,$(wildcard bench/*.c)) $(BUILD)/src/cli/restart.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
$(BUILD)/tools/%: $(BUILD)/tools/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
$(BUILD)/tests/unit_ranks_one: $(BUILD)/src/dist/ranks_one.o # before the library's ranks_mpi.o
$(BUILD)/tests/unit_server: $(SERVER_OBJ)
$(BUILD)/tests/unit_demo_judge: $(BUILD)/src/cli/cli_demo_judge.o
$(BUILD)/tests/unit/test_server.o: CFLAGS_ALL += $(if $(filter 1,$(SERVER)),,-DCN_WITHOUT_SERVER)
$(BUILD)/tests/unit_%: $(BUILD)/tests/unit/test_%.o $(UNIT_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIB) -lcmocka $(LDLIBS) -o $@
$(BUILD)/tests/ops_%: $(BUILD)/tests/ops/test_%.o $(SUPPORT_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ -lcmocka $(LDLIBS) -o $@
$(BUILD)/examples/%: $(BUILD)/examples/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
# build/tests/golden and build/tests/e2e are programs too
$(BUILD)/tests-obj/%.o: tests/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@
$(BUILD)/tests/%: $(BUILD)/tests-obj/golden/%.o $(SUPPORT_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
$(BUILD)/tests/badinput $(BUILD)/tests/badnets: $(BUILD)/tests/support/bad/bad_case.o
$(BUILD)/tests/%: $(BUILD)/tests-obj/e2e/%.o $(SUPPORT_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@

$(BUILD)/tests/controlnet-faults: $(BUILD)/tests-obj/faults/faults.o $(BUILD)/tests/support/leaks.o $(CLI_OBJ) $(LIB) # before the library's sys_hooks.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@
$(BUILD)/tests/%: $(BUILD)/tests-obj/faults/%.o $(SUPPORT_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LDLIBS) -o $@

clean:
	rm -rf build build-*

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(wildcard $(BUILD)/tests/*/*.d $(BUILD)/tests/*/*/*.d $(BUILD)/tests-obj/*/*.d $(BUILD)/bench-obj/*.d $(BUILD)/tools/*.d $(BUILD)/examples/*.d)
.SECONDARY:
