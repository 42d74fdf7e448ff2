package sinks

import "github.com/leadrelay/leadrelay/jobs"

// smartsurvey is the format of SmartSurvey's webhooks, from its pages "Introduction" and "Signed webhooks": a response
// that is completed, disqualified or updated, always signed, each webhook with a key of its own. The page shows no
// body and says nothing of answers and retries; these are ours.
var smartsurvey = Definition{
	Name: "smartsurvey",
	Body: []Member{{Name: "event", Is: IsEvent}, {Name: "data", Is: IsData}},
	Names: Names{
		Types: map[string]string{
			"response": "response", "responses": "response", "survey_response": "response", "survey_responses": "response",
			"surveyresponse": "response", "surveyresponses": "response",
		},
		New: map[string]string{"response": "completed"},
	},
	Signature: Signature{Form: Hex, Header: "X-SmartSurvey-Signature"},
	Ack:       []string{jobs.Ack2xx},
	RetryAt:   quickRetries,
}
