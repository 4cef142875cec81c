// Package api is the CloudStack API: the registry of commands and everything that is the same for all of them.
//
// One command is one literal (Command): name, roles, parameters, answer, events and handler. What clients see of it
// (listApis, role checks, decoding, envelopes, error texts, job results) derives from that literal; a package below
// this one, api/<resource>, holds the literals of a resource and exports
//
//	func Commands(d Deps) []api.Command
//	func Entities() []api.Entity
//
// # Parameters
//
// A handler's parameter type P is a struct whose fields carry the tag `api:"name"`, with options after a comma:
//
//	required   absent or empty is an error
//	map        map[string]string from name[i].key/.value or name[i].<key>=<value>
//	objects    []struct of such fields from name[i].<field>
//	base64     []byte from base64 (standard or URL alphabet, with or without padding, percent-encoded once more or not)
//
// and beside it the tags
//
//	ref:"zone"        an id (or list of ids) of that Entity: it must exist and the caller may operate on it;
//	ref:"zone,use"    ... or Entity.Usable lets the caller use it
//	doc:"..."         one sentence in our own words
//	len:"4096"        greatest length in bytes of a text or of each of a list; 255 when not given
//	min:"1" max:"65535" enum:"tcp,udp,icmp" (enum compares without case and gives the spelling of the tag)
//	role:"admin"      a parameter of root admins: ignored from others and hidden from their listApis
//	since:"4.18"
//
// Types: string, bool, signed and unsigned integers, float64, cloud.ID, cloud.Secret (a text that is not logged),
// netip.Addr, netip.Prefix, time.Time, []string, []cloud.ID, and pointers to any scalar of these where "absent" must be
// told from the zero value. Embedded structs of parameters are flattened (ListParams, OwnedParams). Names are matched in
// any case, unknown names are ignored, an empty value counts as absent for all types but string pointers (there it is a
// text that is to become empty).
//
// # Answers
//
// An answer type R is a struct with `json:"name,omitempty" doc:"..."` tags: strings, bools, numbers, cloud.ID, Time,
// netip.Addr and Prefix, structs, slices, pointers, map[string]string, any. JSON and XML derive from it.
//
// # Errors
//
// A handler refuses with a *cloud.Error (cloud.Errorf); the API maps its code to CloudStack's numbers in one table.
// Any other error is an internal one: the caller sees "Internal error" and the request id, the log sees the error.
package api
