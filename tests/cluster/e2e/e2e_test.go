// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	"wherry.dev/tests/cluster/suite"
)

// Environment of a run by hand.
const (
	surveyVariable  = "WHERRY_E2E_SURVEY"  // groups to try, e.g. A,B
	skipVariable    = "WHERRY_E2E_SKIP"    // an expression over names that are not to be tried
	workersVariable = "WHERRY_E2E_WORKERS" // processes at a time; their specs are disjoint
)

func TestMain(m *testing.M) { suite.Main(m, controlplane.Options{}) }

// prepare makes a node that takes any pod, and the images under the names that upstream has for them.
func prepare(t *testing.T) suiteRun {
	t.Helper()
	cluster := suite.Cluster(t)
	if _, err := artifact.E2E.Find(); errors.Is(err, artifact.ErrMissing) {
		t.Skip(err)
	}
	directory, err := os.MkdirTemp(isolate.Directory(), "e2e")
	if err != nil {
		t.Fatal(err)
	}
	registries := filepath.Join(directory, "registries.yaml")
	text := fmt.Sprintf("registries:\n  registry.k8s.io: {mirrors: [\"http://%s\"]}\n", registry.Address)
	if err := os.WriteFile(registries, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	suite.Node(t, node.Options{Flags: []string{"--max-pods", "200", "--taint", "none", "--registries", registries}})
	pushImages(t)
	return suiteRun{Directory: directory, Kubeconfig: cluster.Kubeconfig(), Registry: registry.Address}
}

func module(t *testing.T, name string) []byte {
	t.Helper()
	content, err := guest.Module(name)
	if errors.Is(err, guest.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// pushImages pushes our stand-ins as Wasm artifacts, whose root a container may write to and which take any command.
func pushImages(t *testing.T) {
	t.Helper()
	shell, tools := module(t, "busybox"), module(t, "agnhost")
	for name, content := range map[string][]byte{
		"e2e/busybox:1.37.0-2": shell, "e2e/agnhost:2.66.1": tools, "e2e/agnhost:2.55": tools,
		"e2e-test-images/busybox:1.36.1-1": shell, // a name that the suite does not let us redirect
		"e2e/nginx:1.27.0-2":               tools, "e2e/nginx:1.28.0-2": tools, "gc/pause:3.10.2": tools,
	} {
		title := "/agnhost"
		if strings.Contains(name, "busybox") {
			title = "sh"
		}
		if _, err := suite.Images(t).PushArtifact(name, title, content); err != nil {
			t.Fatal(err)
		}
	}
}

// Every listed name is one that the suite has: a typing error or a renamed spec must not pass unseen.
func TestListedSpecsExist(t *testing.T) {
	suite.Cluster(t)
	if _, err := artifact.E2E.Find(); errors.Is(err, artifact.ErrMissing) {
		t.Skip(err)
	}
	known, err := suiteRun{Directory: t.TempDir(), Kubeconfig: suite.Cluster(t).Kubeconfig(), Registry: registry.Address}.known()
	if err != nil {
		t.Fatal(err)
	}
	if len(known) < 300 {
		t.Errorf("the suite has %d specs only", len(known))
	}
	for _, name := range listed(passing) {
		if !slices.Contains(known, name) {
			t.Errorf("no such spec: %s", name)
		}
	}
}

func TestListedSpecsPass(t *testing.T) {
	names := listed(passing)
	if len(names) == 0 {
		t.Skip("no spec is listed in passing.txt")
	}
	results := all(t, prepare(t), names)
	for _, name := range names {
		switch result, ran := results[name]; {
		case !ran:
			t.Errorf("did not run: %s", name)
		case result.State != "passed":
			t.Errorf("%s: %s\n%.1000s", result.State, name, result.Failure.Message)
		}
	}
}

// TestSurvey tries groups and prints which specs pass, and which of those are not listed yet.
func TestSurvey(t *testing.T) {
	choice := os.Getenv(surveyVariable)
	if choice == "" {
		t.Skip("set " + surveyVariable + " to the groups to try, e.g. A,B")
	}
	r := prepare(t)
	known, err := r.known()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for group := range strings.SplitSeq(choice, ",") {
		pattern, found := groups[group]
		if !found { // not a group's letter: an expression over names
			pattern = group
		}
		for _, name := range known {
			if regexp.MustCompile(pattern).MatchString(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if text := os.Getenv(skipVariable); text != "" {
		names = slices.DeleteFunc(names, regexp.MustCompile(text).MatchString)
	}
	results := all(t, r, names)
	passed := 0
	for _, name := range names {
		result := results[name]
		if result.State == "passed" {
			passed++
		}
		fmt.Printf("%-8s %6.1fs %s\n", result.State, time.Duration(result.RunTime).Seconds(), name)
		if result.State != "passed" && result.Failure.Message != "" {
			fmt.Printf("         %.300s\n", strings.ReplaceAll(result.Failure.Message, "\n", " "))
		}
	}
	fmt.Printf("%d of %d pass\n", passed, len(names))
	if err := os.WriteFile(filepath.Join(os.TempDir(), "wherry-e2e-passed.txt"), []byte(passedOnly(results)), 0o644); err != nil {
		t.Error(err)
	}
}

func passedOnly(results map[string]spec) string {
	var names []string
	for name, result := range results {
		if result.State == "passed" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n") + "\n"
}

// all deals the names out to several processes, as the specs wait more than they work.
func all(t *testing.T, r suiteRun, names []string) map[string]spec {
	t.Helper()
	workers := 4
	if text := os.Getenv(workersVariable); text != "" {
		if _, err := fmt.Sscan(text, &workers); err != nil || workers < 1 {
			t.Fatalf("%s is %q", workersVariable, text)
		}
	}
	workers = min(workers, len(names))
	hands := make([][]string, max(workers, 1))
	for i, name := range names {
		hands[i%len(hands)] = append(hands[i%len(hands)], name)
	}
	results := map[string]spec{}
	var lock sync.Mutex
	var group sync.WaitGroup
	for i, hand := range hands {
		group.Go(func() {
			specs, err := r.run(fmt.Sprintf("worker-%d", i), hand)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, s := range specs {
				results[s.Name()] = s
			}
		})
	}
	group.Wait()
	return results
}
