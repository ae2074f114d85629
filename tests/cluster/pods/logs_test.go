// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	. "wherry.dev/tests/cluster/suite"
)

func TestLogs(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("talks", With(Spec(Container("c", image, "seq 1 20; sleep 3; echo late")), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("talks", 20*time.Second, "Succeeded")

	if out := s.Run("logs", "talks"); len(strings.Split(out, "\n")) != 21 {
		t.Errorf("all of it is %q", out)
	}
	if out := s.Run("logs", "talks", "--tail=3"); out != "19\n20\nlate" {
		t.Errorf("--tail=3 gave %q", out)
	}
	if out := s.Run("logs", "talks", "--limit-bytes=5"); out != "1\n2\n3" {
		t.Errorf("--limit-bytes=5 gave %q", out)
	}
	stamped := strings.Split(s.Run("logs", "talks", "--timestamps"), "\n")
	var last time.Time
	for _, line := range stamped {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || at.Before(last) {
			t.Fatalf("line %q after %v: %v", line, last, err)
		}
		last = at
	}
	// The last line came three seconds after the others.
	since := last.Add(-time.Second).UTC().Format(time.RFC3339)
	if out := s.Run("logs", "talks", "--since-time="+since); out != "late" {
		t.Errorf("--since-time=%s gave %q", since, out)
	}
	if out := s.Run("logs", "talks", "--since=1h"); !strings.HasPrefix(out, "1\n2\n") {
		t.Errorf("--since=1h gave %q", out)
	}
	if _, err := s.Try("logs", "talks", "-c", "other"); err == nil {
		t.Error("a container that does not exist has logs")
	}
}

func TestLogsAreFollowed(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("talks", With(Spec(Container("c", image, "for i in 1 2 3 4 5; do echo line $i; sleep 1; done")),
		Object{"restartPolicy": "Never"})))
	s.AwaitPhase("talks", 20*time.Second, "Running", "Succeeded")
	command := s.KubectlCommand("-n", s.Name, "logs", "-f", "talks")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var times []time.Duration
	for lines := bufio.NewScanner(out); lines.Scan(); {
		times = append(times, time.Since(began))
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	if len(times) != 5 || times[4]-times[1] < 2*time.Second {
		t.Errorf("the lines came at %v", times)
	}
	if end := time.Since(began); end > 15*time.Second {
		t.Errorf("following went on for %v", end)
	}
}

func TestLogsOfThePreviousContainer(t *testing.T) {
	s, image := setup(t)
	script := "if [ -f /d/mark ]; then echo second; while true; do sleep 1; done; fi; touch /d/mark; echo first; exit 1"
	container := With(Container("c", image, script), Object{"volumeMounts": List{Object{"name": "d", "mountPath": "/d"}}})
	s.Create(Pod("twice", With(Spec(container), Object{"volumes": List{Object{"name": "d", "emptyDir": Object{}}}})))
	s.AwaitPod("twice", 40*time.Second, "runs again", func(pod PodStatus) error {
		if len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].RestartCount == 1 &&
			pod.Status.ContainerStatuses[0].State.Running != nil {
			return nil
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	Eventually(t, 5*time.Second, "the second run's output", func() error {
		if out := s.Run("logs", "twice"); out != "second" {
			return fmt.Errorf("it is %q", out)
		}
		return nil
	})
	if out := s.Run("logs", "twice", "--previous"); out != "first" {
		t.Errorf("--previous gave %q", out)
	}
}

func TestLogsOfALongOutputAreComplete(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("long", With(Spec(Container("c", image, "seq 1 50000")), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("long", 30*time.Second, "Succeeded")
	lines := strings.Split(s.Run("logs", "long"), "\n")
	if len(lines) != 50000 || lines[49999] != "50000" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}
