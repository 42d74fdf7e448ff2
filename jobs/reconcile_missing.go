package jobs

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// missing looks up what became of these, and returns those of which the ledger should know and does not.
func (c *reconciler) missing(ctx context.Context, owed []owing) ([]*owing, error) {
	ids, of := make([]uuid.UUID, 0, len(owed)), make([]int, 0, len(owed))
	for i := range owed {
		o := &owed[i]
		for _, id := range c.key(o).IDs() {
			ids, of = append(ids, id), append(of, i)
		}
	}
	var states []State
	err := c.r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		states, err = c.r.o.Ledger.States(ctx, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up deliveries: %w", err)
	}
	for i, state := range states {
		if o := &owed[of[i]]; state != "" && o.state != Delivered {
			o.state = state
		}
	}
	var missing []*owing
	for i := range owed {
		o := &owed[i]
		if o.state != "" {
			continue
		}
		is, err := c.judge(o)
		switch {
		case err != nil:
			return nil, err
		case is:
			missing = append(missing, o)
		}
	}
	return c.owedVersions(ctx, missing)
}

func (c *reconciler) key(o *owing) Key {
	return Key{Webhook: o.w.ID, Type: c.src.Type(), Row: o.rec.Row, Version: versionOf(c.src, o.rec), Action: o.action}
}

// judge reports whether a row that is not in the ledger should be there: the webhook is owed it, and the stream's
// bookmark has passed it. What is owed and was not passed yet it notes as unread.
func (c *reconciler) judge(o *owing) (missing bool, err error) {
	created := o.rec.Created
	if !created.IsZero() && created.Before(c.ro.since[o.w.ID]) {
		return false, nil
	}
	sub := c.ro.subs[subscriber{o.w.ID, c.src.Type()}]
	if sub == nil { // it is not known since when
		return false, nil
	}
	newer, err := c.src.Past(sub.Start, o.rec)
	if err != nil {
		return false, err
	}
	if newer {
		missing, err = c.src.Past(sub.Steady, o.rec)
		if err != nil {
			return false, err
		}
	} else {
		for _, span := range sub.Filled {
			missing = missing || span.Holds(created)
		}
	}
	filling := !newer && sub.Until != "" && Span{sub.Since, sub.Before}.Holds(created)
	ahead, err := c.src.Past(c.st.Bookmark, o.rec)
	if err != nil {
		return false, err
	}
	o.unread = !missing && filling || ahead && (missing || newer)
	return missing && !ahead, nil
}

// owedVersions leaves out versions that were not entered because nobody needs to be told of them.
func (c *reconciler) owedVersions(ctx context.Context, missing []*owing) ([]*owing, error) {
	if !c.src.Versioned() || len(missing) == 0 {
		return missing, nil
	}
	rows := map[*Webhook][]string{}
	for _, o := range missing {
		rows[o.w] = append(rows[o.w], o.rec.Row)
	}
	known := map[rowOfWebhook]RowVersions{}
	for w, keys := range rows {
		var versions map[string]RowVersions
		err := c.r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
			versions, err = c.r.o.Ledger.Versions(ctx, w.ID, c.src.Type(), keys)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("what is known of rows: %w", err)
		}
		for row, v := range versions {
			known[rowOfWebhook{w, row}] = v
		}
	}
	kept := missing[:0]
	for _, o := range missing {
		if known[rowOfWebhook{o.w, o.rec.Row}].Action(o.action, c.wants(o.w)) != "" {
			kept = append(kept, o)
		}
	}
	return kept, nil
}

type rowOfWebhook struct {
	w   *Webhook
	row string
}

// restore enters what is missing, once more as its rows are now, and says how many were new to the ledger. Of a row
// that is gone, or has changed, meanwhile nothing is missing any more.
func (c *reconciler) restore(ctx context.Context, missing []*owing) (entered int, err error) {
	if len(missing) == 0 {
		return 0, nil
	}
	lost := map[string][]*owing{} // by row
	var rows []string
	for _, o := range missing {
		if lost[o.rec.Row] == nil {
			rows = append(rows, o.rec.Row)
		}
		lost[o.rec.Row] = append(lost[o.rec.Row], o)
		o.lapsed = true
	}
	seen := c.r.firesSeen()
	runs, err := c.r.gathering(ctx)
	if err != nil {
		return 0, err
	}
	d := &draft{wanted: map[string]int{}, seen: seen}
	now := c.r.o.Ledger.Now()
	for len(rows) > 0 {
		records, left, err := c.r.reread(ctx, c.src.Type(), rows)
		if err != nil {
			return 0, err
		}
		rows = left
		for row, rec := range records {
			for _, o := range lost[row] {
				if o.w.WantsChatbot(rec.Chatbot) && versionOf(c.src, rec) == versionOf(c.src, o.rec) && rec.Action == o.rec.Action {
					before := len(d.entries)
					d.add(c.r, o.w, rec, runs, now)
					o.lapsed = len(d.entries) == before
				}
			}
		}
	}
	if len(d.entries) == 0 {
		return 0, nil
	}
	isNew, err := c.r.enter(ctx, d, Entries{
		Type: c.src.Type(), Missing: true, Generation: c.ro.generation, Versioned: c.src.Versioned(),
	})
	for _, is := range isNew {
		if is {
			entered++
		}
	}
	return entered, err
}
