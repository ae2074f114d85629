// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	. "wherry.dev/tests/cluster/suite"
)

// steady makes a deployment that is up, and returns the process ids of its runners.
func steady(t *testing.T, s *Space, image string, replicas int) []int {
	t.Helper()
	s.Create(Deployment("steady", replicas, Spec(Container("c", image, forever))))
	s.AwaitReady(replicas, 30*time.Second)
	return settle(t, replicas)
}

// unharmed fails the test unless the same runners run and nothing was restarted.
func unharmed(t *testing.T, s *Space, before []int) {
	t.Helper()
	pods := s.AwaitReady(len(before), 30*time.Second)
	if n := Restarts(pods); n != 0 {
		t.Errorf("%d restarts", n)
	}
	if after := settle(t, len(before)); !slices.Equal(before, after) {
		t.Errorf("the runners were %v and are %v", before, after)
	}
}

// startsSoon fails the test unless a new pod runs within the limit. It is bound to the node already: how soon the scheduler
// comes back from an outage is not ours.
func startsSoon(t *testing.T, s *Space, image string, limit time.Duration) {
	t.Helper()
	s.Create(Pod("fresh", With(Spec(Container("c", image, "true")),
		Object{"restartPolicy": "Never", "nodeName": Node(t, options).Name})))
	began := time.Now()
	s.AwaitPhase("fresh", 30*time.Second, "Succeeded")
	if took := time.Since(began); took > limit {
		t.Errorf("a new pod took %v", took)
	}
}

func TestPodsOutliveAnOutageOfTheAPI(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	before := steady(t, s, image, 3)
	length := 30 * time.Second
	if Quick() {
		length = 6 * time.Second
	}
	if err := s.Outage(func() { time.Sleep(length) }); err != nil {
		t.Fatal(err)
	}
	// The node may be waiting between two tries when the API returns.
	startsSoon(t, s, image, 5*time.Second)
	unharmed(t, s, before)
}

func TestWatchRecoversFromCompaction(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	agent := Node(t, options)
	before := steady(t, s, image, 2)
	// The agent sleeps while the world goes on; a new API server then has no history of that time (410 Gone).
	if err := agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		s.Run("create", "configmap", fmt.Sprintf("noise-%d", i), "--from-literal=a=b")
	}
	s.Run("scale", "deployment/steady", "--replicas=3")
	err := s.Outage(func() {})
	if problem := agent.Signal(syscall.SIGCONT); problem != nil || err != nil {
		t.Fatal(problem, err)
	}
	s.AwaitReady(3, 30*time.Second)
	s.Run("scale", "deployment/steady", "--replicas=2")
	s.AwaitReady(2, 30*time.Second)
	after := settle(t, 2)
	for _, pid := range before {
		// The controller prefers to keep the older pods.
		if !slices.Contains(after, pid) {
			t.Errorf("runner %d is gone", pid)
		}
	}
	startsSoon(t, s, image, 5*time.Second)
}

func TestPodsOutliveTheAgent(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	agent := Node(t, options)
	before := steady(t, s, image, 5)
	// Under load: more pods start at the moment of the kill.
	s.Create(Deployment("load", 20, Spec(Container("c", image, forever))))
	time.Sleep(200 * time.Millisecond)
	if err := agent.Restart(); err != nil {
		t.Fatal(err)
	}
	pods := s.AwaitReady(25, 60*time.Second)
	if n := Restarts(pods); n != 0 {
		t.Errorf("%d restarts", n)
	}
	after := settle(t, 25)
	for _, pid := range before {
		if !slices.Contains(after, pid) {
			t.Errorf("runner %d did not outlive the agent", pid)
		}
	}
	startsSoon(t, s, image, 5*time.Second)
	s.Run("delete", "deployment", "load", "steady")
	quiet(t)
}

func TestEndsWhileTheAgentIsAwayAreNotLost(t *testing.T) {
	s, image := setup(t)
	agent := Node(t, options)
	s.Create(Pod("ends", With(Spec(Container("c", image, "sleep 2; echo bye; exit 5")), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("ends", 20*time.Second, "Running")
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pod := s.AwaitPhase("ends", 20*time.Second, "Failed")
	if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 5 {
		t.Errorf("it ended so: %+v", end)
	}
	if out := s.Run("logs", "ends"); out != "bye" {
		t.Errorf("it said %q", out)
	}
}

func TestDeletedWhileTheAgentIsAway(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	agent := Node(t, options)
	s.Create(Pod("one", Spec(Container("c", image, forever))), Pod("two", Spec(Container("c", image, forever))))
	s.AwaitReady(2, 20*time.Second)
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	s.Run("delete", "pod", "one", "--wait=false")
	s.Run("delete", "pod", "two", "--force", "--grace-period=0", "--wait=false")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	gone(t, s, "one", 20*time.Second)
	quiet(t)
}
