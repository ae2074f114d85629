// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/guest"
	. "wherry.dev/tests/cluster/suite"
)

func moduleOf(t *testing.T, name string) []byte {
	t.Helper()
	module, err := guest.Module(name)
	if errors.Is(err, guest.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func TestEnvironmentFromObjects(t *testing.T) {
	s, image := setup(t)
	s.Run("create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=size=big")
	s.Run("create", "secret", "generic", "keys", "--from-literal=password=hidden")
	container := With(Container("c", image, "env"), Object{
		"envFrom": List{Object{"prefix": "CM_", "configMapRef": Object{"name": "settings"}}},
		"env": List{
			Object{"name": "PASSWORD", "valueFrom": Object{"secretKeyRef": Object{"name": "keys", "key": "password"}}},
			Object{"name": "MISSING", "valueFrom": Object{"configMapKeyRef": Object{"name": "none", "key": "x", "optional": true}}},
			Object{"name": "POD", "valueFrom": Object{"fieldRef": Object{"fieldPath": "metadata.name"}}},
			Object{"name": "BOTH", "value": "$(POD)-$(CM_color)-$$(X)-$(UNKNOWN)"},
			Object{"name": "CPU", "valueFrom": Object{"resourceFieldRef": Object{"resource": "limits.cpu", "divisor": "1m"}}},
		},
		"resources": Object{"limits": Object{"cpu": "250m", "memory": "64Mi"}},
	})
	s.Create(Pod("env", With(Spec(container), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("env", 20*time.Second, "Succeeded")
	out := "\n" + s.Run("logs", "env") + "\n"
	for _, want := range []string{"CM_color=blue", "CM_size=big", "PASSWORD=hidden", "POD=env", "BOTH=env-blue-$(X)-$(UNKNOWN)",
		"CPU=250", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "HOSTNAME=env"} {
		if !strings.Contains(out, "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(out, "\nMISSING=") {
		t.Error("an optional key that does not exist is set")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestMissingConfigMapIsWaitedFor(t *testing.T) {
	s, image := setup(t)
	container := With(Container("c", image, "echo $color"), Object{"envFrom": List{Object{"configMapRef": Object{"name": "later"}}}})
	s.Create(Pod("waits", With(Spec(container), Object{"restartPolicy": "Never"})))
	s.AwaitPod("waits", 20*time.Second, "CreateContainerConfigError", func(pod PodStatus) error {
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Waiting != nil && c.State.Waiting.Reason == "CreateContainerConfigError" {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	s.Run("create", "configmap", "later", "--from-literal=color=green")
	s.AwaitPhase("waits", 30*time.Second, "Succeeded")
	if out := s.Run("logs", "waits"); out != "green" {
		t.Errorf("it said %q", out)
	}
}

func TestFilesFromObjects(t *testing.T) {
	s, image := setup(t)
	s.Run("create", "configmap", "files", "--from-literal=a.txt=first", "--from-literal=b.txt=second")
	s.Run("create", "secret", "generic", "keys", "--from-literal=token=hidden")
	container := With(Container("c", image, "ls /config; cat /config/a.txt; echo; cat /secret/renamed; echo; cat /info/labels"), Object{
		"volumeMounts": List{
			Object{"name": "config", "mountPath": "/config"},
			Object{"name": "secret", "mountPath": "/secret", "readOnly": true},
			Object{"name": "info", "mountPath": "/info"},
		},
	})
	pod := Pod("files", With(Spec(container), Object{
		"restartPolicy": "Never",
		"volumes": List{
			Object{"name": "config", "configMap": Object{"name": "files"}},
			Object{"name": "secret", "secret": Object{"secretName": "keys", "items": List{Object{"key": "token", "path": "renamed"}}}},
			Object{"name": "info", "downwardAPI": Object{"items": List{
				Object{"path": "labels", "fieldRef": Object{"fieldPath": "metadata.labels"}}}}},
		},
	}))
	pod["metadata"] = Object{"name": "files", "labels": Object{"app": "files"}}
	s.Create(pod)
	s.AwaitPhase("files", 20*time.Second, "Succeeded")
	if out := s.Run("logs", "files"); out != "a.txt\nb.txt\nfirst\nhidden\napp=\"files\"" {
		t.Errorf("it said %q", out)
	}
}

func TestConfigMapUpdateReachesARunningPod(t *testing.T) {
	s, image := setup(t)
	s.Run("create", "configmap", "live", "--from-literal=value=old")
	script := "until grep -q new /config/value; do sleep 0.2; done; cat /config/value"
	container := With(Container("c", image, script), Object{"volumeMounts": List{Object{"name": "config", "mountPath": "/config"}}})
	s.Create(Pod("live", With(Spec(container), Object{
		"restartPolicy": "Never", "volumes": List{Object{"name": "config", "configMap": Object{"name": "live"}}}})))
	s.AwaitPhase("live", 20*time.Second, "Running")
	s.Run("patch", "configmap", "live", "-p", `{"data":{"value":"new"}}`)
	s.AwaitPhase("live", 90*time.Second, "Succeeded")
}

func TestServiceAccountToken(t *testing.T) {
	s, image := setup(t)
	path := "/var/run/secrets/kubernetes.io/serviceaccount/"
	script := fmt.Sprintf("wc -c < %stoken; head -n 1 %sca.crt; cat %snamespace", path, path, path)
	s.Create(Pod("token", With(Spec(Container("c", image, script)), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("token", 20*time.Second, "Succeeded")
	lines := strings.Split(s.Run("logs", "token"), "\n")
	if len(lines) != 3 || len(lines[0]) < 3 || lines[1] != "-----BEGIN CERTIFICATE-----" || lines[2] != s.Name {
		t.Errorf("it said %q", lines)
	}
}

func TestEmptyDirIsSharedAndSurvivesARestart(t *testing.T) {
	s, image := setup(t)
	script := "if [ -f /d/mark ]; then echo again; else touch /d/mark; exit 1; fi"
	container := With(Container("c", image, script), Object{"volumeMounts": List{Object{"name": "d", "mountPath": "/d"}}})
	s.Create(Pod("dir", With(Spec(container), Object{
		"restartPolicy": "OnFailure", "volumes": List{Object{"name": "d", "emptyDir": Object{}}}})))
	s.AwaitPhase("dir", 40*time.Second, "Succeeded")
	if out := s.Run("logs", "dir"); out != "again" {
		t.Errorf("it said %q", out)
	}
}
