// Package config reads leadrelay's one YAML file.
//
// It is strict: an unknown key, a wrong type, a doubled key or an impossible value is a mistake, every mistake is
// found at once, and each says file, line, column and the key's path. The library's own decoder would stop at the
// first one and read 0123 as 83, so only its lexer and parser are used and the tree is walked here.
//
// References such as ${NAME} and ${file:PATH} are expanded by Resolve, after parsing, so what they stand for is never
// read as YAML; Load needs neither environment nor secret files. A value with a reference in it is checked once it is
// expanded. No mistake shows the text of source, ledger, url, sign_key, proxy or a header, nor anything expanded.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // servers are not all installed with the zones

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// maxFile is the most that is read of a configuration: more than ten thousand webhooks.
const maxFile = 4 << 20

// systemDir is where the service's configuration lives; its ledger then is systemLedger.
const (
	systemDir    = "/etc/leadrelay"
	systemLedger = "/var/lib/leadrelay/ledger.db"
)

// Options are what else a configuration is judged by. A nil function checks nothing.
type Options struct {
	// Dialects are those that are known besides the file's own; nil: the built-in ones.
	Dialects *sinks.Registry
	// Schedule says what is wrong with a schedule in a time zone, in a line that quotes it.
	Schedule func(spec, timezone string) error
}

// Settings are what the file says, defaults filled in.
type Settings struct {
	Source       jobs.Secret // sqlite:/absolute/path, or a postgres:// URL
	Ledger       jobs.Secret // likewise
	Schedule     string      // of webhooks that have none of their own
	Timezone     string      // likewise; an IANA name
	Immediate    bool        // likewise
	Streams      []Stream
	StreamsGiven bool            // false: Streams are the two defaults
	Dialects     *sinks.Registry // all there are
	Webhooks     []jobs.Webhook  // SignKey is empty where the file gives none; State and EnteredAt are the ledger's
	Rows         *WebhookSource  // nil: none
	Push         Push
	HTTP         HTTP
	Admin        Admin
	// SecretsKeyFile holds the keys that seal secrets in the ledger; absolute, or "" for none.
	SecretsKeyFile string
	GiveUpAfter    time.Duration
	Retention      time.Duration
	Reconcile      Reconcile
}

// A WebhookSource is a query of the source database whose rows are webhooks, each column a key of one.
type WebhookSource struct {
	Query string
	Every time.Duration // how often it is asked
}

// Reconcile is when the daemon holds the source against the ledger.
type Reconcile struct {
	Schedule string // in Timezone; "": never
	Days     int    // how far back it looks
}

// Push is how much one daemon does at once.
type Push struct {
	Workers    int // requests in flight
	PerWebhook int // of them, to one webhook
	MaxBody    int // the largest body that is sent, in bytes
}

// HTTP is how requests to CRMs are made. Paths are absolute.
type HTTP struct {
	Timeout        time.Duration // of a whole attempt
	AllowHTTP      bool
	AllowPrivate   bool
	AllowCIDRs     []string // masked prefixes
	CAFile         string
	ClientCertFile string // given if ClientKeyFile is
	ClientKeyFile  string
	Proxy          jobs.Secret // "" for none
}

// Admin is the listener for people and scrapers.
type Admin struct {
	Listen    string // host:port; "" for none
	TokenFile string // holds the token that may do everything; absolute, or "" for none
	// WebhooksPerChatbot is the most webhooks that tokens of one chatbot may enter.
	WebhooksPerChatbot int
}

// A Config is a file that was read and found good, its references not yet expanded: texts that hold any are as
// written, and what is made of them (a webhook's default id, a path) stands only in Resolved.
type Config struct {
	Path string // absolute
	Settings

	root *node
	name string // the file as the caller called it
	opts Options
}

// Resolved is a Config whose references are expanded.
type Resolved struct {
	Path string // absolute
	Settings
}

// Load reads and checks the file at path. What is wrong with its text is Mistakes.
func Load(path string, o Options) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, openError(path, err)
	}
	return Parse(path, data, o)
}

func openError(path string, err error) error {
	var fault *os.PathError
	if errors.As(err, &fault) {
		err = fault.Err // the path is in our words already
	}
	return fmt.Errorf("read configuration %s: %w", path, err)
}

// Parse is Load for text that has been read already; path says where it is from.
func Parse(path string, data []byte, o Options) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the folder of configuration %s: %w", path, err)
	}
	root, mistakes := readTree(path, data)
	if len(mistakes) > 0 && root == nil {
		return nil, mistakes
	}
	c := &Config{Path: abs, root: root, name: path, opts: o}
	d := c.decoder()
	d.mistakes = mistakes
	c.Settings = d.settings(root)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) decoder() *decoder {
	return &decoder{file: c.name, abs: c.Path, opts: c.opts}
}

// Resolve expands the references of these top-level keys (none named: of all) and checks the values they give. Those
// of other keys stay as written, so that a command asks only for the secrets that it uses. The error is Mistakes and
// never shows what a reference stands for.
func (c *Config) Resolve(env Env, keys ...string) (*Resolved, error) {
	d := c.decoder()
	d.env = &env
	d.only = keys
	r := &Resolved{Path: c.Path, Settings: d.settings(c.root)}
	if err := d.err(); err != nil {
		return nil, err
	}
	return r, nil
}

// Find says which configuration is meant: explicit (the flag --config), else $LEADRELAY_CONFIG, ./config.yaml,
// /etc/leadrelay/config.yaml, the first that is there. One that is named is meant even where it is missing.
func Find(explicit string, env Env) (string, error) {
	return find(explicit, env, "config.yaml", filepath.Join(systemDir, "config.yaml"))
}

func find(explicit string, env Env, places ...string) (string, error) {
	if explicit != "" {
		return explicit, nil
	}
	if env.Lookup != nil {
		if path, ok := env.Lookup("LEADRELAY_CONFIG"); ok && path != "" {
			return path, nil
		}
	}
	looked := []string{"$LEADRELAY_CONFIG (not set)"}
	for _, path := range places {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return path, nil // also one that may not be read: Load says so
		}
		if !filepath.IsAbs(path) {
			path = "./" + path
		}
		looked = append(looked, path)
	}
	return "", fmt.Errorf("no configuration; looked for --config, %s: copy config.example.yaml to one of these places",
		strings.Join(looked, ", "))
}
