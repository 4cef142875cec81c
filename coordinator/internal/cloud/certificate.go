package cloud

import "time"

// CustomCertificate is a certificate for names below a domain suffix, with its key; or, without a key, a certificate of an
// authority in its chain.
type CustomCertificate struct {
	ID     ID     `row:"1"` // NameID("custom_certificate", Suffix+" "+Name)
	Suffix string `row:"2"` // lower case, no leading dot
	Name   string `row:"3"`
	Number uint32 `row:"4"` // place in the chain, as it was uploaded: a root has the lowest
	// Certificate is PEM: with a key, the certificate for the names first and then what was given of its chain.
	Certificate string    `row:"5"`
	Key         Sealed    `row:"6"` // PEM
	Created     time.Time `row:"7"`
	Unknown     Unknown
}
