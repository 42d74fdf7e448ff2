package config

import (
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

const (
	defaultSchedule = "@daily"
	defaultTimezone = "UTC"

	day     = 24 * time.Hour
	longest = 36500 * day // of durations that have no better bound
)

// settings decodes the whole file.
func (d *decoder) settings(root *node) Settings {
	top := value{d: d, n: root, line: root.line, col: root.col}
	f, ok := top.fields("")
	if !ok {
		return Settings{}
	}
	s := Settings{
		Immediate: f.at("immediate").bool(false),
		Push:      d.push(f.at("push")),
		HTTP:      d.http(f.at("http")),
		Admin:     d.admin(f.at("admin")),

		SecretsKeyFile: f.at("secrets_key_file").file(),
		GiveUpAfter:    f.at("give_up_after").duration(7*day, time.Second, longest),
		Retention:      f.at("retention").duration(90*day, time.Second, longest),

		Dialects: d.dialects(f.at("dialects")),
	}
	d.databases(&s, f)
	s.Timezone = f.at("timezone").timezone(defaultTimezone)
	s.Schedule = f.at("schedule").schedule(defaultSchedule, s.Timezone)
	s.Reconcile = d.reconcile(f.at("reconcile"), s.Timezone)

	s.Rows = d.webhookSource(f.at("webhook_source"))
	streams := d.streams(&s, f.at("streams"))
	d.webhooks(&s, f.at("webhooks"), streams)
	d.fieldNames(&s, streams)
	return s
}

// timezone is the name of one; otherwise where it is left out.
func (v value) timezone(otherwise string) string {
	if !v.given() {
		return otherwise
	}
	s, settled := v.word("a time zone, such as Europe/Prague")
	if !settled {
		return s
	}
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		v.fail("%s is no time zone; write a name such as Europe/Prague or UTC", v.show())
	}
	return s
}

// schedule is a cron text in a time zone; otherwise where it is left out.
func (v value) schedule(otherwise, timezone string) string {
	if !v.given() {
		return otherwise
	}
	s, settled := v.word(`a schedule, such as "0 6 * * *" or @daily`)
	if !settled || v.d.opts.Schedule == nil {
		return s
	}
	if _, err := time.LoadLocation(timezone); err != nil {
		timezone = defaultTimezone // is reported, or not known yet
	}
	if err := v.d.opts.Schedule(s, timezone); err != nil {
		if strings.Contains(v.n.text, "${") {
			v.fail(`what %s stands for is no schedule; write five fields such as "0 6 * * *", @daily, @every 1h`, v.show())
			return s
		}
		v.fail("%s", printable(strings.TrimPrefix(err.Error(), "schedule "))) // the path says so
	}
	return s
}

// databases decodes source and ledger.
func (d *decoder) databases(s *Settings, f fields) {
	const wanted = "postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH"
	source, ledger := f.at("source").hidden(), f.at("ledger").hidden()
	if source.require("write " + wanted) {
		s.Source = source.database(wanted)
	}
	if ledger.given() {
		s.Ledger = ledger.database(wanted)
	} else {
		path := filepath.Join(filepath.Dir(d.abs), "ledger.db")
		if filepath.Dir(d.abs) == systemDir {
			path = systemLedger
		}
		s.Ledger = jobs.Secret("sqlite:" + path)
	}
	if s.Source == s.Ledger && strings.HasPrefix(s.Ledger.Reveal(), "sqlite:/") {
		ledger.fail("is the source's own file, which is only read; write another")
	}
}

// database is where a database is, a file's path made absolute.
func (v value) database(wanted string) jobs.Secret {
	s, settled := v.expanded(wanted, true)
	if !settled {
		return jobs.Secret(s)
	}
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "sqlite":
		switch {
		case rest == "":
			v.fail("names no file; write sqlite:PATH")
		case strings.HasPrefix(rest, "//"):
			v.fail("a file is sqlite:PATH, without // before the path")
		case strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "file:"):
			v.fail("must be a file; write sqlite:PATH")
		case strings.HasPrefix(rest, "~"):
			v.fail("begins with ~, which only a shell knows; write the whole path")
		case strings.ContainsAny(rest, "\x00\n\r"):
			v.fail("holds a line break; write %s in one line", wanted)
		default:
			return jobs.Secret("sqlite:" + filepath.Clean(v.d.besides(rest)))
		}
	case "postgres", "postgresql":
		u, err := url.Parse(s)
		switch {
		case err != nil || !strings.HasPrefix(rest, "//"):
			v.fail("is no URL; write postgres://USER:PASSWORD@HOST/DATABASE, special characters percent-encoded (@ is %%40, / is %%2F)")
		case u.Host == "" && u.Query().Get("host") == "":
			v.fail("names no host; write postgres://USER:PASSWORD@HOST/DATABASE")
		case !goodPort(u):
			v.fail("has a port that is none")
		case u.Fragment != "":
			v.fail("has a # part; in a password # is written %%23")
		default:
			return jobs.Secret(s)
		}
	default:
		v.fail("is no database that is known; write %s", wanted)
	}
	return ""
}

func goodPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.Atoi(u.Port())
	return err == nil && n > 0 && n <= math.MaxUint16
}

func (d *decoder) reconcile(v value, timezone string) Reconcile {
	r := Reconcile{Schedule: defaultSchedule, Days: 7}
	if !v.given() {
		return r
	}
	f, _ := v.fields("reconcile")
	if at := f.at("schedule"); at.given() && at.n.kind == scalar && at.n.text == "" {
		r.Schedule = ""
	} else {
		r.Schedule = at.schedule(r.Schedule, timezone)
	}
	r.Days = f.at("days").int(r.Days, 1, 3650)
	return r
}

func (d *decoder) push(v value) Push {
	p := Push{Workers: 256, PerWebhook: 8, MaxBody: jobs.MaxBody}
	if !v.given() {
		return p
	}
	f, _ := v.fields("push")
	p.Workers = f.at("workers").int(p.Workers, 1, 10_000)
	per := f.at("per_webhook")
	p.PerWebhook = per.int(min(p.PerWebhook, p.Workers), 1, 10_000)
	p.MaxBody = f.at("max_body").size(p.MaxBody, 1<<10, 1<<30)
	if p.PerWebhook > p.Workers {
		per.fail("%s is more than push.workers, %d", per.show(), p.Workers)
	}
	return p
}

func (d *decoder) http(v value) HTTP {
	h := HTTP{Timeout: 10 * time.Second}
	if !v.given() {
		return h
	}
	f, _ := v.fields("http")
	h.Timeout = f.at("timeout").duration(h.Timeout, time.Millisecond, 10*time.Minute)
	h.AllowHTTP = f.at("allow_http").bool(false)
	h.AllowPrivate = f.at("allow_private").bool(false)
	h.AllowCIDRs = f.at("allow_cidrs").cidrs()
	h.CAFile = f.at("ca_file").file()
	cert, key := f.at("client_cert_file"), f.at("client_key_file")
	h.ClientCertFile, h.ClientKeyFile = cert.file(), key.file()
	if h.ClientCertFile != "" && h.ClientKeyFile == "" && !key.given() {
		key.fail("is missing; client_cert_file needs it")
	}
	if h.ClientKeyFile != "" && h.ClientCertFile == "" && !cert.given() {
		cert.fail("is missing; client_key_file needs it")
	}
	h.Proxy = f.at("proxy").hidden().proxy()
	return h
}

func (v value) cidrs() []string {
	if !v.given() {
		return nil
	}
	const wanted = "a network, such as 10.1.0.0/16"
	entries, _ := v.list("a list of networks, such as [10.1.0.0/16]")
	var all []string
	for _, e := range entries {
		s, settled := e.word(wanted)
		if !settled {
			all = append(all, s)
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		if addr, isAddr := netip.ParseAddr(s); err != nil && isAddr == nil && !strings.Contains(e.n.text, "${") {
			e.fail("%s has no length; write %s/%d for this address alone", e.show(), addr, addr.BitLen())
			continue
		}
		switch {
		case err != nil:
			e.fail("%s is no network; write one such as 10.1.0.0/16", e.show())
		case prefix != prefix.Masked():
			e.fail("%s has bits set behind its length; a network ends in zeros there", e.show())
		default:
			all = append(all, prefix.String())
		}
	}
	return all
}

// file is the path of one, absolute; "" where it is left out or empty.
func (v value) file() string {
	s, settled := v.text("a file's path")
	if !settled {
		return s
	}
	if strings.ContainsAny(s, "\x00\n\r") {
		v.fail("holds a line break; write a file's path")
		return ""
	}
	return v.d.besides(s)
}

func (v value) proxy() jobs.Secret {
	const wanted = "http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
	s, settled := v.text(wanted)
	if !settled || s == "" {
		return jobs.Secret(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !goodPort(u) || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		v.fail("is no proxy's URL; write %s", wanted)
	}
	return jobs.Secret(s)
}

func (d *decoder) admin(v value) Admin {
	a := Admin{WebhooksPerChatbot: 100}
	if !v.given() {
		return a
	}
	f, ok := v.fields("admin")
	listen := f.at("listen")
	const wanted = "HOST:PORT, such as 127.0.0.1:8787"
	if !ok || !listen.require("write "+wanted+", or leave admin out") {
		return a
	}
	a.TokenFile = f.at("token_file").file()
	a.WebhooksPerChatbot = f.at("webhooks_per_chatbot").int(a.WebhooksPerChatbot, 1, 100_000)
	s, settled := listen.word(wanted)
	a.Listen = s
	if !settled {
		return a
	}
	_, port, err := net.SplitHostPort(s)
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil || n < 0 || n > math.MaxUint16 {
		listen.fail("%s is no address; write %s", listen.show(), wanted)
	}
	return a
}
