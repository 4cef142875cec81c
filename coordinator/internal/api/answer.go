package api

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// TimeLayout is how clients want times: a numeric zone without a colon, no fraction.
const TimeLayout = "2006-01-02T15:04:05-0700"

// Time is a time in an answer. The zero time is left out by omitempty.
type Time time.Time

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	if time.Time(t).IsZero() {
		return nil, nil
	}
	return time.Time(t).AppendFormat(nil, TimeLayout), nil
}

// UnmarshalText implements encoding.TextUnmarshaler, for tests that read answers.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = Time{}
		return nil
	}
	v, err := time.Parse(TimeLayout, string(b))
	*t = Time(v)
	return err
}

// IsZero reports the zero time.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// Success is the answer of synchronous commands without an object. Success is a text: clients compare it with "true".
type Success struct {
	Success     string `json:"success" doc:"true when the call was carried out"`
	DisplayText string `json:"displaytext,omitempty" doc:"a remark for people"`
}

// JobSuccess is the same as the result of a job, where clients want a boolean.
type JobSuccess struct {
	Success bool `json:"success" doc:"true when the call was carried out"`
}

// Started is the answer of asynchronous commands.
type Started struct {
	ID    cloud.ID `json:"id,omitempty" doc:"the new object"`
	JobID cloud.ID `json:"jobid" doc:"the job to ask about with queryAsyncJobResult"`
}

// JSON is a part of an answer that is encoded already: one JSON value.
type JSON string
