// SPDX-License-Identifier: Apache-2.0

// Package guest compiles the guest programs of tests/guests/cluster and keeps the modules in the cache.
package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"wherry.dev/tests/cluster/artifact"
)

// ErrMissing says that there is no compiler for guests here.
var ErrMissing = errors.New("no compiler for guests: install clang, lld, wasi-libc and libclang-rt-dev-wasm32")

var sources = map[string][]string{
	"busybox": {"busybox.c", "applets.c", "parse.c", "shell.c"},
	"agnhost": {"agnhost.c", "applets.c", "parse.c", "shell.c"},
}

// Module returns the compiled guest of this name.
func Module(name string) ([]byte, error) {
	directory := filepath.Join(artifact.Root(), "..", "guests", "cluster")
	if sources[name] == nil {
		return nil, fmt.Errorf("no guest is called %q", name)
	}
	cache, err := artifact.Cache()
	if err != nil {
		return nil, err
	}
	key, err := artifact.Key(directory)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, "guests", key, name+".wasm")
	if module, err := os.ReadFile(path); err == nil {
		return module, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := compile(path, directory, sources[name]); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func compile(path, directory string, files []string) error {
	partial := fmt.Sprintf("%s.%d", path, os.Getpid()) // packages may compile at the same time
	command := exec.Command("clang", append([]string{"--target=wasm32-wasi", "-Os", "-s", "-o", partial}, files...)...)
	command.Dir = directory
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w (clang: %w: %s)", ErrMissing, err, out)
	}
	return os.Rename(partial, path)
}
