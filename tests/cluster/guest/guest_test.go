// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"wherry.dev/tests/cluster/guest"
	"wherry.dev/tests/cluster/node"
)

// shell runs the guest busybox under `wherry run`, with a folder as its root.
type shell struct{ binary, module, root string }

func newShell(t *testing.T) shell {
	t.Helper()
	binary, err := node.Binary()
	if errors.Is(err, node.ErrMissing) {
		t.Skip(err)
	}
	content, err := guest.Module("busybox")
	if errors.Is(err, guest.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := shell{binary, filepath.Join(t.TempDir(), "busybox.wasm"), t.TempDir()}
	for _, directory := range []string{"tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(s.root, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		s.module:                              string(content),
		filepath.Join(s.root, "etc/hostname"): "pod\n",
		filepath.Join(s.root, "etc/hosts"):    "127.0.0.1 localhost\n10.1.2.3 pod.sub.ns.svc.cluster.local pod\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s shell) run(t *testing.T, stdin string, arguments ...string) (stdout string, code int) {
	t.Helper()
	command := exec.Command(s.binary, append([]string{"run", "--dir", s.root + "::/", "--env", "FOO=bar", s.module}, arguments...)...)
	command.Stdin = bytes.NewBufferString(stdin)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if stderr.Len() > 0 {
		t.Logf("%q says %s", arguments, stderr.String())
	}
	return string(out), command.ProcessState.ExitCode()
}

const counting = `
f=/tmp/count
count=$(echo 'hello' >> $f ; wc -l $f | awk {'print $1'})
if [ $count -eq 1 ]; then
	exit 1
fi
if [ $count -eq 2 ]; then
	exit 0
fi
echo third
`

const steps = "if [ -f /tmp/done ]; then echo y; elif [ -f /tmp/one ]; then touch /tmp/done; exit 42; else touch /tmp/one; exit 1; fi"

// The scripts are those of the specs, and one for each thing that the shell knows.
func TestScripts(t *testing.T) {
	s := newShell(t)
	for _, c := range []struct {
		script, want string
		code         int
	}{
		{`echo "a  b" c   d`, "a  b c d\n", 0},
		{`env | sort | grep FOO`, "FOO=bar\n", 0},
		{`exit 42`, "", 42},
		{`FOO=wrong echo "$FOO"; echo $FOO`, "bar\nbar\n", 0},
		{`[[ "${FOO:?}" == "bar" ]] && echo OK || echo "FOO: '${FOO}'"`, "OK\n", 0},
		{`[[ "${FOO:?}" == "x" ]] && echo OK || echo "FOO: '${FOO}'"`, "FOO: 'bar'\n", 0},
		{`echo ${MISSING:?}; echo not reached`, "", 2},
		{counting, "", 1},
		{counting, "", 0},
		{counting, "third\n", 0},
		{steps, "", 1},
		{steps, "", 42},
		{steps, "y\n", 0},
		{`test -d /tmp/nothing;echo $?`, "1\n", 0},
		{`echo A=\'v1\' > /tmp/env && echo B=\'v2\' >> /tmp/env; cat /tmp/env`, "A='v1'\nB='v2'\n", 0},
		{`/bin/echo -n DONE; /bin/false`, "DONE", 1},
		{`echo $(hostname)';'$(hostname -f)';'`, "pod;pod.sub.ns.svc.cluster.local;\n", 0},
		{`sleep 10 & exit 1`, "", 1},
		{`trap 'sleep 30' TERM; i=0; while true; do i=$((i+1)); if [ $i -ge 3 ]; then break; fi; done; echo $i`, "3\n", 0},
		{`for i in a b c; do echo $i; done | tail -n 2`, "b\nc\n", 0},
		{`echo ok >/tmp/health; rm -rf /tmp/health; cat /tmp/health`, "", 1},
		{`set -e; false || true; if false; then :; fi; echo here; false; echo not`, "here\n", 1},
		{`(exit 3); echo $?; x=$(exit 4); echo $?`, "3\n4\n", 0},
		{`nosuch`, "", 127},
		{`echo $((1+2*3)) $(( (1+2)*3 )) $((7/2)) $((5>3)) $((2==2))`, "7 9 3 1 1\n", 0},
		{`echo err >&2; echo out`, "out\n", 0},
		{`cat /nothing 2>/dev/null || echo no`, "no\n", 0},
		{`until false; do echo x; break; done; ! true; echo $?`, "x\n1\n", 0},
		{`printf '%s-%d\n' a 1 b 2`, "a-1\nb-2\n", 0},
		{`echo ${X:-def} ${#FOO} ${FOO:+set}`, "def 3 set\n", 0},
		{`mkdir -p /tmp/a/b && touch /tmp/a/b/c && ls /tmp/a/b && rm -r /tmp/a && ls /tmp/a`, "c\n", 1},
		{`{ echo a; echo b; } > /tmp/g; wc -l /tmp/g; wc -l < /tmp/g`, "2 /tmp/g\n2\n", 0},
		{`seq 3 | while read i; do echo n$i; done`, "n1\nn2\nn3\n", 0},
		{"echo `echo x` \"`echo y z`\"", "x y z\n", 0},
		{`cd /tmp && pwd; echo a > rel; cat /tmp/rel`, "/tmp\na\n", 0},
		{`exec echo done; echo no`, "done\n", 0},
		{`echo 'unterminated`, "", 2},
		{`if true; then`, "", 2},
		{`echo )`, "", 2},
		{`stat -c %F /tmp; stat -c %s /tmp/rel`, "directory\n2\n", 0},
		{`head -c 3 /tmp/rel; head -n 1 /etc/hosts`, "a\n127.0.0.1 localhost\n", 0},
		{`hexdump -C /tmp/rel | head -n 1 | awk '{print $2}'`, "61\n", 0},
	} {
		if got, code := s.run(t, "", "sh", "-c", c.script); got != c.want || code != c.code {
			t.Errorf("%s\n gave %q and %d, want %q and %d", c.script, got, code, c.want, c.code)
		}
	}
}

func TestArgumentsAndInput(t *testing.T) {
	s := newShell(t)
	if got, _ := s.run(t, "", "sh", "-c", `echo "$1 $# $0"; for x in "$@"; do echo "<$x>"; done`, "a", "b c", "d"); got != "b c 2 a\n<b c>\n<d>\n" {
		t.Errorf("arguments: %q", got)
	}
	if got, _ := s.run(t, "1 2\n3 4 5\n", "sh", "-c", `while read a b; do echo "$b-$a"; done`); got != "2-1\n4 5-3\n" {
		t.Errorf("input: %q", got)
	}
}

func TestTrapEndsTheGuest(t *testing.T) {
	s := newShell(t)
	if got, code := s.run(t, "", "eat", "trap"); got != "" || code != 134 {
		t.Errorf("a trap gave %q and %d", got, code)
	}
}
