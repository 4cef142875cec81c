package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Linux input events, see linux/input-event-codes.h.
const (
	eventKey = 0x01
	keyPower = 116
)

// watchPowerButton turns the ACPI power button into a clean power-off. The button
// may appear after us, so it is looked for again until it is there: often at
// first, because a press that nobody listens to is lost. listening is closed
// when one would be heard.
func (g *guest) watchPowerButton(listening chan<- struct{}) {
	var once sync.Once
	for delay := 10 * time.Millisecond; ; delay = min(delay*2, time.Second) {
		time.Sleep(delay)
		device := powerButton("/sys/class/input")
		if device == "" {
			continue
		}
		f, err := os.Open("/dev/input/" + device)
		if err != nil {
			continue
		}
		once.Do(func() { close(listening) })
		if waitForPower(f) {
			g.shutDown("power button", syscall.LINUX_REBOOT_CMD_POWER_OFF)
			return
		}
		_ = f.Close()
	}
}

func powerButton(sysfs string) string {
	names, _ := filepath.Glob(sysfs + "/event*/device/name")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == "Power Button" {
			return filepath.Base(filepath.Dir(filepath.Dir(n)))
		}
	}
	return ""
}

// waitForPower reads struct input_event: two longs of time, type, code, value.
func waitForPower(f *os.File) bool {
	var event [24]byte
	for {
		n, err := f.Read(event[:])
		if err != nil {
			return false
		}
		if n == len(event) &&
			binary.LittleEndian.Uint16(event[16:]) == eventKey &&
			binary.LittleEndian.Uint16(event[18:]) == keyPower &&
			binary.LittleEndian.Uint32(event[20:]) == 1 {
			return true
		}
	}
}

var shutDownOnce sync.Once

// shutDown ends the machine: processes are asked, then killed, the disk is
// written and made read-only. Only the first call counts.
func (g *guest) shutDown(why string, how int) {
	shutDownOnce.Do(func() {
		g.say.Printf("wisp-guest shutting down: %s", why)
		g.procs.mu.Lock() // nothing is started or started again from here on
		_ = syscall.Kill(-1, syscall.SIGTERM)
		_ = syscall.Kill(-1, syscall.SIGHUP) // shells at a terminal ignore SIGTERM
		_ = syscall.Kill(-1, syscall.SIGCONT)
		for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline) && reapAll(); {
			time.Sleep(20 * time.Millisecond)
		}
		_ = syscall.Kill(-1, syscall.SIGKILL)
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline) && reapAll(); {
			time.Sleep(10 * time.Millisecond)
		}
		syscall.Sync()
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			g.say.Printf("wisp-guest remount root read-only: %v", err)
			syscall.Sync()
		}
		if err := syscall.Reboot(how); err != nil {
			g.say.Printf("wisp-guest %s: %v", why, err)
		}
	})
}

// reapAll collects ended processes and says whether others are left. All
// processes are descendants of PID 1, so ECHILD means none.
func reapAll() bool {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.ECHILD {
			return false
		}
		if err != nil && err != syscall.EINTR || err == nil && pid <= 0 {
			return true
		}
	}
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func pointer[T any](v *T) unsafe.Pointer { return unsafe.Pointer(v) }

// Requests of linux/blkpg.h and ext4.h.
const (
	blkpg           = 0x1269
	blkpgResizePart = 3
	ext4ResizeFS    = 0x40086610
)

type blkpgArg struct {
	op, flags, size int32
	_               int32
	data            unsafe.Pointer
}

type blkpgPartition struct {
	start, length int64
	number        int32
	_             [128]byte
	_             int32
}

// growRoot extends the last partition and its mounted file system to the end of
// a disk that is larger than the template it was made from. A step that was
// done before is skipped, so a power cut in between does no harm.
func growRoot(device string, say *console) error {
	name := filepath.Base(device)
	sys := "/sys/class/block/" + name
	number, err := sysNumber(sys + "/partition")
	if err != nil {
		return err
	}
	link, err := os.Readlink(sys)
	if err != nil {
		return err
	}
	diskName := filepath.Base(filepath.Dir(link))
	start, err := sysNumber(sys + "/start")
	if err != nil {
		return err
	}
	size, err := sysNumber(sys + "/size")
	if err != nil {
		return err
	}
	diskSize, err := sysNumber("/sys/class/block/" + diskName + "/size")
	if err != nil {
		return err
	}
	const mib = 2048 // sectors
	// An entry has 32 bits for the length: 2 TiB.
	want := min((diskSize-start)/mib*mib, 1<<32-mib)
	if want > size {
		if err := growPartition("/dev/"+diskName, number, start, want); err != nil {
			return err
		}
		size = want
	}
	return growExt4(device, size/8, say)
}

func sysNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

func growPartition(disk string, number, start, size int64) error {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var record [512]byte
	if _, err := f.ReadAt(record[:], 0); err != nil {
		return err
	}
	if number < 1 || number > 4 {
		return &os.PathError{Op: "grow partition of", Path: disk, Err: os.ErrInvalid}
	}
	entry := record[446+16*(number-1):]
	if int64(binary.LittleEndian.Uint32(entry[8:])) != start {
		return &os.PathError{Op: "grow partition of", Path: disk, Err: os.ErrInvalid}
	}
	binary.LittleEndian.PutUint32(entry[12:], uint32(size))
	if _, err := f.WriteAt(record[:], 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	part := blkpgPartition{start: start * 512, length: size * 512, number: int32(number)}
	arg := blkpgArg{op: blkpgResizePart, size: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	return ioctl(f, blkpg, unsafe.Pointer(&arg))
}

// growExt4 compares with the super block's count (low word at 4, high at 0x150)
// and lets the kernel resize the file system while it is mounted.
func growExt4(device string, blocks int64, say *console) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	var sb [1024]byte
	_, err = f.ReadAt(sb[:], 1024)
	_ = f.Close()
	if err != nil {
		return err
	}
	have := int64(binary.LittleEndian.Uint32(sb[4:])) | int64(binary.LittleEndian.Uint32(sb[0x150:]))<<32
	if blocks <= have {
		return nil
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	want := uint64(blocks)
	if err := ioctl(root, ext4ResizeFS, unsafe.Pointer(&want)); err != nil {
		return &os.PathError{Op: "grow file system of", Path: device, Err: err}
	}
	say.Printf("wisp-guest root file system grown to %d MiB", blocks/256)
	return nil
}
