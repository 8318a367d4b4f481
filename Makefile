# SPDX-License-Identifier: MIT
#
# make               lib/libnin.so, lib/libnin.a and the examples
# make deps          installs the Debian packages that are missing; 'make deps check' does both
# make mnist         trains the bundled example for ten minutes; EPOCHS=N, NIN_DATA_DIR=folder
# make reproduce     the experiment of the paper, hours; goes on where it was stopped
# make check         tests and checks; CK_RUN_SUITE=name picks a suite
# make check-long    sanitizers, a second compiler, valgrind, damaged files, format
# make check-size    table of the lengths of functions and files
# make cuda-report   what a GPU should need, on paper, minutes
# make bench         builds the programs of bench/, measures them beside the peers that are installed
# make format        clang-format 14 over the sources
# make gpu-bundle    what bench/gpu.sh needs on a bare machine with a GPU, into .gpu/
# make install       PREFIX=/usr/local DESTDIR= LIBDIR= INCLUDEDIR=
# make uninstall     removes what install put there
# make dist          nin-VERSION.tar.gz
# make clean
#
# CC, CXX, CPPFLAGS, CFLAGS, LDFLAGS and LDLIBS are yours: they are added after our own.
# CUDA=0 builds no lib/libnin_cuda.so, CUDA=1 insists on it; else it is built where there is an nvcc, which
# NVCC names.
# WERROR=1 makes warnings errors, SANITIZE=address,undefined builds with those sanitizers, in build/
# only, V=1 shows the commands.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.DEFAULT_GOAL := all

# ---- make deps X: packages first, then X in a make of its own that finds them ----------------

.PHONY: deps deps-long
deps:
	@sh .ci/deps

deps-long:
	@sh .ci/deps long

DEPS       := $(filter deps deps-long,$(MAKECMDGOALS))
AFTER_DEPS := $(and $(DEPS),$(filter-out $(DEPS),$(MAKECMDGOALS)))

ifneq ($(AFTER_DEPS),)

.PHONY: $(AFTER_DEPS)
$(firstword $(AFTER_DEPS)): $(DEPS)
	+@$(MAKE) --no-print-directory $(AFTER_DEPS)
$(wordlist 2,$(words $(AFTER_DEPS)),$(AFTER_DEPS)): $(firstword $(AFTER_DEPS))
	@:

else

# ---- what is built, and how ------------------------------------------------------------------

VERSION := $(shell cat VERSION)
ABI     := 0
SONAME  := libnin.so.$(ABI)
SOFILE  := libnin.so.$(VERSION)

PKG_CONFIG ?= pkg-config
Q          := $(if $(V),,@)

# a word for the shell
quote = '$(subst ','\'',$1)'
comma := ,

# Before a command that runs make: it shares the jobs of this one, but is not run by 'make -n'.
SUBMAKE = $(if $(findstring n,$(firstword -$(MAKEFLAGS))),,+)

# Libraries behind libnin; names only, so that static linking needs no Fortran (see nin.pc.in).
LIBS_PRIVATE ?= -lopenblas -ljansson -lz -lm -lpthread -ldl
DEP_CFLAGS   := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags openblas jansson zlib 2>/dev/null))
DEP_LDFLAGS  := $(shell $(PKG_CONFIG) --libs-only-L openblas jansson zlib 2>/dev/null)

NIN_CPPFLAGS := -Iinclude -D_POSIX_C_SOURCE=200809L
NIN_CFLAGS   := -std=c11 -O3 -ffp-contract=off -fPIC -fvisibility=hidden \
                -Wall -Wextra -Wpedantic -Wshadow -Wconversion
NIN_LDFLAGS  := -Wl,--as-needed -Wl,-z,relro -Wl,-z,now
ifeq ($(WERROR),1)
NIN_CFLAGS   += -Werror
endif
ifneq ($(SANITIZE),)
NIN_CFLAGS   += -O2 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE) -fno-sanitize-recover=all \
                -Wno-maybe-uninitialized # with sanitizers gcc sees paths that are none
NIN_LDFLAGS  += -fsanitize=$(SANITIZE)
else
# the library never aborts; asserts are for our own mistakes, in builds that look for them
LIB_CPPFLAGS := -DNDEBUG
# the runtime of a sanitizer is found only when a program is linked
SO_LDFLAGS   := -Wl,-z,defs
endif

COMPILE = $(CC) $(NIN_CPPFLAGS) $(CPPFLAGS) -MMD -MP $(NIN_CFLAGS) $(CFLAGS)
LINK    = $(CC) $(NIN_CFLAGS) $(CFLAGS) $(NIN_LDFLAGS) $(LDFLAGS)

# bench/peers/onednn; elsewhere than in the system: ONEDNN_FLAGS='-I... -L... -Wl,-rpath,... -ldnnl'
ONEDNN_FLAGS ?= -ldnnl
BUILD_ONEDNN  = $(CXX) $(CPPFLAGS) -std=c++11 -O3 -fopenmp -Wall -Wextra -Wshadow $(CXXFLAGS) $(LDFLAGS)

