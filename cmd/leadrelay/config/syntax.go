package config

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on shapes that the parser is slow at or recurses into: it overflows the stack on deep nesting, and takes
// quadratic time over the keys of one mapping. No good file comes near them.
const (
	maxDepth   = 32      // of [ and {
	maxIndent  = 200     // columns
	maxKeys    = 1000    // of one mapping
	maxEntries = 100_000 // of one list
	maxAnchors = 1000
)

// smallest is the configuration shown to those who have none, as one line of YAML.
const smallest = `{source: "sqlite:chatbots.db", webhooks: [{chatbot: "CHATBOT_ID", url: "https://crm.example.com/hook"}]}`

// readTree parses data to a tree of nodes. A nil root means that nothing more can be said of the file; with a root,
// the mistakes are not all there are.
func readTree(file string, data []byte) (root *node, mistakes Mistakes) {
	t := &tree{file: file, anchors: map[string]*node{}}
	defer func() {
		// The parser is foreign, and the file is anybody's.
		if recover() != nil {
			t.fail(1, 1, "this is not YAML that can be read")
			root, mistakes = nil, t.mistakes
		}
	}()
	if len(data) > maxFile {
		t.fail(1, 1, "the file is larger than %d MiB; this is no configuration", maxFile>>20)
		return nil, t.mistakes
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n") // the lexer misreads quoted texts of several lines otherwise
	t.lines = strings.Split(text, "\n")
	if !t.characters() {
		return nil, t.mistakes
	}
	tokens := lexer.Tokenize(text)
	if !t.tokens(tokens) {
		return nil, t.mistakes
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // doubled keys are ours to report
	if err != nil {
		t.syntax(err)
		return nil, t.mistakes
	}
	var body ast.Node
	for _, doc := range f.Docs {
		if body == nil {
			body = doc.Body
		}
	}
	if body == nil {
		t.fail(1, 1, "the file is empty; the smallest configuration is %s", smallest)
		return nil, t.mistakes
	}
	return t.node(body), t.mistakes
}

// characters refuses what is no text.
func (t *tree) characters() bool {
	for i, line := range t.lines {
		col := 0
		for at, r := range line {
			col++
			switch {
			case r == utf8.RuneError && strings.HasPrefix(line[at:], "\ufffd"), r == '\t', r >= ' ' && r != 0x7f && r != utf8.RuneError:
			case r == utf8.RuneError:
				t.fail(i+1, col, "the text is not UTF-8; save the file as UTF-8")
				return false
			case r == '\r':
				t.fail(i+1, col, "a carriage return inside a line; save the file with line feeds")
				return false
			default:
				t.fail(i+1, col, "a control character (U+%04X); in a text in double quotes it is written \\x%02X", r, r)
				return false
			}
		}
	}
	return true
}

// tokens refuses the YAML that a configuration has no use for, and shapes that the parser would choke on.
func (t *tree) tokens(tokens token.Tokens) bool {
	if bad := tokens.InvalidToken(); bad != nil {
		line, col := t.clamp(bad.Position.Line, bad.Position.Column)
		t.fail(line, col, "%s", plainWords(bad.Error))
		return false
	}
	var (
		depth, anchors int
		content, ended bool
		keys           = counts{}
		entries        = counts{}
	)
	for i, tk := range tokens {
		culprit := tk
		refuse := func(format string, args ...any) bool {
			line, col := t.clamp(culprit.Position.Line, culprit.Position.Column)
			t.fail(line, col, format, args...)
			return false
		}
		switch tk.Type {
		case token.CommentType:
			continue
		case token.DocumentHeaderType:
			if content || ended {
				return refuse("a second document begins here; a configuration is one")
			}
		case token.DocumentEndType:
			ended = true
			continue
		case token.DirectiveType:
			return refuse("YAML directives (%%) are not taken; quote a text that begins with %%")
		case token.TagType:
			return refuse("YAML tags (!) are not taken; quote a text that begins with !")
		case token.MappingKeyType:
			return refuse("keys with ? are not taken; write KEY: VALUE")
		case token.AliasType, token.AnchorType:
			if anchors++; anchors > maxAnchors {
				return refuse("more than %d anchors and aliases", maxAnchors)
			}
			if i+1 == len(tokens) || tokens[i+1].Position.Line != tk.Position.Line || tokens[i+1].Position.Column != tk.Position.Column+1 {
				return refuse("quote a text that begins with %s", tk.Value)
			}
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxDepth {
				return refuse("nested too deep")
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType:
			if depth > 0 {
				break
			}
			at := tk.Position.Column
			if at > maxIndent {
				return refuse("indented too far")
			}
			keys.below(at)
			entries.below(at)
			if entries[at]++; entries[at] > maxEntries {
				return refuse("more than %d entries in one list", maxEntries)
			}
		case token.MappingValueType:
			if depth > 0 || i == 0 {
				break
			}
			culprit = tokens[i-1]
			at := culprit.Position.Column
			if at > maxIndent {
				return refuse("indented too far")
			}
			keys.below(at)
			entries.below(at - 1)
			if keys[at]++; keys[at] > maxKeys {
				return refuse("more than %d keys in one mapping", maxKeys)
			}
		}
		if ended {
			return refuse("a second document begins here; a configuration is one")
		}
		content = true
	}
	return true
}

// counts are of things by column.
type counts map[int]int

// below forgets what stands deeper than col: another mapping or list begins there.
func (c counts) below(col int) {
	for at := range c {
		if at > col {
			delete(c, at)
		}
	}
}

func (t *tree) syntax(err error) {
	line, col, text := 1, 1, ""
	var fault yaml.Error
	if errors.As(err, &fault) {
		text = fault.GetMessage()
		if tk := fault.GetToken(); tk != nil && tk.Position != nil {
			line, col = t.clamp(tk.Position.Line, tk.Position.Column)
		}
	}
	t.fail(line, col, "%s", plainWords(text))
}

// plainWords says what the library says in words that name the thing to fix, and without text from the file.
func plainWords(message string) string {
	has := func(s string) bool { return strings.Contains(message, s) }
	switch {
	case has("reserved character"):
		return "quote a text that begins with @ or `"
	case has("cannot start any token"), has("tab character"):
		return "a tab cannot indent; use spaces"
	case has("could not find end character"):
		return "a quoted text is not closed"
	case has("escape character"):
		return `a \ that begins no escape; in single quotes it is taken as it is`
	case has("',' or ']'"), has("sequence end token"):
		return "a list is not closed by ], or an entry in it holds one of [ ] { } , without quotes"
	case has("',' or '}'"), has("flow map"):
		return "a mapping is not closed by }, or a value in it holds one of [ ] { } , without quotes"
	case has("corresponding to"):
		return "a ] or } that nothing opened; quote a text that begins with one"
	case has("mapping value is not allowed"):
		return `a second ": " in one value, or the next line is indented too far; quote a text that holds ": "`
	case has("unexpected key name"), has("implicit line break"), has("non-map value"):
		return `a line without "KEY: " before it, or indented wrongly`
	case has("invalid key"):
		return "a key must be a plain word"
	case has("block sequence entries"):
		return `a "- " after other text in its line; begin a new line, or quote the text`
	case has("value is not allowed in this context"):
		return "text that belongs to nothing: it follows a closing quote, or is indented wrongly"
	case has("alias"):
		return "quote a text that begins with *"
	case has("anchor"):
		return "quote a text that begins with &"
	case has("header option"), has("number of indent"):
		return "a text after | or > that is indented wrongly; quote a text that begins with | or >"
	}
	return "this is no YAML that is taken here"
}
