// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/registry"
	. "wherry.dev/tests/cluster/suite"
)

func TestPodRunsToItsEnd(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("good", With(Spec(Container("c", image, "echo hello; echo oops >&2")), Object{"restartPolicy": "Never"})),
		Pod("bad", With(Spec(Container("c", image, "exit 7")), Object{"restartPolicy": "Never"})))
	good, bad := s.AwaitPhase("good", 20*time.Second, "Succeeded", "Failed"), s.AwaitPhase("bad", 20*time.Second, "Succeeded", "Failed")
	if good.Status.Phase != "Succeeded" || bad.Status.Phase != "Failed" {
		t.Errorf("good is %s, bad is %s", good.Status.Phase, bad.Status.Phase)
	}
	end := bad.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 7 || end.Reason != "Error" || end.FinishedAt.Before(end.StartedAt) {
		t.Errorf("bad ended so: %+v", end)
	}
	if id := good.Status.ContainerStatuses[0].ContainerID; !strings.Contains(id, "://") {
		t.Errorf("the container's id is %q", id)
	}
	if id := good.Status.ContainerStatuses[0].ImageID; !strings.Contains(id, "@sha256:") {
		t.Errorf("the image's id is %q", id)
	}
	if out := s.Run("logs", "good"); out != "hello\noops" {
		t.Errorf("good said %q", out)
	}
}

func TestRuntimeClassChoosesTheNode(t *testing.T) {
	s, image := setup(t)
	spec := With(Spec(Container("c", image, "true")), Object{"restartPolicy": "Never", "runtimeClassName": "wherry"})
	delete(spec, "tolerations") // the class brings them
	s.Create(Pod("chosen", spec))
	s.AwaitPhase("chosen", 20*time.Second, "Succeeded")
}

