package cloud

import "time"

// Authority is a certificate authority of the cluster: it signs what agents and coordinators show each other.
type Authority struct {
	ID          ID        `row:"1"` // NameID("authority", Name)
	Name        string    `row:"2"` // "cluster"
	Certificate []byte    `row:"3"` // DER
	Key         Sealed    `row:"4"` // PKCS #8, base64
	Created     time.Time `row:"5"`
	Unknown     Unknown
}

// RevokedCertificate is a certificate that is refused although its signature and dates are good.
type RevokedCertificate struct {
	ID      ID        `row:"1"` // NameID("revoked-certificate", Serial)
	Serial  string    `row:"2"` // lower-case hexadecimal
	HostID  ID        `row:"3"`
	Revoked time.Time `row:"4"`
	// Expires is when the certificate would have ended by itself; the row may go then.
	Expires time.Time `row:"5"`
	Reason  string    `row:"6"`
	Unknown Unknown
}

// Coordinator is a member of the coordinator cluster as agents and other coordinators reach it.
type Coordinator struct {
	ID      ID     `row:"1"` // NameID("coordinator", NodeID)
	NodeID  string `row:"2"` // raft's name of it
	Address string `row:"3"` // host:port of its host link
	Unknown Unknown
}
