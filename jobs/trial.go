package jobs

// A Trial is one request that is no delivery, and what came of it, for people to read. It holds no secret: sign keys
// and the values of static headers are redacted wherever they stand, and so are cookies; the URL is masked. Text that
// came from the endpoint is bounded and printable: what is not is escaped, as \x1b.
type Trial struct {
	OK      bool         `json:"ok"`
	Code    string       `json:"code" doc:"The reason code that a delivery would have as last_error; empty where it is accepted"`
	Detail  string       `json:"detail" doc:"A finer word for what is wrong, such as wrong_case; empty where there is none"`
	Reason  string       `json:"reason" doc:"What is wrong and what to do, in a sentence or two"`
	Notes   []string     `json:"notes,omitempty" doc:"What else should be known of this test"`
	Request TrialRequest `json:"request"`
	Answer  *TrialAnswer `json:"answer" doc:"Null where none came"`
}

// A TrialRequest is a request as it was sent, or would have been. A signature that never expires is cut, for whoever
// has it could send the sample for ever.
type TrialRequest struct {
	Sent    bool              `json:"sent" doc:"It was written to a connection whole"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// A TrialAnswer is an answer as it came, decompressed.
type TrialAnswer struct {
	Status  int               `json:"status"`
	Line    string            `json:"status_line"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body" doc:"At most its first 8192 bytes"`
	Cut     bool              `json:"cut" doc:"There is, or may be, more of the body than is shown"`
	Seconds float64           `json:"seconds" doc:"From dialling to the end of the answer"`
}
