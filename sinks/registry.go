package sinks

import (
	"maps"
	"slices"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Registry is a set of dialects: the built-in ones, or these and what a configuration defines. It never changes, and
// a nil one is that of the built-in ones.
type Registry struct{ dialects map[string]*Dialect }

// builtIn is made once, of definitions that the tests hold to be good; nothing changes it.
var builtIn = func() *Registry {
	r := &Registry{dialects: map[string]*Dialect{}}
	for _, d := range []Definition{smarterbot, smartlook, smarterlaunch, smartsurvey, userback, standardWebhooks} {
		made, faults := compile(d, nil)
		if len(faults) > 0 {
			panic("sinks: dialect " + d.Name + ": " + faults[0].Text)
		}
		r.dialects[d.Name] = made
	}
	return r
}()

// BuiltIn is the registry of the built-in dialects.
func BuiltIn() *Registry { return builtIn }

func (r *Registry) all() map[string]*Dialect {
	if r == nil {
		return builtIn.dialects
	}
	return r.dialects
}

// With returns a registry that has these dialects too. What is wrong with them is told all at once; then there is no
// registry.
func (r *Registry) With(own []Definition) (*Registry, []Fault) {
	if len(own) == 0 {
		return r, nil
	}
	all := maps.Clone(r.all())
	var faults []Fault
	for _, d := range own {
		if _, taken := all[d.Name]; taken {
			faults = append(faults, Fault{Dialect: d.Name, Text: "is the name of a dialect already; choose another"})
			continue
		}
		made, wrong := compile(d, builtIn.dialects)
		if faults = append(faults, wrong...); len(wrong) == 0 {
			all[d.Name] = made
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return &Registry{dialects: all}, nil
}

// Names returns the names of all dialects, sorted.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.all())) }

// Lookup returns the dialect named name; it must not be changed.
func (r *Registry) Lookup(name string) (*Dialect, bool) {
	d, ok := r.all()[name]
	return d, ok
}

// NeedsKey reports whether a dialect signs every request, so that a webhook without a key gets one.
func (r *Registry) NeedsKey(dialect string) bool {
	d, ok := r.Lookup(dialect)
	return ok && d.NeedsKey()
}

// Fits reports whether a key has the form that the dialect's keys have.
func (r *Registry) Fits(dialect string, key jobs.Secret) bool { return r.CheckKey(dialect, key) == nil }
