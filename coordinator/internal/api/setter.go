package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

var (
	errBadValue = errors.New("bad value")
	errTooLong  = errors.New("too long")
)

// What one parameter may hold. A body has room for a hundred thousand items, and handlers compare items with each other and
// keep them in rows: without a bound one call could hold up everybody's.
const (
	mostItems    = 1000
	mostPairs    = 200
	mostMapBytes = 128 << 10
)

// refuse makes the 4.1 sentence of a bad value. The text of a secret is never told.
func refuse(command, text string, f *field, err error) error {
	var known *cloud.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errTooLong):
		return cloud.Errorf(cloud.Invalid, "Value greater than max allowed length %d for param: %s", f.length, f.name)
	case f.ref != "":
		return noEntity(f.name, printable(text))
	case f.typ == reflect.TypeFor[cloud.Secret]():
		text = "***"
	}
	text = printable(text)
	if err != nil && !errors.Is(err, errBadValue) {
		return cloud.Errorf(cloud.Invalid, "Unable to execute API command %s due to invalid value %s for parameter %s: %s", command, text, f.name, err.Error())
	}
	return cloud.Errorf(cloud.Invalid, "Unable to execute API command %s due to invalid value %s for parameter %s", command, text, f.name)
}

// choose finds how a field is set, by its type and options.
func (f *field) choose(opts map[string]bool) error {
	t := f.typ
	switch {
	case opts["map"]:
		if t != reflect.TypeFor[map[string]string]() {
			return fmt.Errorf("a map parameter must be a map[string]string, not %s", t)
		}
		f.shape = mapShape
		f.kindIs("map")
		return nil
	case opts["objects"]:
		if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct {
			return fmt.Errorf("an objects parameter must be a slice of structs, not %s", t)
		}
		f.shape = objectShape
		f.kindIs("map")
		var err error
		f.sub, err = compilePlan(t.Elem(), true)
		return err
	case opts["base64"]:
		if t != reflect.TypeFor[[]byte]() {
			return fmt.Errorf("a base64 parameter must be a []byte, not %s", t)
		}
		f.set = setBase64
		f.kindIs("string")
		return nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return f.chooseList(t.Elem())
	}
	if t.Kind() == reflect.Pointer {
		return f.choosePointer(t.Elem())
	}
	set, kind, err := scalarOf(t)
	if err != nil {
		return err
	}
	f.set = set
	f.kindIs(kind)
	if f.ref != "" {
		if t != reflect.TypeFor[cloud.ID]() {
			return fmt.Errorf("a reference must be a cloud.ID, not %s", t)
		}
		f.ids = func(p unsafe.Pointer) []cloud.ID {
			if id := *(*cloud.ID)(p); !id.IsZero() {
				return []cloud.ID{id}
			}
			return nil
		}
	}
	return nil
}

func (f *field) kindIs(k string) {
	if f.kind == "" {
		f.kind = k
	}
}

func (f *field) choosePointer(elem reflect.Type) error {
	set, kind, err := scalarOf(elem)
	if err != nil {
		return err
	}
	f.kindIs(kind)
	f.emptyOK = elem.Kind() == reflect.String
	f.set = func(f *field, p unsafe.Pointer, text string) error {
		v := reflect.New(elem)
		if err := set(f, v.UnsafePointer(), text); err != nil {
			return err
		}
		reflect.NewAt(f.typ, p).Elem().Set(v)
		return nil
	}
	if f.ref != "" {
		if elem != reflect.TypeFor[cloud.ID]() {
			return fmt.Errorf("a reference must be a cloud.ID, not %s", elem)
		}
		f.ids = func(p unsafe.Pointer) []cloud.ID {
			if id := *(**cloud.ID)(p); id != nil && !id.IsZero() {
				return []cloud.ID{*id}
			}
			return nil
		}
	}
	return nil
}

// chooseList sets a list from "a,b"; items are trimmed and empty ones dropped, as 4.1 tokenises.
func (f *field) chooseList(elem reflect.Type) error {
	set, _, err := scalarOf(elem)
	if err != nil {
		return err
	}
	f.shape = listShape
	f.kindIs("list")
	f.set = func(f *field, p unsafe.Pointer, text string) error {
		items := strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
		if len(items) > mostItems {
			return cloud.Errorf(cloud.Invalid, "Parameter %s names %d values; at most %d are accepted", f.name, len(items), mostItems)
		}
		out := reflect.MakeSlice(f.typ, 0, len(items))
		for _, item := range items {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			v := reflect.New(elem)
			if err := set(f, v.UnsafePointer(), item); err != nil {
				return refuse("", item, f, err)
			}
			out = reflect.Append(out, v.Elem())
		}
		reflect.NewAt(f.typ, p).Elem().Set(out)
		return nil
	}
	if f.ref != "" {
		if elem != reflect.TypeFor[cloud.ID]() {
			return fmt.Errorf("references must be []cloud.ID, not []%s", elem)
		}
		f.ids = func(p unsafe.Pointer) []cloud.ID { return *(*[]cloud.ID)(p) }
	}
	return nil
}

