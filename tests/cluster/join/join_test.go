// SPDX-License-Identifier: Apache-2.0

// Package join tests how a node becomes one, stays one, and is missed.
package join

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/node"
	. "wherry.dev/tests/cluster/suite"
)

// Certificates live for two minutes, and a node that is silent for 16 s is missed.
var options = controlplane.Options{
	ControllerFlags: []string{"--cluster-signing-duration=2m", "--node-monitor-grace-period=16s"},
	ManualApproval:  true,
}

func TestMain(m *testing.M) { Main(m, options) }

type request struct {
	Metadata struct{ Name string }
	Spec     struct {
		SignerName, Request, Username string
		Usages                        []string
	}
	Status struct {
		Certificate string
		Conditions  []struct{ Type string }
	}
}

func requests(t *testing.T, signer string) (found []request) {
	t.Helper()
	var list struct{ Items []request }
	if err := Cluster(t).Get("/apis/certificates.k8s.io/v1/certificatesigningrequests", &list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		if item.Spec.SignerName == "kubernetes.io/"+signer {
			found = append(found, item)
		}
	}
	return found
}

func subject(t *testing.T, r request) (string, *x509.CertificateRequest) {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(r.Spec.Request)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM: %s", text)
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s in %s", parsed.Subject.CommonName, strings.Join(parsed.Subject.Organization, ",")), parsed
}

var joined time.Time

// theNode starts with the first test; the clock runs from its start to Ready.
func theNode(t *testing.T) *node.Node {
	t.Helper()
	began := time.Now()
	n := Node(t, node.Options{})
	if joined.IsZero() {
		joined = time.Now()
		t.Logf("from process start to Ready: %v", joined.Sub(began).Round(time.Millisecond))
		if took := joined.Sub(began); took > 2*time.Second {
			t.Errorf("the node took %v to become Ready", took)
		}
	}
	return n
}

func TestJoinByToken(t *testing.T) {
	n := theNode(t)
	client := requests(t, "kube-apiserver-client-kubelet")
	if len(client) != 1 {
		t.Fatalf("%d requests for a client certificate", len(client))
	}
	name, parsed := subject(t, client[0])
	if name != "system:node:"+n.Name+" in system:nodes" {
		t.Errorf("it asked to be %s", name)
	}
	if len(parsed.DNSNames)+len(parsed.IPAddresses)+len(parsed.EmailAddresses)+len(parsed.URIs) > 0 {
		t.Error("a client's request has other names")
	}
	if client[0].Spec.Username != "system:bootstrap:wherry" {
		t.Errorf("it asked as %s", client[0].Spec.Username)
	}
	var object struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Taints []struct{ Key, Value, Effect string }
		}
		Status struct {
			Addresses   []struct{ Type, Address string }
			Allocatable map[string]string
			NodeInfo    map[string]any
		}
	}
	if err := Cluster(t).Get("/api/v1/nodes/"+n.Name, &object); err != nil {
		t.Fatal(err)
	}
	if object.Metadata.Labels["kubernetes.io/arch"] != "wasm32" || object.Metadata.Labels["kubernetes.io/os"] != "wasi" {
		t.Errorf("the labels are %v", object.Metadata.Labels)
	}
	tainted := false
	for _, taint := range object.Spec.Taints {
		tainted = tainted || taint.Key == "kubernetes.io/arch" && taint.Value == "wasm32" && taint.Effect == "NoSchedule"
	}
	if !tainted {
		t.Errorf("the taints are %v", object.Spec.Taints)
	}
	for _, resource := range []string{"cpu", "memory", "pods", "ephemeral-storage"} {
		if object.Status.Allocatable[resource] == "" {
			t.Errorf("no %s can be allocated", resource)
		}
	}
	if len(object.Status.NodeInfo) < 10 {
		t.Errorf("node info: %v", object.Status.NodeInfo)
	}
	for _, condition := range []string{"MemoryPressure", "DiskPressure", "PIDPressure"} {
		if status, err := n.Condition(condition); err != nil || status != "False" {
			t.Errorf("condition %s is %q (%v)", condition, status, err)
		}
	}
}

