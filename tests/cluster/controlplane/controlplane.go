// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane for tests: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler, each a process that a test may kill and start again.
//
// It costs 5 seconds of CPU and 420 MiB: a test package starts one, and each test takes a namespace of its own.
package controlplane

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"wherry.dev/tests/cluster/artifact"
	"wherry.dev/tests/cluster/isolate"
	"wherry.dev/tests/cluster/process"
)

const (
	bootstrapToken = "wherry.0123456789abcdef" // as in bootstrap.yaml
	serviceRange   = "10.96.0.0/16"
	podRange       = "10.244.0.0/16"
	startLimit     = 60 * time.Second
)

//go:embed bootstrap.yaml
var bootstrapObjects string

// ports are the API servers'. The network is the test's own, so nobody else takes one.
var ports atomic.Int32

// Options change how a cluster starts. Flags given here win over the package's own.
type Options struct {
	APIServerFlags  []string // e.g. --feature-gates=ExtendWebSocketsToKubelet=false
	ControllerFlags []string // e.g. --cluster-signing-duration=2m, --node-monitor-grace-period=10s
	SchedulerFlags  []string
	ManualApproval  bool // leave the nodes' serving certificates to the test: Approve
}

// Cluster is a running control plane.
type Cluster struct {
	Directory string // certificates, kubeconfigs, logs, etcd's data
	URL       string // of the API server
	Authority *Authority

	Etcd, APIServer, Controllers, Scheduler *process.Process

	binary string
	port   int
	stop   chan struct{} // closed to end the approver
}

// New runs a cluster until Stop. It returns once pods can be created in namespace "default". It must be called
// inside the namespaces of package isolate.
func New(options Options) (*Cluster, error) {
	if err := isolate.Missing(); err != nil {
		return nil, err
	}
	binary, err := artifact.Hyperkube.Find()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp(isolate.Directory(), "c")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Directory: directory, binary: binary, port: 6442 + int(ports.Add(1)), stop: make(chan struct{})}
	c.URL = fmt.Sprintf("https://%s:%d", isolate.Address, c.port)
	if err := c.start(options); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if !options.ManualApproval {
		go c.approveAll()
	}
	return c, nil
}

// Stop ends every process of the cluster. Its files stay for the logs; they go with isolate.Directory.
func (c *Cluster) Stop() error {
	close(c.stop)
	var failures []error
	for _, p := range c.Processes() {
		failures = append(failures, p.Kill()) // not SIGTERM: the API server lingers while watches are open
	}
	return errors.Join(failures...)
}