// scalarOf gives the setter of one value and what listApis calls its type.
func scalarOf(t reflect.Type) (setter, string, error) {
	switch t {
	case reflect.TypeFor[cloud.ID]():
		return setID, "uuid", nil
	case reflect.TypeFor[netip.Addr]():
		return setAddr, "string", nil
	case reflect.TypeFor[netip.Prefix]():
		return setPrefix, "string", nil
	case reflect.TypeFor[time.Time]():
		return setTime, "date", nil
	}
	switch t.Kind() {
	case reflect.String:
		return setString, "string", nil
	case reflect.Bool:
		return setBool, "boolean", nil
	case reflect.Int64, reflect.Uint64:
		return setNumber(t), "long", nil
	case reflect.Int, reflect.Int32, reflect.Uint, reflect.Uint32, reflect.Uint16:
		return setNumber(t), "integer", nil
	case reflect.Int8, reflect.Int16, reflect.Uint8:
		return setNumber(t), "short", nil
	case reflect.Float64:
		return setFloat, "float", nil
	}
	return nil, "", fmt.Errorf("a parameter cannot be a %s", t)
}

func setString(f *field, p unsafe.Pointer, text string) error {
	if len(text) > f.length {
		return errTooLong
	}
	// NUL and broken UTF-8 have no place in any text, and would differ between JSON, XML and the database of a client.
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return errBadValue
	}
	if len(f.enum) > 0 {
		i := slices.IndexFunc(f.enum, func(e string) bool { return strings.EqualFold(e, text) })
		if i < 0 {
			return fmt.Errorf("it must be one of %s", strings.Join(f.enum, ", "))
		}
		text = f.enum[i]
	}
	*(*string)(p) = text
	return nil
}

func setBool(_ *field, p unsafe.Pointer, text string) error {
	switch {
	case strings.EqualFold(text, "true"):
		*(*bool)(p) = true
	case strings.EqualFold(text, "false"):
		*(*bool)(p) = false
	default:
		return errBadValue
	}
	return nil
}

func setNumber(t reflect.Type) setter {
	signed := t.Kind() <= reflect.Int64
	return func(f *field, p unsafe.Pointer, text string) error {
		text = strings.TrimSpace(text)
		v := reflect.NewAt(t, p).Elem()
		var n float64
		if signed {
			i, err := strconv.ParseInt(text, 10, t.Bits())
			if err != nil {
				return errBadValue
			}
			v.SetInt(i)
			n = float64(i)
		} else {
			u, err := strconv.ParseUint(text, 10, t.Bits())
			if err != nil {
				return errBadValue
			}
			v.SetUint(u)
			n = float64(u)
		}
		return f.inRange(n)
	}
}

func setFloat(f *field, p unsafe.Pointer, text string) error {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || n != n || n > 1e300 || n < -1e300 {
		return errBadValue
	}
	*(*float64)(p) = n
	return f.inRange(n)
}

func (f *field) inRange(n float64) error {
	switch {
	case !f.bounded || n >= f.min && n <= f.max:
		return nil
	case f.min == -1<<62:
		return fmt.Errorf("it must be at most %v", f.max)
	case f.max == 1<<62:
		return fmt.Errorf("it must be at least %v", f.min)
	}
	return fmt.Errorf("it must be between %v and %v", f.min, f.max)
}

func setID(f *field, p unsafe.Pointer, text string) error {
	id, err := cloud.ParseID(strings.TrimSpace(text))
	if err != nil || id.IsZero() {
		return noEntity(f.name, printable(text))
	}
	*(*cloud.ID)(p) = id
	return nil
}

func setAddr(_ *field, p unsafe.Pointer, text string) error {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil || a.Zone() != "" {
		return errBadValue
	}
	*(*netip.Addr)(p) = a
	return nil
}

func setPrefix(_ *field, p unsafe.Pointer, text string) error {
	a, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return errBadValue
	}
	*(*netip.Prefix)(p) = a
	return nil
}

// timeLayouts are what clients send: a day, a time of UTC, and with a zone.
var timeLayouts = []string{
	"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", TimeLayout, time.RFC3339,
}

