package apis_test

import (
	"encoding/json"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apis"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: append(apis.Commands(), domain.Commands(domain.Deps{})...)})
	for _, name := range []string{"listApis", "listCapabilities"} {
		a := c.Must("a-user", name)
		c.Golden(name, a)
		c.CheckSDK(name, a)
		c.Golden(name, c.CallXML("a-user", name))
	}
}

// What CloudMonkey asserts of every command, or it ends itself.
func TestNothingIsMissing(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: append(apis.Commands(), domain.Commands(domain.Deps{})...)})
	var top struct {
		Answer struct {
			Count int `json:"count"`
			API   []struct {
				Name, Description *string
				IsAsync           *bool
				Params            *[]struct {
					Name, Type, Description *string
					Required                *bool
					Length                  *int
				}
				Response *[]map[string]any
			} `json:"api"`
		} `json:"listapisresponse"`
	}
	if err := json.Unmarshal(c.Must("root", "listApis", "listall", "true").Raw, &top); err != nil {
		t.Fatal(err)
	}
	if top.Answer.Count != len(top.Answer.API) || top.Answer.Count < 6 {
		t.Errorf("count %d of %d", top.Answer.Count, len(top.Answer.API))
	}
	for _, a := range top.Answer.API {
		if a.Name == nil || a.Description == nil || a.IsAsync == nil || a.Params == nil || a.Response == nil {
			t.Fatalf("something is missing: %+v", a)
		}
		for _, p := range *a.Params {
			if p.Name == nil || p.Type == nil || p.Description == nil || p.Required == nil || p.Length == nil {
				t.Errorf("%s: a parameter lacks something: %+v", *a.Name, p)
			}
		}
	}
}
