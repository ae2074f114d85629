// SPDX-License-Identifier: Apache-2.0

// Command hyperkube is the control plane of the cluster tests in one binary: its first argument names the
// component, the rest is that component's own command line.
//
// Linking the components together saves four fifths of the space of separate binaries. They must still run
// one per process: they share command line flags, feature gates and the metrics registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"

	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	_ "k8s.io/component-base/metrics/prometheus/clientgo" // rest_client_requests_total and its kin
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
)

var components = map[string]func() error{
	"etcd":                    runEtcd,
	"kube-apiserver":          component(apiserver.NewAPIServerCommand),
	"kube-controller-manager": component(controllers.NewControllerManagerCommand),
	"kube-scheduler":          component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              component(proxy.NewProxyCommand),
	"kubectl":                 runKubectl,
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		names := make([]string, 0, len(components))
		for name := range components {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "usage: hyperkube %s ARGUMENT...\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	os.Args = os.Args[1:] // every component reads os.Args by itself
	if err := components[os.Args[0]](); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
}

// component runs a cobra command, which prints its own errors and sets the exit code.
func component(command func() *cobra.Command) func() error {
	return func() error {
		os.Exit(cli.Run(command()))
		return nil
	}
}

// runKubectl turns its errors into messages and exit codes, as the stock binary does.
func runKubectl() error {
	kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
	return nil
}

// runEtcd serves from the configuration file that is its only argument. Its own main package cannot be linked
// in, so this is the embedded server, which is the same.
func runEtcd() error {
	if len(os.Args) != 2 {
		return errors.New("usage: hyperkube etcd CONFIG.yaml")
	}
	config, err := embed.ConfigFromFile(os.Args[1])
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-stop.Done():
		return nil
	case err := <-server.Err():
		return err
	}
}
