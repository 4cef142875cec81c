package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// number is how CloudStack numbers a refusal: errorcode, which is the HTTP status too, and cserrorcode.
type number struct{ code, cs int }

// numbers is the one table from our codes to CloudStack's.
var numbers = map[cloud.Code]number{
	cloud.Internal:            {530, 4250},
	cloud.BadCredentials:      {401, 4290},
	cloud.TooManyRequests:     {429, 9999},
	cloud.Malformed:           {430, 9999},
	cloud.Invalid:             {431, 4350},
	cloud.Unsupported:         {432, 9999},
	cloud.Denied:              {531, 4365},
	cloud.LoginFailed:         {531, 4290},
	cloud.LimitExceeded:       {535, 4370},
	cloud.NoCapacity:          {533, 4380},
	cloud.Unavailable:         {534, 4380},
	cloud.AllocationFailed:    {535, 4370},
	cloud.InUse:               {536, 9999},
	cloud.NetworkRuleConflict: {537, 9999},
}

// errorAnswer is the body of a refusal.
type errorAnswer struct {
	UUIDs  []string `json:"uuidList"`
	Code   int      `json:"errorcode"`
	CSCode int      `json:"cserrorcode"`
	Text   string   `json:"errortext"`
}

// jobError is the jobresult of a failed job.
type jobError struct {
	Code int    `json:"errorcode"`
	Text string `json:"errortext"`
}

// errorOf turns any error into what the caller may read. Internal errors tell the request id only: by it the log has
// the rest.
func errorOf(err error, requestID string) errorAnswer {
	var e *cloud.Error
	code, text := cloud.Internal, ""
	if errors.As(err, &e) {
		code, text = e.Code, e.Text
	}
	if code == cloud.Internal {
		text = "Internal error"
		if requestID != "" {
			text += fmt.Sprintf(" (request %s)", requestID)
		}
	}
	n, ok := numbers[code]
	if !ok {
		n = numbers[cloud.Internal]
	}
	return errorAnswer{Code: n.code, CSCode: n.cs, Text: text}
}

// oneLine makes a text fit for a header: no line ends, no control characters, no more than a screenful.
func oneLine(s string) string {
	const most = 1024
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, s)
}