func TestFailingPodIsRestartedWithBackOff(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("crash", Spec(Container("c", image, "echo turn; exit 3"))))
	pod := s.AwaitPod("crash", 30*time.Second, "CrashLoopBackOff after a restart", func(pod PodStatus) error {
		for _, c := range pod.Status.ContainerStatuses {
			if c.RestartCount >= 1 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	if last := pod.Status.ContainerStatuses[0].LastState.Terminated; last == nil || last.ExitCode != 3 {
		t.Errorf("the last state is %+v", last)
	}
	if pod.Status.Phase != "Running" {
		t.Errorf("the phase is %s", pod.Status.Phase)
	}
}

func TestInitContainersRunInOrder(t *testing.T) {
	s, image := setup(t)
	mount := Object{"volumeMounts": List{Object{"name": "shared", "mountPath": "/shared"}}}
	spec := With(Spec(With(Container("main", image, "cat /shared/list"), mount)), Object{
		"restartPolicy": "Never",
		"volumes":       List{Object{"name": "shared", "emptyDir": Object{}}},
		"initContainers": List{
			With(Container("first", image, "echo one >> /shared/list"), mount),
			With(Container("second", image, "echo two >> /shared/list"), mount),
		},
	})
	s.Create(Pod("init", spec))
	s.AwaitPhase("init", 20*time.Second, "Succeeded")
	if out := s.Run("logs", "init", "-c", "main"); out != "one\ntwo" {
		t.Errorf("the list holds %q", out)
	}
}

func TestSidecarOutlivesTheMainContainerAndThenGoes(t *testing.T) {
	s, image := setup(t)
	spec := With(Spec(Container("main", image, "sleep 1; echo done")), Object{
		"restartPolicy":  "Never",
		"initContainers": List{With(Container("side", image, forever), Object{"restartPolicy": "Always"})},
	})
	s.Create(Pod("sidecar", spec))
	pod := s.AwaitPhase("sidecar", 30*time.Second, "Succeeded", "Failed")
	if pod.Status.Phase != "Succeeded" {
		t.Errorf("the phase is %s", pod.Status.Phase)
	}
	if side := pod.Status.InitContainerStatuses[0]; side.State.Terminated == nil {
		t.Errorf("the sidecar is %+v", side.State)
	}
}

func TestDeploymentRollsOutAndBack(t *testing.T) {
	s, image := setup(t)
	quiet(t)
	spec := func(version string) Object {
		return Spec(With(Container("web", image, forever), Object{"env": List{Object{"name": "VERSION", "value": version}}}))
	}
	s.Create(Deployment("web", 3, spec("1")))
	s.Run("rollout", "status", "deployment/web", "--timeout=30s")
	before := settle(t, 3)

	s.Create(Deployment("web", 3, spec("2")))
	s.Run("rollout", "status", "deployment/web", "--timeout=30s")
	after := settle(t, 3)
	for _, pid := range after {
		if slices.Contains(before, pid) {
			t.Errorf("runner %d is from before the rollout", pid)
		}
	}
	s.Run("rollout", "undo", "deployment/web")
	s.Run("rollout", "status", "deployment/web", "--timeout=30s")
	s.AwaitReady(3, 20*time.Second)
	if got := s.Run("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[0].value}"); got != "1" {
		t.Errorf("after the undo the version is %q", got)
	}
}

func TestManyReplicas(t *testing.T) {
	s, image := setup(t)
	replicas, limit := 100, 20*time.Second
	if !Quick() {
		// Two or three requests a pod, of which the agent makes 50 a second.
		replicas, limit = 280, 40*time.Second
	}
	began := time.Now()
	s.Create(Deployment("many", replicas, Spec(Container("c", image, forever))))
	s.AwaitReady(replicas, 90*time.Second)
	t.Logf("%d pods were ready after %v", replicas, time.Since(began).Round(10*time.Millisecond))
	began = time.Now()
	s.Run("delete", "namespace", s.Name, "--timeout=60s")
	t.Logf("and gone after %v", time.Since(began).Round(10*time.Millisecond))
	if took := time.Since(began); took > limit {
		t.Errorf("deleting the namespace took %v", took)
	}
	quiet(t)
}

func TestJobRunsInParallel(t *testing.T) {
	s, image := setup(t)
	spec := With(Spec(Container("c", image, "echo index $JOB_COMPLETION_INDEX; sleep 1")), Object{"restartPolicy": "Never"})
	s.Create(Job("work", spec, Object{"completions": 4, "parallelism": 2, "completionMode": "Indexed"}))
	s.Run("wait", "--for=condition=Complete", "job/work", "--timeout=60s")
	var said []string
	pods, err := s.Pods()
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		said = append(said, s.Run("logs", pod.Metadata.Name))
	}
	slices.Sort(said)
	if want := []string{"index 0", "index 1", "index 2", "index 3"}; !slices.Equal(said, want) {
		t.Errorf("the pods said %q", said)
	}
}

func TestJobStopsAtItsBackOffLimit(t *testing.T) {
	s, image := setup(t)
	s.Create(Job("fails", With(Spec(Container("c", image, "exit 9")), Object{"restartPolicy": "Never"}), Object{"backoffLimit": 1}))
	s.Run("wait", "--for=condition=Failed", "job/fails", "--timeout=60s")
	pods, err := s.Pods()
	if err != nil {
		t.Fatal(err)
	}
	if len(pods) != 2 {
		t.Errorf("a back-off limit of 1 made %d pods", len(pods))
	}
	for _, pod := range pods {
		if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 9 {
			t.Errorf("%s ended so: %+v", pod.Metadata.Name, end)
		}
	}
}

func TestCronJob(t *testing.T) {
	s, image := setup(t)
	spec := With(Spec(Container("c", image, "echo tick")), Object{"restartPolicy": "Never"})
	s.Create(Object{
		"apiVersion": "batch/v1", "kind": "CronJob", "metadata": Object{"name": "clock"},
		"spec": Object{"schedule": "* * * * *", "jobTemplate": Object{"spec": Object{"template": Object{"spec": spec}}}},
	})
	if Quick() { // what a minute's wait would make
		s.Run("create", "job", "clock-now", "--from=cronjob/clock")
		s.Run("wait", "--for=condition=Complete", "job/clock-now", "--timeout=30s")
		return
	}
	Eventually(t, 90*time.Second, "a job of the schedule", func() error {
		out, err := s.Try("get", "jobs", "-o", "jsonpath={.items[*].status.succeeded}")
		if err == nil && !strings.Contains(out, "1") {
			err = fmt.Errorf("succeeded: %q", out)
		}
		return err
	})
}

func TestStatefulSetStartsInOrder(t *testing.T) {
	s, image := setup(t)
	s.Create(Object{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": Object{"name": "x"},
		"spec": Object{
			"replicas": 3, "serviceName": "x",
			"selector": Object{"matchLabels": Object{"app": "x"}},
			"template": Template("x", Spec(Container("c", image, forever))),
		},
	})
	s.Run("rollout", "status", "statefulset/x", "--timeout=60s")
	var last time.Time
	for i := range 3 {
		pod, err := s.Pod(fmt.Sprintf("x-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		running := pod.Status.ContainerStatuses[0].State.Running
		if running == nil || running.StartedAt.Before(last) {
			t.Fatalf("%s: %+v, the one before started at %v", pod.Metadata.Name, running, last)
		}
		last = running.StartedAt
	}
}

func TestDaemonSetRunsOnTheNode(t *testing.T) {
	s, image := setup(t)
	s.Create(Object{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": Object{"name": "d"},
		"spec": Object{
			"selector": Object{"matchLabels": Object{"app": "d"}},
			"template": Template("d", Spec(Container("c", image, forever))),
		},
	})
	s.Run("rollout", "status", "daemonset/d", "--timeout=30s")
	s.AwaitReady(1, 10*time.Second)
}

func TestMissingImageSaysSo(t *testing.T) {
	s, _ := setup(t)
	s.Create(Pod("lost", Spec(Container("c", "127.0.0.1:5000/nothing:1", "true"))))
	s.AwaitPod("lost", 20*time.Second, "waits for its image", func(pod PodStatus) error {
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Waiting != nil && (c.State.Waiting.Reason == "ErrImagePull" || c.State.Waiting.Reason == "ImagePullBackOff") {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	Eventually(t, 10*time.Second, "an event that names the image", func() error {
		events := s.Run("get", "events", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}")
		for line := range strings.Lines(events) {
			if strings.HasPrefix(line, "Failed") && strings.Contains(line, "127.0.0.1:5000/nothing:1") {
				return nil
			}
		}
		return fmt.Errorf("events:\n%s", events)
	})
}

func TestContainerImageInDockersForm(t *testing.T) {
	s, _ := setup(t)
	module := moduleOf(t, "busybox")
	reference, err := Images(t).PushImage("docker/shell:1", registry.Image{
		Files:      map[string][]byte{"bin/sh": module, "bin/cat": module, "data/file": []byte("from the image\n")},
		Entrypoint: []string{"/bin/sh", "-c"},
		Cmd:        []string{"cat /data/file"},
	})
	if err != nil {
		t.Fatal(err)
	}
	container := Object{"name": "c", "image": reference}
	s.Create(Pod("docker", With(Spec(container), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("docker", 20*time.Second, "Succeeded")
	if out := s.Run("logs", "docker"); out != "from the image" {
		t.Errorf("it said %q", out)
	}
}

func TestTerminationMessage(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("file", With(Spec(Container("c", image, "echo -n done > /dev/termination-log")), Object{"restartPolicy": "Never"})),
		Pod("logs", With(Spec(With(Container("c", image, "echo why; exit 1"),
			Object{"terminationMessagePolicy": "FallbackToLogsOnError"})), Object{"restartPolicy": "Never"})))
	for name, want := range map[string]string{"file": "done", "logs": "why\n"} {
		pod := s.AwaitPhase(name, 20*time.Second, "Succeeded", "Failed")
		if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Message != want {
			t.Errorf("%s ended so: %+v", name, end)
		}
	}
}

func TestActiveDeadline(t *testing.T) {
	s, image := setup(t)
	s.Create(Pod("late", With(Spec(Container("c", image, forever)), Object{"activeDeadlineSeconds": 2, "restartPolicy": "Never"})))
	if pod := s.AwaitPhase("late", 20*time.Second, "Failed"); pod.Status.Reason != "DeadlineExceeded" {
		t.Errorf("the reason is %q", pod.Status.Reason)
	}
}
