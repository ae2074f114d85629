// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/node"
	. "wherry.dev/tests/cluster/suite"
)

// call asks the node's own API with a client certificate of the cluster's authority; "" for none.
func call(t *testing.T, agent *node.Node, identity, path string, header http.Header) (int, string) {
	t.Helper()
	client, err := Cluster(t).Client(identity)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, agent.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

func TestTheNodesAPIAsksWhoCalls(t *testing.T) {
	cluster, agent := Cluster(t), Node(t, options)
	awaitServing(t, agent)
	if _, err := cluster.Identity("stranger", "stranger"); err != nil {
		t.Fatal(err)
	}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	for _, c := range []struct {
		what, identity, path string
		header               http.Header
		want                 int
	}{
		{"nobody", "", "/pods", nil, 401},
		{"nobody", "", "/containerLogs/a/b/c", nil, 401},
		{"a false token", "", "/pods", bearer("nonsense"), 401},
		{"a user without rights", "stranger", "/pods", nil, 403},
		{"a user without rights", "stranger", "/metrics", nil, 403},
		{"a user without rights", "stranger", "/containerLogs/a/b/c", nil, 403},
		{"the API server", "apiserver-to-nodes", "/pods", nil, 200},
		{"the API server", "apiserver-to-nodes", "/containerLogs/default/nothing/c", nil, 404},
		{"an administrator", "admin", "/metrics", nil, 200},
		{"an administrator", "admin", "/healthz", nil, 200},
	} {
		if got, body := call(t, agent, c.identity, c.path, c.header); got != c.want {
			t.Errorf("%s asks for %s: %d, want %d: %.200s", c.what, c.path, got, c.want, body)
		}
	}
}

func TestATokenIsReviewed(t *testing.T) {
	cluster, agent := Cluster(t), Node(t, options)
	awaitServing(t, agent)
	s := NewSpace(t)
	token := s.Run("create", "token", "default")
	bearer := http.Header{"Authorization": {"Bearer " + token}}
	if got, body := call(t, agent, "", "/metrics", bearer); got != 403 {
		t.Errorf("a service account without rights: %d: %.200s", got, body)
	}
	cluster.Kubectl(t, "create", "clusterrolebinding", "metrics-"+s.Name, "--clusterrole=system:kubelet-api-admin",
		"--serviceaccount="+s.Name+":default")
	Eventually(t, 45*time.Second, "the right is seen", func() error { // denials are remembered for 30 s
		if got, body := call(t, agent, "", "/metrics", bearer); got != 200 {
			return &answerError{got, body}
		}
		return nil
	})
}

type answerError struct {
	status int
	body   string
}

func (e *answerError) Error() string { return http.StatusText(e.status) + ": " + e.body }

// awaitServing waits for the node's serving certificate, which somebody has to approve.
func awaitServing(t *testing.T, agent *node.Node) {
	t.Helper()
	client, err := Cluster(t).Client("admin")
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	Eventually(t, 15*time.Second, "the node serves with a certificate of the cluster", func() error {
		response, err := client.Get(agent.URL() + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
}

func TestTheNodeMayNotReadWhatIsNotItsOwn(t *testing.T) {
	cluster, agent := Cluster(t), Node(t, options)
	s := NewSpace(t)
	s.Run("create", "secret", "generic", "foreign", "--from-literal=a=b")
	identity, err := tls.LoadX509KeyPair(agent.ClientCertificate(), agent.ClientCertificate())
	if err != nil {
		t.Fatal(err)
	}
	subject := identity.Leaf.Subject
	if subject.CommonName != "system:node:"+agent.Name || strings.Join(subject.Organization, ",") != "system:nodes" {
		t.Errorf("the node is %v", subject)
	}
	config := &tls.Config{RootCAs: cluster.Authority.Roots(), Certificates: []tls.Certificate{identity}}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{
		"/api/v1/namespaces/" + s.Name + "/secrets/foreign": 403,
		"/api/v1/secrets":             403,
		"/api/v1/pods":                403,
		"/api/v1/nodes":               403,
		"/api/v1/nodes/" + agent.Name: 200,
		"/api/v1/pods?fieldSelector=spec.nodeName%3D" + agent.Name: 200,
	} {
		response, err := client.Get(cluster.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, response.StatusCode, want)
		}
	}
}
