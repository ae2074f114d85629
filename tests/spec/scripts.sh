#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# scripts.sh SPEC PROFILE AREA SPECTEST EXPECTED: fetches the specification's scripts and runs one area of them. They come
# from the Go module proxy (or its cache on this machine); where they cannot be had, the test is skipped and says so.
set -uo pipefail
module=github.com/tetratelabs/wazero@v1.12.0
if ! command -v go >/dev/null; then
    echo "skipped: go, which fetches $module, is not installed"
    exit 77
fi
if ! answer=$(cd / && GOFLAGS=-mod=mod go mod download -json "$module" 2>&1); then
    echo "skipped: cannot fetch $module: $answer"
    exit 77
fi
folder=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$answer")
exec "$1" "$2" "$folder/internal/integration_test/spectest/$3/testdata" "$4" "$5"
