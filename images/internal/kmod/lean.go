package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// dropped are sections a running machine can do without: types for BPF programs, and tables from which the kernel
// unwinds stacks through a module's functions when it reports an oops (it then guesses those frames). The kernel sorts
// and relocates the tables at each load, entry by entry.
var dropped = []string{".BTF", ".orc_unwind", ".orc_unwind_ip"}

// Offsets in the headers of 64-bit ELF files, from <linux/elf.h>.
const (
	elfHeaderSize    = 64
	sectionTableAt   = 40 // e_shoff
	sectionSize      = 64
	sectionCountAt   = 60 // e_shnum
	sectionOffsetAt  = 24
	sectionAlignment = 8
)

// Lean returns a module's file without its signature and without the sections nothing needs. The kernel loads it all the
// same, and says once that it has loaded an unsigned module; a kernel that insists on signatures (module.sig_enforce=1,
// Secure Boot) refuses it.
//
// Of the processor time that loading a module takes under emulation the signature and these sections are most.
func Lean(file []byte) ([]byte, error) {
	file, err := unsigned(file)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("it is %s %s", f.Class, f.Data)
	}
	headers := bytes.Clone(file[binary.LittleEndian.Uint64(file[sectionTableAt:]):])
	if len(headers) < len(f.Sections)*sectionSize || int(binary.LittleEndian.Uint16(file[sectionCountAt:])) != len(f.Sections) {
		return nil, errors.New("its table of sections is cut short")
	}
	headers = headers[:len(f.Sections)*sectionSize]
	order := make([]int, len(f.Sections))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(f.Sections[a].Offset) - int(f.Sections[b].Offset) })
	out := bytes.Clone(file[:elfHeaderSize])
	for _, i := range order {
		s, header := f.Sections[i], headers[i*sectionSize:][:sectionSize]
		if slices.Contains(dropped, strings.TrimPrefix(s.Name, ".rela")) {
			clear(header) // its number must stay, for symbols name sections by number
			continue
		}
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS {
			continue
		}
		out = pad(out, int(max(s.Addralign, 1)))
		binary.LittleEndian.PutUint64(header[sectionOffsetAt:], uint64(len(out)))
		out = append(out, file[s.Offset:s.Offset+s.FileSize]...)
	}
	out = pad(out, sectionAlignment)
	binary.LittleEndian.PutUint64(out[sectionTableAt:], uint64(len(out)))
	return append(out, headers...), nil
}

func pad(b []byte, align int) []byte {
	return append(b, make([]byte, (align-len(b)%align)%align)...)
}

// A signature ends with this text, before which stands its own length, big-endian, at the end of 12 bytes
// (struct module_signature).
const (
	signatureEnd  = "~Module signature appended~\n"
	signatureInfo = 12
)

// unsigned cuts the signature off, if there is one.
func unsigned(file []byte) ([]byte, error) {
	rest, signed := bytes.CutSuffix(file, []byte(signatureEnd))
	if !signed {
		return file, nil
	}
	if len(rest) < signatureInfo {
		return nil, errors.New("its signature is cut short")
	}
	length := int64(binary.BigEndian.Uint32(rest[len(rest)-4:])) + signatureInfo
	if length > int64(len(rest)) {
		return nil, fmt.Errorf("its signature has %d bytes, the whole file %d", length, len(rest))
	}
	return rest[:int64(len(rest))-length], nil
}
