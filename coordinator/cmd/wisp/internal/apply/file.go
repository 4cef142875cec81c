// Package apply makes a cloud as a YAML file declares it, through the public API only.
//
// The file says what should be; what is there is left alone, what is missing is made, and what differs in a field that
// can be changed is changed. Objects are found by their names within their parent. Nothing is ever deleted. A second run
// changes nothing.
package apply

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is a whole declaration. Field names below it are the API's parameter names, so the API's reference documents them.
type File struct {
	Settings         map[string]string `yaml:"settings"`
	Zones            []Zone            `yaml:"zones"`
	ServiceOfferings []Params          `yaml:"serviceofferings"`
	DiskOfferings    []Params          `yaml:"diskofferings"`
	NetworkOfferings []NetworkOffering `yaml:"networkofferings"`
	Templates        []Params          `yaml:"templates"`
	Networks         []Params          `yaml:"networks"`
	SSHKeyPairs      []Params          `yaml:"sshkeypairs"`
}

// Params are the parameters of a create command, as scalars. A few may be given by name instead of by id: zone, ostype,
// networkoffering.
type Params map[string]string

// Zone with all that is in it.
type Zone struct {
	Params           Params            `yaml:",inline"`
	PhysicalNetworks []PhysicalNetwork `yaml:"physicalnetworks"`
	PublicIPRanges   []Params          `yaml:"publicipranges"`
	Pods             []Pod             `yaml:"pods"`
	SecondaryStorage []Params          `yaml:"secondarystorage"`
	StoragePools     []Params          `yaml:"storagepools"`
}

// PhysicalNetwork with its traffic types and the providers to enable.
type PhysicalNetwork struct {
	Params       Params   `yaml:",inline"`
	TrafficTypes []Params `yaml:"traffictypes"`
	Providers    []string `yaml:"providers"`
}

// Pod with its clusters.
type Pod struct {
	Params   Params    `yaml:",inline"`
	Clusters []Cluster `yaml:"clusters"`
}

// Cluster with its hosts and shared storage.
type Cluster struct {
	Params       Params   `yaml:",inline"`
	Hosts        Hosts    `yaml:"hosts"`
	StoragePools []Params `yaml:"storagepools"`
}

// Hosts are the hosts of a cluster: a list of parameters, or only their names in one text, separated by commas.
type Hosts []Params

// UnmarshalYAML implements yaml.Unmarshaler.
func (h *Hosts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return n.Decode((*[]Params)(h))
	}
	for _, name := range strings.Split(n.Value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			*h = append(*h, Params{"name": name})
		}
	}
	return nil
}

// NetworkOffering with its services: service name to provider.
type NetworkOffering struct {
	Params       Params                       `yaml:",inline"`
	Services     map[string]string            `yaml:"services"`
	Capabilities map[string]map[string]string `yaml:"capabilities"`
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// Read reads a declaration. ${NAME} stands for a variable of lookup (the environment); one that is not set is an error,
// and so is a key that is not known.
func Read(path string, lookup func(string) (string, bool)) (*File, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the declaration: %w", err)
	}
	return Parse(raw, path, lookup)
}

// Parse is Read for bytes at hand; name is what errors call them.
func Parse(raw []byte, name string, lookup func(string) (string, bool)) (*File, error) {
	var missing []string
	var f File
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	expand(&doc, func(v string) string {
		s, ok := lookup(v)
		if !ok {
			missing = append(missing, v)
		}
		return s
	})
	if len(missing) > 0 {
		return nil, fmt.Errorf("read %s: set the environment variables %s, which it uses", name, strings.Join(missing, ", "))
	}
	expanded, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d := yaml.NewDecoder(bytes.NewReader(expanded))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return &f, nil
}

// expand replaces variables in scalars only, so that a value can never become structure.
func expand(n *yaml.Node, value func(string) string) {
	if n.Kind == yaml.ScalarNode && variable.MatchString(n.Value) {
		n.Value = variable.ReplaceAllStringFunc(n.Value, func(m string) string { return value(m[2 : len(m)-1]) })
		n.Style, n.Tag = yaml.DoubleQuotedStyle, "!!str"
	}
	for _, c := range n.Content {
		expand(c, value)
	}
}
