package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// person is what nobody but the CRM may see of a lead, in ASCII but for one name, so that it is found however it is quoted.
var person = struct{ first, last, email, phone, content, uri, session string }{
	"Zdislava", "Příjmeníčková", "z.kropenatska@posta.example", "+420 731 555 019", "chce stul u okna", "https://www.host.example/quietpath?utm=quietparam", "481516234215",
}

// traces are what a file or an output that holds something of that person would hold.
var traces = []string{
	person.first, person.last, "jmeníčkov", "kropenatska", "posta.example", "731 555", "420731555019", "chce stul", "u okna", "quietpath", "quietparam", person.session,
}

// echo is a CRM that says what it was sent in every place that an answer has. The first segment of the path says where.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	said := strings.Join([]string{person.first, person.last, person.email, person.phone, person.content, person.uri, person.session}, " ")
	raw := func(text string) {
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = buffer.WriteString(text)
		_ = buffer.Flush()
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = bufio.NewReader(conn).ReadByte() // gives the client time to read
	}
	status := func(word string) {
		text, _ := json.Marshal(map[string]any{"status": word, "lead": said, "result": map[string]string{"ok": word}})
		_, _ = w.Write(text)
	}
	where, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if echo, ok := echoes[where]; ok {
		raw(strings.ReplaceAll(echo, "SAID", said))
		return
	}
	switch where {
	case "success", "withdrawn", "rejected":
		w.Header().Set("X-Lead", person.email)
		if where == "withdrawn" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		status("success")
	case "word":
		status("Thank you, " + said)
	case "shouted":
		status(strings.ToUpper(person.first) + " <" + strings.ToUpper(person.email) + "> 420-731-555-019")
	case "path":
		status("no: " + said)
	case "body":
		_, _ = w.Write(body)
	case "plain":
		fmt.Fprint(w, said)
	case "page":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<h1>%s</h1>", said)
	case "location":
		w.Header().Set("Location", "http://"+r.Host+"/"+person.email+"?"+person.phone)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "headers":
		for _, name := range []string{"Content-Type", "Content-Encoding", "Retry-After", "Set-Cookie", "Server", "Www-Authenticate"} {
			w.Header().Set(name, said)
		}
		w.WriteHeader(http.StatusUnauthorized)
	case "encoding":
		w.Header().Set("Content-Encoding", person.email)
		status("success")
	}
}

// echoes are what is sent in place of an HTTP answer, or after one.
var echoes = map[string]string{
	"reason":    "HTTP/1.1 500 SAID\r\nContent-Length: 0\r\n\r\n",
	"malformed": "SAID is no HTTP\r\n\r\n",
	"version":   "HTTP/SAID 200 OK\r\n\r\n",
	"length":    "HTTP/1.1 200 OK\r\nContent-Length: SAID\r\n\r\n",
	"header":    "HTTP/1.1 200 OK\r\nSAID\r\n\r\n",
	"chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSAID\r\n",
	"transfer":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: SAID\r\n\r\n",
	"unasked":   "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"success\"}SAID",
	"early":     "HTTP/1.1 103 SAID\r\nLink: SAID\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[SAID]",
}

