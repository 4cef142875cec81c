package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// line is the command line of one user, with a home of its own.
type line struct {
	bin string
	env []string
}

func newLine(t *testing.T, env ...string) *line {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	return &line{filepath.Join(dir, "wisp"), append([]string{"HOME=" + home, "PATH=" + dir + ":" + os.Getenv("PATH")}, env...)}
}

// run runs wisp and gives what it prints, and what it complains about.
func (l *line) run(t *testing.T, stdin string, args ...string) (out, errs string) {
	t.Helper()
	return l.exec(t, stdin, l.bin, args...)
}

func (l *line) exec(t *testing.T, stdin, name string, args ...string) (out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdin = l.env, strings.NewReader(stdin)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run() // a failure is seen in what it complains about
	if ctx.Err() != nil {
		t.Fatalf("%s %q does not end", name, args)
	}
	return o.String(), e.String()
}

// The command line against a real coordinator: verbs and nouns, output, mistakes, a shell, profiles, and completion with
// live ids in the shells themselves.
func TestCommandLine(t *testing.T) {
	n := newNode(t, "one")
	n.start(t)
	n.awaitReady(t)
	admin := n.admin(t)
	l := newLine(t, "CLOUDSTACK_ENDPOINT="+n.endpoint(), "CLOUDSTACK_KEY="+admin.Key, "CLOUDSTACK_SECRET="+admin.Secret)

	out, errs := l.run(t, "", "create", "zone", "name=north", "dns1=192.0.2.1", "internaldns1=192.0.2.1", "networktype=Advanced")
	var made struct{ Zone struct{ ID string } }
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Zone.ID == "" {
		t.Fatalf("create zone: %s%s", out, errs)
	}
	id := made.Zone.ID
	for _, x := range []struct {
		name, in  string
		args      []string
		out, errs string
	}{
		{"csv", "", []string{"list", "zones", "-o", "csv", "-c", "id,name"}, "id,name\n" + id + ",north\n", ""},
		{"table by filter=", "", []string{"list", "zones", "-o", "table", "filter=name,allocationstate"}, "NAME   ALLOCATIONSTATE\nnorth  Disabled\n", ""},
		{"text", "", []string{"listZones", "-o", "text", "-c", "name"}, "name = north\n", ""},
		{"json", "", []string{"list", "zones", "-o", "json", "-c", "name"}, "{\n  \"count\": 1,\n  \"zone\": [\n    {\n      \"name\": \"north\"\n    }\n  ]\n}\n", ""},
		{"yaml", "", []string{"list", "zones", "-o", "yaml", "-c", "name"}, "count: 1\nzone:\n  - name: north\n", ""},
		{"empty", "", []string{"list", "pods", "-o", "table"}, "", ""},
		{"a mistyped noun", "", []string{"list", "zonez"}, "", "did you mean listZones?"},
		{"a mistyped parameter", "", []string{"list", "zones", "nam=x"}, "", "did you mean name"},
		{"a parameter that is missing", "", []string{"delete", "zone"}, "", "deleteZone needs id"},
		{"what the cloud refuses", "", []string{"delete", "zone", "id=01234567-89ab-4def-8123-456789abcdef"}, "", "due to incorrect long value format, or entity does not exist"},
		{"a value from standard input", "north\n", []string{"list", "zones", "name=@-", "-o", "text", "-c", "name"}, "name = north\n", ""},
		{"an output that there is not", "", []string{"list", "zones", "-o", "xml"}, "", `output "xml" is none of table`},
		{"a verb alone", "", []string{"list"}, "", "what to list? One of: accounts, "},
		{"no verb", "", []string{"lst"}, "", "the verbs are: activate, "},
		{"a parameter that there is not", "", []string{"list", "zones", "wholly-other=x"}, "", "see wisp describe listZones"},
		{"a column that there is not", "", []string{"list", "zones", "-o", "csv", "-c", "name,nmae"}, "name,nmae\nnorth,\n", "answers no nmae (did you mean name?)"},
		{"flags of a line in a shell", "list zones -o csv -c name\nlist zones -c name\n", []string{"shell", "-o", "text"}, "name\nnorth\nname = north\n", ""},
		{"a shell in a shell", "shell\n", []string{"shell"}, "", "this is a shell already"},
		{"a pipe", "# a remark\nlist zones -x\n", []string{"shell"}, "", "line 2"},
		{"a pipe of calls", "update zone id=" + id + " name='far north'\nlist zones name='far north'\n", []string{"shell", "-o", "csv", "-c", "name"}, "name\nfar north\nname\nfar north\n", ""},
		{"describe", "", []string{"describe", "delete", "zone"}, "deleteZone: ", ""},
		{"describe by help", "", []string{"help", "delete", "zone"}, "deleteZone: ", ""},
		{"describe by --help", "", []string{"delete", "zone", "--help"}, "deleteZone: ", ""},
		{"describe in a shell", "describe delete zone\n", []string{"shell"}, "deleteZone: ", ""},
		{"profile that there is not", "", []string{"-p", "away", "list", "zones"}, "", `there is no profile "away"`},
	} {
		t.Run(x.name, func(t *testing.T) {
			out, errs := l.run(t, x.in, x.args...)
			if strings.HasPrefix(x.name, "describe") {
				out = out[:min(len(out), len(x.out))]
			}
			if d := cmp.Diff(x.out, out); d != "" {
				t.Errorf("printed (-want +got):\n%s", d)
			}
			if !strings.Contains(errs, x.errs) || x.errs == "" && errs != "" {
				t.Errorf("complains %q, want %q", errs, x.errs)
			}
		})
	}
	t.Run("job", func(t *testing.T) { l.testJob(t) })
	t.Run("profiles", func(t *testing.T) { testProfiles(t, n.endpoint(), admin.Key, admin.Secret) })
	t.Run("completion", func(t *testing.T) { l.testCompletion(t, id) })
}

