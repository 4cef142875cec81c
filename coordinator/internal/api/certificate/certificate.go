// Package certificate holds the command that gives the cloud a certificate for names below a domain. What it checks and
// who serves it is in package infra.
package certificate

import (
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the command needs.
type Deps struct{ Seal *seal.Keeper }

// Answer says what became of the certificate. Nothing tells its key, ever.
type Answer struct {
	Message string `json:"message" doc:"what it is used for from now on"`
}

type params struct {
	Certificate string       `api:"certificate,required" len:"65535" doc:"the certificate, PEM; others of its chain may follow it"`
	Suffix      string       `api:"domainsuffix,required" doc:"end of the names that it is for, such as example.org"`
	PrivateKey  cloud.Secret `api:"privatekey" len:"65535" doc:"its key, PEM; absent for a root or intermediate certificate"`
	Name        string       `api:"name" doc:"name of a root or intermediate certificate"`
	Number      *int         `api:"id" min:"0" max:"65535" doc:"place of a root or intermediate certificate in the chain, the root first"`
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{{
		Name: "uploadCustomCertificate", Doc: "Gives the cloud a certificate for names below a domain.", Roles: api.AdminOnly,
		Event: "UPLOAD.CUSTOM.CERTIFICATE", Entity: "CustomCertificate", Object: "customcertificate",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *params) (*api.Start, error) {
			row, err := infra.PutCertificate(tx, d.Seal, infra.CertificateUpload{
				Certificate: p.Certificate, Key: p.PrivateKey, Suffix: p.Suffix, Name: p.Name, Number: p.Number,
			})
			if err != nil {
				return nil, err
			}
			c.Describe(row.ID, "uploading certificate "+row.Name+" for "+row.Suffix)
			return &api.Start{InstanceID: row.ID}, nil
		}),
		Step: func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
		Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
			row, ok := tables.CustomCertificates.Get(r, j.InstanceID)
			switch {
			case !ok:
				return nil, api.NoEntity("id", j.InstanceID)
			case len(row.Key) == 0:
				return Answer{"Certificate " + row.Name + " was kept for the chains of certificates for " + row.Suffix}, nil
			}
			return Answer{"Certificate has been updated: the API over HTTPS shows it for names below " + row.Suffix}, nil
		},
		Answer: reflect.TypeFor[Answer](),
	}}
}
