package store

import (
	"encoding/hex"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

type (
	color uint8
	mood  string
	port  struct {
		Number  uint16     `row:"1"`
		Peer    netip.Addr `row:"2"`
		Notes   []string   `row:"3"`
		Unknown cloud.Unknown
	}
	// everything has a field of each kind a row can hold.
	everything struct {
		ID        cloud.ID          `row:"1"`
		String    string            `row:"2"`
		Bytes     []byte            `row:"3"`
		Bool      bool              `row:"4"`
		Int       int               `row:"5"`
		Int8      int8              `row:"6"`
		Int16     int16             `row:"7"`
		Int32     int32             `row:"8"`
		Int64     int64             `row:"9"`
		Uint      uint              `row:"10"`
		Uint8     uint8             `row:"11"`
		Uint16    uint16            `row:"12"`
		Uint32    uint32            `row:"13"`
		Uint64    uint64            `row:"14"`
		Float     float64           `row:"15"`
		Color     color             `row:"16"`
		Mood      mood              `row:"17"`
		Other     cloud.ID          `row:"18"`
		Time      time.Time         `row:"19"`
		Duration  time.Duration     `row:"20"`
		Addr      netip.Addr        `row:"21"`
		Prefix    netip.Prefix      `row:"22"`
		Secret    cloud.Secret      `row:"23"`
		Sealed    cloud.Sealed      `row:"24"`
		MAC       [6]byte           `row:"25"`
		Port      port              `row:"26"`
		Strings   []string          `row:"27"`
		Blobs     [][]byte          `row:"28"`
		Bools     []bool            `row:"29"`
		Ints      []int             `row:"30"`
		Colors    []mood            `row:"31"`
		Floats    []float64         `row:"32"`
		IDs       []cloud.ID        `row:"33"`
		Times     []time.Time       `row:"34"`
		Addrs     []netip.Addr      `row:"35"`
		Prefixes  []netip.Prefix    `row:"36"`
		Ports     []port            `row:"37"`
		Details   map[string]string `row:"38"`
		Durations []time.Duration   `row:"39"`
		High      string            `row:"500"`
		Unknown   cloud.Unknown
	}
)

func slices0[T any](t *rapid.T, name string, g *rapid.Generator[T]) []T {
	s := rapid.SliceOfN(g, 0, 4).Draw(t, name)
	if len(s) == 0 {
		return nil
	}
	return s
}

var (
	genID   = rapid.Custom(func(t *rapid.T) cloud.ID { return cloud.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")) })
	genBlob = rapid.Custom(func(t *rapid.T) []byte { return slices0(t, "bytes", rapid.Byte()) })
	genTime = rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.UnixMicro(rapid.Int64Range(-62135596800_000000+1, 253402300799_000000).Draw(t, "us")).UTC()
	})
	genAddr = rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.AddrFrom4([4]byte(b))
		case 2:
			return netip.AddrFrom16(netip.AddrFrom4([4]byte(b)).As16()) // mapped
		case 3:
			return netip.AddrFrom16([16]byte(b)).WithZone("eth0")
		}
		return netip.AddrFrom16([16]byte(b))
	})
	genPrefix = rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := genAddr.Draw(t, "addr").WithZone("")
		if !a.IsValid() {
			return netip.Prefix{}
		}
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	})
	genText = rapid.StringN(0, 5, -1)
	genPort = rapid.Custom(func(t *rapid.T) port {
		return port{
			Number: rapid.Uint16().Draw(t, "number"), Peer: genAddr.Draw(t, "peer"), Notes: slices0(t, "notes", genText),
		}
	})
	genEverything = rapid.Custom(func(t *rapid.T) everything {
		e := everything{
			ID: genID.Draw(t, "ID"), String: genText.Draw(t, "String"), Bytes: genBlob.Draw(t, "Bytes"),
			Bool: rapid.Bool().Draw(t, "Bool"), Int: rapid.Int().Draw(t, "Int"), Int8: rapid.Int8().Draw(t, "Int8"),
			Int16: rapid.Int16().Draw(t, "Int16"), Int32: rapid.Int32().Draw(t, "Int32"), Int64: rapid.Int64().Draw(t, "Int64"),
			Uint: rapid.Uint().Draw(t, "Uint"), Uint8: rapid.Uint8().Draw(t, "Uint8"), Uint16: rapid.Uint16().Draw(t, "Uint16"),
			Uint32: rapid.Uint32().Draw(t, "Uint32"), Uint64: rapid.Uint64().Draw(t, "Uint64"), Float: rapid.Float64().Draw(t, "Float"),
			Color: color(rapid.Uint8().Draw(t, "Color")), Mood: mood(genText.Draw(t, "Mood")), Other: genID.Draw(t, "Other"),
			Time: genTime.Draw(t, "Time"), Duration: time.Duration(rapid.Int64().Draw(t, "Duration")), Addr: genAddr.Draw(t, "Addr"),
			Prefix: genPrefix.Draw(t, "Prefix"), Secret: cloud.Secret(genText.Draw(t, "Secret")), Sealed: genBlob.Draw(t, "Sealed"),
			MAC: [6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "MAC")), Port: genPort.Draw(t, "Port"),
			Strings: slices0(t, "Strings", genText), Blobs: slices0(t, "Blobs", genBlob), Bools: slices0(t, "Bools", rapid.Bool()),
			Ints: slices0(t, "Ints", rapid.Int()), Colors: slices0(t, "Colors", rapid.Map(genText, func(s string) mood { return mood(s) })),
			Floats: slices0(t, "Floats", rapid.Float64()), IDs: slices0(t, "IDs", genID), Times: slices0(t, "Times", genTime),
			Addrs: slices0(t, "Addrs", genAddr), Prefixes: slices0(t, "Prefixes", genPrefix), Ports: slices0(t, "Ports", genPort),
			Durations: slices0(t, "Durations", rapid.Map(rapid.Int64(), func(d int64) time.Duration { return time.Duration(d) })),
			High:      genText.Draw(t, "High"),
		}
		if m := rapid.MapOfN(genText, genText, 0, 4).Draw(t, "Details"); len(m) > 0 {
			e.Details = m
		}
		return e
	})
)

