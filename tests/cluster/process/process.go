// SPDX-License-Identifier: Apache-2.0

// Package process runs the programs that a cluster test is made of, and lets a test kill and restart them.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is one program. A test may Kill it and Start it again, as an outage would.
type Process struct {
	Name      string
	Binary    string
	Arguments []string
	Env       []string // in addition to the test's own
	Log       string   // path of its output, appended to at each start

	running *os.Process
	exited  chan struct{} // closed once the running process has ended
	state   *os.ProcessState
}

func (p *Process) String() string { return p.Name }

// Pid returns the process id of the latest start.
func (p *Process) Pid() int { return p.running.Pid }

// Start runs the program. It does not wait until the program serves.
func (p *Process) Start() error {
	if p.Running() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.Binary, p.Arguments...)
	command.Stdout, command.Stderr = log, log
	command.Env = append(os.Environ(), p.Env...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the test is not one of the program
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.running, p.exited = command.Process, exited
	go func() {
		_ = command.Wait() // how it ended is in its state and its log
		p.state = command.ProcessState
		close(exited)
	}()
	return nil
}

// Running tells whether the program was started and has not ended.
func (p *Process) Running() bool {
	if p.running == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the program alone, not to what it started.
func (p *Process) Signal(signal os.Signal) error {
	if p.running == nil {
		return fmt.Errorf("%s was never started", p.Name)
	}
	return p.running.Signal(signal)
}

// Kill ends the program at once and waits until it is gone. It is no error if it had ended.
func (p *Process) Kill() error {
	if p.running == nil {
		return nil
	}
	if err := p.running.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks the program to end and waits for it; past the limit it is killed and that is an error.
func (p *Process) Stop(limit time.Duration) error {
	if !p.Running() {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(limit):
		return errors.Join(fmt.Errorf("%s still runs %v after SIGTERM", p.Name, limit), p.Kill())
	}
}

// State is how the program ended; nil while it runs.
func (p *Process) State() *os.ProcessState {
	if p.Running() {
		return nil
	}
	return p.state
}

// Tail returns the last lines of the program's output.
func (p *Process) Tail(lines int) string {
	content, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Await polls ready until it reports no error, the program ends, or the time is over.
func (p *Process) Await(what string, limit time.Duration, ready func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ready()
		switch {
		case err == nil:
			return nil
		case !p.Running():
			return fmt.Errorf("%s ended before %s:\n%s", p.Name, what, p.Tail(20))
		case time.Now().After(deadline):
			return fmt.Errorf("not within %v: %s (%w)\n%s", limit, what, err, p.Tail(20))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Output runs a command to its end and returns its standard output, trimmed; its standard error is in the error.
func Output(command *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, stderr.String())
	}
	return text, nil
}
