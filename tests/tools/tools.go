// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools pins the programs that tests run as peers.
package tools

import (
	_ "github.com/google/go-containerregistry/cmd/crane"
	_ "github.com/google/go-containerregistry/cmd/registry"
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "oras.land/oras/cmd/oras"
)
