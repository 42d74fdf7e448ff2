// Package systemd_test holds the unit files to what their comments and README say, by systemd's own tools.
package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const unit = "leadrelay.service"

// highest is the exposure that `systemd-analyze security` may find: 0 is a program locked in, 10 one without walls.
const highest = 1.5

// run runs one of systemd's programs and returns what it printed.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: the unit is judged by systemd itself; install Debian's package systemd, or let `make test` do it", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// install puts the unit, and these drop-ins, into a folder of its own, with a program in place of the one that is not
// installed here.
func install(t *testing.T, dropIns ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), unit)
	text := strings.ReplaceAll(read(t, unit), "/usr/local/bin/leadrelay", self)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range dropIns {
		if err := os.MkdirAll(path+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path+".d", name), []byte(read(t, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestUnit(t *testing.T) {
	for _, c := range []struct {
		name    string
		dropIns []string
	}{
		{"as installed", nil},
		{"with a SQLite source", []string{"sqlite-source.conf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := install(t, c.dropIns...)
			if out, err := run(t, "systemd-analyze", "verify", "--man=no", path); err != nil || out != "" {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}

			out, err := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", path)
			if err != nil {
				t.Fatalf("systemd-analyze security: %v\n%s", err, out)
			}
			found := regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d+)`).FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("systemd-analyze security names no exposure:\n%s", out)
			}
			exposure, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			if exposure > highest {
				t.Errorf("exposure %.1f, want at most %.1f:\n%s", exposure, highest, out)
			}
			t.Logf("exposure %.1f", exposure)
		})
	}
}

// systemd-analyze verify ends well where a directive is misspelt, so TestUnit goes by what it prints: this holds that
// it does.
func TestVerifySeesMistakes(t *testing.T) {
	path := install(t)
	text := strings.Replace(read(t, path), "ProtectHome=yes", "ProtectHouse=yes", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, "systemd-analyze", "verify", "--man=no", path); !strings.Contains(out, "ProtectHouse") {
		t.Errorf("systemd-analyze verify says nothing of ProtectHouse=:\n%s", out)
	}
}

func TestEveryDirectiveHasItsReason(t *testing.T) {
	for _, name := range []string{unit, "sqlite-source.conf"} {
		t.Run(name, func(t *testing.T) {
			directives, above := 0, ""
			for i, line := range strings.Split(read(t, name), "\n") {
				if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
					directives++
					if !strings.HasPrefix(above, "# ") {
						t.Errorf("%s:%d: %s has no comment above it that says why", name, i+1, line)
					}
				}
				above = line
			}
			if directives == 0 {
				t.Error("no directives found")
			}
		})
	}
}

// TestEveryHostHasItsPrograms: a minimal Debian, which the unit is for, has a shell and little else. What is missing is
// found out when a reload fails.
func TestEveryHostHasItsPrograms(t *testing.T) {
	commands := regexp.MustCompile(`(?m)^Exec\w+=([^ ]+)`).FindAllStringSubmatch(read(t, unit), -1)
	if len(commands) == 0 {
		t.Fatal("the unit starts nothing")
	}
	for _, c := range commands {
		if c[1] != "/usr/local/bin/leadrelay" && c[1] != "/bin/sh" {
			t.Errorf("%s: this program is not on every host", c[0])
		}
	}
}

func TestSysusers(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("leadrelay.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "systemd-sysusers", "--root="+root, path); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	for file, want := range map[string]string{
		"etc/passwd": `(?m)^leadrelay:x:\d+:\d+:leadrelay daemon:/var/lib/leadrelay:/usr/sbin/nologin$`,
		"etc/group":  `(?m)^leadrelay:x:\d+:$`,
	} {
		if got := read(t, filepath.Join(root, file)); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q does not match %s", file, got, want)
		}
	}
}

// What README.md tells people to type names files that are here and places that the unit names.
func TestReadmeNamesWhatIsThere(t *testing.T) {
	readme := read(t, "README.md")
	for _, name := range []string{unit, "leadrelay.sysusers", "sqlite-source.conf"} {
		if !strings.Contains(readme, "systemd/"+name) {
			t.Errorf("README.md does not install %s", name)
		}
	}
	for _, found := range regexp.MustCompile(`systemd/([\w-]+\.\w+)`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(found[1]); err != nil {
			t.Errorf("README.md names %s: %v", found[0], err)
		}
	}
	service := []byte(read(t, unit))
	for _, place := range []string{"/usr/local/bin/leadrelay", "/etc/leadrelay/config.yaml"} {
		if !strings.Contains(readme, place) || !bytes.Contains(service, []byte(place)) {
			t.Errorf("README.md and %s do not both name %s", unit, place)
		}
	}
}
