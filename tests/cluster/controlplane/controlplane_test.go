// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/suite"
)

func TestMain(m *testing.M) { suite.Main(m, controlplane.Options{}) }

func TestDeploymentMakesPods(t *testing.T) {
	cluster, namespace := suite.Cluster(t), suite.Namespace(t)
	cluster.Kubectl(t, "-n", namespace, "create", "deployment", "web", "--image=example.test/web:1", "--replicas=3")
	suite.Eventually(t, 10*time.Second, "three pods", func() error {
		pods := strings.Fields(cluster.Kubectl(t, "-n", namespace, "get", "pods", "-o", "name"))
		if len(pods) != 3 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
}

func TestBootstrapTokenMayOnlyAskForACertificate(t *testing.T) {
	cluster := suite.Cluster(t)
	asBootstrapper := func(arguments ...string) error {
		_, err := cluster.TryKubectl("", append([]string{"--kubeconfig", cluster.BootstrapKubeconfig()}, arguments...)...)
		return err
	}
	if err := asBootstrapper("auth", "can-i", "create", "certificatesigningrequests"); err != nil {
		t.Errorf("ask for a certificate: %v", err)
	}
	if err := asBootstrapper("get", "nodes"); err == nil {
		t.Error("the bootstrap token may list nodes")
	}
}

func TestIdentityIsWhoItSays(t *testing.T) {
	cluster := suite.Cluster(t)
	kubeconfig, err := cluster.Identity("nobody", "nobody", "nothing")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cluster.TryKubectl("", "--kubeconfig", kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo}")
	if err != nil || !strings.Contains(out, `"username":"nobody"`) || !strings.Contains(out, `"nothing"`) {
		t.Errorf("whoami: %s (%v)", out, err)
	}
	if _, err := cluster.TryKubectl("", "--kubeconfig", kubeconfig, "get", "pods"); err == nil {
		t.Error("an identity without rights may list pods")
	}
}

func TestWithoutCertificateIsAnonymous(t *testing.T) {
	cluster := suite.Cluster(t)
	client, err := cluster.Client("")
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(cluster.URL + "/api/v1/pods")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("pods for anybody: %s", response.Status)
	}
}

func TestObjectsOutliveAnOutage(t *testing.T) {
	cluster, namespace := suite.Cluster(t), suite.Namespace(t)
	cluster.Kubectl(t, "-n", namespace, "create", "configmap", "kept", "--from-literal=key=value")
	err := cluster.Outage(func() {
		if _, err := cluster.TryKubectl("", "-n", namespace, "get", "configmap", "kept"); err == nil {
			t.Error("the API answers while its server is gone")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := cluster.Kubectl(t, "-n", namespace, "get", "configmap", "kept", "-o", "jsonpath={.data.key}")
	if got != "value" {
		t.Errorf("the config map holds %q after the outage", got)
	}
}
