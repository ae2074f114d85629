// SPDX-License-Identifier: Apache-2.0

// Command build makes the programs that the cluster tests run, and prints their paths. Its arguments name
// them; none means all.
package main

import (
	"fmt"
	"os"
	"slices"

	"wherry.dev/tests/cluster/artifact"
)

func main() {
	if err := build(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(names []string) error {
	if _, err := artifact.Cache(); err != nil {
		return err
	}
	for _, program := range artifact.All() {
		if len(names) > 0 && !slices.Contains(names, program.Name) {
			continue
		}
		path, err := program.Build(os.Stderr)
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	for _, program := range artifact.All() {
		if _, err := program.Find(); err != nil {
			return nil // the compiler's cache is of use to what is still to be built
		}
	}
	return artifact.DropCompilerCache()
}