// Processes lists the components that were started, in starting order.
func (c *Cluster) Processes() (made []*process.Process) {
	for _, p := range []*process.Process{c.Etcd, c.APIServer, c.Controllers, c.Scheduler} {
		if p != nil {
			made = append(made, p)
		}
	}
	return made
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// BootstrapKubeconfig is the path of a kubeconfig that holds only the bootstrap token.
func (c *Cluster) BootstrapKubeconfig() string { return c.path("bootstrap.kubeconfig") }

// Identity makes a kubeconfig for a user, whose certificate this cluster's authority signs.
func (c *Cluster) Identity(name, user string, groups ...string) (kubeconfig string, err error) {
	if err := c.Authority.IssueClient(name, user, groups...); err != nil {
		return "", err
	}
	return c.path(name + ".kubeconfig"), c.writeKubeconfig(name, c.certificateUser(name))
}

// Outage kills the API server, calls during, and starts it again; it returns when the API is ready.
func (c *Cluster) Outage(during func()) error {
	if err := c.APIServer.Kill(); err != nil {
		return err
	}
	during()
	if err := c.APIServer.Start(); err != nil {
		return err
	}
	return c.AwaitAPI(startLimit)
}

// AwaitAPI waits until the API server reports that it is ready.
func (c *Cluster) AwaitAPI(limit time.Duration) error {
	return c.APIServer.Await("the API is ready", limit, func() error { return c.Get("/readyz", nil) })
}

func (c *Cluster) start(options Options) error {
	if err := c.writeFiles(); err != nil {
		return err
	}
	c.Etcd = c.component("etcd", []string{c.path("etcd.yaml")}, nil)
	c.APIServer = c.component("kube-apiserver", c.apiServerFlags(), options.APIServerFlags)
	c.Controllers = c.component("kube-controller-manager", c.controllerFlags(), options.ControllerFlags)
	c.Scheduler = c.component("kube-scheduler", c.schedulerFlags(), options.SchedulerFlags)
	if err := errors.Join(c.Etcd.Start(), c.APIServer.Start()); err != nil {
		return err
	}
	if err := c.AwaitAPI(startLimit); err != nil {
		return err
	}
	// Only now: the controller manager gives up on an API that is not healthy within 10 s.
	if err := errors.Join(c.Controllers.Start(), c.Scheduler.Start()); err != nil {
		return err
	}
	if _, err := c.TryKubectl(bootstrapObjects, "create", "--validate=false", "-f", "-"); err != nil {
		return err
	}
	// Without that service account no pod can be created.
	return c.Controllers.Await("service account default is there", startLimit, func() error {
		return c.Get("/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

func (c *Cluster) component(name string, own, extra []string) *process.Process {
	arguments := append(append([]string{name}, own...), extra...)
	return &process.Process{Name: name, Binary: c.binary, Arguments: arguments, Log: c.path(name + ".log")}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Directory, name) }

// writeFiles makes the certificates, the kubeconfigs and etcd's configuration.
func (c *Cluster) writeFiles() (err error) {
	if c.Authority, err = newAuthority(c.Directory); err != nil {
		return err
	}
	a := c.Authority
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(isolate.Address), net.IPv4(10, 96, 0, 1)}
	return errors.Join(
		a.IssueServer("apiserver", addresses, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
		a.IssueClient("apiserver-to-nodes", "kube-apiserver"),
		a.IssueClient("front-proxy", "front-proxy"),
		a.IssueClient("service-accounts", "service-accounts"), // only its keys are used
		a.IssueClient("admin", "admin", "system:masters"),
		a.IssueClient("controllers", "system:kube-controller-manager"),
		a.IssueClient("scheduler", "system:kube-scheduler"),
		c.writeKubeconfig("admin", c.certificateUser("admin")),
		c.writeKubeconfig("controllers", c.certificateUser("controllers")),
		c.writeKubeconfig("scheduler", c.certificateUser("scheduler")),
		c.writeKubeconfig("bootstrap", "token: "+bootstrapToken),
		os.WriteFile(c.path("etcd.yaml"), []byte(c.etcdConfiguration()), 0o600),
	)
}

func (c *Cluster) certificateUser(name string) string {
	return fmt.Sprintf("client-certificate: %s, client-key: %s", c.Authority.Certificate(name), c.Authority.Key(name))
}

func (c *Cluster) writeKubeconfig(name, user string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "%s", certificate-authority: %s}}]
users: [{name: test, user: {%s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, c.URL, c.Authority.Certificate("ca"), user)
	return os.WriteFile(c.path(name+".kubeconfig"), []byte(text), 0o600)
}

// etcdConfiguration has unix sockets for ports, and no fsync: nothing here outlives a power cut.
func (c *Cluster) etcdConfiguration() string {
	peer := "unix://" + c.path("peer.sock")
	return strings.Join([]string{
		"name: test",
		"data-dir: " + c.path("etcd"),
		"listen-client-urls: " + c.etcdURL(),
		"advertise-client-urls: " + c.etcdURL(),
		"listen-peer-urls: " + peer,
		"initial-advertise-peer-urls: " + peer,
		"initial-cluster: test=" + peer,
		"unsafe-no-fsync: true",
		"log-level: warn",
	}, "\n") + "\n"
}

func (c *Cluster) etcdURL() string { return "unix://" + c.path("etcd.sock") }

func (c *Cluster) apiServerFlags() []string {
	a := c.Authority
	return []string{
		"--etcd-servers=" + c.etcdURL(),
		"--bind-address=" + isolate.Address,
		"--advertise-address=" + isolate.Address,
		fmt.Sprintf("--secure-port=%d", c.port),
		"--tls-cert-file=" + a.Certificate("apiserver"),
		"--tls-private-key-file=" + a.Key("apiserver"),
		"--client-ca-file=" + a.Certificate("ca"),
		"--kubelet-certificate-authority=" + a.Certificate("ca"),
		"--kubelet-client-certificate=" + a.Certificate("apiserver-to-nodes"),
		"--kubelet-client-key=" + a.Key("apiserver-to-nodes"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + a.Certificate("service-accounts"),
		"--service-account-signing-key-file=" + a.Key("service-accounts"),
		"--service-cluster-ip-range=" + serviceRange,
		"--allow-privileged=true", // the suite makes pods that ask for it
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		// What follows is for aggregated APIs, such as the metrics server's.
		"--requestheader-client-ca-file=" + a.Certificate("ca"),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + a.Certificate("front-proxy"),
		"--proxy-client-key-file=" + a.Key("front-proxy"),
		"--enable-aggregator-routing=true",
	}
}

func (c *Cluster) controllerFlags() []string {
	a := c.Authority
	return []string{
		"--kubeconfig=" + c.path("controllers.kubeconfig"),
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + a.Key("service-accounts"),
		"--root-ca-file=" + a.Certificate("ca"),
		"--cluster-signing-cert-file=" + a.Certificate("ca"),
		"--cluster-signing-key-file=" + a.Key("ca"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + podRange,
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
		"--kube-api-qps=500", "--kube-api-burst=1000", // the default of 20 per second would be what a test measures
	}
}

func (c *Cluster) schedulerFlags() []string {
	return []string{
		"--kubeconfig=" + c.path("scheduler.kubeconfig"),
		"--authentication-kubeconfig=" + c.path("scheduler.kubeconfig"),
		"--secure-port=0",
		"--leader-elect=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}
