# SPDX-License-Identifier: Apache-2.0
# The front door; Meson does the work.
.PHONY: run test build check bench install clean help
help: ## says what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20
build: ## builds everything into build/default
	@tools/setup build && tools/build
run: ## runs Wasm pods on this machine and shows what they did
	@tools/setup build && tools/build programs && tools/demo
test: ## builds, and checks every claim
	@tools/setup build test && tools/build && tools/test
check: ## format, layers, complexity, second compiler, static analysis, spelling
	@tools/setup build test check && tools/check
bench: build ## measures, beside the peers; slow: make bench NAMES="calls wasi"
	@tools/setup bench test && bench/run $(NAMES)
install: build ## installs into DESTDIR/PREFIX (meson install)
	@meson install -C build/default
clean: ## removes build/
	@rm -rf build
