// SPDX-License-Identifier: Apache-2.0

// Package registry is an OCI registry on the loopback of the test's network, and what fills it with images.
package registry

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Address is where the registry listens. Loopback is the one place from which a node takes plain HTTP.
const Address = "127.0.0.1:5000"

// Registry holds images in memory.
type Registry struct {
	server    *http.Server
	down      atomic.Bool
	downloads atomic.Int64
}

// Start serves an empty registry.
func Start() (*Registry, error) {
	listener, err := net.Listen("tcp", Address)
	if err != nil {
		return nil, err
	}
	r := &Registry{}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.down.Load() {
			http.Error(w, "the test took the registry away", http.StatusServiceUnavailable)
			return
		}
		if request.Method == http.MethodGet && strings.Contains(request.URL.Path, "/blobs/") {
			r.downloads.Add(1)
		}
		store.ServeHTTP(w, request)
	})}
	go func() {
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return r, nil
}

// Stop ends the registry.
func (r *Registry) Stop() error { return r.server.Close() }

// SetDown makes every request fail with 503, or serves again.
func (r *Registry) SetDown(down bool) { r.down.Store(down) }

// Downloads counts the blobs that were asked for.
func (r *Registry) Downloads() int64 { return r.downloads.Load() }
