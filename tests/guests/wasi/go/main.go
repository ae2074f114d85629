// SPDX-License-Identifier: Apache-2.0

// What Go's standard library makes of WASI: files, folders, links, times, input, timers, errors by kind.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

func tell(what string, err error) {
	var path *fs.PathError
	switch {
	case err == nil:
		fmt.Println(what+":", "fine")
	case errors.As(err, &path):
		fmt.Println(what+":", path.Op, path.Err)
	default:
		fmt.Println(what+":", err)
	}
}

func files() error {
	f, err := os.OpenFile("/go.txt", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("0123456789"); err != nil {
		return err
	}
	part := make([]byte, 4)
	n, err := f.ReadAt(part, 3)
	fmt.Println(n, err, string(part))
	if _, err := f.WriteAt([]byte("XY"), 8); err != nil {
		return err
	}
	at, err := f.Seek(-3, io.SeekEnd)
	fmt.Println(at, err)
	rest, err := io.ReadAll(f)
	fmt.Println(string(rest), err)
	tell("truncate", f.Truncate(5))
	tell("sync", f.Sync())
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Println(info.Size(), info.Name(), info.Mode().IsRegular())
	more, err := os.OpenFile("/go.txt", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fmt.Fprint(more, "appended")
	more.Close()
	text, err := os.ReadFile("/go.txt")
	fmt.Println(string(text))
	return err
}

func folders() error {
	if err := os.MkdirAll("/x/y/z", 0o755); err != nil {
		return err
	}
	for i := 0; i < 300; i++ {
		if err := os.WriteFile(fmt.Sprintf("/x/y/file-%d", i), nil, 0o644); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir("/x/y")
	if err != nil {
		return err
	}
	fmt.Println(len(entries), entries[0].Name(), entries[0].IsDir(), entries[300].Name())
	var walked []string
	err = filepath.WalkDir("/x", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, "file-") {
			walked = append(walked, path)
		}
		return err
	})
	sort.Strings(walked)
	fmt.Println(walked, err)
	tell("rename", os.Rename("/x/y/z", "/x/moved"))
	tell("link", os.Symlink("y/file-1", "/x/link"))
	to, err := os.Readlink("/x/link")
	fmt.Println(to, err)
	info, err := os.Lstat("/x/link")
	if err != nil {
		return err
	}
	fmt.Println(info.Mode()&fs.ModeSymlink != 0)
	return os.RemoveAll("/x")
}

func main() {
	tell("files", files())
	tell("folders", folders())
	_, err := os.Open("/missing")
	tell("missing", err)
	_, err = os.OpenFile("/go.txt", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	tell("exists", err)
	_, err = os.ReadFile("/")
	tell("folder as file", err)
	_, err = os.ReadFile("/go.txt/x")
	tell("through a file", err)
	tell("not empty", os.Remove("/ro"))
	tell("read-only", os.WriteFile("/ro/new", nil, 0o644))
	tell("absolute link", os.Symlink("/etc/passwd", "/absolute"))
	tell("times", os.Chtimes("/go.txt", time.Unix(1000, 0), time.Unix(2000, 0)))
	info, err := os.Stat("/go.txt")
	if err == nil {
		fmt.Println(info.ModTime().Unix())
	}
	began := time.Now()
	done := make(chan time.Duration)
	for i := 1; i <= 3; i++ {
		go func(d time.Duration) { time.Sleep(d); done <- d }(time.Duration(i*10) * time.Millisecond)
	}
	for i := 0; i < 3; i++ {
		fmt.Println(<-done)
	}
	fmt.Println(time.Since(began) >= 30*time.Millisecond)
	random := make([]byte, 64)
	n, err := rand.Read(random)
	fmt.Println(n, err)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("line:", in.Text())
	}
	fmt.Println(os.Args[1:], os.Getenv("A"), len(os.Environ()))
	fmt.Fprintln(os.Stderr, "to standard error")
	os.Exit(5)
}
