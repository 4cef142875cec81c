package cloud

import "time"

// JobStatus is what queryAsyncJobResult calls jobstatus.
type JobStatus uint8

// Job states, with the numbers that clients see.
const (
	JobPending   JobStatus = 0
	JobSucceeded JobStatus = 1
	JobFailed    JobStatus = 2
)

// Job is an asynchronous API call. It is written in the same commit as the call's first effects; its step reads rows
// and finishes it or waits for the next change.
type Job struct {
	ID        ID     `row:"1"`
	Command   string `row:"2"` // "deployVirtualMachine"
	UserID    ID     `row:"3"`
	AccountID ID     `row:"4"`
	DomainID  ID     `row:"5"`
	// InstanceType and InstanceID say what the job works on ("VirtualMachine"); a change of that row wakes the step.
	InstanceType string    `row:"6"`
	InstanceID   ID        `row:"7"`
	Status       JobStatus `row:"8"`
	ResultCode   int32     `row:"9"`
	// Result is the JSON text of jobresult, sealed because it may tell a password once.
	Result    Sealed    `row:"10"`
	Created   time.Time `row:"11"`
	Completed time.Time `row:"12"`
	// Args is the step's own state, JSON; no secrets in it.
	Args string `row:"13"`
	// Deadline fails the job when it passes; zero means none.
	Deadline time.Time `row:"14"`
	// EventID is the "scheduled/started" event, parent of the completion event.
	EventID   ID     `row:"15"`
	RequestID string `row:"16"`
	// Error is the sentence of a failed job, for logs and events.
	Error   string `row:"17"`
	Unknown Unknown
}

// EventLevel is the severity of an event.
type EventLevel uint8

// Event levels.
const (
	EventInfo EventLevel = iota
	EventWarn
	EventError
)

func (l EventLevel) String() string { return [...]string{"INFO", "WARN", "ERROR"}[l] }

// EventState says where in an action an event was written.
type EventState uint8

// Event states.
const (
	EventCompleted EventState = iota
	EventCreated
	EventScheduled
	EventStarted
)

func (s EventState) String() string {
	return [...]string{"Completed", "Created", "Scheduled", "Started"}[s]
}

// Event is an entry of the audit log.
type Event struct {
	ID          ID         `row:"1"`
	Type        string     `row:"2"` // "VM.CREATE"
	Level       EventLevel `row:"3"`
	State       EventState `row:"4"`
	Description string     `row:"5"`
	UserID      ID         `row:"6"`
	AccountID   ID         `row:"7"`
	DomainID    ID         `row:"8"`
	ParentID    ID         `row:"9"`
	Created     time.Time  `row:"10"`
	ResourceID  ID         `row:"11"`
	Archived    bool       `row:"12"`
	RequestID   string     `row:"13"`
	Unknown     Unknown
}

// Alert is a condition that an operator should know of.
type Alert struct {
	ID          ID        `row:"1"`
	Type        uint8     `row:"2"`
	Subject     string    `row:"3"`
	Description string    `row:"4"`
	ZoneID      ID        `row:"5"`
	PodID       ID        `row:"6"`
	ResourceID  ID        `row:"7"`
	Created     time.Time `row:"8"`
	Resolved    time.Time `row:"9"`
	Archived    bool      `row:"10"`
	// Condition names what the alert is about, "" for one that nothing ends. While it is not resolved no second alert of
	// the same condition is raised.
	Condition string `row:"11"`
	// Mailed is when it was handed to the mail server, or when it was clear that it will not be.
	Mailed    time.Time `row:"12"`
	Name      string    `row:"13"`
	ClusterID ID        `row:"14"`
	// Hidden says that it was deleted while its condition holds: nobody sees it, and it goes when the condition ends.
	Hidden  bool `row:"15"`
	Unknown Unknown
}
