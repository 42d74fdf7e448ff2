package sinks

import (
	"io"
	"log"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // as the program does: net/http prints there what an endpoint sends unasked
	goleak.VerifyTestMain(m)
}
