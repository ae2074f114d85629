// SPDX-License-Identifier: Apache-2.0

// Go's own HTTP client against tests/tools/http_server: `client URL` prints what it saw as JSON.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

type seen struct {
	Proto       string `json:"proto"`
	Trailer     string `json:"trailer"`
	EchoTrailer string `json:"echo_trailer"`
	Parallel    int    `json:"parallel"`
	Echoed      int    `json:"echoed"`
	GivenUp     bool   `json:"given_up"`
	After       string `json:"after"`
}

func get(client *http.Client, url string) (*http.Response, []byte) {
	response, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return response, body
}

func echo(client *http.Client, url string, result *seen) {
	reader, writer := io.Pipe()
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	request, err := http.NewRequest("POST", url+"/echo", reader)
	if err != nil {
		log.Fatal(err)
	}
	request.Trailer = http.Header{"X-Back": nil}
	go func() {
		for i := 0; i < 160; i++ {
			if _, err := writer.Write(block); err != nil {
				log.Fatal(err)
			}
		}
		request.Trailer.Set("X-Back", "7")
		writer.Close()
	}()
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		log.Fatal(err)
	}
	result.Echoed = int(n)
	result.EchoTrailer = response.Trailer.Get("X-Back")
}

func main() {
	log.SetFlags(0)
	url := os.Args[1]
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	var result seen
	response, _ := get(client, url+"/trailers")
	result.Proto, result.Trailer = response.Proto, response.Trailer.Get("X-Sum")
	var group sync.WaitGroup
	var lock sync.Mutex
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			response, err := client.Get(fmt.Sprintf("%s/bytes?%d", url, i*1000))
			if err != nil {
				log.Fatal(err)
			}
			defer response.Body.Close()
			n, err := io.Copy(io.Discard, response.Body)
			if err != nil || int(n) != i*1000 {
				log.Fatalf("%d of %d bytes: %v", n, i*1000, err)
			}
			lock.Lock()
			result.Parallel++
			lock.Unlock()
		}()
	}
	group.Wait()
	echo(client, url, &result)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", url+"/hold", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Do(request)
	result.GivenUp = err != nil
	_, body := get(client, url+"/")
	result.After = string(body)
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}
