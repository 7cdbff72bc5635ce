# The commands of the README. scripts/setup.sh installs missing build tools.

CARGO ?= cargo
# Use ccache if it is installed: the second build of llama.cpp then takes seconds.
CCACHE := $(shell command -v ccache 2>/dev/null)
ifneq ($(CCACHE),)
export CMAKE_C_COMPILER_LAUNCHER = $(CCACHE)
export CMAKE_CXX_COMPILER_LAUNCHER = $(CCACHE)
endif
# The tools that setup.sh found or installed. Make builds the included file first, then reads the Makefile again.
TOOLS := $(CURDIR)/target/tools
# `make clean` needs no tools.
ifneq ($(MAKECMDGOALS),clean)
-include $(TOOLS)/env.mk
endif
$(TOOLS)/env.mk: scripts/setup.sh
	@scripts/setup.sh $(TOOLS)

.PHONY: demo test build lint clean

## Build, then convert, chat with and batch-run the bundled model.
demo: build
	@scripts/demo.sh

# `make test RUNNER=nextest` runs each test in a process of its own. That takes about a sixth more time for this workspace, so
# it is not the default.
RUNNER ?= cargo

## Everything that is checked before a change lands.
test: build lint
ifeq ($(RUNNER),nextest)
	$(CARGO) nextest run --release --locked --workspace
	$(CARGO) test --doc --release --locked --workspace
else
	$(CARGO) test --release --locked --workspace
endif
	@RUNNER=$(RUNNER) scripts/ignored-tests.sh

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --release --locked --test structure

clean:
	$(CARGO) clean
