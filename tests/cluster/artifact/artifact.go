// SPDX-License-Identifier: Apache-2.0

// Package artifact builds the programs of the nested module kubernetes/ and keeps them in a cache.
//
// The cache keeps programs, never compiler output: 250 MB instead of 4.5 GB. A program is good for as long as
// its sources and the pinned versions in go.mod and go.sum stay as they are.
package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// CacheVariable names the environment variable with the directory of all caches; default ~/.cache/wherry.
const CacheVariable = "WHERRY_CACHE"

// ErrMissing says that a program was not built yet.
var ErrMissing = errors.New("not built")

// A Program is one that the nested module offers.
type Program struct {
	Name   string
	source string   // its folder in the nested module
	build  []string // what comes after "go"
}

var (
	Hyperkube = Program{"hyperkube", "hyperkube", []string{"build"}}
	E2E       = Program{"e2e.test", "e2e", []string{"test", "-c"}}
)

// All lists the programs in the order in which building them is cheapest.
func All() []Program { return []Program{Hyperkube, E2E} }

// Find returns the path of a program that was built before; it never builds, as that outlasts any test's timeout.
func (p Program) Find() (string, error) {
	path, err := p.path()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s %w: run tests/cluster/build first (10 minutes, once)", p.Name, ErrMissing)
	}
	return path, nil
}

// Build returns the program's path after building it if need be. Packages and jobs that run at the same time
// build once: the others wait for the lock. The compiler's progress goes to progress.
func (p Program) Build(progress io.Writer) (string, error) {
	path, err := p.path()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(CacheMust(), "kubernetes", "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintf(progress, "building %s; this takes minutes\n", p.Name)
	return path, p.compile(path, progress)
}

func (p Program) compile(path string, progress io.Writer) error {
	version, err := moduleVersion("k8s.io/kubernetes")
	if err != nil {
		return err
	}
	partial := path + ".partial"
	arguments := append(append([]string{}, p.build...), "-v", "-trimpath", "-tags", "selinux,notest,grpcnotrace",
		"-ldflags", linkerFlags(version), "-o", partial, "./"+p.source)
	command := exec.Command("go", arguments...)
	command.Dir = filepath.Join(Root(), "kubernetes")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+compilerCache())
	command.Stdout, command.Stderr = progress, progress
	if err := command.Run(); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	return os.Rename(partial, path)
}

// DropCompilerCache frees the space that building took, once every program is there.
func DropCompilerCache() error { return os.RemoveAll(compilerCache()) }

func compilerCache() string { return filepath.Join(CacheMust(), "kubernetes", "gocache") }

// Cache returns the folder of all caches.
func Cache() (string, error) {
	if directory := os.Getenv(CacheVariable); directory != "" {
		return directory, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("set %s: %w", CacheVariable, err)
	}
	return filepath.Join(user, "wherry"), nil
}

// CacheMust is Cache for callers that come after a Cache that did not fail.
func CacheMust() string {
	directory, err := Cache()
	if err != nil {
		panic(err)
	}
	return directory
}

// Root is the folder of the module that holds the cluster tests, whichever of its packages asks.
func Root() string {
	directory, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for ; directory != "/"; directory = filepath.Dir(directory) {
		if _, err := os.Stat(filepath.Join(directory, "kubernetes", "go.mod")); err == nil {
			return directory
		}
	}
	panic("artifact: not inside the folder tests/cluster")
}

func (p Program) path() (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	module := filepath.Join(Root(), "kubernetes")
	key, err := Key(filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum"), filepath.Join(module, p.source))
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "kubernetes", key, p.Name), nil
}

// Key hashes files, and folders with all that is in them.
func Key(paths ...string) (string, error) {
	hash := sha256.New()
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(file)
			fmt.Fprintf(hash, "%s %d\n%s", entry.Name(), len(content), content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

func moduleVersion(module string) (string, error) {
	command := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module)
	command.Dir = filepath.Join(Root(), "kubernetes")
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("ask for the version of %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// linkerFlags stamps the version, which the components parse to choose their feature gates.
func linkerFlags(version string) string {
	const base = "k8s.io/component-base/version."
	return strings.Join([]string{
		"-s", "-w",
		"-X", base + "gitVersion=" + version,
		"-X", base + "gitMajor=1",
		"-X", base + "gitMinor=" + strings.Split(version, ".")[1],
		"-X", "k8s.io/client-go/pkg/version.gitVersion=" + version,
	}, " ")
}

func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil // closing releases the lock
}
