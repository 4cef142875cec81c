package region

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what clients of this command compare with
	"encoding/base64"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Identifier names this cloud to a user.
type Identifier struct {
	UserID          cloud.ID `json:"userid" doc:"the user"`
	CloudIdentifier string   `json:"cloudidentifier" doc:"a text that no other cloud has"`
	Signature       string   `json:"signature" doc:"that text, signed with the user's secret key"`
}

type identifierParams struct {
	UserID cloud.ID `api:"userid,required" ref:"user" doc:"the user whose key signs"`
}

func identifier() api.Command {
	return api.Command{
		Name: "getCloudIdentifier", Doc: "Tells what this cloud is called among clouds, signed for a user.", Roles: api.Everyone, Object: "cloudidentifier",
		Run: api.Query(func(c *api.Call, p *identifierParams) (Identifier, error) {
			u, ok := tables.Users.Get(c.Read, p.UserID)
			if !ok {
				return Identifier{}, api.NoEntity("userid", p.UserID)
			}
			if u.ID != c.User.ID && !c.IsRoot() {
				return Identifier{}, cloud.Errorf(cloud.Denied, "The identifier is signed with the user's own key: ask as that user")
			}
			if u.APIKey == "" {
				return Identifier{}, cloud.Errorf(cloud.Invalid, "User %s has no keys: registerUserKeys makes them", u.Username)
			}
			secret, err := c.Seal.Open(u.SecretKey)
			if err != nil {
				return Identifier{}, err
			}
			// The root domain's id is made when the cloud is.
			name := cloud.NameID("cloud", identity.Root(c.Read).ID.String()).String()
			mac := hmac.New(sha1.New, []byte(secret))
			mac.Write([]byte(name))
			return Identifier{p.UserID, name, base64.StdEncoding.EncodeToString(mac.Sum(nil))}, nil
		}),
	}
}
