// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// PushArtifact stores a module in the CNCF's Wasm artifact layout and returns its reference. The name is a
// repository with a tag; the title is the first word of a container without a command of its own.
func (r *Registry) PushArtifact(name, title string, module []byte) (reference string, err error) {
	config, err := json.Marshal(map[string]any{
		"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1",
		"layerDigests": []string{digest(module)},
	})
	if err != nil {
		return "", err
	}
	return r.push(name, "application/vnd.oci.image.manifest.v1+json",
		blob{"application/vnd.wasm.config.v0+json", config, ""}, blob{"application/wasm", module, title})
}

// Image is a container image such as docker build makes.
type Image struct {
	Files      map[string][]byte // its root file system, by paths without a leading slash
	Entrypoint []string
	Cmd        []string
}

// PushImage stores a container image and returns its reference.
func (r *Registry) PushImage(name string, image Image) (reference string, err error) {
	plain, packed, err := archive(image.Files)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{
		"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1",
		"config": map[string]any{"Entrypoint": image.Entrypoint, "Cmd": image.Cmd, "Env": []string{"PATH=/usr/bin:/bin:/"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(plain)}},
	})
	if err != nil {
		return "", err
	}
	return r.push(name, "application/vnd.docker.distribution.manifest.v2+json",
		blob{"application/vnd.docker.container.image.v1+json", config, ""},
		blob{"application/vnd.docker.image.rootfs.diff.tar.gzip", packed, ""})
}

type blob struct {
	mediaType string
	content   []byte
	title     string
}

func (b blob) describe() descriptor {
	d := descriptor{MediaType: b.mediaType, Digest: digest(b.content), Size: len(b.content)}
	if b.title != "" {
		d.Annotations = map[string]string{"org.opencontainers.image.title": b.title}
	}
	return d
}

func (r *Registry) push(name, mediaType string, config blob, layers ...blob) (string, error) {
	repository, tag, found := strings.Cut(name, ":")
	if !found {
		return "", fmt.Errorf("push %q: give it a tag", name)
	}
	m := manifest{SchemaVersion: 2, MediaType: mediaType, Config: config.describe(), Layers: []descriptor{}}
	for _, layer := range layers {
		m.Layers = append(m.Layers, layer.describe())
	}
	for _, b := range append([]blob{config}, layers...) {
		path := fmt.Sprintf("%s/blobs/uploads/?digest=%s", repository, digest(b.content))
		if err := send(http.MethodPost, path, "application/octet-stream", b.content); err != nil {
			return "", err
		}
	}
	content, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return Address + "/" + name, send(http.MethodPut, repository+"/manifests/"+tag, mediaType, content)
}

func send(method, path, mediaType string, content []byte) error {
	request, err := http.NewRequest(method, "http://"+Address+"/v2/"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", mediaType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, response.Status, answer)
	}
	return nil
}

// archive packs files, by their paths without a leading slash, into a tar, as it is and compressed. The first file
// of a content is stored, the others are hard links to it, as in the image of the real BusyBox.
func archive(files map[string][]byte) (plain, packed []byte, err error) {
	var text, compressed bytes.Buffer
	writer := tar.NewWriter(&text)
	stored := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		header := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Format: tar.FormatPAX}
		if first, found := stored[digest(content)]; found {
			header.Typeflag, header.Linkname, header.Size, content = tar.TypeLink, first, 0, nil
		} else {
			stored[digest(content)] = name
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, nil, err
		}
		if _, err := writer.Write(content); err != nil {
			return nil, nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, nil, err
	}
	zip := gzip.NewWriter(&compressed)
	if _, err := zip.Write(text.Bytes()); err != nil {
		return nil, nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, nil, err
	}
	return text.Bytes(), compressed.Bytes(), nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
