package sinks

import (
	"net/http"
	"strconv"

	"github.com/leadrelay/leadrelay/jobs"
)

// Reason codes of a jobs.RefusedError. An HTTP status that is neither 2xx nor a redirect is http_NNN, such as
// http_404: see StatusReason.
const (
	// No request was sent.
	ReasonURL            = "bad_url"         // the URL cannot be used
	ReasonPlainHTTP      = "plain_http"      // http:// and allow_http is not set
	ReasonHeader         = "bad_header"      // a static header cannot be sent
	ReasonNoKey          = "no_sign_key"     // the dialect signs and the webhook has no key
	ReasonKey            = "bad_sign_key"    // the sign key has not the form that the dialect's keys have
	ReasonDialect        = "unknown_dialect" // no dialect has this name
	ReasonPrivateAddress = "private_address" // the host is loopback, private, link-local, reserved …
	ReasonDNS            = "dns"             // the host's name has no address
	ReasonConnect        = "connect"         // nothing listens there, or no way leads there
	ReasonTLS            = "tls"             // certificate or handshake
	ReasonProxy          = "proxy"           // the configured proxy failed or refused
	ReasonLocal          = "local"           // this machine has no file descriptors, ports or memory left

	// The request may have arrived, and no whole answer came.
	ReasonTimeout   = "timeout"   // not answered, to the last byte, within http.timeout
	ReasonReset     = "reset"     // the connection was closed before the answer's end
	ReasonTruncated = "truncated" // the answer is shorter than it says, or its JSON ends in the middle
	ReasonHTTP      = "bad_http"  // what came is no HTTP, or its headers have no end

	// An answer came, and it is no acknowledgement.
	ReasonRedirect     = "redirect"        // 301, 302, 303, 307, 308; never followed
	ReasonTooLarge     = "too_large"       // more than 64 KiB after decompression
	ReasonEncoding     = "bad_encoding"    // a Content-Encoding other than gzip
	ReasonGzip         = "bad_gzip"        // says gzip and is none
	ReasonEmpty        = "empty"           // no body, or white space
	ReasonBOM          = "bom"             // a byte order mark before the JSON
	ReasonNotUTF8      = "not_utf8"        // bytes that are no UTF-8
	ReasonLeadingText  = "leading_text"    // something stands before the object
	ReasonTrailingText = "trailing_text"   // something stands after the object
	ReasonNotJSON      = "not_json"        // no JSON at all
	ReasonNotObject    = "not_object"      // JSON, but an array, a string, a number …
	ReasonDoubledKey   = "doubled_key"     // a member's name is there twice, at whatever depth
	ReasonNoStatus     = "no_status"       // no member is named exactly status, or as the webhook's ack says
	ReasonStatusType   = "status_not_text" // status is no string
	ReasonAckMismatch  = "ack_mismatch"    // status is none of the accepted values
	ReasonStray        = "stray_answer"    // it was on the connection before the request was
	ReasonNotStored    = "not_stored"      // status says that a test request came: the CRM dropped the record
)

// StatusReason is the reason code of an HTTP status that is no 2xx.
func StatusReason(status int) string {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return ReasonRedirect
	}
	return "http_" + strconv.Itoa(status)
}

