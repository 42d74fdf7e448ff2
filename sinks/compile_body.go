package sinks

import (
	"slices"
	"strings"
)

func (c *compiler) body(made *Dialect) {
	e := &made.body
	e.names = &made.names
	if c.Time != "" {
		e.form = c.Time
	}
	if !slices.Contains(timeForms, e.form) {
		c.fail(part("time"), "%q is no form of times; write one of %s", e.form, join(timeForms))
	}
	e.layout = layouts[e.form]
	if c.Times != nil {
		e.times = c.Times
	}
	if c.Body == nil {
		if c.Extends == "" {
			c.fail(part("body"), "is missing; write the body's members, such as {event: event, data: data}, or extends: and a built-in dialect")
		}
		return
	}
	e.members, e.fields, e.spread, e.tells = nil, nil, false, false
	made.Fields, made.public = nil, nil
	open, first := "", map[string]bool{} // the member that takes what others leave
	var fixed []string
	for _, m := range c.Body {
		here := part("body", m.Name)
		if first[m.Name] {
			c.fail(here, "is there twice")
		}
		first[m.Name] = true
		if isIndex(m.Name) {
			c.fail(here, "looks like a list's index, which JavaScript puts before all other members; choose another name")
		}
		if m.Field == "" {
			m.Field = m.Name
		}
		compiled := member{Member: m, label: append(appendString(nil, m.Name), ':')}
		if m.Name == Spread && m.Is != IsData {
			c.fail(here, "stands for the fields themselves, so it holds data; write %q: data", Spread)
		}
		switch m.Is {
		case IsEvent, IsAction:
			e.tells = true
			made.public = append(made.public, m.Name)
		case IsType, IsChatbot:
			made.public = append(made.public, m.Name)
		case IsCreated:
		case IsTime:
			made.public = append(made.public, m.Name)
			e.fields = append(e.fields, m.Name)
		case IsConst:
			made.public = append(made.public, m.Name)
			var err error
			if compiled.constant, err = appendJSON(nil, m.Const); err != nil {
				c.fail(append(here, "const"), "%v", err)
			}
		case IsCopy:
			fixed = append(fixed, m.Field)
		case IsField, IsText, IsInteger:
			fixed = append(fixed, m.Field)
			e.fields = append(e.fields, m.Field)
		case IsObject:
			compiled.prefix = m.Field + "."
			e.fields = append(e.fields, compiled.prefix)
			for _, name := range m.Always {
				compiled.always = append(compiled.always, m.Field+"."+name)
			}
			if m.Chatbot != "" {
				compiled.chatbot = m.Field + "." + m.Chatbot
				if !slices.Contains(m.Always, m.Chatbot) {
					compiled.always = append([]string{compiled.chatbot}, compiled.always...)
				}
			}
		case IsData:
			if open != "" {
				c.fail(here, "is the second member that holds data; the first is %s", open)
			}
			open = m.Name
			e.spread = m.Name == Spread
		default:
			c.fail(here, "%q is no kind of member", m.Is)
		}
		if m.Is == IsObject && open == "" {
			fixed = append(fixed, m.Field+".")
		}
		e.members = append(e.members, compiled)
	}
	if len(e.members) == 0 {
		c.fail(part("body"), "is empty; write the body's members, such as {event: event, data: data}")
	}
	if open == "" && !slices.ContainsFunc(fixed, func(name string) bool { return strings.HasSuffix(name, ".") }) {
		made.Fields = fixed
	}
}
