package hosttool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNeed(t *testing.T) {
	if err := Need(Tool{"sh", "dash"}, Tool{"dpkg", "dpkg"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nonexistent")
	err := Need(Tool{"no-a", "pkg-x"}, Tool{"no-b", "pkg-x"}, Tool{"no-c", "pkg-y"})
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("error %v", err)
	}
	want := "missing programs: no-a no-b no-c; install the Debian packages: apt-get install pkg-x pkg-y"
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	// A user's PATH lacks the sbin directories.
	if p, err := Path("ldconfig"); err != nil || !strings.HasSuffix(p, "sbin/ldconfig") {
		t.Errorf("ldconfig: %q, %v", p, err)
	}
}

func TestRun(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("SOME_SECRET", "x")
	out, err := Run(t.Context(), Command{
		Name: "sh", Args: []string{"-c", `echo "$LC_ALL $TZ $SOME_SECRET $EXTRA"; cat; pwd`}, Env: []string{"EXTRA=e"},
		Stdin: strings.NewReader("in\n"), Dir: "/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), "C UTC  e\nin\n/\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	_, err = Run(t.Context(), Command{Name: "sh", Args: []string{"-c", "echo one >&2; echo two >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3: one; two") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, Command{Name: "sleep", Args: []string{"60"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cancelled run: %v", err)
	}
}

func TestVersions(t *testing.T) {
	v, err := Versions(t.Context(), "no-such-package-here|dpkg", "apt|dpkg")
	if err != nil || len(v) != 2 || v[0].Package != "dpkg" || v[0].Version == "" || v[1].Package != "apt" {
		t.Errorf("versions %v, %v", v, err)
	}
	if _, err := Versions(t.Context(), "dpkg", "no-such-package-here"); err == nil {
		t.Error("a package that is not installed has a version")
	}
}
