// SPDX-License-Identifier: Apache-2.0

// Command cluster runs a control plane and a registry for trying things by hand, in namespaces of their own:
// it starts a shell in there, with KUBECONFIG set, and ends everything with it.
package main

import (
	"fmt"
	"os"
	"os/exec"

	"wherry.dev/tests/cluster/artifact"
	"wherry.dev/tests/cluster/controlplane"
	"wherry.dev/tests/cluster/isolate"
	"wherry.dev/tests/cluster/registry"
)

func main() {
	isolate.Main(func() int {
		if err := hold(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	})
}

// hold runs the command that the arguments are, or a shell, beside the cluster.
func hold() error {
	cluster, err := controlplane.New(controlplane.Options{})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	images, err := registry.Start()
	if err != nil {
		return err
	}
	defer images.Stop()
	hyperkube, err := artifact.Hyperkube.Find()
	if err != nil {
		return err
	}
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		fmt.Printf("%s kubectl is kubectl; %s is the registry; the bootstrap kubeconfig is %s\n",
			hyperkube, registry.Address, cluster.BootstrapKubeconfig())
		arguments = []string{"/bin/sh"}
	}
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(),
		"BOOTSTRAP_KUBECONFIG="+cluster.BootstrapKubeconfig(), "HYPERKUBE="+hyperkube)
	return command.Run()
}
