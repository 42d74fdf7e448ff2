package sinks

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// smartsurvey is the format of SmartSurvey's webhooks, from its pages "Introduction" and "Signed webhooks": a response
// that is completed, disqualified or updated, always signed, each webhook with a key of its own. The page shows no
// body and says nothing of answers and retries; these are ours.
var smartsurvey = Dialect{
	Name:        "smartsurvey",
	Signed:      true,
	Ack:         []string{jobs.Ack2xx},
	RetryAt:     []time.Duration{time.Minute, 3 * time.Minute},
	contentType: "application/json",
	signature:   smartsurveySignature,
	public:      []string{"event"},
	names:       smartsurveyNames,
	encode:      smartsurveyBody.encode,
	sign:        hexOfBody(smartsurveySignature),
	verify:      verifyHexOfBody(smartsurveySignature),
}

const smartsurveySignature = "X-SmartSurvey-Signature"

var smartsurveyNames = naming{
	nouns: map[string]string{
		"response": "response", "responses": "response", "survey_response": "response", "survey_responses": "response",
		"surveyresponse": "response", "surveyresponses": "response",
	},
	create: map[string]string{"response": "completed"},
	action: pastTense,
}

var smartsurveyBody = envelope{
	members: []member{{name: "event", is: isEvent}, {name: "data", is: isData}},
	names:   &smartsurveyNames,
}
