// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/controlplane"
)

// Object is any Kubernetes object, or a part of one.
type Object = map[string]any

// List is a list of anything in an object.
type List = []any

// Container is a container that runs a shell script.
func Container(name, image, script string) Object {
	return Object{"name": name, "image": image, "command": List{"sh", "-c", script}}
}

// Spec is a pod's specification that any of our nodes takes, with a short grace period.
func Spec(containers ...Object) Object {
	list := List{}
	for _, container := range containers {
		list = append(list, container)
	}
	return Object{
		"containers":                    list,
		"tolerations":                   List{Object{"operator": "Exists"}},
		"terminationGracePeriodSeconds": 5,
	}
}

// With returns the object with fields set.
func With(object Object, fields Object) Object {
	for name, value := range fields {
		object[name] = value
	}
	return object
}

// Pod is a pod of one specification.
func Pod(name string, spec Object) Object {
	return Object{"apiVersion": "v1", "kind": "Pod", "metadata": Object{"name": name}, "spec": spec}
}

// Template is a pod template whose pods are labelled app=name.
func Template(name string, spec Object) Object {
	return Object{"metadata": Object{"labels": Object{"app": name}}, "spec": spec}
}

// Deployment is a deployment of pods that are labelled app=name.
func Deployment(name string, replicas int, spec Object) Object {
	return Object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": Object{"name": name},
		"spec": Object{
			"replicas": replicas,
			"selector": Object{"matchLabels": Object{"app": name}},
			"template": Template(name, spec),
		},
	}
}

// Job is a job; fields go into its specification.
func Job(name string, spec, fields Object) Object {
	return Object{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": Object{"name": name},
		"spec": With(Object{"template": Object{"spec": spec}}, fields),
	}
}

// Space is a namespace in which a test works.
type Space struct {
	*controlplane.Cluster
	Name string
	t    testing.TB
}

// NewSpace makes a namespace for the test.
func NewSpace(t testing.TB) *Space {
	t.Helper()
	return &Space{Cluster: Cluster(t), Name: Namespace(t), t: t}
}

// Create creates objects in the namespace.
func (s *Space) Create(objects ...Object) {
	s.t.Helper()
	for _, object := range objects {
		text, err := json.Marshal(object)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.TryKubectl(string(text), "-n", s.Name, "apply", "-f", "-"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Run is kubectl in the namespace; failure fails the test.
func (s *Space) Run(arguments ...string) string {
	s.t.Helper()
	return s.Kubectl(s.t, append([]string{"-n", s.Name}, arguments...)...)
}

// Try is kubectl in the namespace, for calls that may fail.
func (s *Space) Try(arguments ...string) (string, error) {
	return s.TryKubectl("", append([]string{"-n", s.Name}, arguments...)...)
}

// PodStatus is what tests read of a pod.
type PodStatus struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp string
	}
	Status struct {
		Phase, Reason, PodIP  string
		Conditions            []struct{ Type, Status, Reason string }
		ContainerStatuses     []ContainerStatus
		InitContainerStatuses []ContainerStatus
	}
}

// ContainerStatus is what tests read of a container.
type ContainerStatus struct {
	Name             string
	Ready            bool
	RestartCount     int
	ContainerID      string
	ImageID          string
	State, LastState struct {
		Waiting    *struct{ Reason, Message string }
		Running    *struct{ StartedAt time.Time }
		Terminated *struct {
			ExitCode              int
			Reason, Message       string
			StartedAt, FinishedAt time.Time
		}
	}
}

// Pod reads a pod.
func (s *Space) Pod(name string) (pod PodStatus, err error) {
	return pod, s.Get("/api/v1/namespaces/"+s.Name+"/pods/"+name, &pod)
}

// Pods reads all pods of the namespace.
func (s *Space) Pods() ([]PodStatus, error) {
	var list struct{ Items []PodStatus }
	err := s.Get("/api/v1/namespaces/"+s.Name+"/pods", &list)
	return list.Items, err
}

// AwaitPod waits until holds reports no error for the pod, and returns it.
func (s *Space) AwaitPod(name string, limit time.Duration, what string, holds func(PodStatus) error) (pod PodStatus) {
	s.t.Helper()
	Eventually(s.t, limit, "pod "+name+": "+what, func() error {
		var err error
		if pod, err = s.Pod(name); err != nil {
			return err
		}
		return holds(pod)
	})
	return pod
}

// AwaitPhase waits until the pod is in one of the phases.
func (s *Space) AwaitPhase(name string, limit time.Duration, phases ...string) PodStatus {
	s.t.Helper()
	return s.AwaitPod(name, limit, strings.Join(phases, " or "), func(pod PodStatus) error {
		for _, phase := range phases {
			if pod.Status.Phase == phase {
				return nil
			}
		}
		return fmt.Errorf("it is %s", pod.Status.Phase)
	})
}

// AwaitReady waits until n pods of the namespace are ready, and returns them.
func (s *Space) AwaitReady(n int, limit time.Duration) (pods []PodStatus) {
	s.t.Helper()
	Eventually(s.t, limit, fmt.Sprintf("%d pods ready", n), func() error {
		var err error
		if pods, err = s.Pods(); err != nil {
			return err
		}
		ready := 0
		for _, pod := range pods {
			for _, condition := range pod.Status.Conditions {
				if condition.Type == "Ready" && condition.Status == "True" {
					ready++
				}
			}
		}
		if ready != n {
			return fmt.Errorf("%d of %d", ready, len(pods))
		}
		return nil
	})
	return pods
}

// Restarts adds up the restarts of containers.
func Restarts(pods []PodStatus) (sum int) {
	for _, pod := range pods {
		for _, status := range pod.Status.ContainerStatuses {
			sum += status.RestartCount
		}
	}
	return sum
}
