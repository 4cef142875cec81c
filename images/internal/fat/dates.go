package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
)

// A FAT16's boot sector and its root directory's entries, in bytes.
const (
	sectorSizeAt, reservedAt, fatsAt, entriesAt, fatSectorsAt = 11, 14, 16, 17, 22

	entrySize                                = 32
	attributesAt                             = 11
	tenthsAt, madeAt, readAt, changedAt      = 13, 14, 18, 22
	longName                            byte = 0x0f
)

// setDates gives every entry of the root directory the same dates: mcopy sets
// the one of a file's last change only, and SYSLINUX none of its own files, so
// the others would tell the day of the build.
func setDates(path string, to time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = setDatesIn(f, to.UTC())
	return errors.Join(err, f.Close())
}

func setDatesIn(f *os.File, to time.Time) error {
	boot := make([]byte, 512)
	if _, err := f.ReadAt(boot, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	word := func(at int) int64 { return int64(le.Uint16(boot[at:])) }
	begin := (word(reservedAt) + int64(boot[fatsAt])*word(fatSectorsAt)) * word(sectorSizeAt)
	root := make([]byte, word(entriesAt)*entrySize)
	if len(root) == 0 || begin == 0 {
		return fmt.Errorf("set dates: no FAT16 root directory in %s", f.Name())
	}
	if _, err := f.ReadAt(root, begin); err != nil {
		return fmt.Errorf("set dates: %w", err)
	}
	date := uint16((to.Year()-1980)<<9 | int(to.Month())<<5 | to.Day())
	clock := uint16(to.Hour()<<11 | to.Minute()<<5 | to.Second()/2)
	for e := root; len(e) > 0 && e[0] != 0; e = e[entrySize:] {
		if e[attributesAt] == longName {
			continue
		}
		e[tenthsAt] = 0
		for _, at := range []int{madeAt, changedAt} {
			le.PutUint16(e[at:], clock)
			le.PutUint16(e[at+2:], date)
		}
		le.PutUint16(e[readAt:], date)
	}
	_, err := f.WriteAt(root, begin)
	return err
}
