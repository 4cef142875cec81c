package api

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// everyKind has a parameter of every kind.
type everyKind struct {
	ListParams
	ID      cloud.ID          `api:"id,required"`
	IDs     []cloud.ID        `api:"ids"`
	Name    string            `api:"name" len:"8"`
	Text    *string           `api:"text"`
	Proto   string            `api:"protocol" enum:"tcp,udp,ICMP"`
	Flag    bool              `api:"flag"`
	Maybe   *bool             `api:"maybe"`
	Int     int               `api:"int" min:"-5" max:"5"`
	Port    uint16            `api:"port" min:"1"`
	Big     *int64            `api:"big"`
	Ratio   float64           `api:"ratio"`
	IP      netip.Addr        `api:"ip"`
	CIDR    netip.Prefix      `api:"cidr"`
	When    time.Time         `api:"when"`
	Tags    []string          `api:"tags"`
	Pass    cloud.Secret      `api:"password" len:"8"`
	Data    []byte            `api:"userdata,base64" len:"64"`
	Details map[string]string `api:"details,map"`
	Nets    []struct {
		NetworkID cloud.ID   `api:"networkid"`
		IP        netip.Addr `api:"ip4Address"`
	} `api:"nets,objects"`
	Host string `api:"hostid" role:"admin"`
}

const someID = "01234567-89ab-cdef-0123-456789abcdef"

func decodeEvery(t testing.TB, query string, role Roles) (everyKind, error) {
	t.Helper()
	pl, err := planOf(reflect.TypeFor[everyKind]())
	if err != nil {
		t.Fatal(err)
	}
	v, err := parseValues(query)
	if err != nil {
		return everyKind{}, err
	}
	var p everyKind
	err = pl.decode("somecommand", unsafe.Pointer(&p), v, role)
	return p, err
}