# The CUDA module: code for what this nvcc knows of the GPUs that there are, and for later ones. Who installs may have
# another PATH than who built.
NVCC ?= $(firstword $(shell command -v nvcc 2> /dev/null) $(wildcard /usr/local/cuda/bin/nvcc) $(wildcard $(file < build/nvcc)))
CUDA ?= $(if $(NVCC),1,0)
ifneq ($(SANITIZE),)
override CUDA := 0
endif
ifeq ($(CUDA),1)
ifeq ($(NVCC),)
$(error CUDA=1, but there is no nvcc; NVCC=/path/to/nvcc says where it is)
endif
CUDA_HOME    := $(patsubst %/bin/,%,$(dir $(realpath $(shell command -v $(NVCC)))))
CUDA_CODE    := $(filter 75 80 90 100 120,$(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code)))
# A front end costs more than what makes code of it, so neighbours share one where the code is the same: for sm_90 that
# is so without bf16, which takes half the instructions there, and where no __CUDA_ARCH__ says how many registers there are.
FRONT_END_90  = $(if $(filter src/cuda/product_parts.cu src/cuda/conv_winograd.cu,$<),80,90)
FRONT_END_120 := 100
GENERATIONS   = $(foreach sm,$(CUDA_CODE),-gencode=arch=compute_$(or $(FRONT_END_$(sm)),$(sm))$(comma)code=sm_$(sm)) \
                -gencode=arch=compute_100,code=compute_100
CUDA_WARNINGS = -Wall,-Wextra,-Wno-unknown-pragmas
CUDA_FLAGS    = -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics
BUILD_CUDA    = $(NVCC) -std=c++17 -O3 --fmad=false --threads 0 \
                -Xptxas=-warn-spills,-warn-lmem-usage -Xcompiler=$(CUDA_FLAGS) -Xcompiler=$(CUDA_WARNINGS) $(NVCCFLAGS)
