package server

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi/datamodel"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/wispcloud/wisp/coordinator/internal/api/reference"
)

// The schema of OpenAPI 3.1 leaves open what a schema is. This is it with the schemas of JSON Schema 2020-12, which those
// of OpenAPI 3.1 are.
const openAPISchema = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"$id": "https://wisp.test/openapi",
	"$ref": "https://spec.openapis.org/oas/3.1/schema/2022-10-07",
	"$defs": {"schema": {"$dynamicAnchor": "meta", "$ref": "https://json-schema.org/draft/2020-12/schema"}}
}`

// schemas compiles schemas, in which formats are more than a remark.
func schemas(t *testing.T, resources map[string][]byte) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	for url, text := range resources {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(url, doc); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func openAPIDocument(t *testing.T) []byte {
	t.Helper()
	b, err := reference.OpenAPI(registry(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The document is one of OpenAPI 3.1 by the schema that the makers of OpenAPI publish, and its schemas are schemas.
func TestOpenAPIIsValid(t *testing.T) {
	s, err := schemas(t, map[string][]byte{
		"https://spec.openapis.org/oas/3.1/schema/2022-10-07": []byte(datamodel.OpenAPI31SchemaData), "https://wisp.test/openapi": []byte(openAPISchema),
	}).Compile("https://wisp.test/openapi")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text []byte) error {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(doc)
	}
	b := openAPIDocument(t)
	if err := valid(b); err != nil {
		t.Errorf("the document is not one of OpenAPI 3.1: %v", err)
	}
	for _, x := range [][2]string{
		{`"openapi": "3.1.0"`, `"openapi": "3.0.0"`},
		{`"type": "boolean"`, `"type": "bool"`},
		{`"in": "query"`, `"in": "body"`},
		{`"maxLength": 255`, `"maxLength": "255"`},
		{`"description": "The call was carried out."`, `"descr": ""`},
	} {
		if broken := bytes.Replace(b, []byte(x[0]), []byte(x[1]), 1); bytes.Equal(broken, b) || valid(broken) == nil {
			t.Errorf("%s instead of %s is not seen", x[1], x[0])
		}
	}
}

var (
	goldenID   = regexp.MustCompile(`\{[a-z][A-Za-z0-9./ _-]*\}`)
	goldenTime = "2026-01-02T03:04:05+0000"
)

// original puts ids and times back into a golden answer.
func original(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("{time}"), []byte(goldenTime))
	return goldenID.ReplaceAll(b, []byte("019b7ca9-8c88-70ed-933c-720742f58c65"))
}

// Every golden answer is as the document says of its command: what it answers, what its job results in, or how it refuses.
func TestGoldenAnswersAreAsOpenAPISays(t *testing.T) {
	const at = "https://wisp.test/openapi.json"
	compiler := schemas(t, map[string][]byte{at: openAPIDocument(t)})
	g, answers := registry(t), 0
	for name, files := range golden(t) {
		c, ok := g.Find(name)
		if !ok && strings.HasPrefix(files[0], "../api/testdata/") {
			continue // of commands that are there for a test
		}
		if !ok {
			t.Errorf("%s is no answer of a command", files)
			continue
		}
		ok200 := at + "#/paths/~1client~1api~1" + name + "/post/responses/200/content/application~1json/schema"
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b = original(b)
			var top map[string]map[string]json.RawMessage
			if err := json.Unmarshal(b, &top); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			where := ok200
			for envelope, inside := range top {
				switch {
				case inside["errorcode"] != nil:
					where = at + "#/components/responses/refused/content/application~1json/schema"
				case envelope == "queryasyncjobresultresponse" && name != "queryAsyncJobResult":
					b = inside["jobresult"]
					where += "/properties/" + c.EnvelopeName() + "/properties/jobresult"
					if string(inside["jobstatus"]) != "1" || string(inside["cmd"]) != strconv.Quote(name) {
						where = "" // of another command, or why the job failed
					}
				}
			}
			if where == "" {
				continue
			}
			s, err := compiler.Compile(where)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if err := s.Validate(doc); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			answers++
		}
	}
	t.Logf("%d answers", answers)
}
