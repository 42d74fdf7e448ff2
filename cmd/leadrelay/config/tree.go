package config

import (
	"fmt"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

type kind int

const (
	scalar kind = iota
	list
	mapping
	null
	broken // was reported already
)

// A node is what the schema is checked against: YAML without its library's types.
type node struct {
	kind  kind
	text  string // of a scalar: its source text, quotes and escapes undone
	plain bool   // written without quotes; of a null: written at all
	line  int
	col   int
	items []*node
	pairs []pair
	size  int // nodes, those behind aliases counted at each use
}

type pair struct {
	key   *node // a scalar
	value *node
}

// maxNodes bounds what aliases of aliases may grow to.
const maxNodes = 1 << 20

// A tree turns the library's nodes into ours.
type tree struct {
	file     string
	lines    []string
	anchors  map[string]*node
	at       int // the line that runes are of
	runes    []rune
	mistakes Mistakes
}

func (t *tree) fail(line, col int, format string, args ...any) {
	t.mistakes = append(t.mistakes, Mistake{File: t.file, Line: line, Col: col, Text: fmt.Sprintf(format, args...)})
}

// place is where a node stands. The library counts a tab after a colon to the value: step over it.
func (t *tree) place(n ast.Node) (line, col int) {
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return 1, 1
	}
	return t.clamp(tk.Position.Line, tk.Position.Column)
}

func (t *tree) clamp(line, col int) (int, int) {
	line, col = max(line, 1), max(col, 1)
	if line > len(t.lines) {
		return line, col
	}
	if t.at != line { // once a line: a file may be one
		t.at, t.runes = line, []rune(t.lines[line-1])
	}
	text := t.runes
	at := col
	for at <= len(text) && unicode.IsSpace(text[at-1]) {
		at++
	}
	if at <= len(text) {
		return line, at
	}
	return line, min(col, len(text)+1)
}

func (t *tree) node(n ast.Node) *node {
	if n == nil {
		return &node{kind: null, line: 1, col: 1, size: 1}
	}
	line, col := t.place(n)
	made := &node{line: line, col: col, size: 1}
	switch n := n.(type) {
	case *ast.NullNode:
		made.kind = null
		made.plain = n.Token.Type != token.ImplicitNullType
	case *ast.StringNode:
		made.text, made.plain = n.Value, n.Token.Type == token.StringType
	case *ast.LiteralNode:
		made.text = n.Value.Value
	case *ast.MappingNode:
		t.pairs(made, n.Values, n.IsFlowStyle)
	case *ast.MappingValueNode:
		t.pairs(made, []*ast.MappingValueNode{n}, false)
	case *ast.SequenceNode:
		made.kind = list
		for _, item := range n.Values {
			child := t.node(item)
			made.items = append(made.items, child)
			made.size += child.size
		}
	case *ast.AnchorNode:
		child := t.node(n.Value)
		if name := nodeText(n.Name); name != "" {
			t.anchors[name] = child
		}
		return child
	case *ast.AliasNode:
		target, ok := t.anchors[nodeText(n.Value)]
		if !ok {
			t.fail(line, col, "an alias (*NAME) of nothing: no value before it is marked &NAME; quote a text that begins with *")
			made.kind = broken
			return made
		}
		use := *target
		use.line, use.col = line, col // a value that is wrong here may be right where it was marked
		return &use
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.MergeKeyNode:
		made.text, made.plain = n.GetToken().Value, true
	default:
		t.fail(line, col, "this form of YAML is not taken; write plain keys, lists and texts")
		made.kind = broken
	}
	if made.size > maxNodes {
		t.fail(line, col, "too many values (what an alias stands for counts at each use)")
		return &node{kind: broken, line: line, col: col, size: 1}
	}
	return made
}

func (t *tree) pairs(made *node, values []*ast.MappingValueNode, flow bool) {
	made.kind = mapping
	for i, v := range values {
		line, col := t.place(v.Key)
		if i == 0 && !flow {
			made.line, made.col = line, col // the library gives a block mapping the place of its first colon
		}
		var text string
		switch key := v.Key.(type) {
		case *ast.MergeKeyNode:
			t.fail(line, col, "merge keys (<<) are not taken: write the keys out, or use aliases of whole values")
			made.kind = broken // what it lacks may have been meant to come from there
			continue
		case *ast.StringNode:
			text = key.Value
		case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
			text = key.GetToken().Value
		default:
			t.fail(line, col, "a key must be a plain word")
			continue
		}
		child := t.node(v.Value)
		if child.kind == null && !child.plain {
			child.line, child.col = line, col // nothing is written there: point at its key
		}
		made.pairs = append(made.pairs, pair{key: &node{text: text, line: line, col: col, size: 1}, value: child})
		made.size += child.size + 1
	}
}

func nodeText(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}