// A command that starts a job waits for its result, unless told not to.
func (l *line) testJob(t *testing.T) {
	_, errs := l.run(t, "", "create", "account", "username=temp", "password=@-", "firstname=T", "lastname=T", "email=t@example.org", "accounttype=0")
	if errs == "" {
		t.Fatal("an empty password is taken")
	}
	if _, errs = l.run(t, "secret\n", "create", "account", "username=temp", "password=@-", "firstname=T", "lastname=T", "email=t@example.org", "accounttype=0"); errs != "" {
		t.Fatal(errs)
	}
	id, _ := l.run(t, "", "list", "accounts", "name=temp", "listall=true", "-o", "csv", "-c", "id")
	id = strings.TrimSpace(strings.TrimPrefix(id, "id\n"))
	for _, domain := range []string{"x.example", ""} { // an empty value takes away what is there
		want := "name = temp\n"
		if domain != "" {
			want = "networkdomain = " + domain + "\n" + want
		}
		if out, errs := l.run(t, "", "update", "account", "id="+id, "networkdomain="+domain, "-o", "text", "-c", "networkdomain,name"); out != want {
			t.Errorf("networkdomain=%s: %q %s", domain, out, errs)
		}
	}
	if out, errs := l.run(t, "", "disable", "account", "id="+id, "lock=false"); errs != "" || !strings.Contains(out, `"disabled"`) {
		t.Errorf("disable account: %s%s", out, errs)
	}
	if out, errs := l.run(t, "", "delete", "account", "id="+id, "--no-wait"); errs != "" || !strings.Contains(out, `"jobid"`) {
		t.Errorf("delete account: %s%s", out, errs)
	}
}

