// SPDX-License-Identifier: Apache-2.0

// Command bench measures the agent as a node of a real control plane whose clients have no rate limit worth the
// name, and prints a line of JSON for each figure: from the start of the agent's process to Ready, and from the
// creation of a deployment to the end of its rollout.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wherry.dev/tests/cluster/artifact"
	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/guest"
	"wherry.dev/tests/cluster/isolate"
	"wherry.dev/tests/cluster/node"
	"wherry.dev/tests/cluster/registry"
	"wherry.dev/tests/cluster/suite"
)

const (
	readyGoal   = 0.5 // seconds
	rolloutGoal = 8.0
	limit       = 3 * time.Minute
)

var (
	replicas = flag.Int("replicas", 500, "pods of the deployment")
	rounds   = flag.Int("rounds", 5, "nodes that are started; the median counts")
	logLevel = flag.String("log-level", "warn", "the agent's")
	unit     = flag.String("module", "", "the module that the pods run; our shell, asleep, by default")
)

var unthrottled = []string{"--kube-api-qps=5000", "--kube-api-burst=10000"}

func main() {
	flag.Parse()
	isolate.Main(func() int {
		if err := measure(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			if isolate.Missing() != nil || errors.Is(err, artifact.ErrMissing) || errors.Is(err, node.ErrMissing) {
				return 77
			}
			return 1
		}
		return 0
	})
}

func report(name string, value float64, goal float64) {
	result := map[string]any{"name": name, "value": float64(int(value*1000)) / 1000, "unit": "s"}
	if goal > 0 {
		result["goal"] = goal
	}
	line, err := json.Marshal(result)
	if err == nil {
		fmt.Println(string(line))
	}
}

func measure() error {
	// Slow starts of batches are the controllers' own; what is taken away here is the waiting of their clients.
	cluster, err := controlplane.New(controlplane.Options{
		ControllerFlags: append([]string{"--concurrent-replicaset-syncs=20"}, unthrottled...),
		SchedulerFlags:  unthrottled,
	})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	images, err := registry.Start()
	if err != nil {
		return err
	}
	defer images.Stop()
	if err := nodeReady(cluster); err != nil {
		return err
	}
	return rollout(cluster, images)
}

// awaitReady polls faster than the tests do: the figure is half a second.
func awaitReady(n *node.Node) error {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if status, err := n.Condition("Ready"); err == nil && status == "True" {
			return nil
		}
		if !n.Running() {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s did not become ready:\n%s", n.Name, n.Tail(20))
}

// nodeReady starts nodes that have nothing but a bootstrap token.
func nodeReady(cluster *controlplane.Cluster) error {
	times := []float64{}
	for range *rounds {
		began := time.Now()
		n, err := node.New(cluster, node.Options{})
		if err != nil {
			return err
		}
		if err := awaitReady(n); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds())
		if err := n.Stop(10 * time.Second); err != nil {
			return err
		}
		n.Destroy()
		if _, err := cluster.TryKubectl("", "delete", "node", n.Name); err != nil {
			return err
		}
	}
	slices.Sort(times)
	report("node_ready_s", times[len(times)/2], readyGoal)
	return nil
}

func image(images *registry.Registry) (string, error) {
	if *unit == "" {
		module, err := guest.Module("busybox")
		if err != nil {
			return "", err
		}
		return images.PushArtifact("sleeper:1", "busybox", module)
	}
	module, err := os.ReadFile(*unit)
	if err != nil {
		return "", err
	}
	return images.PushArtifact("sleeper:1", "sleeper", module)
}

func deployment(reference string, count int) (string, error) {
	container := suite.Object{"name": "c", "image": reference}
	if *unit == "" {
		container["command"] = suite.List{"sh", "-c", "sleep 100000"}
	}
	text, err := json.Marshal(suite.Deployment("idle", count, suite.Spec(container)))
	return string(text), err
}

// rollout is timed from the call of kubectl create to the return of kubectl rollout status, with the image in
// the node's store.
func rollout(cluster *controlplane.Cluster, images *registry.Registry) error {
	reference, err := image(images)
	if err != nil {
		return err
	}
	flags := []string{"--max-pods", strconv.Itoa(*replicas + 10), "--log-level", *logLevel}
	n, err := node.New(cluster, node.Options{Flags: flags})
	if err != nil {
		return err
	}
	defer n.Destroy()
	if err := awaitReady(n); err != nil {
		return err
	}
	if err := warm(cluster, reference); err != nil {
		return err
	}
	text, err := deployment(reference, *replicas)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	began := time.Now()
	go watch(cluster, began, stop)
	if _, err := cluster.TryKubectl(text, "create", "--validate=false", "-f", "-"); err != nil {
		return err
	}
	if _, err := cluster.TryKubectl("", "rollout", "status", "deployment/idle", "--timeout="+limit.String()); err != nil {
		return errors.Join(err, fmt.Errorf("the agent's log ends with\n%s", n.Tail(20)))
	}
	report(fmt.Sprintf("replicas_%d_s", *replicas), time.Since(began).Seconds(), rolloutGoal)
	return settled(cluster, n)
}

// warm brings the image to the node, compiled.
func warm(cluster *controlplane.Cluster, reference string) error {
	text, err := deployment(reference, 1)
	if err != nil {
		return err
	}
	text = strings.ReplaceAll(text, `"idle"`, `"first"`)
	if _, err := cluster.TryKubectl(text, "create", "-f", "-"); err != nil {
		return err
	}
	if _, err := cluster.TryKubectl("", "rollout", "status", "deployment/first", "--timeout=60s"); err != nil {
		return err
	}
	_, err = cluster.TryKubectl("", "delete", "deployment", "first", "--cascade=foreground")
	return err
}

// watch tells on standard error how far controllers, scheduler and node are, once a second.
func watch(cluster *controlplane.Cluster, began time.Time, stop <-chan struct{}) {
	if os.Getenv("BENCH_VERBOSE") == "" {
		return
	}
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
		var list struct {
			Items []struct {
				Spec   struct{ NodeName string }
				Status struct{ Phase string }
			}
		}
		if cluster.Get("/api/v1/namespaces/default/pods", &list) != nil {
			continue
		}
		bound, running := 0, 0
		for _, pod := range list.Items {
			if pod.Spec.NodeName != "" {
				bound++
			}
			if pod.Status.Phase == "Running" {
				running++
			}
		}
		fmt.Fprintf(os.Stderr, "%5.1f s: %d made, %d bound, %d running\n", time.Since(began).Seconds(), len(list.Items),
			bound, running)
	}
}

// settled tells on standard error what the processes used.
func settled(cluster *controlplane.Cluster, n *node.Node) error {
	processes := cluster.Processes()
	for _, p := range append(processes, n.Process) {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			return err
		}
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		fmt.Fprintf(os.Stderr, "%s used %.2f s of CPU since its start\n", p.Name, float64(user+system)/100)
	}
	if os.Getenv("BENCH_VERBOSE") != "" {
		return requests(n)
	}
	return nil
}

// requests tells on standard error what the agent asked of the API server, by its own metrics.
func requests(n *node.Node) error {
	dial := func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(n.Directory, "run", "wherry.sock"))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	response, err := client.Get("http://wherry/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "rest_client_requests_total") || strings.HasPrefix(line, "wherry_") {
			fmt.Fprint(os.Stderr, line)
		}
	}
	return err
}
