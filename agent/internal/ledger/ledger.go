// Package ledger keeps what an agent must still know after a crash, a power cut or a year without a coordinator: the
// last accepted host spec, and the few facts about VMs and volumes that can be observed only once.
//
// The spec is the authority a cold boot starts from, so it is guarded: a generation below the held one is refused,
// and so is an equal one with other content, because both mean that the sender has lost state. See DESIGN.md.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/hostspec"
)

const (
	currentName  = "spec"
	previousName = "spec.previous"
	corruptName  = "spec.corrupt"
	magic        = "wisp-host-spec 1 "
)

// ErrOlder refuses a spec whose generation is below the held one.
var ErrOlder = errors.New("generation is older than the ledger's")

// ErrDiffers refuses a spec that has the held generation but other content.
var ErrDiffers = errors.New("generation is the ledger's but the content differs")

// ErrForeign refuses a spec for another host.
var ErrForeign = errors.New("spec is for another host")

// Ledger holds the last accepted spec of one host.
type Ledger struct {
	files Files
	mu    sync.Mutex
	spec  *hostspec.HostSpec
}

// Open reads the held spec. A damaged current file falls back to the previous one; warning then says so in a sentence
// and the damaged file is kept aside. The error is set only when files cannot be read at all.
func Open(files Files) (l *Ledger, warning string, err error) {
	l = &Ledger{files: files}
	current, err := read(files, currentName)
	switch {
	case err == nil:
		l.spec = current
		return l, "", nil
	case errors.Is(err, errDamaged):
		warning = err.Error()
		if err := setAside(files); err != nil {
			return nil, "", err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", err
	}
	previous, err := read(files, previousName)
	switch {
	case err == nil:
		l.spec = previous
		return l, fmt.Sprintf("%s; going on with the previous one, generation %d",
			orElse(warning, "the current spec is missing"), previous.GetGeneration()), nil
	case errors.Is(err, errDamaged):
		return l, orElse(warning, "the current spec is missing") + "; the previous one is damaged too: starting with none", nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", err
	case warning != "":
		warning += "; there is no previous one: starting with none"
	}
	return l, warning, nil
}

// setAside keeps a damaged file for whoever wants to know, and frees its name.
func setAside(files Files) error {
	data, err := files.Read(currentName)
	if err == nil {
		err = files.Replace(corruptName, "", data)
	}
	if err == nil {
		err = files.Remove(currentName)
	}
	if err != nil {
		return fmt.Errorf("set damaged spec aside: %w", err)
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Spec is the held spec, nil when there never was one. It must not be changed.
func (l *Ledger) Spec() *hostspec.HostSpec {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spec
}

// Generation is that of the held spec, 0 for none.
func (l *Ledger) Generation() uint64 { return l.Spec().GetGeneration() }

// Accept takes a spec into the ledger; when it returns nil the spec is on the disk. changed is false for a replay of
// the held one.
func (l *Ledger) Accept(spec *hostspec.HostSpec) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if spec == nil {
		return false, errors.New("accept spec: there is none")
	}
	if held := l.spec; held != nil {
		switch {
		case held.GetHostId() != spec.GetHostId():
			return false, fmt.Errorf("accept spec: %w: %q, this is %q", ErrForeign, spec.GetHostId(), held.GetHostId())
		case spec.GetGeneration() < held.GetGeneration():
			return false, fmt.Errorf("accept spec %d: %w (%d)", spec.GetGeneration(), ErrOlder, held.GetGeneration())
		case spec.GetGeneration() == held.GetGeneration():
			if !proto.Equal(spec, held) {
				return false, fmt.Errorf("accept spec %d: %w", spec.GetGeneration(), ErrDiffers)
			}
			return false, nil
		}
	}
	data, err := encode(spec)
	if err != nil {
		return false, fmt.Errorf("accept spec %d: %w", spec.GetGeneration(), err)
	}
	if err := l.files.Replace(currentName, previousName, data); err != nil {
		return false, fmt.Errorf("accept spec %d: %w", spec.GetGeneration(), err)
	}
	l.spec = spec
	return true, nil
}

var errDamaged = errors.New("spec in the ledger is damaged")

// encode is one line of magic and checksum, then the message.
func encode(spec *hostspec.HostSpec) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	sum := sha256.Sum256(body)
	head := magic + hex.EncodeToString(sum[:]) + "\n"
	return append([]byte(head), body...), nil
}

func read(files Files, name string) (*hostspec.HostSpec, error) {
	data, err := files.Read(name)
	if err != nil {
		return nil, err
	}
	head, body, ok := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(head) != magic+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("read %s: %w: checksum does not fit", name, errDamaged)
	}
	spec := &hostspec.HostSpec{}
	if err := proto.Unmarshal(body, spec); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", name, errDamaged, err)
	}
	return spec, nil
}
