package cloud

import "time"

// InstanceGroup is a name under which an account gathers VMs. It has no effect on them.
type InstanceGroup struct {
	ID        ID        `row:"1"`
	Name      string    `row:"2"`
	AccountID ID        `row:"3"`
	DomainID  ID        `row:"4"`
	Created   time.Time `row:"5"`
	Unknown   Unknown
}

// AffinityType is the rule of an affinity group.
type AffinityType uint8

// Affinity types. The soft ones are wishes: placement breaks them rather than refuse a VM.
const (
	HostAntiAffinity AffinityType = iota
	HostAffinity
	SoftHostAntiAffinity
	SoftHostAffinity
	// ExplicitDedication is the type of groups that dedications make: their VMs go to the places that are dedicated.
	ExplicitDedication
)

func (t AffinityType) String() string {
	return [...]string{"host anti-affinity", "host affinity", "non-strict host anti-affinity", "non-strict host affinity", "ExplicitDedication"}[t]
}

// AffinityTypes lists those that people make groups of.
var AffinityTypes = []AffinityType{HostAntiAffinity, HostAffinity, SoftHostAntiAffinity, SoftHostAffinity}

// AffinityGroup says of its members that they are to share a host, that no two may, or that they go to dedicated places. The
// group of what is dedicated to a domain has no account; accounts of the domain and below use it.
type AffinityGroup struct {
	ID          ID           `row:"1"`
	Name        string       `row:"2"`
	Description string       `row:"3"`
	Type        AffinityType `row:"4"`
	AccountID   ID           `row:"5"`
	DomainID    ID           `row:"6"`
	Created     time.Time    `row:"7"`
	Unknown     Unknown
}

// AffinityMember is a VM in an affinity group.
type AffinityMember struct {
	ID      ID `row:"1"` // NameID("affinity", GroupID/VMID)
	GroupID ID `row:"2"`
	VMID    ID `row:"3"`
	Unknown Unknown
}

// UserData is a text that VMs are deployed with, kept under a name.
type UserData struct {
	ID        ID     `row:"1"`
	Name      string `row:"2"`
	AccountID ID     `row:"3"`
	DomainID  ID     `row:"4"`
	// Content is the raw text, sealed because it often holds secrets.
	Content Sealed    `row:"5"`
	Params  []string  `row:"6"` // names of variables that a deployment gives values to
	Created time.Time `row:"7"`
	Unknown Unknown
}

// UserDataPolicy says what becomes of a template's user-data where a deployment brings its own.
type UserDataPolicy uint8

// User-data policies.
const (
	UserDataAllowOverride UserDataPolicy = iota
	UserDataDenyOverride
	UserDataAppend
)

func (p UserDataPolicy) String() string {
	return [...]string{"ALLOWOVERRIDE", "DENYOVERRIDE", "APPEND"}[p]
}
