// Package cloud holds the rows of the cloud: what the coordinator knows, as plain values.
//
// It is the leaf of the coordinator: rows, enumerations, state-transition tables and rules that need nothing but the
// values themselves. It imports only the standard library, so that every other package may import it, and it never
// reads a clock or a random source (ids and times are chosen by the caller before the log).
//
// A row is a struct whose fields carry a tag `row:"N"`. N is the field's number for good: it is what is written to
// disk, so a number is never reused for something else. A field left at its zero value is not written. The last field,
// Unknown, keeps what a newer version has written and this one does not understand.
package cloud

// Unknown holds the encoded fields of a row that this version does not know; they are written back unchanged.
type Unknown []byte
