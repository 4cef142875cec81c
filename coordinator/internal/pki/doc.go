// Package pki is the cluster's own certificate authority: it makes the authority at the first start, signs the
// certificates that agents and coordinators show each other, and reads and writes join tokens.
//
// There is one authority per cluster. Its key lies sealed in a row, so every coordinator that holds the cluster key can
// sign and there is no separate signer to keep alive; nobody else can, and a backup or a raft log does not give it away.
//
// A certificate says who its holder is by one URI: wisp://host/<id> or wisp://coordinator/<id>. Host certificates may
// only act as clients, so a stolen one cannot pose as a coordinator. A certificate is refused when its serial is in the
// table of revoked certificates or its host is gone; that is looked up at each call, not at the handshake alone, so
// that removing a host ends what it has open.
//
// An agent that has no certificate yet is told by its join token which authority to trust (the SHA-256 of its
// certificate), so joining needs no other secret and no first-use trust.
package pki
