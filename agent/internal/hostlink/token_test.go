package hostlink

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseToken(t *testing.T) {
	pin := strings.Repeat("0a", 32)
	tests := []struct {
		name, text string
		addresses  []string
	}{
		{"one address", "wisp1.10.0.0.1:9443.c2VjcmV0." + pin, []string{"10.0.0.1:9443"}},
		{"several", "wisp1.a.example:1,[2001:db8::1]:2.c2VjcmV0." + pin + "\n", []string{"a.example:1", "[2001:db8::1]:2"}},
		{"empty", "", nil},
		{"another kind", "wisp2.a:1.c2VjcmV0." + pin, nil},
		{"no address", "wisp1..c2VjcmV0." + pin, nil},
		{"no port", "wisp1.a.c2VjcmV0." + pin, nil},
		{"no secret", "wisp1.a:1.." + pin, nil},
		{"bad secret", "wisp1.a:1.!!." + pin, nil},
		{"short pin", "wisp1.a:1.c2VjcmV0.0a", nil},
		{"few parts", "wisp1." + pin, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseToken(tt.text)
			if (err == nil) != (tt.addresses != nil) || err != nil && !errors.Is(err, ErrToken) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.addresses, got.Addresses); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(fmt.Sprintf("%v %+v %#v %s", got, got, got, got), "c2VjcmV0") {
				t.Error("the secret is printed")
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("wisp1.10.0.0.1:9443.c2VjcmV0." + strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && len(token.Addresses) == 0 {
			t.Fatal("a token without an address")
		}
	})
}
