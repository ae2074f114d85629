// SPDX-License-Identifier: Apache-2.0

// Package e2e runs specs of Kubernetes' own end-to-end suite against our node.
//
// passing.txt lists those that pass, one name per line; each of them is checked in every run, and the list only
// grows. A survey tries whole groups and tells which pass:
//
//	WHERRY_E2E_SURVEY=A,B go test ./e2e -run Survey -v -timeout 1h
package e2e

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"wherry.dev/tests/cluster/artifact"
)

//go:embed passing.txt
var passing string

// Groups are the parts of the suite by what a node needs for them, as regular expressions over spec names.
var groups = map[string]string{
	"A": `^\[sig-node\] (ConfigMap|Secrets|Downward API|Variable Expansion|Pods should contain environment variables for services)`,
	"B": `^\[sig-node\] (Probing|Pods |Override hostname|Container Lifecycle Hook|Restartable Init Container Lifecycle Hook|` +
		`Container Runtime|Kubelet |Pod Extended|RuntimeClass|Containers |InitContainer|Pods Extended|Lifecycle Sleep Hook|` +
		`NodeLease|PodTemplates|Lease|Ephemeral Containers)`,
	"C": `^\[sig-storage\] (EmptyDir|ConfigMap|Downward API volume|Projected|Secrets|HostPath)`,
	"E": `^\[sig-apps\] (Job|Deployment|ReplicaSet|ReplicationController|StatefulSet|DisruptionController|CronJob)`,
}

const wanted = `(Conformance || NodeConformance) && !Serial && !Slow`

// spec is one result in Ginkgo's JSON report.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	RunTime                 int64
	Failure                 struct{ Message string }
}

// Name is the spec's name as Ginkgo matches its focus against it, without labels.
func (s spec) Name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
}

// suiteRun is one run of the upstream binary.
type suiteRun struct {
	Directory  string // for its files
	Kubeconfig string
	Registry   string
}

// known lists the names of all specs that count, without running any.
func (r suiteRun) known() ([]string, error) {
	specs, err := r.start("known", "--ginkgo.dry-run", "--ginkgo.label-filter="+wanted)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(specs))
	for _, s := range specs {
		names = append(names, s.Name())
	}
	slices.Sort(names)
	return names, nil
}

// run runs the specs of these names and returns their results.
func (r suiteRun) run(label string, names []string) ([]spec, error) {
	patterns := make([]string, 0, len(names))
	for _, name := range names {
		patterns = append(patterns, regexp.QuoteMeta(name))
	}
	return r.start(label, "--ginkgo.focus="+strings.Join(patterns, "|"), "--ginkgo.timeout=40m",
		"--dump-logs-on-failure=false", "--delete-namespace-on-failure=true")
}

// start runs the binary with arguments, and returns the specs that were not skipped. That some failed is no error.
func (r suiteRun) start(label string, arguments ...string) ([]spec, error) {
	binary, err := artifact.E2E.Find()
	if err != nil {
		return nil, err
	}
	repositories, report := filepath.Join(r.Directory, "repos.yaml"), filepath.Join(r.Directory, label+".json")
	text := fmt.Sprintf("promoterE2eRegistry: %s/e2e\ngcRegistry: %s/gc\n", r.Registry, r.Registry)
	if err := os.WriteFile(repositories, []byte(text), 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(r.Directory, label+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(binary, append([]string{"--provider=skeleton", "--kubeconfig=" + r.Kubeconfig,
		"--ginkgo.no-color", "--ginkgo.v", "--ginkgo.json-report=" + report}, arguments...)...)
	command.Dir = r.Directory
	command.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+repositories)
	command.Stdout, command.Stderr = log, log
	ended := command.Run()
	content, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("e2e.test left no report (%v); its output is %s", ended, log.Name())
	}
	var suites []struct{ SpecReports []spec }
	if err := json.Unmarshal(content, &suites); err != nil {
		return nil, err
	}
	var ran []spec
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			if s.LeafNodeType == "It" && s.State != "skipped" && s.State != "pending" {
				ran = append(ran, s)
			}
		}
	}
	return ran, nil
}

// listed reads a list of names: one per line, # starts a comment.
func listed(text string) (names []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}
