package sinks

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/leadrelay/leadrelay/jobs"
)

const (
	maxAnswer     = 64 << 10      // of an answer's body, in bytes, after decompression
	maxCompressed = 2 * maxAnswer // of a compressed one before it: members without content cost time and no size
)

// buffers hold answers while they are judged; nothing of an answer outlives that.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 512)
	return &b
}}

// readAnswer reads an answer's body into buf, all of it or not at all.
func readAnswer(ctx context.Context, res *http.Response, buf *[]byte) ([]byte, *jobs.RefusedError) {
	*buf = (*buf)[:0] // what it held was another's answer
	if res.ContentLength > maxCompressed {
		return nil, refused(ReasonTooLarge, 0, "")
	}
	raw := &wire{body: res.Body, left: maxCompressed}
	var err error
	switch contentEncoding(res) {
	case "", "identity":
		err = readInto(buf, raw)
	case "gzip", "x-gzip":
		err = gunzipInto(buf, raw)
	default:
		return nil, refused(ReasonEncoding, 0, "")
	}
	switch {
	case err == nil:
		return *buf, nil
	case errors.Is(err, errOverlong):
		return nil, refused(ReasonTooLarge, 0, "")
	case ctx.Err() != nil:
		return nil, refused(ReasonTimeout, 0, "The endpoint began to answer and did not end in time.")
	case raw.err == nil: // all bytes came, and gzip does not like them
		return nil, refused(ReasonGzip, 0, "")
	case errors.Is(raw.err, io.ErrUnexpectedEOF):
		return nil, refused(ReasonTruncated, 0, "")
	case isConnection(raw.err) || res.ProtoMajor > 1:
		return nil, refused(ReasonReset, 0, "")
	default:
		return nil, refused(ReasonHTTP, 0, "")
	}
}

func contentEncoding(res *http.Response) string {
	return strings.ToLower(strings.Join(res.Header["Content-Encoding"], ","))
}

var errOverlong = errors.New("answer too large")

// wire reads an answer as it comes, a bounded amount, and remembers what went wrong there.
type wire struct {
	body io.Reader
	left int
	err  error
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errOverlong
	}
	if len(p) > w.left {
		p = p[:w.left]
	}
	n, err := w.body.Read(p)
	w.left -= n
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// readInto reads r to its end, or says errOverlong.
func readInto(buf *[]byte, r io.Reader) error {
	b := (*buf)[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*buf = b
		switch {
		case len(b) > maxAnswer:
			return errOverlong
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

var gunzippers = sync.Pool{New: func() any { return new(gzip.Reader) }}

func gunzipInto(buf *[]byte, r io.Reader) error {
	z := gunzippers.Get().(*gzip.Reader)
	defer gunzippers.Put(z)
	if err := z.Reset(r); err == io.EOF {
		return nil // no byte at all: an empty answer
	} else if err != nil {
		return err
	}
	return readInto(buf, z)
}

// isConnection reports whether err is the connection's, and not the protocol's.
func isConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, net.ErrClosed)
}
