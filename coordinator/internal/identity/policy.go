package identity

import (
	"strings"
	"unicode"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

func policy(name, what string) *settings.Def {
	return settings.Define(settings.Def{
		Name: "user.password.policy.minimum." + name, Category: "Advanced", Type: settings.Integer, Default: "0", Min: 0, Max: maxPassword,
		Scopes: settings.Domain, Doc: "Fewest " + what + " of a new password.",
	})
}

// maxPassword bounds what is hashed.
const maxPassword = 1024

// What new passwords must be like, by the names of newer CloudStack.
var (
	minLength    = policy("length", "characters")
	minUpper     = policy("uppercase.letters", "upper-case letters")
	minLower     = policy("lowercase.letters", "lower-case letters")
	minDigits    = policy("digits", "digits")
	minSpecial   = policy("special.characters", "characters that are neither letters nor digits")
	withUsername = settings.Define(settings.Def{
		Name: "user.password.policy.allowPasswordToContainUsername", Category: "Advanced", Type: settings.Boolean, Default: "true",
		Scopes: settings.Domain, Doc: "Whether a new password may contain the user's name. It may never be the name itself.",
	})
)

// CheckNewPassword refuses a password that the policy of the user's domain does not allow. The refusal does not repeat it.
func CheckNewPassword(r store.Reader, domain cloud.ID, username string, p cloud.Secret) error {
	text := string(p)
	var length, upper, lower, digits, special int64
	for _, c := range text {
		length++
		switch {
		case unicode.IsUpper(c):
			upper++
		case unicode.IsLower(c):
			lower++
		case unicode.IsDigit(c):
			digits++
		case !unicode.IsLetter(c):
			special++
		}
	}
	switch {
	case text == "":
		return cloud.Errorf(cloud.Invalid, "The password must not be empty")
	case len(text) > maxPassword:
		return cloud.Errorf(cloud.Invalid, "The password must not have more than %d bytes", maxPassword)
	case strings.EqualFold(text, username):
		return cloud.Errorf(cloud.Invalid, "The password must not be the user's name")
	case !withUsername.Bool(r, domain) && strings.Contains(strings.ToLower(text), strings.ToLower(username)):
		return cloud.Errorf(cloud.Invalid, "The password must not contain the user's name")
	}
	for _, x := range []struct {
		has  int64
		min  *settings.Def
		what string
	}{
		{length, minLength, "characters"},
		{upper, minUpper, "upper-case letters"},
		{lower, minLower, "lower-case letters"},
		{digits, minDigits, "digits"},
		{special, minSpecial, "characters that are neither letters nor digits"},
	} {
		if want := x.min.Int(r, domain); x.has < want {
			return cloud.Errorf(cloud.Invalid, "The password must have at least %d %s", want, x.what)
		}
	}
	return nil
}
