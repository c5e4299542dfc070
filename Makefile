# A thin front for meson: every target here is one line of the README.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: all build demo test test-guest soak lint fuzz bench install clean

all: build

# Configures on first use; installs what is missing from Debian.
$(BUILD)/build.ninja:
	@scripts/setup --if-missing build
	meson setup --prefix=$(PREFIX) $(BUILD)

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

demo: build
	@scripts/setup --if-missing demo
	@scripts/demo $(BUILD)/stasis

# SAN=1: the unit, fuzz and integration tests with AddressSanitizer and UBSan, in a build of their own.
ifdef SAN
test: override BUILD := build-asan
endif
test:
	@scripts/setup --if-missing test
ifdef SAN
	@[ -e $(BUILD)/build.ninja ] || meson setup -Db_sanitize=address,undefined -Db_lundef=false $(BUILD)
endif
	@$(MAKE) --no-print-directory build BUILD=$(BUILD)
	@tests/run $(BUILD) $(if $(CI),--again) $(if $(SAN),--only unit --only integration)

# In a virtual machine with systemd, cgroups of version 2 only and Debian's kernel.
test-guest: build
	@scripts/setup --if-missing test guest
	@tests/guest/run $(BUILD)

# Random containers for an hour (SOAK=SECONDS).
soak: build
	@scripts/setup --if-missing test
	@tests/soak/run $(BUILD) $(or $(SOAK),3600)

lint:
	@scripts/setup --if-missing lint
	@scripts/lint

fuzz:
	@scripts/setup --if-missing fuzz
	@tests/fuzz/run

bench: build
	@scripts/setup --if-missing bench
	@bench/run $(BUILD)/stasis
	@bench/readme.py bench/results.md README.md

# An existing build directory takes on the PREFIX given here, and keeps its own when none is given.
install: build
	@$(if $(filter command line environment,$(origin PREFIX)),meson configure -Dprefix=$(PREFIX) $(BUILD) && ninja -C $(BUILD))
	DESTDIR=$(if $(DESTDIR),$(abspath $(DESTDIR))) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD)