func TestDecode(t *testing.T) {
	id, _ := cloud.ParseID(someID)
	yes, big, empty := true, int64(-1), ""
	page := 2
	for _, x := range []struct {
		name, query string
		want        func(p *everyKind)
	}{
		{"names in any case, unknown ones ignored", "nAme=x&Filter=name%2Cid&vpc_id=1", func(p *everyKind) { p.Name = "x" }},
		{"empty is absent", "ids=&int=&port=&big=&ratio=&ip=&cidr=&when=&flag=&maybe=&protocol=&tags=&details=&nets=&page=", func(*everyKind) {}},
		{"empty text is a text", "text=", func(p *everyKind) { p.Text = &empty }},
		{"list", "tags=a,%20b,,c+&ids=" + someID + ",%20" + strings.ToUpper(someID), func(p *everyKind) {
			p.Tags, p.IDs = []string{"a", "b", "c"}, []cloud.ID{id, id}
		}},
		{"booleans", "flag=TRUE&maybe=True", func(p *everyKind) { p.Flag, p.Maybe = true, &yes }},
		{"numbers", "int=-5&port=65535&big=-1&ratio=1.5&page=2", func(p *everyKind) {
			p.Int, p.Port, p.Big, p.Ratio, p.Page = -5, 65535, &big, 1.5, &page
		}},
		{"enum keeps our spelling", "protocol=Icmp", func(p *everyKind) { p.Proto = "ICMP" }},
		{"addresses", "ip=2001:db8::1&cidr=10.0.0.0/8", func(p *everyKind) {
			p.IP, p.CIDR = netip.MustParseAddr("2001:db8::1"), netip.MustParsePrefix("10.0.0.0/8")
		}},
		{"dates", "when=2026-01-02T03:04:05%2B0100", func(p *everyKind) { p.When = time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC) }},
		{"day", "when=2026-01-02", func(p *everyKind) { p.When = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC) }},
		{"secret", "password=a+b", func(p *everyKind) { p.Pass = "a b" }},
		{"base64 with padding", "userdata=aGk%3D", func(p *everyKind) { p.Data = []byte("hi") }},
		{"base64 without padding", "userdata=aGk", func(p *everyKind) { p.Data = []byte("hi") }},
		{"base64 encoded twice", "userdata=aGk%253D", func(p *everyKind) { p.Data = []byte("hi") }},
		{"base64 of the URL alphabet", "userdata=-_8", func(p *everyKind) { p.Data = []byte{0xfb, 0xff} }},
		{"map of pairs", "details[0].key=Cpu&details[0].value=2&DETAILS[7].value=v&details[7].key=k", func(p *everyKind) {
			p.Details = map[string]string{"Cpu": "2", "k": "v"}
		}},
		{"map of names", "details%5B0%5D.cpuNumber=2&details[0].memory=512&details[1].x=", func(p *everyKind) {
			p.Details = map[string]string{"cpuNumber": "2", "memory": "512", "x": ""}
		}},
		{"key without value", "details[0].key=k", func(p *everyKind) { p.Details = map[string]string{"k": ""} }},
		{"objects, not dense", "nets[5].IP4ADDRESS=10.0.0.1&nets[2].networkid=" + someID, func(p *everyKind) {
			p.Nets = append(p.Nets, struct {
				NetworkID cloud.ID   `api:"networkid"`
				IP        netip.Addr `api:"ip4Address"`
			}{NetworkID: id}, struct {
				NetworkID cloud.ID   `api:"networkid"`
				IP        netip.Addr `api:"ip4Address"`
			}{IP: netip.MustParseAddr("10.0.0.1")})
		}},
		{"the same twice", "name=x&NAME=x", func(p *everyKind) { p.Name = "x" }},
		{"of admins, ignored", "hostid=h", func(*everyKind) {}},
	} {
		t.Run(x.name, func(t *testing.T) {
			want := everyKind{ID: id}
			x.want(&want)
			got, err := decodeEvery(t, "id="+someID+"&"+x.query, User)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
	if p, err := decodeEvery(t, "id="+someID+"&hostid=h", RootAdmin); err != nil || p.Host != "h" {
		t.Errorf("an admin's parameter from an admin: %q %v", p.Host, err)
	}
}

func TestDecodeRefusals(t *testing.T) {
	const bad = "Unable to execute API command somecommand due to invalid value "
	for _, x := range []struct {
		query, text string
		code        cloud.Code
	}{
		{"", "Unable to execute API command somecommand due to missing parameter id", cloud.Invalid},
		{"id=", "Unable to execute API command somecommand due to missing parameter id", cloud.Invalid},
		{"id=1", "Invalid parameter id value=1 due to incorrect long value format, or entity does not exist", cloud.Invalid},
		{"id=00000000-0000-0000-0000-000000000000", "Invalid parameter id value=00000000-0000-0000-0000-000000000000 due to incorrect long value format, or entity does not exist", cloud.Invalid},
		{"id=" + someID + "&flag=yes", bad + "yes for parameter flag", cloud.Invalid},
		{"id=" + someID + "&int=6", bad + "6 for parameter int: it must be between -5 and 5", cloud.Invalid},
		{"id=" + someID + "&int=1e3", bad + "1e3 for parameter int", cloud.Invalid},
		{"id=" + someID + "&int=99999999999999999999", bad + "99999999999999999999 for parameter int", cloud.Invalid},
		{"id=" + someID + "&port=0", bad + "0 for parameter port: it must be at least 1", cloud.Invalid},
		{"id=" + someID + "&port=65536", bad + "65536 for parameter port", cloud.Invalid},
		{"id=" + someID + "&ratio=NaN", bad + "NaN for parameter ratio", cloud.Invalid},
		{"id=" + someID + "&protocol=gre", bad + "gre for parameter protocol: it must be one of tcp, udp, ICMP", cloud.Invalid},
		{"id=" + someID + "&ip=10.0.0.256", bad + "10.0.0.256 for parameter ip", cloud.Invalid},
		{"id=" + someID + "&ip=fe80::1%25eth0", bad + "fe80::1%eth0 for parameter ip", cloud.Invalid},
		{"id=" + someID + "&cidr=10.0.0.0", bad + "10.0.0.0 for parameter cidr", cloud.Invalid},
		{"id=" + someID + "&name=123456789", "Value greater than max allowed length 8 for param: name", cloud.Invalid},
		{"id=" + someID + "&name=%00", bad + "? for parameter name", cloud.Invalid},
		{"id=" + someID + "&password=123456789", "Value greater than max allowed length 8 for param: password", cloud.Invalid},
		{"id=" + someID + "&password=%ff", bad + "*** for parameter password", cloud.Invalid},
		{"id=" + someID + "&userdata=%26%26", bad + "&& for parameter userdata: it must be base64", cloud.Invalid},
		{"id=" + someID + "&details[0]=x", "Invalid key when specifying a map parameter: details[0]; expected name[index].key", cloud.Malformed},
		{"id=" + someID + "&details[a].key=x", "Invalid key when specifying a map parameter: details[a].key; expected name[index].key", cloud.Malformed},
		{"id=" + someID + "&details[-1].key=x", "Invalid key when specifying a map parameter: details[-1].key; expected name[index].key", cloud.Malformed},
		{"id=" + someID + "&details[0][1].key=x", "Invalid key when specifying a map parameter: details[0][1].key; expected name[index].key", cloud.Malformed},
		{"id=" + someID + "&details=x", bad + "x for parameter details", cloud.Invalid},
		{"id=" + someID + "&name[0].x=y", bad + "y for parameter name", cloud.Invalid},
		{"id=" + someID + "&name=a&NAME=b", "Parameter NAME is given twice with different values", cloud.Malformed},
		{"id=%zz", "The value of parameter id is not percent-encoded well", cloud.Malformed},
	} {
		t.Run(x.query, func(t *testing.T) {
			_, err := decodeEvery(t, x.query, User)
			var e *cloud.Error
			if !errors.As(err, &e) || e.Text != x.text || e.Code != x.code {
				t.Errorf("got %v, want %q", err, x.text)
			}
		})
	}
}

func TestLongQuery(t *testing.T) {
	text := strings.Repeat("x", 48)
	raw := base64.StdEncoding.EncodeToString([]byte(text))
	p, err := decodeEvery(t, "id="+someID+"&userdata="+raw+"&filler="+strings.Repeat("y", 64<<10), User)
	if err != nil || string(p.Data) != text {
		t.Errorf("%q %v", p.Data, err)
	}
}

// FuzzDecode: whatever is sent, decoding ends without a panic, and refuses with an error that a caller may read.
func FuzzDecode(f *testing.F) {
	f.Add("id="+someID+"&details[0].key=k&details[0].value=v&nets[1].networkid="+someID, "password=hunter2&ids="+someID)
	f.Add("page=1&pagesize=-1&keyword=%F0%9F%98%80&tags=a,,b", "userdata=aGk%253D&when=2026-01-02")
	f.Add("details[999999999999999999999].a=b", "nets[0].ip4address=::1")
	f.Fuzz(func(t *testing.T, query, body string) {
		v, err := parseValues(query, body)
		if err != nil {
			return
		}
		pl, err := planOf(reflect.TypeFor[everyKind]())
		if err != nil {
			t.Fatal(err)
		}
		var p everyKind
		err = pl.decode("somecommand", unsafe.Pointer(&p), v, RootAdmin)
		var e *cloud.Error
		if err != nil && (!errors.As(err, &e) || e.Code == cloud.Internal) {
			t.Fatalf("an error that is nobody's fault: %v", err)
		}
	})
}
