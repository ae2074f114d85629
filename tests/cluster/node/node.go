// SPDX-License-Identifier: Apache-2.0

// Package node runs the project's own agent for a test, as a node of the test's cluster.
package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wherry.dev/tests/cluster/artifact"
	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/isolate"
	"wherry.dev/tests/cluster/process"
)

// BinaryVariable names the wherry program under test; by default that of build/default.
const BinaryVariable = "WHERRY_BIN"

// Port is where the node serves the kubelet's API.
const Port = 10250

// ErrMissing says that the agent was not built.
var ErrMissing = errors.New("no agent to test")

var count atomic.Int32

// Options change how a node starts.
type Options struct {
	Name  string   // default: node-N
	Flags []string // after the package's own
}

// Node is one agent with the processes that it started.
type Node struct {
	*process.Process
	Address   string
	Directory string // its state, its sockets, its logs

	cluster *controlplane.Cluster
}

// Binary returns the path of the wherry program, in the folder that the variable names.
func Binary() (string, error) {
	folder := os.Getenv(BinaryVariable)
	if folder == "" {
		folder = filepath.Join(artifact.Root(), "..", "..", "build", "default", "src", "cmd")
	}
	path := filepath.Join(folder, "wherry")
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		if os.Getenv(BinaryVariable) != "" { // asked for, and not there: nothing to skip over
			return "", fmt.Errorf("%s is no program; %s names a folder that has it", path, BinaryVariable)
		}
		return "", fmt.Errorf("%w: %s is no program: build it, or set %s", ErrMissing, path, BinaryVariable)
	}
	return filepath.Abs(path)
}

// New makes a node and starts its agent, which knows the bootstrap token alone.
func New(cluster *controlplane.Cluster, options Options) (*Node, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	number := int(count.Add(1)) - 1
	if number >= isolate.MaxNodes {
		return nil, fmt.Errorf("a run has %d nodes at most", isolate.MaxNodes)
	}
	name := options.Name
	if name == "" {
		name = fmt.Sprintf("node-%d", number)
	}
	directory := filepath.Join(isolate.Directory(), name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	// Runners have a user of their own each: they must be able to reach the folders that they are given.
	if err := os.Chmod(isolate.Directory(), 0o755); err != nil {
		return nil, err
	}
	n := &Node{Address: isolate.NodeAddress(number), Directory: directory, cluster: cluster}
	n.Process = &process.Process{Name: name, Binary: binary, Log: filepath.Join(directory, "agent.log"),
		Arguments: append(n.arguments(name), options.Flags...)}
	return n, n.Start()
}

// arguments is the one place that knows the agent's command line.
func (n *Node) arguments(name string) []string {
	return []string{
		"node",
		"--root", filepath.Join(n.Directory, "root"),
		"--run-dir", filepath.Join(n.Directory, "run"),
		"--log-dir", filepath.Join(n.Directory, "logs"),
		"--name", name,
		"--node-ip", n.Address,
		"--listen", fmt.Sprintf("%s:%d", n.Address, Port),
		"--healthz", n.Address + ":10248",
		"--bootstrap-kubeconfig", n.cluster.BootstrapKubeconfig(),
		"--cgroup", isolate.Group() + "/" + name,
		"--log-level", "debug",
	}
}

// URL is the address of the node's own API.
func (n *Node) URL() string { return fmt.Sprintf("https://%s:%d", n.Address, Port) }

// ClientCertificate is the file with the certificate and key by which the node is known to the API server.
func (n *Node) ClientCertificate() string {
	return filepath.Join(n.Directory, "root", "pki", "kubelet-client-current.pem")
}

// AwaitReady waits until the API server has the node as Ready.
func (n *Node) AwaitReady(limit time.Duration) error {
	return n.Await("the node is ready", limit, func() error {
		status, err := n.Condition("Ready")
		if err == nil && status != "True" {
			err = fmt.Errorf("condition Ready is %q", status)
		}
		return err
	})
}

// Condition returns the status of one of the node's conditions; "" when it has none of that type.
func (n *Node) Condition(kind string) (string, error) {
	var object struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := n.cluster.Get("/api/v1/nodes/"+n.Name, &object); err != nil {
		return "", err
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == kind {
			return condition.Status, nil
		}
	}
	return "", nil
}

// Restart kills the agent, and the agent alone, and starts it again.
func (n *Node) Restart() error {
	if err := n.Kill(); err != nil {
		return err
	}
	return n.Start()
}

// Destroy ends the agent and everything that it started.
func (n *Node) Destroy() {
	_ = n.Stop(5 * time.Second)
	for _, name := range []string{"wherry-keeper", "wherry-runner", "wherry-prepare"} {
		for _, pid := range Pids(name) {
			if running, err := os.FindProcess(pid); err == nil {
				_ = running.Kill()
			}
		}
	}
}

// Pids lists the processes of this run whose program begins with name. The namespace holds those of the test alone.
func Pids(name string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err == nil && strings.HasPrefix(filepath.Base(program), name) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Describe prints the end of the agent's log into a failed test's output.
func (n *Node) Describe(t testing.TB) { t.Logf("--- the agent's log ends with\n%s", n.Tail(60)) }
