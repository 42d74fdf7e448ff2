// Command bareclient posts the lines of standard input to a URL with Go's HTTP client and nothing else: no database, no
// signature of ours to make, no answer to judge but its HTTP status. It is what leadrelay's rate is held against.
//
// Each line is the headers X-Webhook-Id and X-Webhook-Signature and a body, with tabs between. It prints the seconds that the requests took.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	url := os.Args[1]
	workers, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers}}
	lines := make(chan []byte, workers)
	var posting sync.WaitGroup
	for range workers {
		posting.Go(func() {
			for line := range lines {
				if err := post(client, url, line); err != nil {
					log.Fatal(err)
				}
			}
		})
	}
	began := time.Now()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		lines <- bytes.Clone(in.Bytes())
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
	close(lines)
	posting.Wait()
	fmt.Println(time.Since(began).Seconds())
}

func post(client *http.Client, url string, line []byte) error {
	id, rest, _ := bytes.Cut(line, []byte("\t"))
	signature, body, _ := bytes.Cut(rest, []byte("\t"))
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Webhook-Id", string(id))
	request.Header.Set("X-Webhook-Signature", string(signature))
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", answer.StatusCode)
	}
	return nil
}