func setTime(_ *field, p unsafe.Pointer, text string) error {
	text = strings.TrimSpace(text)
	for _, l := range timeLayouts {
		if t, err := time.Parse(l, text); err == nil {
			*(*time.Time)(p) = t.UTC()
			return nil
		}
	}
	return fmt.Errorf("it must be a date as 2006-01-02 or 2006-01-02T15:04:05+0000")
}

// setBase64 decodes what clients send: one UI percent-encodes the text once more, command lines forget the padding.
func setBase64(f *field, p unsafe.Pointer, text string) error {
	if len(text) > f.length {
		return errTooLong
	}
	if strings.IndexByte(text, '%') >= 0 {
		again, err := url.PathUnescape(text)
		if err != nil {
			return errBadValue
		}
		text = again
	}
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\r', ' ', '=':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, text)
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("it must be base64")
	}
	*(*[]byte)(p) = b
	return nil
}

// setGroups fills a map or a list of objects from its name[i].sub entries, in the order of the indexes.
func (f *field) setGroups(command string, p unsafe.Pointer, entries map[int]Values, role Roles) error {
	order := make([]int, 0, len(entries))
	for i := range entries {
		order = append(order, i)
	}
	slices.Sort(order)
	if f.shape == mapShape {
		out := make(map[string]string, len(entries))
		for _, i := range order {
			if err := f.addPairs(out, entries[i]); err != nil {
				return refuse(command, "", f, err)
			}
		}
		if err := f.fits(out); err != nil {
			return err
		}
		*(*map[string]string)(p) = out
		return nil
	}
	list := reflect.MakeSlice(f.typ, len(order), len(order))
	for n, i := range order {
		v := entries[i]
		slices.SortFunc(v, func(a, b value) int { return strings.Compare(a.lower, b.lower) })
		if err := f.sub.decode(command, list.Index(n).Addr().UnsafePointer(), v, role); err != nil {
			return err
		}
	}
	reflect.NewAt(f.typ, p).Elem().Set(list)
	return nil
}

// fits bounds a map as a whole.
func (f *field) fits(pairs map[string]string) error {
	size := 0
	for k, v := range pairs {
		size += len(k) + len(v)
	}
	if len(pairs) > mostPairs || size > mostMapBytes {
		return cloud.Errorf(cloud.Invalid, "Parameter %s holds %d pairs of %d bytes together; at most %d pairs of %d bytes are accepted",
			f.name, len(pairs), size, mostPairs, mostMapBytes)
	}
	return nil
}

// addPairs takes {key:k, value:v} or any number of k:v.
func (f *field) addPairs(out map[string]string, v Values) error {
	var key, val string
	var hasKey, other bool
	for i := range v {
		switch v[i].lower {
		case "key":
			key, hasKey = v[i].text, true
		case "value":
			val = v[i].text
		default:
			other = true
		}
	}
	if hasKey && !other {
		v = Values{{name: key, text: val}}
	}
	for i := range v {
		if len(v[i].name) > defaultLength || len(v[i].text) > max(f.length, 4096) {
			return errTooLong
		}
		if v[i].name == "" || !utf8.ValidString(v[i].name) || !utf8.ValidString(v[i].text) || strings.IndexByte(v[i].text, 0) >= 0 {
			return errBadValue
		}
		out[v[i].name] = v[i].text
	}
	return nil
}

// resolve checks every reference of decoded parameters against the caller's state. It is repeated in each run of a
// transaction, because what was there a moment ago may be gone.
func (pl *plan) resolve(c *Call, p unsafe.Pointer) error {
	for _, f := range pl.refs {
		e := c.registry.entities[f.ref]
		for _, id := range f.ids(unsafe.Add(p, f.offset)) {
			if err := c.check(e, f.name, id, f.use); err != nil {
				return err
			}
		}
	}
	for _, f := range pl.fields {
		if f.sub == nil || len(f.sub.refs) == 0 {
			continue
		}
		list := reflect.NewAt(f.typ, unsafe.Add(p, f.offset)).Elem()
		for i := range list.Len() {
			if err := f.sub.resolve(c, list.Index(i).Addr().UnsafePointer()); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasID tells whether a list was asked for one id (or some): it then looks in all the caller may see.
func hasID(p any) bool {
	v := reflect.ValueOf(p)
	pl, err := planOf(v.Type().Elem())
	if err != nil {
		return false
	}
	for _, name := range []string{"id", "ids"} {
		f := pl.byName[name]
		if f == nil {
			continue
		}
		if f.ids != nil && len(f.ids(unsafe.Add(v.UnsafePointer(), f.offset))) > 0 {
			return true
		}
		if id, ok := reflect.NewAt(f.typ, unsafe.Add(v.UnsafePointer(), f.offset)).Elem().Interface().(cloud.ID); ok && !id.IsZero() {
			return true
		}
	}
	return false
}
