// SPDX-License-Identifier: Apache-2.0

// Package pods tests what happens to pods on our node, as kubectl and the controllers see it.
package pods

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/node"
	"wherry.dev/tests/cluster/suite"
)

// A node holds a test's pods of a hundred replicas beside those of others that still go.
var options = node.Options{Flags: []string{"--max-pods", "300"}}

func TestMain(m *testing.M) { suite.Main(m, controlplane.Options{}) }

// setup is what nearly every test needs: a node, a namespace and the image of the shell.
func setup(t *testing.T) (*suite.Space, string) {
	t.Helper()
	suite.Node(t, options)
	return suite.NewSpace(t), suite.Image(t, "busybox")
}

// forever is a script that ends by a signal alone.
const forever = "echo up; while true; do sleep 1; done"

// settle waits until the runners are as many as the ready pods, and returns their process ids in order.
func settle(t *testing.T, n int) []int {
	t.Helper()
	var pids []int
	suite.Eventually(t, 20*time.Second, fmt.Sprintf("%d runners", n), func() error {
		pids = node.Pids("wherry-runner")
		if len(pids) != n {
			return fmt.Errorf("there are %d", len(pids))
		}
		return nil
	})
	slices.Sort(pids)
	return pids
}

// quiet waits for the runners of earlier tests to go.
func quiet(t *testing.T) { settle(t, 0) }
