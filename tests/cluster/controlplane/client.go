// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/process"
)

const servingSigner = "kubernetes.io/kubelet-serving"

// Kubectl runs kubectl as the administrator and returns its standard output; failure fails the test.
func (c *Cluster) Kubectl(t testing.TB, arguments ...string) string {
	t.Helper()
	out, err := c.TryKubectl("", arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Apply creates or updates the objects of a YAML text.
func (c *Cluster) Apply(t testing.TB, yaml string) {
	t.Helper()
	if _, err := c.TryKubectl(yaml, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// TryKubectl is Kubectl with a standard input, for calls that may fail.
func (c *Cluster) TryKubectl(stdin string, arguments ...string) (string, error) {
	command := c.KubectlCommand(arguments...)
	command.Stdin = strings.NewReader(stdin)
	return process.Output(command)
}

// KubectlCommand is for a test that needs the running kubectl, such as logs -f.
func (c *Cluster) KubectlCommand(arguments ...string) *exec.Cmd {
	command := exec.Command(c.binary, append([]string{"kubectl", "--kubeconfig", c.Kubeconfig()}, arguments...)...)
	command.Env = append(os.Environ(), "HOME="+c.Directory) // keeps its discovery cache in there
	return command
}

// Client is an HTTP client that authenticates by the named certificate of the authority; "" for none.
func (c *Cluster) Client(name string) (*http.Client, error) {
	config := &tls.Config{RootCAs: c.Authority.Roots()}
	if name != "" {
		identity, err := tls.LoadX509KeyPair(c.Authority.Certificate(name), c.Authority.Key(name))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{identity}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 10 * time.Second}, nil
}

// Get reads an object of the API as the administrator; ret may be nil.
func (c *Cluster) Get(path string, ret any) error { return c.Do(http.MethodGet, path, nil, ret) }

// Do calls the API as the administrator with JSON; a status that is no success is an error.
func (c *Cluster) Do(method, path string, body, ret any) error {
	client, err := c.Client("admin")
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, c.URL+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %.300s", method, path, response.Status, answer)
	case ret == nil:
		return nil
	}
	return json.Unmarshal(answer, ret)
}

// ServingRequests lists the certificate requests of nodes for their own servers that wait for approval.
func (c *Cluster) ServingRequests() (names []string, err error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ SignerName string }
			Status   struct{ Conditions []any }
		}
	}
	if err := c.Get("/apis/certificates.k8s.io/v1/certificatesigningrequests", &list); err != nil {
		return nil, err
	}
	for _, item := range list.Items {
		if item.Spec.SignerName == servingSigner && len(item.Status.Conditions) == 0 {
			names = append(names, item.Metadata.Name)
		}
	}
	return names, nil
}

// Approve approves a certificate request.
func (c *Cluster) Approve(name string) error {
	path := "/apis/certificates.k8s.io/v1/certificatesigningrequests/" + name
	var request map[string]any
	if err := c.Get(path, &request); err != nil {
		return err
	}
	status, _ := request["status"].(map[string]any)
	if status == nil {
		status = map[string]any{}
	}
	status["conditions"] = []map[string]string{{"type": "Approved", "status": "True", "reason": "Test"}}
	request["status"] = status
	return c.Do(http.MethodPut, path+"/approval", request, nil)
}

// approveAll does what an approver of a real platform does. An API that is away is one that a test took away.
func (c *Cluster) approveAll() {
	for {
		select {
		case <-c.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		names, _ := c.ServingRequests()
		for _, name := range names {
			_ = c.Approve(name)
		}
	}
}
