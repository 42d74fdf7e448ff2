// Package sinks writes records to CRMs over HTTP: it encodes a record in the dialect of its webhook, signs and posts
// it, and judges the answer.
//
// A dialect is a vendor's wire format. Each is one file that fills one Dialect, and one line of the table in
// dialect.go; nothing else knows a vendor.
//
// Nothing from the network is trusted: answers are bounded in size and time, redirects are not followed, addresses
// are checked after DNS, and of an answer no more is kept than its status word with the record's own values masked.
// Errors carry reason codes and fixed sentences, never text from the answer, a URL or a key.
package sinks
