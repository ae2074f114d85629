// SPDX-License-Identifier: Apache-2.0

// A function as a plain program of WASI preview 1; its C sister says how paths are read.
package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"time"
)

func main() {
	at := os.Getenv("PATH_INFO")
	if at == "" {
		at = os.Getenv("Http_Path")
	}
	head := func() {
		if strings.HasPrefix(at, "/cgi/") {
			fmt.Print("Content-Type: text/plain\nX-Language: Go\n\n")
		}
	}
	switch path.Base(at) {
	case "cat":
		head()
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			os.Exit(1)
		}
	case "env":
		head()
		for i, argument := range os.Args {
			fmt.Printf("arg %d %s\n", i, argument)
		}
		variables := os.Environ()
		sort.Strings(variables)
		fmt.Println(strings.Join(variables, "\n"))
	case "exit":
		os.Exit(3)
	case "trap":
		panic("asked to trap")
	case "sleep":
		time.Sleep(50 * time.Millisecond)
		head()
		fmt.Println("slept")
	default:
		head()
		fmt.Println("Hello from Go")
	}
}