// sameRows compares rows as a caller sees them; NaN equals itself.
var sameRows = cmp.Options{
	cmpopts.EquateNaNs(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func planOf[T any](t testing.TB) *plan {
	t.Helper()
	p, err := compile(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encodeRow[T any](p *plan, r *T) []byte { return p.appendRow(nil, unsafe.Pointer(r), 0) }

func decodeRow[T any](p *plan, b []byte) (*T, error) {
	r := new(T)
	return r, p.parseRow(b, unsafe.Pointer(r), kept)
}

func TestCodecRoundTrip(t *testing.T) {
	p := planOf[everything](t)
	rapid.Check(t, func(t *rapid.T) {
		want := genEverything.Draw(t, "row")
		b := encodeRow(p, &want)
		got, err := decodeRow[everything](p, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got, sameRows); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if again := encodeRow(p, got); string(again) != string(b) {
			t.Fatalf("encoded again: %x, want %x", again, b)
		}
		aliased := new(everything)
		if err := p.parseRow(b, unsafe.Pointer(aliased), passing); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, aliased, sameRows); diff != "" {
			t.Fatalf("aliased (-want +got):\n%s", diff)
		}
	})
}

func TestCodecZeroIsEmpty(t *testing.T) {
	p := planOf[everything](t)
	if b := encodeRow(p, &everything{}); len(b) != 0 {
		t.Errorf("the zero row is %x", b)
	}
	// Values that look like zero but are not.
	for name, r := range map[string]everything{
		"1970":          {Time: time.UnixMicro(0).UTC()},
		"minus zero":    {Float: math.Copysign(0, -1)},
		"0.0.0.0":       {Addr: netip.IPv4Unspecified()},
		"::":            {Addr: netip.IPv6Unspecified()},
		"0.0.0.0/0":     {Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		"empty strings": {Strings: []string{"", ""}},
		"zero structs":  {Ports: []port{{}, {}}},
		"zero times":    {Times: []time.Time{{}, {}}},
		"empty entry":   {Details: map[string]string{"": ""}},
	} {
		got, err := decodeRow[everything](p, encodeRow(p, &r))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(&r, got, sameRows); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestCodecKeepsUnknown lets an older version, which knows a few fields only, write
// a newer version's row back.
func TestCodecKeepsUnknown(t *testing.T) {
	type olderPort struct {
		Peer    netip.Addr `row:"2"`
		Unknown cloud.Unknown
	}
	type older struct {
		ID      cloud.ID    `row:"1"`
		Bool    bool        `row:"4"`
		Int     int         `row:"5"`
		Port    olderPort   `row:"26"`
		Ports   []olderPort `row:"37"`
		Unknown cloud.Unknown
	}
	newP, oldP := planOf[everything](t), planOf[older](t)
	rapid.Check(t, func(t *rapid.T) {
		want := genEverything.Draw(t, "row")
		seen, err := decodeRow[older](oldP, encodeRow(newP, &want))
		if err != nil {
			t.Fatal(err)
		}
		seen.Int++
		want.Int++
		got, err := decodeRow[everything](newP, encodeRow(oldP, seen))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got, sameRows); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestCodecGolden pins the bytes: they are on the disks of running clouds.
func TestCodecGolden(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_123_456).UTC()
	r := everything{
		ID: cloud.ID{1}, String: "s", Bytes: []byte{0}, Bool: true, Int: -3, Uint64: 300, Float: 1.5, Color: 2, Time: at,
		Duration: time.Second, Addr: netip.MustParseAddr("10.1.2.3"), Prefix: netip.MustParsePrefix("2001:db8::/32"), MAC: [6]byte{2},
		Port: port{Number: 80}, Strings: []string{"a", ""}, Ints: []int{1, -1}, Times: []time.Time{{}, at}, Ports: []port{{}},
		Details: map[string]string{"b": "2", "a": "1"}, High: "h", Unknown: cloud.Unknown{0xc0, 0x3e, 1},
	}
	want := strings.Join([]string{
		"0a1001000000000000000000000000000000", "120173", "1a0100", "2001", "2805", "70ac02", "79000000000000f83f", "800102",
		"990140222018240a0600", "a00180a8d6b907", "aa01040a010203", "b2011120010db800000000000000000000000020", "ca0106020000000000",
		"d201020850", "da010161", "da0100", "f201020201", "920210000000000000008040222018240a0600", "aa0200",
		"b202060a0161120131", "b202060a0162120132", "a21f0168", "c03e01",
	}, "")
	if got := hex.EncodeToString(encodeRow(planOf[everything](t), &r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCompileRefuses(t *testing.T) {
	type inner struct {
		A int `row:"1"`
		B int `row:"1"`
	}
	for name, tc := range map[string]struct {
		row  any
		want string
	}{
		"no tag": {struct {
			A       int
			Unknown cloud.Unknown
		}{}, "A has no row tag"},
		"no number": {struct {
			A       int `row:"x"`
			Unknown cloud.Unknown
		}{}, `row tag "x" is not a number`},
		"zero": {struct {
			A       int `row:"0"`
			Unknown cloud.Unknown
		}{}, `row tag "0" is not a number`},
		"duplicate": {struct {
			A       int `row:"1"`
			B       int `row:"1"`
			Unknown cloud.Unknown
		}{}, "row tag 1 is taken by A"},
		"nested": {struct {
			A       []inner `row:"1"`
			Unknown cloud.Unknown
		}{}, "row tag 1 is taken by A"},
		"kind": {struct {
			A       chan int `row:"1"`
			Unknown cloud.Unknown
		}{}, "a row cannot hold a chan int"},
		"pointer": {struct {
			A       *int `row:"1"`
			Unknown cloud.Unknown
		}{}, "a row cannot hold a *int"},
		"map": {struct {
			A       map[int]string `row:"1"`
			Unknown cloud.Unknown
		}{}, "a row cannot hold a map[int]string"},
		"forgets": {struct {
			A int `row:"1"`
		}{}, "has no cloud.Unknown field"},
		"not a struct": {1, "is not a struct"},
	} {
		_, err := compile(reflect.TypeOf(tc.row))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzDecodeRow looks for input that panics, and checks that what was read is
// written and read again the same.
func FuzzDecodeRow(f *testing.F) {
	p := planOf[everything](f)
	for _, seed := range []everything{{}, {Ports: []port{{Number: 1, Notes: []string{"x"}}}, Details: map[string]string{"a": "b"}}, {Ints: []int{1}, Prefixes: make([]netip.Prefix, 2)}} {
		f.Add(encodeRow(p, &seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRow[everything](p, b)
		if err != nil {
			return
		}
		once := encodeRow(p, r)
		again, err := decodeRow[everything](p, once)
		if err != nil {
			t.Fatalf("read %x, wrote %x, which cannot be read: %v", b, once, err)
		}
		if twice := encodeRow(p, again); string(twice) != string(once) {
			t.Fatalf("wrote %x, read that and wrote %x", once, twice)
		}
	})
}
