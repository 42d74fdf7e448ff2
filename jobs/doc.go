// Package jobs is the domain of leadrelay: records that stand in source tables, the webhooks that want them, and
// the deliveries that are owed, pushed, judged and retried until a CRM acknowledges them.
//
// The Runner takes records from Sources, enters what is owed in the Ledger, pushes through the Sink and settles the
// outcome. The package knows no database, no HTTP and no vendor: those are the packages sources, jobs/ledger and
// sinks, which import this one and never each other.
package jobs
