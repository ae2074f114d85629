// SPDX-License-Identifier: Apache-2.0

// Package isolate runs the tests of a package in a network, a process and a mount namespace of their own.
//
// The network has a loopback and a bridge with an address that the API server takes for a routable one, so
// that every package may use the same addresses and ports at the same time. Whatever the tests start, however
// far it has detached itself, ends when the tests end; nothing that they mount is seen outside.
package isolate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

const (
	// Address is the bridge's own: the control plane listens there. Nodes take NodeAddress.
	Address = "10.99.0.1"
	bridge  = "wh-test0"

	stageVariable     = "WHERRY_TEST_STAGE"
	directoryVariable = "WHERRY_TEST_DIRECTORY"
	groupVariable     = "WHERRY_TEST_GROUP"
	keepVariable      = "WHERRY_TEST_KEEP" // set: the directory stays behind, with every log
)

// NodeAddress is the address of the n-th node, counted from 0, on the same bridge.
func NodeAddress(n int) string { return fmt.Sprintf("10.99.0.%d", 10+n) }

// MaxNodes is how many node addresses the bridge has.
const MaxNodes = 8

var missing error

// Main calls run inside the namespaces and exits with what it returned. Without the right to make namespaces,
// run is called outside, and Require skips each test with the reason.
func Main(run func() int) {
	switch os.Getenv(stageVariable) {
	case "run":
		os.Exit(run())
	case "init":
		os.Exit(initialise())
	}
	code, err := enter()
	if err == nil {
		os.Exit(code)
	}
	missing = fmt.Errorf("no namespaces for the test: %w", err)
	os.Exit(run())
}

// Missing tells why the tests do not run in namespaces; nil when they do.
func Missing() error { return missing }

// Require skips the test outside of the namespaces.
func Require(t testing.TB) {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
}

// Directory is where this run keeps its files. It is short, as a unix socket's path has 107 bytes, and is
// removed after the last process has ended.
func Directory() string { return os.Getenv(directoryVariable) }

// Group is the control group of this run, as the path below a hierarchy's mount; the same in all of them.
func Group() string { return os.Getenv(groupVariable) }

// enter starts the first process of the namespaces and waits for it.
func enter() (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("run the tests as root")
	}
	directory, err := os.MkdirTemp("", "wh-")
	if err != nil {
		return 0, err
	}
	if os.Getenv(keepVariable) == "" {
		defer os.RemoveAll(directory)
	} else {
		fmt.Fprintln(os.Stderr, "the files of this run stay in", directory)
	}
	group := newGroup("wh-test-" + strings.TrimPrefix(filepath.Base(directory), "wh-"))
	defer group.remove()

	command := again("init")
	command.Env = append(command.Env, directoryVariable+"="+directory, groupVariable+"="+group.name)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, // however these tests end, the namespaces end with them
	}
	runtime.LockOSThread() // Pdeathsig follows the thread that forked
	gate, opened, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	command.ExtraFiles = []*os.File{gate}
	if err := command.Start(); err != nil {
		gate.Close()
		return 0, err
	}
	gate.Close()
	group.add(command.Process.Pid)
	opened.Close()
	return exitCode(command.Wait())
}

// initialise is the first process: it sets up the namespaces, runs the tests, and reaps whatever they orphan.
func initialise() int {
	gate := os.NewFile(3, "gate")
	_, _ = gate.Read(make([]byte, 1)) // until it is in its control group
	gate.Close()
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "set up the namespaces of the test:", err)
		return 1
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	command := again("run")
	if err := command.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait for the tests:", err)
			return 1
		case pid != command.Process.Pid:
			continue
		case status.Signaled():
			return 128 + int(status.Signal())
		}
		return status.ExitStatus()
	}
}

// prepare makes the network, and hides the outer processes and mounts.
func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridge, "type", "bridge"},
		{"link", "set", bridge, "up"},
		{"addr", "add", Address + "/24", "dev", bridge},
	}
	for n := range MaxNodes {
		commands = append(commands, []string{"addr", "add", NodeAddress(n) + "/24", "dev", bridge})
	}
	commands = append(commands, []string{"route", "add", "default", "dev", bridge}) // the API server looks for one
	for _, arguments := range commands {
		if out, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, out)
		}
	}
	return nil
}

func again(stage string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), stageVariable+"="+stage)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command
}

func exitCode(err error) (int, error) {
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(ended.ExitCode(), 1), nil
	}
	return 0, err
}
