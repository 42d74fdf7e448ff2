// Package sources reads the tables that records stand in: PostgreSQL through lib/pq, SQLite through modernc.org/sqlite.
// It only reads.
//
// A Stream is one table or query of records of one type and implements jobs.Source. New rows are found by one of two
// cursors, and neither misses a row:
//
//   - gaps, for integer keys from a sequence: everything above the highest id seen, and the ids below it that were
//     skipped, which are looked for until gap_keep has passed. A transaction that commits late fills its gap.
//   - created, for other keys: everything created since the oldest transaction that was open when the last scan
//     began; the keys seen since then are kept in the bookmark, so that they come once. Where Config names Updated or
//     Deleted it goes by the time of the last change instead, and each version of a row comes once.
//
// SQLite's writers come one after the other, so there the gaps cursor needs no gaps. See the comments on gapsCursor
// and createdCursor for why each is right, and for what each asks of the database.
//
// Rows without a chatbot belong to nobody and are passed over; rows without an id cannot be named and are, too. Check
// counts both.
package sources