// Profiles of wisp's own file and of CloudMonkey's.
func testProfiles(t *testing.T, endpoint, key, secret string) {
	l := newLine(t)
	if _, errs := l.run(t, "", "list", "zones"); !strings.Contains(errs, "no cloud is known") {
		t.Errorf("without any profile: %q", errs)
	}
	if _, errs := l.run(t, secret, "profile", "set", "here", "url="+endpoint, "apikey="+key, "secretkey=@-"); errs != "" {
		t.Fatal(errs)
	}
	home := strings.TrimPrefix(l.env[0], "HOME=")
	if st, err := os.Stat(filepath.Join(home, ".config", "wisp", "config")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file of the profiles: %v %v, want mode 0600", st, err)
	}
	if out, errs := l.run(t, "", "list", "domains", "-o", "csv", "-c", "name"); out != "name\nROOT\n" {
		t.Errorf("%s%s", out, errs)
	}
	// As cmk 6 writes it.
	cmk := "prompt = \xf0\x9f\x90\xb1\nasyncblock = true\ntimeout = 1800\noutput = csv\nprofile = monkey\n\n" +
		"[monkey]\nurl = " + endpoint + "\nusername = \npassword = \ndomain = /\napikey = " + key + "\nsecretkey = " + secret + "\n"
	if err := os.MkdirAll(filepath.Join(home, ".cmk"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".cmk", "config"), []byte(cmk), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs := l.run(t, "", "-p", "monkey", "list", "domains", "filter=name"); out != "name\nROOT\n" {
		t.Errorf("CloudMonkey's profile: %s%s", out, errs)
	}
	// CloudMonkey 5 had what holds for all profiles in a section of its own.
	if err := os.MkdirAll(filepath.Join(home, ".cloudmonkey"), 0o700); err != nil {
		t.Fatal(err)
	}
	old := "[core]\nprofile = local\nasyncblock = true\n\n[ui]\ncolor = true\n\n[local]\nurl = " + endpoint + "\napikey = " + key + "\nsecretkey = " + secret + "\n\n" +
		"[other]\nurl = http://127.0.0.1:1\napikey = x\nsecretkey = y\n"
	if err := os.WriteFile(filepath.Join(home, ".cloudmonkey", "config"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	alone := newLine(t)
	alone.env[0] = "HOME=" + t.TempDir()
	if err := os.CopyFS(filepath.Join(strings.TrimPrefix(alone.env[0], "HOME="), ".cloudmonkey"), os.DirFS(filepath.Join(home, ".cloudmonkey"))); err != nil {
		t.Fatal(err)
	}
	if out, errs := alone.run(t, "", "list", "domains", "-o", "csv", "filter=name"); out != "name\nROOT\n" {
		t.Errorf("the profile of CloudMonkey 5: %s%s", out, errs)
	}
	if out, _ := l.run(t, "", "profile", "list"); !strings.Contains(out, "here") || !strings.Contains(out, "monkey") {
		t.Errorf("profile list: %s", out)
	}
	if _, errs := l.run(t, "", "profile", "use", "monkey"); !strings.Contains(errs, "not wisp's to change") {
		t.Errorf("profile use: %s", errs)
	}
}

// What bash, fish and zsh offer when a person presses tab.
func (l *line) testCompletion(t *testing.T, zone string) {
	// Bash calls the function with the words cut at "=", and puts an offer in the place of the last piece.
	bash := func(words ...string) string {
		t.Helper()
		script := `compopt() { :; } # works inside of a completion only
source /usr/share/bash-completion/bash_completion; source <(wisp completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="${*}"; COMP_LINE="${COMP_LINE// = /=}"; COMP_LINE="${COMP_LINE% =}"; COMP_TYPE=9
[[ "${COMP_WORDS[COMP_CWORD]}" == "=" ]] && COMP_LINE="$COMP_LINE="
COMP_POINT=${#COMP_LINE}; __start_wisp; printf '%s\n' "${COMPREPLY[@]}"`
		out, errs := l.exec(t, "", "bash", append([]string{"-c", script, "bash"}, words...)...)
		if errs != "" {
			t.Errorf("bash %q: %s", words, errs)
		}
		return strings.TrimSpace(out)
	}
	fish := func(typed string) string {
		t.Helper()
		out, errs := l.exec(t, "", "fish", "--no-config", "-c", `wisp completion fish | source; complete -C "`+typed+`"`)
		if errs != "" {
			t.Errorf("fish %q: %s", typed, errs)
		}
		return strings.TrimSpace(out)
	}
	// Zsh completes at a terminal only: one of its own modules is the terminal, and a widget tells what the line has become.
	zsh := func(typed string) string {
		t.Helper()
		told := filepath.Join(t.TempDir(), "line")
		script := `zmodload zsh/zpty zsh/zselect
zpty z "PS1= TERM=dumb zsh -f -i"
zpty -w z "autoload -Uz compinit; compinit -u -D; source <(wisp completion zsh)
report() { print -r -- \$BUFFER > $2 }; zle -N report; bindkey '^X' report; bindkey '^I' complete-word"
zpty -w -n z "$1"$'\t\x18'
for i in {1..600}; do [[ -s $2 ]] && break; zselect -t 5; done
zpty -d z`
		if _, errs := l.exec(t, "", "zsh", "-f", "-c", script, "zsh", typed, told); errs != "" {
			t.Errorf("zsh %q: %s", typed, errs)
		}
		line, err := os.ReadFile(told)
		if err != nil {
			t.Errorf("zsh %q: %v", typed, err)
		}
		return strings.TrimSuffix(string(line), "\n")
	}
	for _, x := range []struct{ name, got, want string }{
		{"a verb in zsh", zsh("wisp reconn"), "wisp reconnect "},
		{"a noun in zsh", zsh("wisp delete zon"), "wisp delete zone "},
		{"a parameter in zsh", zsh("wisp delete zone i"), "wisp delete zone id="},
		{"a live id in zsh", zsh("wisp delete zone id="), "wisp delete zone id=" + zone + " "},
		{"a noun in bash", bash("wisp", "delete", "zon"), "zone"},
		{"a parameter in bash", bash("wisp", "delete", "zone", "i"), "id="},
		{"a live id in bash", bash("wisp", "delete", "zone", "id", "="), zone},
		{"a noun in fish", strings.Fields(fish("wisp delete zon"))[0], "zone"},
		{"a live id in fish", fish("wisp delete zone id="), "id=" + zone + "\tfar north"},
	} {
		if x.got != x.want {
			t.Errorf("%s: %q, want %q", x.name, x.got, x.want)
		}
	}
}
