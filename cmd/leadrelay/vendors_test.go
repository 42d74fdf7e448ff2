package main

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVendorsExamples makes the bodies that the vendors' pages show of rows in tables, by a configuration that may be
// copied.
func TestVendorsExamples(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/vendors/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	statements, err := os.ReadFile("testdata/vendors/platform.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "platform.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(statements)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	code, out, errs := cli(t, "", "--config", config, "--json", "run-now", "--dry-run")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var planned struct {
		Requests []struct {
			Webhook string            `json:"webhook"`
			Type    string            `json:"type"`
			Headers map[string]string `json:"headers"`
			Body    string            `json:"body"`
		} `json:"requests"`
	}
	if err := json.Unmarshal([]byte(out), &planned); err != nil {
		t.Fatal(err)
	}
	examples := map[string]string{
		"smarterbot Lead": "smarterbot", "smartlook-issues issue": "smartlook-issue", "smartlook-notes note": "smartlook-note",
		"smartlook-notes comment": "smartlook-comment", "userback feedback": "userback",
	}
	for _, r := range planned.Requests {
		name, expected := examples[r.Webhook+" "+r.Type]
		if !expected {
			t.Errorf("webhook %s gets a %s", r.Webhook, r.Type)
			continue
		}
		delete(examples, r.Webhook+" "+r.Type)
		page, err := os.ReadFile(filepath.Join("..", "..", "sinks", "testdata", "examples", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := json.Unmarshal(page, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-page +ours):\n%s", name, diff)
		}
		if _, signed := r.Headers["Smartlook-Signature-256"]; signed != (r.Webhook == "smartlook-notes") {
			t.Errorf("%s is signed: %t", r.Webhook, signed)
		}
	}
	for missing := range examples {
		t.Errorf("nothing is made of %s", missing)
	}
}
