// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/node"
	. "wherry.dev/tests/cluster/suite"
)

// gone waits until the pod does not exist, and returns how long that took.
func gone(t *testing.T, s *Space, name string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	Eventually(t, limit, "pod "+name+" is gone", func() error {
		if _, err := s.Pod(name); err == nil {
			return fmt.Errorf("it is there")
		} else if !strings.Contains(err.Error(), "404") {
			return err
		}
		return nil
	})
	return time.Since(began)
}

func TestDeleteStopsTheGuest(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	s.Create(Pod("plain", With(Spec(Container("c", image, forever)), Object{"terminationGracePeriodSeconds": 30})))
	s.AwaitPhase("plain", 20*time.Second, "Running")
	settle(t, 1)
	s.Run("delete", "pod", "plain", "--wait=false")
	if took := gone(t, s, "plain", 20*time.Second); took > 5*time.Second {
		t.Errorf("a guest that the signal ends took %v", took)
	}
	quiet(t)
}

func TestPreStopSleepDelaysTheEnd(t *testing.T) {
	s, image := setup(t)
	container := With(Container("c", image, forever), Object{"lifecycle": Object{"preStop": Object{"sleep": Object{"seconds": 3}}}})
	s.Create(Pod("slow", With(Spec(container), Object{"terminationGracePeriodSeconds": 20})))
	s.AwaitPhase("slow", 20*time.Second, "Running")
	s.Run("delete", "pod", "slow", "--wait=false")
	if took := gone(t, s, "slow", 20*time.Second); took < 2500*time.Millisecond || took > 8*time.Second {
		t.Errorf("a hook of 3 s took %v", took)
	}
}

func TestForcedDeleteKillsAtOnce(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	s.Create(Pod("forced", With(Spec(Container("c", image, forever)), Object{"terminationGracePeriodSeconds": 60})))
	s.AwaitPhase("forced", 20*time.Second, "Running")
	settle(t, 1)
	s.Run("delete", "pod", "forced", "--force", "--grace-period=0", "--wait=false")
	gone(t, s, "forced", 5*time.Second)
	Eventually(t, 5*time.Second, "its runner is gone", func() error {
		if pids := node.Pids("wherry-runner"); len(pids) > 0 {
			return fmt.Errorf("runners %v", pids)
		}
		return nil
	})
}

func TestDeletedWhileItWaits(t *testing.T) {
	s, _ := setup(t)
	s.Create(Pod("never", Spec(Container("c", "127.0.0.1:5000/nothing:2", "true"))))
	s.AwaitPod("never", 20*time.Second, "was looked at", func(pod PodStatus) error {
		if len(pod.Status.ContainerStatuses) == 0 {
			return fmt.Errorf("no container status")
		}
		return nil
	})
	s.Run("delete", "pod", "never", "--wait=false")
	gone(t, s, "never", 10*time.Second)
}

func TestNothingIsLeftBehind(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	s.Create(Deployment("web", 5, Spec(Container("c", image, forever))))
	s.AwaitReady(5, 30*time.Second)
	s.Run("delete", "deployment", "web")
	Eventually(t, 20*time.Second, "no pod is left", func() error {
		if pods, err := s.Pods(); err != nil || len(pods) > 0 {
			return fmt.Errorf("%d pods (%v)", len(pods), err)
		}
		return nil
	})
	quiet(t)
}
