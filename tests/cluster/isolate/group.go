// SPDX-License-Identifier: Apache-2.0

package isolate

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// group is a control group of this run at the root of every hierarchy that takes one, so that the groups that a
// node makes below it are gone after the run.
type group struct {
	name        string
	directories []string
}

func newGroup(name string) *group {
	g := &group{name: name}
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g
	}
	for line := range strings.Lines(string(content)) { // hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, mount := range mountsOf(parts[1]) {
			if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
				continue
			}
			directory := filepath.Join(mount, name)
			if os.Mkdir(directory, 0o755) == nil {
				inherit(mount, directory)
				g.directories = append(g.directories, directory)
			}
			break
		}
	}
	return g
}

// mountsOf guesses where the hierarchy with these controllers is mounted; the usual places are enough here.
func mountsOf(controllers string) []string {
	if controllers == "" {
		return []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}
	}
	mounts := []string{filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(controllers, "name="))}
	for controller := range strings.SplitSeq(controllers, ",") {
		mounts = append(mounts, filepath.Join("/sys/fs/cgroup", controller))
	}
	return mounts
}

// inherit fills in what a new cpuset must have before it takes a process.
func inherit(parent, child string) {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if content, err := os.ReadFile(filepath.Join(parent, name)); err == nil {
			_ = os.WriteFile(filepath.Join(child, name), content, 0o644)
		}
	}
}

func (g *group) add(pid int) {
	for _, directory := range g.directories {
		_ = os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
	}
}

// remove drops the groups, deepest first. The last processes may need a moment to be gone.
func (g *group) remove() {
	for _, directory := range g.directories {
		for deadline := time.Now().Add(2 * time.Second); removeTree(directory) != nil && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func removeTree(directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			_ = removeTree(filepath.Join(directory, entry.Name()))
		}
	}
	return syscall.Rmdir(directory)
}