// TestSecrecy: whatever CRMs say and whatever becomes of records, the ledger as bytes, the logs at their most talkative
// and what the commands print hold nothing of a lead; and with a secrets key no sign key, header or URL that is or was.
func TestSecrecy(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			format := map[string]string{"sqlite": "text", "postgres": "json"}[engine]
			ledger, ledgerDir := newLedger(t, engine), ""
			if path, ok := cutSQLite(ledger); ok {
				ledgerDir = filepath.Dir(path)
			} else { // a cluster that holds nothing else: its files are searched
				ledger = newDatabase(t, newServer(t))
				ledgerDir = ask(t, ledger, "show data_directory")
			}
			crm := startServer(t, http.HandlerFunc(echo), func() {})
			app := newApplication(t, engine)
			where := append(slices.Sorted(maps.Keys(echoes)), "word", "shouted", "path", "body", "plain", "page", "location", "headers", "encoding", "success", "withdrawn", "rejected")
			var config strings.Builder
			fmt.Fprintf(&config, "source: %q\nledger: %q\nsecrets_key_file: secrets.key\nimmediate: true\nhttp: {timeout: 3s, allow_http: true, allow_private: true}\nwebhooks:\n", app.source, ledger)
			for _, w := range where {
				fmt.Fprintf(&config, "  - {id: %s, chatbot: %[1]s, url: \"%[2]s/%[1]s/HIDDEN-path?k=HIDDEN-query\", sign_key: HIDDEN-key-%[1]s, headers: {X-Token: HIDDEN-token}, retry_at: [%[3]s]}\n",
					w, crm, map[bool]string{true: "3s, 8s, 20s, 40s", false: "1s"}[w == "withdrawn"])
			}
			text := strings.Replace(config.String(), "sign_key: HIDDEN-key-path,", "sign_key: HIDDEN-key-path, ack: {path: result.ok, equals: [yes]},", 1)
			s := newSite(t, 2*time.Minute, text)
			const sealing = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
			secrets := []string{"HIDDEN", sealing} // and keys that are made
			if err := os.WriteFile(filepath.Join(s.dir, "secrets.key"), []byte(sealing+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			said := map[string]string{} // by the command that said it
			run := func(code int, args ...string) string {
				t.Helper()
				out, errs := s.run(code, append(args, "--log-level", "debug", "--log-format", format)...)
				said["stderr of "+strings.Join(args, " ")] = errs
				return out
			}

			// Keys that are made, then replaced twice, and URLs and headers that are replaced.
			var made struct {
				SignKey string `json:"sign_key"`
			}
			take := func(args ...string) {
				t.Helper()
				if err := json.Unmarshal([]byte(run(0, append(args, "--json")...)), &made); err != nil || made.SignKey == "" {
					t.Fatalf("%v: %v", args, err)
				}
				secrets = append(secrets, made.SignKey)
			}
			take("webhook", "add", "--id", "hand", "--chatbot", "word", "--url", crm+"/word/HIDDEN-first", "--header", "X-Token: HIDDEN-first", "--retry-at", "1s", "--immediate", "true")
			take("webhook", "rotate-key", "hand")

			insert := `insert into leads (chatbot_id, first_name, last_name, email, phone_number, content, session_id, uri) values ($1, $2, $3, $4, $5, $6, $7, $8)`
			lead := func(chatbot string, session any) {
				t.Helper()
				app.exec(insert, chatbot, person.first, person.last, person.email, person.phone, person.content, session, person.uri)
			}
			app.installTrigger(s)
			daemon := s.start("serve", "--log-level", "debug", "--log-format", format)
			daemon.says("serving")
			for _, w := range where {
				lead(w, person.session)
				lead(w, person.session)
			}
			lead("rejected", "9007199254740992")
			if engine == "sqlite" { // which keeps any text in any column
				lead("rejected", person.first)
				app.exec(strings.Replace(insert, "chatbot_id, first_name", "chatbot_id, created_at", 1), "rejected", person.first, person.last, person.email, person.phone, person.content, 1, person.uri)
			}
			items := func(args ...string) int { return len(s.deliveries(args...)) }
			s.until(func() bool {
				both := s.deliveries("--webhook", "withdrawn")
				return len(both) == 2 && both[0].Attempts+both[1].Attempts >= 2
			}, "first attempts fail")
			app.exec("delete from leads where chatbot_id = 'withdrawn'")
			take("webhook", "rotate-key", "hand", "--now")
			run(0, "webhook", "set", "hand", "--url", crm+"/word/HIDDEN-second", "--header", "X-Token: HIDDEN-second")
			lead("word", person.session)
			s.until(func() bool { return items("--webhook", "withdrawn", "--state", "dead") == 2 }, "the rows that are gone are dead")
			wantDead := map[string]int{"sqlite": 3, "postgres": 1}[engine]
			s.until(func() bool { return items("--webhook", "rejected", "--state", "dead") == wantDead }, "what cannot be encoded is dead")
			s.until(func() bool { return items("--state", "sending") == 0 && items("--webhook", "hand") == 3 }, "all is tried")
			search := func(when string) {
				t.Helper()
				for name, text := range files(t, ledgerDir) {
					hunt(t, when+": the ledger's "+name, text, append(secrets, traces...))
				}
			}
			search("under the daemon")
			daemon.stop()
			run(3, "run-now", "--webhook", "word", "--webhook", "length")
			run(0, "webhook", "rotate-key", "hand", "--finish")
			run(0, "webhook", "remove", "hand")
			for _, args := range [][]string{
				{"status"},
				{"status", "--json"},
				{"delivery", "list"},
				{"delivery", "list", "--json"},
				{"stream", "list"},
				{"webhook", "list"},
				{"webhook", "list", "--json"},
				{"webhook", "show", "word"},
				{"webhook", "show", "word", "--json"},
			} {
				said[strings.Join(args, " ")] = run(0, args...)
			}
			out, errs, _ := s.try("check", "--log-level", "debug", "--log-format", format) // fails: a row of the latest cannot be encoded
			said["check"] = out + errs
			said["serve"] = daemon.errs.String()
			for name, text := range said {
				hunt(t, name, []byte(text), append(secrets, traces...))
			}
			for _, want := range []string{"withdrawn", "rejected", "http_500", "ack_mismatch", "not_json"} {
				if !strings.Contains(said["delivery list"], want) {
					t.Errorf("nothing is %s:\n%s", want, said["delivery list"])
				}
			}
			search("at the end")
			// What is searched is the ledger: it holds what it must hold.
			found := 0
			for _, text := range files(t, ledgerDir) {
				found += bytes.Count(text, []byte("ack_mismatch"))
			}
			if found == 0 {
				t.Error("the files searched do not hold the deliveries")
			}
		})
	}
}

// hunt reports what text holds of these, in whatever case, in hex or in base64. It does not print what is around it.
func hunt(t *testing.T, name string, text []byte, secrets []string) {
	t.Helper()
	text = bytes.ToLower(text)
	for _, secret := range secrets {
		forms := map[string]string{"": secret, " in hex": hex.EncodeToString([]byte(secret))}
		for shift := range 3 { // wherever it begins in what was encoded
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			forms[fmt.Sprint(" in base64, moved by ", shift)] = encoded[(shift*8+5)/6 : len(encoded)-1]
		}
		for form, of := range forms {
			if len(of) >= 6 && bytes.Contains(text, bytes.ToLower([]byte(of))) {
				t.Errorf("%s holds %q%s", name, secret, form)
			}
		}
	}
}

// files reads all files of a folder and of those in it.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = text
		return ignoreMissing(err)
	})
	if err != nil || len(all) == 0 {
		t.Fatal("the ledger's files cannot be read: ", err)
	}
	return all
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) { // gone since the folder was read
		return nil
	}
	return err
}

// ask reads one value of a PostgreSQL database.
func ask(t *testing.T, database, query string) (value string) {
	t.Helper()
	db, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
