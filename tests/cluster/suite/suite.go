// SPDX-License-Identifier: Apache-2.0

// Package suite is what every package of cluster tests starts with: namespaces of its own, one control plane,
// one registry, and a Kubernetes namespace for each test.
package suite

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/tests/cluster/artifact"
	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/guest"
	"wherry.dev/tests/cluster/isolate"
	"wherry.dev/tests/cluster/node"
	"wherry.dev/tests/cluster/registry"
)

// QuickVariable, when set to "no", makes outages and waits as long as the acceptance list wants them.
const QuickVariable = "WHERRY_TEST_QUICK"

var (
	shared  *controlplane.Cluster
	images  *registry.Registry
	missing error // why there is no cluster

	agent      *node.Node
	agentError error
	startAgent sync.Once
)

// Main is a package's TestMain.
func Main(m *testing.M, options controlplane.Options) {
	isolate.Main(func() int { return run(m, options) })
}

func run(m *testing.M, options controlplane.Options) int {
	began := time.Now()
	shared, missing = controlplane.New(options)
	switch {
	case missing == nil:
		fmt.Printf("the control plane was ready after %v\n", time.Since(began).Round(time.Millisecond))
		defer shared.Stop()
	case isolate.Missing() == nil && !errors.Is(missing, artifact.ErrMissing):
		fmt.Fprintln(os.Stderr, missing)
		return 1
	}
	if missing == nil {
		var err error
		if images, err = registry.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer images.Stop()
	}
	defer func() {
		if agent != nil {
			agent.Destroy()
		}
	}()
	return m.Run()
}

// Cluster returns the package's control plane. Where there is none, the test is skipped with the reason.
func Cluster(t testing.TB) *controlplane.Cluster {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	return shared
}

// Images returns the package's registry.
func Images(t testing.TB) *registry.Registry {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	return images
}

// Node returns the package's node, which is Ready. It starts with the first test that asks for it.
func Node(t testing.TB, options node.Options) *node.Node {
	t.Helper()
	c := Cluster(t)
	startAgent.Do(func() {
		if agent, agentError = node.New(c, options); agentError == nil {
			agentError = agent.AwaitReady(30 * time.Second)
		}
	})
	switch {
	case errors.Is(agentError, node.ErrMissing):
		t.Skip(agentError)
	case agentError != nil:
		t.Fatal(agentError)
	}
	t.Cleanup(func() {
		if t.Failed() {
			agent.Describe(t)
		}
	})
	return agent
}

// Image pushes a guest as a Wasm artifact and returns its reference.
func Image(t testing.TB, name string) string {
	t.Helper()
	module, err := guest.Module(name)
	if errors.Is(err, guest.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	reference, err := Images(t).PushArtifact(name+":1", name, module)
	if err != nil {
		t.Fatal(err)
	}
	return reference
}

// Quick is true when a test should take the shorter form of a long wait.
func Quick() bool { return os.Getenv(QuickVariable) != "no" }

// Namespace makes a namespace for the test, and deletes it when the test is over. Its pods' states and the
// cluster's events are printed if the test failed.
func Namespace(t testing.TB) string {
	t.Helper()
	c := Cluster(t)
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name())), "-")
	c.Kubectl(t, "create", "namespace", name)
	// Long: after an outage of the API the controllers take their time to come back.
	Eventually(t, 60*time.Second, "service account default", func() error {
		return c.Get("/api/v1/namespaces/"+name+"/serviceaccounts/default", nil)
	})
	t.Cleanup(func() {
		if t.Failed() {
			describe(t, c, name)
		}
		_, _ = c.TryKubectl("", "delete", "namespace", name, "--wait=false")
	})
	return name
}

func describe(t testing.TB, c *controlplane.Cluster, namespace string) {
	for _, arguments := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name}: {.status}{"\n"}{end}`},
		{"get", "events", "--sort-by=.lastTimestamp"},
	} {
		out, err := c.TryKubectl("", append([]string{"-n", namespace}, arguments...)...)
		if err != nil {
			out = err.Error()
		}
		t.Logf("kubectl %s:\n%.8000s", strings.Join(arguments[:2], " "), out)
	}
}

// Eventually fails the test unless holds reports no error within the limit.
func Eventually(t testing.TB, limit time.Duration, what string, holds func() error) {
	t.Helper()
	began := time.Now()
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
