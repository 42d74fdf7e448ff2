package jobs

import "log/slog"

// A Secret is text that must not be seen: a sign key, a header's value, a whole webhook URL. It prints, logs and
// marshals as [redacted]; Reveal is the only way to its text, and easy to search for.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal returns the secret's text.
func (s Secret) Reveal() string { return string(s) }
