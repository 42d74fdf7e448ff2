package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// maxSecretFile bounds what ${file:PATH} takes in; it is one key or password.
const maxSecretFile = 64 << 10

// maxReferences of one text; no good one has more than a few.
const maxReferences = 100

// Env is where references find what they stand for.
type Env struct {
	Lookup         func(name string) (string, bool) // os.LookupEnv
	ReadFile       func(path string) ([]byte, error)
	CredentialsDir string // $CREDENTIALS_DIRECTORY, "" for none
}

// A piece of a text: literal, or a reference.
type piece struct {
	literal string
	name    string // ${NAME}
	file    string // ${file:PATH}
}

func (p piece) reference() bool { return p.name != "" || p.file != "" }

// String is the reference as it is written: the only thing that may be shown of it.
func (p piece) String() string {
	if p.file != "" {
		return "${file:" + printable(p.file) + "}"
	}
	return "${" + p.name + "}"
}

var (
	errUnclosed  = errors.New("a ${ without its }; a literal ${ is written $${")
	errTooMany   = fmt.Errorf("more than %d references in one text", maxReferences)
	errReference = errors.New("a ${…} that is neither ${NAME} nor ${file:PATH}; a literal ${ is written $${")

	nameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// references splits a text at its references. The errors show nothing of it.
func references(text string) (pieces []piece, found bool, err error) {
	var literal strings.Builder
	count := 0
	flush := func() {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{literal: literal.String()})
			literal.Reset()
		}
	}
	for text != "" {
		at := strings.IndexByte(text, '$')
		if at < 0 {
			literal.WriteString(text)
			break
		}
		literal.WriteString(text[:at])
		text = text[at:]
		switch {
		case strings.HasPrefix(text, "$${"):
			literal.WriteString("${")
			text = text[len("$${"):]
		case strings.HasPrefix(text, "${"):
			inside, rest, closed := strings.Cut(text[len("${"):], "}")
			if !closed {
				return nil, false, errUnclosed
			}
			flush()
			path, isFile := strings.CutPrefix(inside, "file:")
			switch {
			case isFile && path != "" && !strings.ContainsAny(path, "\x00\n"):
				pieces = append(pieces, piece{file: path})
			case !isFile && nameForm.MatchString(inside):
				pieces = append(pieces, piece{name: inside})
			default:
				return nil, false, errReference
			}
			if count++; count > maxReferences {
				return nil, false, errTooMany
			}
			text = rest
		default:
			literal.WriteByte('$')
			text = text[1:]
		}
	}
	flush()
	return pieces, count > 0, nil
}

// lookUp gives what a reference stands for. The errors name the reference, never its value.
func (e *Env) lookUp(p piece, configDir string) (string, error) {
	if p.name != "" {
		if e.Lookup != nil {
			if value, ok := e.Lookup(p.name); ok {
				return value, nil
			}
		}
		return "", fmt.Errorf("%v is not set in the environment", p)
	}
	if e.ReadFile == nil {
		return "", fmt.Errorf("%v cannot be read here", p)
	}
	places := []string{p.file}
	if !filepath.IsAbs(p.file) {
		places = []string{filepath.Join(configDir, p.file)}
		if e.CredentialsDir != "" {
			places = []string{filepath.Join(e.CredentialsDir, p.file), places[0]}
		}
	}
	var err error
	for _, path := range places {
		var data []byte
		if data, err = e.ReadFile(path); err == nil {
			if len(data) > maxSecretFile {
				return "", fmt.Errorf("%v is larger than %d KiB; it is to hold one value", p, maxSecretFile>>10)
			}
			text := strings.TrimSuffix(string(data), "\n")
			if len(text) < len(data) {
				text = strings.TrimSuffix(text, "\r")
			}
			return text, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return "", fmt.Errorf("%v: %s", p, fileFault(err, places))
}

func fileFault(err error, places []string) string {
	shown := make([]string, len(places))
	for i, path := range places {
		shown[i] = printable(path)
	}
	var fault *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file; looked at " + strings.Join(shown, " and ")
	case errors.As(err, &fault):
		return fault.Err.Error()
	}
	return "cannot be read"
}

// inPassword reports whether the i-th piece of a database URL stands in its password. What stands for one is taken as
// it is and percent-encoded there: generated passwords hold / and @, and a file holds them unencoded.
func inPassword(pieces []piece, i int) bool {
	var before, after strings.Builder
	for j, p := range pieces {
		if j < i {
			before.WriteString(p.shape())
		}
		if j > i {
			after.WriteString(p.shape())
		}
	}
	_, userinfo, ok := strings.Cut(before.String(), "://")
	if !ok || !strings.Contains(userinfo, ":") || strings.ContainsAny(userinfo, "/?#@") {
		return false
	}
	rest, _, ok := strings.Cut(after.String(), "@")
	return ok && !strings.ContainsAny(rest, "/?#")
}

// shape is the piece's literal text, or something that stands for its value.
func (p piece) shape() string {
	if p.reference() {
		return "x"
	}
	return p.literal
}

func encodePassword(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