# Files without kernels, nor words for them, are the host's alone: the C++ compiler takes a third of the time.
CUDA_WORDS   := __global__ launch.h $(notdir $(shell grep -l 'cuda/launch.h\|cuda/windows.h' src/cuda/*.h))
CUDA_HOST    := $(shell grep -L $(CUDA_WORDS:%=-e %) src/cuda/*.cu)
BUILD_HOST    = $(CXX) $(CPPFLAGS) -std=c++17 -O3 $(subst $(comma), ,$(CUDA_FLAGS) $(CUDA_WARNINGS)) -Wshadow -Wconversion \
                $(if $(filter 1,$(WERROR)),-Werror) -isystem $(CUDA_HOME)/include -x c++ $(CXXFLAGS)
LINK_CUDA     = $(CC) -shared -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--as-needed \
                -Wl,--version-script,src/cuda/module.map -L$(CUDA_HOME)/lib64 $(LDFLAGS)
LIBS_CUDA     = -lcublasLt -lcublas -Wl,-Bstatic -lcudart_static -Wl,-Bdynamic -ldl -lrt -lpthread
ifeq ($(WERROR),1)
NVCCFLAGS    += -Werror all-warnings,missing-launch-bounds,default-stream-launch -Xptxas=-Werror -Xcompiler=-Werror
endif
endif

# One folder for each set of commands, so that configurations never mix.
COMMANDS := $(COMPILE) $(LIB_CPPFLAGS) $(LINK) $(SO_LDFLAGS) $(DEP_CFLAGS) $(DEP_LDFLAGS) $(LIBS_PRIVATE) $(LDLIBS) \
            $(BUILD_ONEDNN) $(ONEDNN_FLAGS) $(BUILD_CUDA) $(BUILD_HOST) $(GENERATIONS) $(LINK_CUDA)
OUT      := build/$(shell printf '%s' '$(subst ','\'',$(COMMANDS))' | cksum | cut -d ' ' -f 1)

# kernels.c is compiled once for each instruction set, kernels_bf16.c for each that has products in bf16; the
# processor's are picked at run time.
INSTRUCTIONS  := baseline
ifneq ($(filter x86_64%,$(shell $(CC) -dumpmachine)),)
INSTRUCTIONS  += avx2 avx512
BF16_SETS     := avx512_bf16 amx amx_x3
endif
FLAGS_avx2    := -DNIN__KERNELS_AVX2 -mavx2 -mfma
FLAGS_avx512  := -DNIN__KERNELS_AVX512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512
FLAGS_avx512_bf16 := $(FLAGS_avx512) -DNIN__KERNELS_AVX512_BF16 -mavx512bf16
FLAGS_amx     := $(FLAGS_avx512) -mavx512bf16 -mamx-tile -mamx-bf16 -DNIN__KERNELS_AMX -DNIN__KERNELS_PARTS=1
FLAGS_amx_x3  := $(FLAGS_amx) -UNIN__KERNELS_PARTS -DNIN__KERNELS_PARTS=2

HEADERS  := $(wildcard include/nin/*.h)
LIB_C    := $(filter-out src/cpu/kernels%.c,$(wildcard src/core/*.c src/layers/*.c src/data/*.c src/file/*.c src/cpu/*.c))
CUDA_CU  := $(wildcard src/cuda/*.cu)
CUDA_O   := $(CUDA_CU:%.cu=$(OUT)/%.o)
TEST_C   := $(wildcard tests/*.c)
EXAMPLES := $(patsubst %.c,%,$(wildcard examples/*_*.c)) # the others are parts of mnist_nin
BENCHES  := $(patsubst %.c,%,$(filter-out bench/measure.c,$(wildcard bench/*.c)))
KERNELS_O := $(INSTRUCTIONS:%=$(OUT)/src/cpu/kernels_%.o)
BF16_O   := $(BF16_SETS:%=$(OUT)/src/cpu/kernels_%.o)
LIB_O    := $(LIB_C:%.c=$(OUT)/%.o) $(KERNELS_O) $(BF16_O)
TEST_O   := $(TEST_C:%.c=$(OUT)/%.o)

# lib/, examples/ and bench/ show what was built last; the files themselves live in $(OUT), which
# has the same folders, so that a program finds ../lib in both places. A build with sanitizers stays
# in there: its library would break the programs beside lib/, which are not built for it.
AT       := $(if $(SANITIZE),$(OUT)/)
MODULES  := $(if $(filter 1,$(CUDA)),libnin_cuda.so)
LIBS     := $(addprefix $(AT)lib/,$(SOFILE) $(SONAME) libnin.so libnin.a $(MODULES))

.PHONY: all lib examples bench
all: lib examples
# (a module of an earlier build would be found)
lib: $(LIBS) $(OUT)/lib/libnin.so
	$(if $(MODULES)$(SANITIZE),,@rm -f lib/libnin_cuda.so)
examples: lib $(EXAMPLES:%=$(AT)%)

# Peers of Python are those of the Python that NIN_BENCH_PYTHON names; oneDNN is one if a program can be
# linked with it. BENCH_ARGS goes to compare.py.
ifneq ($(filter bench,$(MAKECMDGOALS)),)
PEERS := $(shell echo 'int main() { static_assert(DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP, ""); \
           return dnnl::memory() ? 1 : 0; }' | $(BUILD_ONEDNN) \
           -include oneapi/dnnl/dnnl.hpp -x c++ - -x none -o /dev/null $(ONEDNN_FLAGS) 2> /dev/null && \
           echo bench/peers/onednn)
endif
bench: lib $(BENCHES) $(PEERS)
	$(if $(PEERS),,@rm -f bench/peers/onednn)
	@if command -v python3 > /dev/null; then \
	  python3 -B bench/peers/compare.py $(BENCH_ARGS); \
	else \
	  echo "bench: no python3, so libnin is measured alone" >&2; bench/step && bench/infer; \
	fi

.PHONY: FORCE
ifeq ($(SANITIZE),)
PUBLISHED := lib/$(SOFILE) lib/libnin.a $(MODULES:%=lib/%) $(EXAMPLES) $(BENCHES) bench/peers/onednn
$(PUBLISHED): %: $(OUT)/% FORCE
	@mkdir -p $(@D) && { [ $< -ef $@ ] || ln -f $< $@; }
$(EXAMPLES): | lib # a program finds in ../lib what it was linked with
endif

%/$(SONAME): %/$(SOFILE) FORCE
	@[ "$$(readlink $@)" = $(SOFILE) ] || ln -sf $(SOFILE) $@

%/libnin.so: %/$(SONAME) FORCE
	@[ "$$(readlink $@)" = $(SONAME) ] || ln -sf $(SONAME) $@

# what is linked changes also when a source goes away
$(OUT)/lib/objects: LIST = $(LIB_O)
$(OUT)/tests/objects: LIST = $(TEST_O)
$(OUT)/lib/objects $(OUT)/tests/objects: FORCE
	@mkdir -p $(@D) && { echo '$(LIST)' | cmp -s - $@ || echo '$(LIST)' > $@; }

$(OUT)/lib/$(SOFILE): $(LIB_O) $(OUT)/lib/objects src/nin.map
	@mkdir -p $(@D) && echo "  LD $(@F)"
	$(Q)$(LINK) $(SO_LDFLAGS) $(DEP_LDFLAGS) -shared -Wl,-soname,$(SONAME) \
	  -Wl,--version-script,src/nin.map -o $@ $(LIB_O) $(LIBS_PRIVATE) $(LDLIBS)

$(OUT)/lib/libnin.a: $(LIB_O) $(OUT)/lib/objects
	@mkdir -p $(@D) && echo "  AR $(@F)" && rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_O)

$(OUT)/lib/libnin_cuda.so: $(CUDA_O) src/cuda/module.map
	@mkdir -p $(@D) && echo "  LD $(@F)"
	$(Q)$(LINK_CUDA) -o $@ $(CUDA_O) $(LIBS_CUDA)
	@command -v $(NVCC) > build/nvcc

$(OUT)/src/cuda/%.o: src/cuda/%.cu
	@mkdir -p $(@D) && echo "  $(if $(filter $<,$(CUDA_HOST)),CXX,NVCC) $<"
	$(Q)$(if $(filter $<,$(CUDA_HOST)),$(BUILD_HOST),$(BUILD_CUDA) $(GENERATIONS)) -Iinclude -Isrc -MMD -MF $(@:.o=.d) -c -o $@ $<

$(OUT)/src/%.o: src/%.c
	@mkdir -p $(@D) && echo "  CC $<"
	$(Q)$(COMPILE) $(LIB_CPPFLAGS) -Isrc $(DEP_CFLAGS) -c -o $@ $<

$(KERNELS_O): SOURCE := src/cpu/kernels.c
$(BF16_O): SOURCE := src/cpu/kernels_bf16.c
$(KERNELS_O): src/cpu/kernels.c
$(BF16_O): src/cpu/kernels_bf16.c
$(KERNELS_O) $(BF16_O): $(OUT)/src/cpu/kernels_%.o:
	@mkdir -p $(@D) && echo "  CC $(SOURCE) for $*"
	$(Q)$(COMPILE) $(FLAGS_$*) $(LIB_CPPFLAGS) -Isrc -c -o $@ $(SOURCE)

# Examples see the public headers and the shared library only.
$(OUT)/examples/mnist_nin: $(wildcard $(addprefix examples/,options.[ch] output.[ch] plot.[ch] progress.[ch]))
$(EXAMPLES:%=$(OUT)/%): $(OUT)/%: %.c $(OUT)/lib/libnin.so
	@mkdir -p $(@D) && echo "  CC $<"
	$(Q)$(COMPILE) -MF $@.d $(NIN_LDFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) \
	  -L$(OUT)/lib -lnin -Wl,-rpath,'$$ORIGIN/../lib' -lm -lpthread $(LDLIBS)

# Benchmarks look inside: the static library and its headers.
$(BENCHES:%=$(OUT)/%): $(OUT)/%: %.c bench/measure.c bench/measure.h $(OUT)/lib/libnin.a
	@mkdir -p $(@D) && echo "  CC $<"
	$(Q)$(COMPILE) $(LIB_CPPFLAGS) -Isrc -MF $@.d $(NIN_LDFLAGS) $(LDFLAGS) $(DEP_LDFLAGS) -o $@ \
	  $(filter %.c,$^) $(OUT)/lib/libnin.a $(LIBS_PRIVATE) $(LDLIBS)

$(OUT)/bench/peers/onednn: bench/peers/onednn.cpp
	@mkdir -p $(@D) && echo "  CXX $<"
	$(Q)$(BUILD_ONEDNN) -o $@ $< $(ONEDNN_FLAGS)

# ---- what the examples show ------------------------------------------------------------------

MNIST     = $(AT)examples/mnist_nin --data $(call quote,$(or $(NIN_DATA_DIR),examples/data/mnist)) \
            $(addprefix --epochs ,$(EPOCHS))
QUICK     := runs/mnist-quick
REFERENCE := runs/mnist-reference

.PHONY: mnist reproduce
mnist: lib $(AT)examples/mnist_nin
	@mkdir -p $(QUICK)
	$(MNIST) --recipe quick --save $(QUICK)/weights.safetensors \
	  --curve $(QUICK)/curve.csv --plot $(QUICK)/curve.png

reproduce: lib $(AT)examples/mnist_nin
	@mkdir -p $(REFERENCE)
	checkpoint=$(REFERENCE)/checkpoint.safetensors; \
	$(MNIST) --recipe reference --save $(REFERENCE)/weights.safetensors \
	  --curve $(REFERENCE)/curve.csv --plot $(REFERENCE)/curve.png \
	  --checkpoint $$checkpoint $$(test ! -f $$checkpoint || echo --resume $$checkpoint)

# ---- a bare machine with a GPU -----------------------------------------------------------------

# What bench/gpu.sh needs and such a machine may lack: Debian's packages, unpacked, without static archives; 60 MB at most.
GPU_PACKAGES := zlib1g libopenblas0-pthread libopenblas-pthread-dev libgfortran5 libquadmath0 libjansson4 libjansson-dev \
                zlib1g-dev check libsubunit0 libsubunit-dev
.PHONY: gpu-bundle
gpu-bundle:
	@rm -rf .gpu && mkdir -p .gpu/debs .gpu/root
	cd .gpu/debs && apt-get -q download $(GPU_PACKAGES)
	for deb in .gpu/debs/*.deb; do dpkg -x $$deb .gpu/root || exit 1; done
	find .gpu/root -name '*.a' ! -name 'libcheck.a' ! -name 'libsubunit.a' -delete
	find .gpu/root '(' -name 'liblapack*' -o -name 'libblas.so*' -o -name '*.pc' -o -name 'libsubunit.so*' ')' -delete
	cp -f .gpu/root/lib/x86_64-linux-gnu/libz.so.1.* .gpu/root/usr/lib/x86_64-linux-gnu/libz.so.1
	ln -sf libz.so.1 .gpu/root/usr/lib/x86_64-linux-gnu/libz.so
	rm -rf .gpu/debs .gpu/root/lib .gpu/root/usr/share .gpu/root/usr/bin
	find .gpu/root -depth -type d '(' -name cmake -o -name pkgconfig ')' -exec rm -rf {} +
	@du -sh .gpu && test "$$(du -sm .gpu | cut -f 1)" -le 60

# ---- tests -----------------------------------------------------------------------------------

TEST_PROGRAM := $(OUT)/tests/check
TEST_LINK     = $(LINK) $(DEP_LDFLAGS)
TEST_LIBS     = $(OUT)/lib/libnin.a $(shell $(PKG_CONFIG) --libs check) $(LIBS_PRIVATE) $(LDLIBS)

ifneq ($(BF16_SETS),)
$(OUT)/tests/%_avx512.o: TEST_FLAGS := $(FLAGS_avx512) -mavx512bf16
endif
$(OUT)/tests/%.o: tests/%.c
	@mkdir -p $(@D) && echo "  CC $<"
	$(Q)$(COMPILE) $(TEST_FLAGS) -Isrc -Itests $(DEP_CFLAGS) \
	  $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags check)) -c -o $@ $<

# linked with the static library, in which internal names can be reached
$(TEST_PROGRAM): $(TEST_O) $(OUT)/tests/objects $(OUT)/lib/libnin.a
	@mkdir -p $(@D) && echo "  LD $(@F)"
	$(Q)$(TEST_LINK) -o $@ $(TEST_O) $(TEST_LIBS)

# Modules that tests open: the CUDA one, built by the C++ compiler with the stand-in of tests/cuda_on_cpu for CUDA
# itself and for src/cuda/ptx.h, and some that are to be refused. Each has a folder of its own.
# It does a GPU's arithmetic: with the processor's multiply-add, if that is there, in a third of the time.
STAND_IN_FMA  := $(shell program=$$(mktemp) && \
                   echo 'int main(void) { return !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2"); }' | \
                   $(CC) -x c -o $$program - 2> /dev/null && $$program && echo -mfma -mavx2; rm -f $$program)
# LeakSanitizer does not always survive a thread's memory that a module asks for when it is opened: hence its model.
BUILD_STAND_IN = $(CXX) $(CPPFLAGS) -Iinclude -Itests/cuda_on_cpu -Isrc -MMD -MP -std=c++17 -O3 -g -ffp-contract=off $(STAND_IN_FMA) \
                 -fPIC -fvisibility=hidden -fno-exceptions -ftls-model=initial-exec \
                 -Wall -Wextra -Wshadow -Wno-unknown-pragmas $(if $(filter 1,$(WERROR)),-Werror) $(CXXFLAGS) \
                 $(if $(SANITIZE),-fno-omit-frame-pointer -fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
STAND_IN_O    := $(CUDA_CU:src/cuda/%.cu=$(OUT)/tests/stand_in/%.o) \
                 $(patsubst tests/cuda_on_cpu/%.cpp,$(OUT)/tests/stand_in/%.o,$(wildcard tests/cuda_on_cpu/*.cpp))
STAND_IN      := $(OUT)/tests/modules/stand_in/libnin_cuda.so
TEST_MODULES  := $(STAND_IN) $(patsubst tests/modules/%.c,$(OUT)/tests/modules/%/libnin_cuda.so,$(wildcard tests/modules/*.c))

$(OUT)/tests/stand_in/%.o: src/cuda/%.cu
	@mkdir -p $(@D) && echo "  CXX $< (stand-in)"
	$(Q)$(BUILD_STAND_IN) -x c++ -c -o $@ $<

$(OUT)/tests/stand_in/%.o: tests/cuda_on_cpu/%.cpp
	@mkdir -p $(@D) && echo "  CXX $<"
	$(Q)$(BUILD_STAND_IN) $(DEP_CFLAGS) -c -o $@ $<

$(STAND_IN): $(STAND_IN_O)
	@mkdir -p $(@D) && echo "  LD $@"
	$(Q)$(CXX) $(LDFLAGS) $(addprefix -fsanitize=,$(SANITIZE)) -shared $(DEP_LDFLAGS) -o $@ $^ -lopenblas -lpthread

# what it needs is gone when it is opened
$(OUT)/tests/modules/%/libnin_cuda.so: tests/modules/%.c tests/modules/module.h $(wildcard src/core/*.h)
	@mkdir -p $(@D)/gone && echo "  LD $@"
	$(Q)echo 'int cublas_is_missing(void); int cublas_is_missing(void) { return 0; }' | \
	  $(CC) -shared -fPIC -Wl,-soname,libcublas_that_is_absent.so -x c -o $(@D)/gone/libcublas.so -
	$(Q)$(LINK) -fPIC -fvisibility=default -Iinclude -Isrc -shared -o $@ $< -L$(@D)/gone -lcublas

# what the scripts need to know about this build
SCRIPT_ENV = NIN_LIB=$(OUT)/lib CC='$(CC)' CXX='$(CXX)' MAKE='$(MAKE)' PKG_CONFIG='$(PKG_CONFIG)' \
             NIN_FLAGS='$(CFLAGS) $(addprefix -fsanitize=,$(SANITIZE)) $(LDFLAGS)'

.PHONY: check check-unit check-stand-in check-cuda check-cuda-lt check-cuda-all check-instructions check-abi check-headers check-install check-version check-examples \
        check-mutants test-program abi-list
check: check-unit check-stand-in check-cuda $(if $(filter 1,$(CUDA)),check-cuda-lt) check-instructions check-abi check-headers check-install check-version check-examples check-mutants

test-program: $(TEST_PROGRAM) $(TEST_MODULES)

# Check gives a test 4 seconds; a busy machine needs more. What is tagged "long" is for check-long, what is tagged
# "cuda" for check-stand-in, beside this.
check-unit: test-program
	CK_EXCLUDE_TAGS="$${CK_EXCLUDE_TAGS-long} cuda" CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-$(if $(SANITIZE),600,60)} $(TEST_PROGRAM)

# what is particular to CUDA, on its stand-in
check-stand-in: test-program $(OUT)/tests/cuda/places
	$(OUT)/tests/cuda/places
	CK_EXCLUDE_TAGS="$${CK_EXCLUDE_TAGS-long}" CK_INCLUDE_TAGS=cuda \
	  CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-$(if $(SANITIZE),600,60)} $(TEST_PROGRAM)

# suites that do not care for a device, on the CUDA module with its stand-in
CUDA_SUITES ?= ops gradients
CUDA_MODULE ?= $(abspath $(dir $(STAND_IN)))
check-cuda: test-program
	@for suite in $(CUDA_SUITES); do \
	  CK_EXCLUDE_TAGS="$${CK_EXCLUDE_TAGS-long}" CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-$(if $(SANITIZE),600,60)} CK_RUN_SUITE=$$suite \
	  NIN_TEST_DEVICE=cuda NIN_MODULE_DIR=$(call quote,$(CUDA_MODULE)) $(TEST_PROGRAM) || exit 1; \
	done

check-cuda-all:
	CK_EXCLUDE_TAGS="$${CK_EXCLUDE_TAGS-}" $(MAKE) check-cuda SANITIZE=address,undefined \
	  CUDA_SUITES='ops gradients parity trainer checkpoint optimizer network builder file sharing allocation'

# what the real cublasLt takes, which needs no GPU, and whether the stand-in has the numbers of the real headers
BUILD_CUDA_TEST = $(CXX) $(CPPFLAGS) -Iinclude -Isrc -MMD -MP -std=c++17 -O2 -fno-exceptions -Wall -Wextra -Wshadow \
                  $(if $(filter 1,$(WERROR)),-Werror) $(CXXFLAGS)

$(OUT)/tests/cuda/descriptors: tests/cuda/descriptors.cpp $(CUDA_O)
	@mkdir -p $(@D) && echo "  CXX $<"
	$(Q)$(BUILD_CUDA_TEST) -isystem $(CUDA_HOME)/include -o $@ $< $(CUDA_O) $(LDFLAGS) -L$(CUDA_HOME)/lib64 \
	  -Wl,-rpath,$(CUDA_HOME)/lib64 $(LIBS_CUDA)

$(OUT)/tests/cuda/places: tests/cuda/places.cpp
	@mkdir -p $(@D) && echo "  CXX $<"
	$(Q)$(BUILD_CUDA_TEST) -isystem tests/cuda_on_cpu -o $@ $<

$(OUT)/tests/cuda/numbers $(OUT)/tests/cuda/numbers_of_stand_in: tests/cuda/numbers.cpp
	@mkdir -p $(@D) && echo "  CXX $< ($(@F))"
	$(Q)$(BUILD_CUDA_TEST) -isystem $(if $(findstring stand_in,$@),tests/cuda_on_cpu,$(CUDA_HOME)/include) -o $@ $<

check-cuda-lt: $(OUT)/tests/cuda/descriptors $(OUT)/tests/cuda/numbers $(OUT)/tests/cuda/numbers_of_stand_in
	@$(OUT)/tests/cuda/descriptors
	@$(OUT)/tests/cuda/numbers > $(OUT)/tests/cuda/numbers.txt
	@$(OUT)/tests/cuda/numbers_of_stand_in | diff $(OUT)/tests/cuda/numbers.txt -

# What a GPU should need, on paper: the compiler says what kernels take of one, and the stand-in, with kernels that tell
# of each load and store, what a training step moves. No check: it takes minutes.
COUNTED_O     := $(CUDA_CU:src/cuda/%.cu=$(OUT)/tests/counted/%.o) $(OUT)/tests/counted/traffic.o
COUNTED       := $(OUT)/tests/modules/counted/libnin_cuda.so
BUILD_COUNTED  = $(BUILD_STAND_IN) -DSTAND_IN_COUNTS -fsanitize=thread \
                 --param tsan-instrument-func-entry-exit=0

$(OUT)/tests/counted/%.o: src/cuda/%.cu
	@mkdir -p $(@D) && echo "  CXX $< (counted)"
	$(Q)$(BUILD_COUNTED) -x c++ -c -o $@ $<

$(OUT)/tests/counted/traffic.o: tests/cuda/traffic.cpp
	@mkdir -p $(@D) && echo "  CXX $<"
	$(Q)$(BUILD_STAND_IN) -c -o $@ $<

$(COUNTED): $(COUNTED_O) $(filter-out $(CUDA_CU:src/cuda/%.cu=$(OUT)/tests/stand_in/%.o),$(STAND_IN_O))
	@mkdir -p $(@D) && echo "  LD $@"
	$(Q)$(CXX) $(LDFLAGS) -shared -Wl,-z,defs $(DEP_LDFLAGS) -o $@ $^ -lopenblas -lpthread -ldl

.PHONY: cuda-report
cuda-report: $(OUT)/bench/epoch $(COUNTED)
	@NIN_PTX=$(call quote,$(if $(filter 1,$(CUDA)),$(BUILD_CUDA) -Iinclude -Isrc -arch=compute_90 -ptx)) \
	  NIN_PTXAS=$(CUDA_HOME)/bin/ptxas NIN_EPOCH=$(OUT)/bench/epoch NIN_COUNTED=$(call quote,$(abspath $(dir $(COUNTED)))) \
	  sh tests/cuda_report.sh

# the numbers of each instruction set that this machine has
check-instructions: $(TEST_PROGRAM)
	@CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-$(if $(SANITIZE),600,60)} \
	  NIN_TEST_PROGRAM=$(TEST_PROGRAM) sh tests/check_instructions.sh

check-abi check-headers check-install check-version: check-%: lib
	$(SUBMAKE)@$(SCRIPT_ENV) sh tests/check_$*.sh

check-examples: examples
	@NIN_EXAMPLES=$(AT)examples sh tests/check_examples.sh

# each mutant compiles one source, links the tests and runs one suite
check-mutants: $(TEST_PROGRAM)
	@$(SCRIPT_ENV) NIN_COMPILE='$(COMPILE) -Isrc $(DEP_CFLAGS)' NIN_LINK='$(TEST_LINK)' \
	  NIN_TEST_OBJECTS='$(TEST_O)' NIN_TEST_LIBS='$(TEST_LIBS)' NIN_TEST_PROGRAM=$(TEST_PROGRAM) \
	  sh tests/check_mutants.sh

# tests/abi/nin.symbols, to be read in the diff: a name that goes or changes breaks programs
abi-list:
	@mkdir -p tests/abi
	sh tests/api_names.sh > tests/abi/nin.symbols

# ---- longer checks ---------------------------------------------------------------------------

CLANG          ?= clang
VALGRIND       ?= valgrind
CLANG_FORMAT   ?= clang-format
NIN_TEST_SUITE ?= trainer
FORMATTED      := $(wildcard include/nin/*.h src/*/*.[ch] src/*/*.cu src/*/*/*.[ch] tests/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch] \
                    tests/*/*.cpp examples/*.[ch] bench/*.[ch] bench/peers/*.cpp)

.PHONY: check-long check-sanitize check-clang check-valgrind check-fuzz check-format check-size format
check-long: check-sanitize check-cuda-all check-clang check-valgrind check-fuzz check-format

check-sanitize:
	CK_EXCLUDE_TAGS="$${CK_EXCLUDE_TAGS-}" $(MAKE) check-unit check-stand-in SANITIZE=address,undefined

check-clang:
	$(MAKE) check-unit CC=$(CLANG) WERROR=1

# one suite, in one process: valgrind is some thirty times slower
.PHONY: run-valgrind
run-valgrind: $(TEST_PROGRAM)
	CK_FORK=no CK_RUN_SUITE=$(NIN_TEST_SUITE) $(VALGRIND) --quiet --error-exitcode=1 \
	  --leak-check=full --errors-for-leak-kinds=definite $(TEST_PROGRAM)

check-valgrind:
	$(MAKE) run-valgrind CFLAGS='$(CFLAGS) -O2 -g'

# the same files each time; more with FUZZ_RUNS, others with FUZZ_SEED
FUZZ_SEED    ?= 1
FUZZ_RUNS    ?= 40000
FUZZ_PROGRAM := $(OUT)/tests/fuzz/load_network

$(FUZZ_PROGRAM): %: %.o $(OUT)/lib/libnin.a
	@echo "  LD $(@F)"
	$(Q)$(LINK) $(DEP_LDFLAGS) -o $@ $^ $(LIBS_PRIVATE) $(LDLIBS)

.PHONY: run-fuzz
run-fuzz: $(FUZZ_PROGRAM)
	$(FUZZ_PROGRAM) --mutate $(FUZZ_SEED) $(FUZZ_RUNS)

check-fuzz:
	$(MAKE) run-fuzz SANITIZE=address,undefined

.PHONY: print-test-program clang-format-14
print-test-program:
	@echo $(TEST_PROGRAM)

clang-format-14:
	@$(CLANG_FORMAT) --version | grep -q 'version 14\.' || { \
	  echo "the format is what clang-format 14 makes; $(CLANG_FORMAT) is another version or missing" >&2; \
	  exit 1; }

check-format: clang-format-14
	$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

format: clang-format-14
	$(CLANG_FORMAT) -i $(FORMATTED)

check-size:
	@sh tests/check_size.sh

# ---- install ---------------------------------------------------------------------------------

prefix       ?= /usr/local
PREFIX       ?= $(prefix)
exec_prefix  ?= $(PREFIX)
libdir       ?= $(exec_prefix)/lib
LIBDIR       ?= $(libdir)
includedir   ?= $(PREFIX)/include
INCLUDEDIR   ?= $(includedir)
pkgconfigdir ?= $(LIBDIR)/pkgconfig
INSTALL      ?= install

IN_LIB     := $(call quote,$(DESTDIR)$(LIBDIR))
IN_INCLUDE := $(call quote,$(DESTDIR)$(INCLUDEDIR)/nin)
IN_PC      := $(call quote,$(DESTDIR)$(pkgconfigdir))

# DESTDIR may be called as it likes; the others go through sed into nin.pc, and from there through
# pkg-config into commands, where most special characters are lost or mean something else
.PHONY: install uninstall places
places:
	@for place in $(call quote,$(PREFIX)) $(call quote,$(LIBDIR)) $(call quote,$(INCLUDEDIR)) \
	  $(call quote,$(pkgconfigdir)); do \
	  case $$place in \
	  *[[:space:]\'\"\\\|\&\;\<\>\(\)\$$\`\#\*\?\[\]\{\}\!\%]*) \
	    printf 'nin.pc cannot hold the path "%s"\n' "$$place" >&2; exit 1 ;; \
	  /*) ;; \
	  *) printf '"%s" is no path from the root\n' "$$place" >&2; exit 1 ;; \
	  esac; \
	done

install: places lib
	$(INSTALL) -d $(IN_LIB) $(IN_INCLUDE) $(IN_PC)
	$(INSTALL) -m 755 $(OUT)/lib/$(SOFILE) $(IN_LIB)
	ln -sf $(SOFILE) $(IN_LIB)/$(SONAME)
	ln -sf $(SONAME) $(IN_LIB)/libnin.so
	$(INSTALL) -m 644 $(OUT)/lib/libnin.a $(IN_LIB)
	$(if $(MODULES),$(INSTALL) -m 755 $(MODULES:%=$(OUT)/lib/%) $(IN_LIB),rm -f $(IN_LIB)/libnin_cuda.so)
	$(INSTALL) -m 644 $(HEADERS) $(IN_INCLUDE)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
	  -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
	  -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
	  -e 's|@LIBS_PRIVATE@|$(LIBS_PRIVATE)|' pkgconfig/nin.pc.in > $(IN_PC)/nin.pc
	chmod 644 $(IN_PC)/nin.pc

uninstall: places
	rm -f $(IN_LIB)/$(SOFILE) $(IN_LIB)/$(SONAME) $(IN_LIB)/libnin.so $(IN_LIB)/libnin.a $(IN_LIB)/libnin_cuda.so
	for header in $(notdir $(HEADERS)); do rm -f $(IN_INCLUDE)/$$header; done
	rm -f $(IN_PC)/nin.pc
	-[ ! -d $(IN_INCLUDE) ] || rmdir $(IN_INCLUDE)

# ---- the rest --------------------------------------------------------------------------------

.PHONY: dist clean
dist:
	git archive --format=tar.gz --prefix=nin-$(VERSION)/ -o nin-$(VERSION).tar.gz HEAD

clean:
	rm -rf build lib $(EXAMPLES) $(BENCHES) bench/peers/onednn bench/peers/__pycache__

-include $(wildcard $(OUT)/tests/cuda/*.d) $(LIB_O:.o=.d) $(CUDA_O:.o=.d) $(STAND_IN_O:.o=.d) $(COUNTED_O:.o=.d) $(TEST_O:.o=.d) $(FUZZ_PROGRAM).d $(EXAMPLES:%=$(OUT)/%.d) $(BENCHES:%=$(OUT)/%.d)

endif
