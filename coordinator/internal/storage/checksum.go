package storage

import (
	"crypto/md5"  //nolint:gosec // what people publish beside images; our own name of a file is its SHA-256
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// checksum is what a template's file must hash to.
type checksum struct {
	name string
	new  func() hash.Hash
	want string // lower-case hexadecimal
}

var algorithms = []checksum{
	{name: "MD5", new: md5.New},
	{name: "SHA-1", new: sha1.New},
	{name: "SHA-224", new: sha256.New224},
	{name: "SHA-256", new: sha256.New},
	{name: "SHA-384", new: sha512.New384},
	{name: "SHA-512", new: sha512.New},
}

// parseChecksum reads "{SHA-256}hex", or hex alone, whose length tells the algorithm. "" is no checksum.
func parseChecksum(text string) (*checksum, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	name, digits := "", text
	if strings.HasPrefix(text, "{") {
		var ok bool
		if name, digits, ok = strings.Cut(text[1:], "}"); !ok {
			return nil, badChecksum(text)
		}
	}
	digits = strings.ToLower(strings.TrimSpace(digits))
	if _, err := hex.DecodeString(digits); err != nil {
		return nil, badChecksum(text)
	}
	for _, a := range algorithms {
		same := name == "" || strings.EqualFold(name, a.name) || strings.EqualFold(name, strings.ReplaceAll(a.name, "-", ""))
		if same && len(digits) == 2*a.new().Size() {
			a.want = digits
			return &a, nil
		}
	}
	return nil, badChecksum(text)
}

func badChecksum(text string) error {
	return cloud.Errorf(cloud.Invalid, "Unable to use checksum %.160q: give hexadecimal digits, or {MD5}, {SHA-1}, {SHA-224}, {SHA-256}, {SHA-384} or {SHA-512} before them", text)
}