// hints are sentences for the people who run the CRM or the webhook, by reason.
var hints = map[string]string{
	ReasonURL:            "The webhook's URL cannot be used: write scheme, host and path, the host as a name or a plain IP address.",
	ReasonPlainHTTP:      "The webhook's URL is http://, which sends leads in clear: use https://, or set http.allow_http.",
	ReasonHeader:         "One of the webhook's static headers has a name or a value that cannot be sent.",
	ReasonNoKey:          "The webhook has no sign key, and its dialect signs every request.",
	ReasonKey:            "The webhook's sign key has not the form that its dialect's keys have.",
	ReasonDialect:        "Neither this version of leadrelay nor its configuration knows the webhook's dialect.",
	ReasonPrivateAddress: "The host leads to a loopback, private or reserved address; set http.allow_cidrs (or allow_private) if that is meant.",
	ReasonDNS:            "The host's name could not be looked up: check the URL's spelling and the DNS.",
	ReasonConnect:        "Nothing accepts connections at the URL's host and port.",
	ReasonTLS:            "The TLS handshake failed: check the server's certificate chain, and that it speaks TLS 1.2 or newer.",
	ReasonProxy:          "The configured proxy could not be reached or refused to connect.",
	ReasonLocal:          "This machine ran out of file descriptors, ports or memory: raise LimitNOFILE, or lower push.workers.",
	ReasonTimeout:        "The endpoint did not answer in time: answer first and do the slow work afterwards.",
	ReasonReset:          "The endpoint closed the connection without a whole answer.",
	ReasonTruncated:      "The answer ends in the middle.",
	ReasonHTTP:           "What the endpoint sent is not a valid HTTP answer.",
	ReasonRedirect:       "The endpoint redirects, and redirects are not followed: enter the URL it leads to (https, trailing slash, www).",
	ReasonTooLarge:       "The answer is larger than 64 KiB: answer {\"status\":\"success\"} alone.",
	ReasonEncoding:       "The answer is compressed in a way that was not asked for: send it plain or as gzip.",
	ReasonGzip:           "The answer says Content-Encoding: gzip, and is not gzip.",
	ReasonEmpty:          "The answer has no body: answer {\"status\":\"success\"}.",
	ReasonBOM:            "A byte order mark stands before the JSON: save the script that answers as UTF-8 without BOM.",
	ReasonNotUTF8:        "The answer is not UTF-8.",
	ReasonLeadingText:    "Text stands before the JSON object, often a PHP warning or notice: answer the object alone.",
	ReasonTrailingText:   "Text stands after the JSON object: answer the object alone.",
	ReasonNotJSON:        "The answer is not JSON: answer {\"status\":\"success\"}.",
	ReasonNotObject:      "The answer is JSON but not an object: answer {\"status\":\"success\"}.",
	ReasonDoubledKey:     "The answer's JSON has a member twice.",
	ReasonNoStatus:       "The answer has no member named status.",
	ReasonStatusType:     "The answer's status is not a string.",
	ReasonAckMismatch:    "The answer's status is none of the accepted values: answer {\"status\":\"success\"}, or set the webhook's ack.",
	ReasonStray:          "An answer was there before the request was sent: the endpoint, or a proxy before it, answers requests twice.",
	ReasonNotStored:      "The CRM took the record for a test and stored nothing: publish the workflow that its webhook starts.",
}

// hintFor is the sentence for a reason.
func hintFor(reason string, status int) string {
	if h, ok := hints[reason]; ok {
		return h
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "The endpoint calls the request's body wrong."
	case http.StatusUnauthorized, http.StatusForbidden:
		return "The endpoint refuses the request: check its credentials, its firewall and, where it verifies, the sign key."
	case http.StatusNotFound:
		return "There is nothing at the URL's path."
	case http.StatusMethodNotAllowed:
		return "The URL does not take POST."
	case http.StatusRequestTimeout:
		return "The endpoint did not read the request in time."
	case http.StatusGone:
		return "The endpoint says that it is gone for good."
	case http.StatusRequestEntityTooLarge:
		return "The endpoint takes no body of this size: raise its limit (Express: express.json({limit})."
	case http.StatusUnsupportedMediaType:
		return "The endpoint does not take the request's Content-Type."
	case http.StatusTooManyRequests:
		return "The endpoint wants fewer requests: set the webhook's rate."
	}
	switch {
	case status >= 500:
		return "The endpoint failed: look in its log."
	default:
		return "The endpoint did not answer with an HTTP 2xx status."
	}
}

// refused makes the error of a push that came to no acknowledgement; hint stands in for the reason's own sentence.
func refused(reason string, status int, hint string) *jobs.RefusedError {
	if hint == "" {
		hint = hintFor(reason, status)
	}
	return &jobs.RefusedError{Status: status, Reason: reason, Hint: hint, Fault: faultOf(reason, status)}
}

// down are the reasons that say that anything sent would have failed: the endpoint is away, or the webhook cannot be
// pushed to.
var down = map[string]bool{
	ReasonURL: true, ReasonPlainHTTP: true, ReasonHeader: true, ReasonNoKey: true, ReasonKey: true, ReasonDialect: true,
	ReasonPrivateAddress: true, ReasonDNS: true, ReasonConnect: true, ReasonTLS: true, ReasonProxy: true,
	ReasonTimeout: true, ReasonReset: true, ReasonHTTP: true,
}

func faultOf(reason string, status int) jobs.Fault {
	switch {
	case down[reason], status >= 500, status == http.StatusTooManyRequests:
		return jobs.FaultDown
	case status == http.StatusGone:
		return jobs.FaultGone
	}
	return jobs.FaultRecord
}
