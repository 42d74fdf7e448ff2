package receiver

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// presets are the behaviours that have a name. Those made by a function are made when they are first wanted.
var presets = map[string]Behaviour{
	"success":       Success,
	"test-answer":   TestAnswer,
	"wrong-case":    Body(`{"status":"Success"}`),
	"wrong-word":    Body(`{"status":"error"}`),
	"wrong-name":    Body(`{"Status":"success"}`),
	"wrong-type":    Body(`{"status":true}`),
	"no-status":     Body(`{"ok":true}`),
	"doubled-key":   Body(`{"status":"error","status":"success"}`),
	"array":         Body(`[{"status":"success"}]`),
	"text":          Body(`success`),
	"empty":         Body(``),
	"bom":           Body("\ufeff" + `{"status":"success"}`),
	"leading-text":  Body("<br />\n<b>Warning</b>: undefined variable\n" + `{"status":"success"}`),
	"trailing-text": Body(`{"status":"success"}<!-- served in 3 ms -->`),
	"not-utf8":      Body("{\"status\":\"success\",\"by\":\"M\xfcller\"}"),
	"cut-json":      Body(`{"status":"succ`),
	"html": func(w http.ResponseWriter, _ *http.Request, _ *Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>Log in</title><p>Please log in")
	},
	"huge":          huge,
	"flood":         flood,
	"gzip":          gzipped,
	"gzip-bomb":     gzipBomb,
	"bad-gzip":      badGzip,
	"redirect":      Status(http.StatusFound),
	"hang":          hang,
	"hang-body":     hangBody,
	"hang-headers":  hangHeaders,
	"flood-headers": floodHeaders,
	"silent-close":  silentClose,
	"slow":          slow,
	"reset":         reset,
	"reset-body":    resetBody,
	"truncated":     wireBytes("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"succ"),
	"not-http":      wireBytes("220 mail.example.com ESMTP\r\n"),
}

func huge(w http.ResponseWriter, _ *http.Request, _ *Request) {
	w.Header()["Content-Type"] = jsonHeader
	_, _ = fmt.Fprintf(w, `{"status":"success","padding":"%s"}`, strings.Repeat("x", 100_000))
}

// gzipBomb is an acknowledgement of 256 MiB in 256 KiB: gzip may be put together from parts.
func gzipBomb(w http.ResponseWriter, _ *http.Request, _ *Request) {
	w.Header()["Content-Type"] = jsonHeader
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(gzipOf([]byte(`{"status":"success"`)))
	part := gzipOf(bytes.Repeat([]byte(" "), 1<<20))
	for range 256 {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
	_, _ = w.Write(gzipOf([]byte("}")))
}

func gzipOf(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

// gzipped acknowledges, compressed whether or not that was asked for.
func gzipped(w http.ResponseWriter, _ *http.Request, req *Request) {
	req.Acked = true
	w.Header()["Content-Type"] = jsonHeader
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(gzipOf(req.acknowledgement()))
}

func badGzip(w http.ResponseWriter, _ *http.Request, _ *Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(success)
}

// Presets returns the names that Parse knows, sorted.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Parse reads a behaviour as it is written on the command line: a preset's name, http-NNN, wait-DURATION (then
// success), or several with commas between them: what a record's first, second … request gets, the last for all
// later ones. With CHATBOT= before it, it is for that chatbot alone. Several texts make one behaviour; without one
// for all chatbots, the others get success.
func Parse(texts []string) (Behaviour, error) {
	otherwise, of := Behaviour(Success), map[string]Behaviour{}
	for _, text := range texts {
		chatbot, steps, one := strings.Cut(text, "=")
		if !one {
			steps = text
		}
		b, err := parseSteps(steps)
		if err != nil {
			return nil, err
		}
		if one {
			of[chatbot] = b
		} else {
			otherwise = b
		}
	}
	if len(of) == 0 {
		return otherwise, nil
	}
	return ByChatbot(of, otherwise), nil
}

func parseSteps(text string) (Behaviour, error) {
	var steps []Behaviour
	for name := range strings.SplitSeq(text, ",") {
		b, err := parseStep(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		steps = append(steps, b)
	}
	if len(steps) == 1 {
		return steps[0], nil
	}
	return Each(steps...), nil
}

func parseStep(name string) (Behaviour, error) {
	if b, ok := presets[name]; ok {
		return b, nil
	}
	if code, ok := strings.CutPrefix(name, "http-"); ok {
		if n, err := strconv.Atoi(code); err == nil && n >= 200 && n <= 599 {
			return Status(n), nil
		}
	}
	if text, ok := strings.CutPrefix(name, "wait-"); ok {
		if d, err := time.ParseDuration(text); err == nil && d >= 0 {
			return After(d, Success), nil
		}
	}
	return nil, fmt.Errorf("no answer is called %q; there are http-NNN, wait-DURATION, %s", name, strings.Join(Presets(), ", "))
}
