package cloud

import (
	"errors"
	"fmt"
)

// Code says what kind of refusal an Error is. The API maps it to CloudStack's numbers in one table.
type Code uint8

// The kinds of refusal.
const (
	Internal            Code = iota // a fault of ours: shown as "Internal error"
	BadCredentials                  // unknown key, wrong signature, expired session
	TooManyRequests                 // API limit
	Malformed                       // a parameter's name or structure cannot be read
	Invalid                         // a parameter's value is wrong, missing, or names nothing the caller may use
	Unsupported                     // no such command for this caller
	Denied                          // the caller may not do that
	LoginFailed                     // wrong user or password
	LimitExceeded                   // a resource limit of an account, domain or project
	NoCapacity                      // no host, address, VLAN or storage has room
	Unavailable                     // a resource exists but cannot serve now
	AllocationFailed                // a resource cannot be allocated
	InUse                           // a resource cannot be changed or removed as others depend on it
	NetworkRuleConflict             // a rule collides with another one
)

// Error is a refusal that a person may read.
type Error struct {
	Code Code
	// Text is one or more sentences for the caller; it names the parameter, the value and what is accepted.
	Text string
	// Cause is for the log only.
	Cause error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Text + ": " + e.Cause.Error()
	}
	return e.Text
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes a refusal; a %w operand becomes its cause as well as part of its text.
func Errorf(c Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Text: err.Error(), Cause: errors.Unwrap(err)}
}

// CodeOf gives the code of the first Error in err's chain, or Internal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