func TestServingCertificateWaitsForApproval(t *testing.T) {
	n := theNode(t)
	s, image := NewSpace(t), Image(t, "busybox")
	s.Create(Pod("talks", With(Spec(Container("c", image, "echo hello")), Object{"restartPolicy": "Never"})))
	s.AwaitPhase("talks", 20*time.Second, "Succeeded") // pods run meanwhile
	if _, err := s.Try("logs", "talks"); err == nil {
		t.Error("logs work without a certificate that the API server trusts")
	}
	var pending []string
	Eventually(t, 10*time.Second, "a request for a serving certificate", func() (err error) {
		if pending, err = s.ServingRequests(); err == nil && len(pending) == 0 {
			err = fmt.Errorf("none is pending")
		}
		return err
	})
	for _, r := range requests(t, "kubelet-serving") {
		name, parsed := subject(t, r)
		if name != "system:node:"+n.Name+" in system:nodes" || len(parsed.IPAddresses) == 0 || parsed.IPAddresses[0].String() != n.Address {
			t.Errorf("it asked to be %s at %v", name, parsed.IPAddresses)
		}
	}
	for _, name := range pending {
		if err := s.Approve(name); err != nil {
			t.Fatal(err)
		}
	}
	Eventually(t, 15*time.Second, "logs", func() error {
		out, err := s.Try("logs", "talks")
		if err == nil && out != "hello" {
			err = fmt.Errorf("it said %q", out)
		}
		return err
	})
}

func TestLeaseIsRenewed(t *testing.T) {
	n := theNode(t)
	var last time.Time
	renewals := 0
	for end := time.Now().Add(22 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		var lease struct {
			Spec struct {
				HolderIdentity       string
				LeaseDurationSeconds int
				RenewTime            time.Time
			}
		}
		if err := Cluster(t).Get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+n.Name, &lease); err != nil {
			t.Fatal(err)
		}
		if lease.Spec.HolderIdentity != n.Name || lease.Spec.LeaseDurationSeconds != 40 {
			t.Fatalf("the lease is %+v", lease)
		}
		if age := time.Since(lease.Spec.RenewTime); age > 12*time.Second {
			t.Fatalf("the lease is %v old", age)
		}
		if lease.Spec.RenewTime.After(last) {
			renewals++
			last = lease.Spec.RenewTime
		}
	}
	if renewals < 2 {
		t.Errorf("%d renewals in 22 s", renewals)
	}
}

func TestDeadNodeIsMissedAndReturns(t *testing.T) {
	n := theNode(t)
	s, image := NewSpace(t), Image(t, "busybox")
	s.Create(Pod("stays", Spec(Container("c", image, "while true; do sleep 1; done"))))
	s.AwaitReady(1, 20*time.Second)
	before := node.Pids("wherry-runner")
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 45*time.Second, "the node is missed", func() error {
		status, err := n.Condition("Ready")
		if err == nil && status != "Unknown" {
			err = fmt.Errorf("condition Ready is %q", status)
		}
		return err
	})
	began := time.Now()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the node took %v to return", took)
	}
	pods := s.AwaitReady(1, 20*time.Second)
	if after := node.Pids("wherry-runner"); Restarts(pods) != 0 || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("%d restarts; the runners were %v and are %v", Restarts(pods), before, after)
	}
}

// The last test, as the others give the certificate time to age.
func TestXClientCertificateIsRotated(t *testing.T) {
	n := theNode(t)
	Eventually(t, time.Until(joined.Add(3*time.Minute)), "a renewal by the node itself", func() error {
		for _, r := range requests(t, "kube-apiserver-client-kubelet") {
			if r.Spec.Username == "system:node:"+n.Name && r.Status.Certificate != "" {
				return nil
			}
		}
		return fmt.Errorf("none yet")
	})
	wait := 30 * time.Second
	if !Quick() {
		wait = 10 * time.Minute
	}
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(5 * time.Second) {
		if status, err := n.Condition("Ready"); err != nil || status != "True" {
			t.Fatalf("condition Ready is %q (%v)", status, err)
		}
	}
}
