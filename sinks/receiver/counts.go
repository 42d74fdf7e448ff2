package receiver

import (
	"bytes"

	"github.com/google/uuid"
)

// Counts are what came so far. A request that does not verify counts in Requests and Unverified alone.
type Counts struct {
	Requests   int `json:"requests"`
	Unique     int `json:"unique"`     // different X-Webhook-Ids
	Duplicates int `json:"duplicates"` // that came after their id had been acknowledged
	Acked      int `json:"acked"`      // ids acknowledged at least once
	Refused    int `json:"refused"`    // verified requests that were not acknowledged
	Unverified int `json:"unverified"`
}

// Most chatbots that are counted apart; a CRM that anyone can reach must not be filled up by inventing them.
const maxChatbots = 10_000

// seen is what is known of one id.
type seen struct {
	tries uint32
	acked bool
}

// Counts returns what came so far, of all chatbots.
func (r *Receiver) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// ByChatbot returns what came so far, by chatbot.
func (r *Receiver) ByChatbot() map[string]Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]Counts, len(r.chatbots))
	for name, c := range r.chatbots {
		all[name] = *c
	}
	return all
}

// Kept returns the verified requests that are kept, oldest first.
func (r *Receiver) Kept() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Request, 0, len(r.kept))
	for i := range r.kept {
		all = append(all, *r.kept[(r.next+i)%len(r.kept)])
	}
	return all
}

// Unverified returns why the last request that did not verify did not; nil where all did.
func (r *Receiver) Unverified() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// arrived counts a request before it is answered, says how often its id has come, and keeps it where that is wanted.
func (r *Receiver) arrived(id uuid.UUID, req *Request) (kept *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.chatbot(req.Chatbot)
	r.total.Requests++
	of.Requests++
	if req.Err != nil {
		r.total.Unverified++
		of.Unverified++
		r.last = req.Err
		return nil
	}
	s, known := r.ids[id]
	if !known {
		r.total.Unique++
		of.Unique++
	}
	if s.acked {
		r.total.Duplicates++
		of.Duplicates++
	}
	s.tries++
	req.Try = int(s.tries)
	if known || len(r.ids) < r.options.MaxIDs {
		r.ids[id] = s
	}
	if r.options.Keep == 0 {
		return nil
	}
	kept = new(*req)
	kept.Body, kept.Header = bytes.Clone(req.Body), req.Header.Clone()
	if len(r.kept) < r.options.Keep {
		r.kept = append(r.kept, kept)
		return kept
	}
	r.kept[r.next] = kept
	r.next = (r.next + 1) % len(r.kept)
	return kept
}

// answered counts what became of a verified request. A small answer is sent after that, when the handler returns.
func (r *Receiver) answered(id uuid.UUID, req, kept *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.chatbot(req.Chatbot)
	if !req.Acked {
		r.total.Refused++
		of.Refused++
	} else if s, known := r.ids[id]; !s.acked {
		r.total.Acked++
		of.Acked++
		if s.acked = true; known {
			r.ids[id] = s
		}
	}
	if kept != nil {
		kept.Acked = req.Acked
	}
}

// chatbot returns the counts of one chatbot; those of too many are counted together.
func (r *Receiver) chatbot(name string) *Counts {
	c, ok := r.chatbots[name]
	if !ok {
		if len(r.chatbots) >= maxChatbots {
			name = "(others)"
		}
		if c, ok = r.chatbots[name]; !ok {
			c = new(Counts)
			r.chatbots[name] = c
		}
	}
	return c
}
