package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// skewVariable tells a process of the skewed program by how many seconds its clock is wrong.
const skewVariable = "TORTURE_SKEW"

// skewedBinary builds the program with a clock that goes wrong by as much as the environment says. The program needs no
// hook for it: time.Now is another in the standard library that it is built with. That takes a minute or two when it
// is done for the first time.
func skewedBinary(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	library, dir := filepath.Join(strings.TrimSpace(string(root)), "src", "time"), t.TempDir()
	text, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	now := regexp.MustCompile(`func Now\(\) Time \{\n\tsec, nsec, mono := \w+\(\)\n`)
	if !now.Match(text) {
		t.Fatal("this version of Go has another time.Now: the expression above has to find it")
	}
	replaced := map[string]string{}
	for name, text := range map[string][]byte{
		"time.go": now.ReplaceAll(text, []byte("$0\tsec += skew\n")),
		"skew.go": fmt.Appendf(nil, `package time

import "syscall"

var skew = func() (seconds int64) {
	text, _ := syscall.Getenv(%q)
	sign := int64(1)
	for _, c := range text {
		if c == '-' {
			sign = -1
			continue
		}
		seconds = seconds*10 + int64(c-'0')
	}
	return sign * seconds
}()
`, skewVariable),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[filepath.Join(library, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "leadrelay")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-overlay", path, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}
