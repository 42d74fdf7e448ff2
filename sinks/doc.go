// Package sinks writes records to CRMs over HTTP: it encodes a record in the dialect of its webhook, signs and posts
// it, and judges the answer.
//
// A dialect is a vendor's wire format, as data: a Definition. Each built-in one is one file that fills one, and a word
// of the list in registry.go; nothing else knows a vendor. A configuration adds own ones to a Registry.
//
// Nothing from the network is trusted: answers are bounded in size and time, redirects are not followed, addresses
// are checked after DNS, and of an answer no more is kept than its status word with the record's own values masked.
// Errors carry reason codes and fixed sentences, never text from the answer, a URL or a key.
package sinks
