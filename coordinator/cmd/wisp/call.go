package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/catalog"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/complete"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/output"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/profile"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/shell"
)

// settings are the flags of calls; what is not said is the profile's.
type settings struct {
	profile, output, columns string
	noWait                   bool
}

// session is a profile with its client and the commands it may call.
type session struct {
	*program
	profile profile.Profile
	api     *client.Client
	known   *catalog.Catalog
}

func (p *program) environment() profile.Environment {
	home, _ := p.lookup("HOME")
	return profile.Environment{Lookup: p.lookup, Home: home}
}

func (p *program) cache() catalog.Cache {
	if d, ok := p.lookup("XDG_CACHE_HOME"); ok && d != "" {
		return catalog.Cache{Dir: filepath.Join(d, "wisp")}
	}
	home, _ := p.lookup("HOME")
	return catalog.Cache{Dir: filepath.Join(home, ".cache", "wisp")}
}

// open reads the profile and makes its client.
func (p *program) open(ctx context.Context) (*session, error) {
	if p.opened != nil && p.flags.profile == p.opened.flags.profile { // a line of a shell
		return &session{program: p, profile: p.opened.profile, api: p.opened.api, known: p.opened.known}, nil
	}
	f, err := p.environment().Load(p.flags.profile)
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	h := &http.Client{Timeout: time.Minute, Jar: jar}
	if f.Insecure {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the profile says verifycert = false
		h.Transport = t
	}
	s := &session{program: p, profile: f}
	if f.Key == "" && f.User != "" {
		s.api, err = client.Login(ctx, f.Endpoint, f.User, f.Password, f.UserDomain, h)
	} else {
		s.api, err = client.New(f.Endpoint, f.Key, f.Secret, h)
	}
	if err != nil {
		return nil, fmt.Errorf("profile %s (%s): %w", f.Name, f.From, err)
	}
	s.api.Waiting = p.waiting
	return s, nil
}

// waiting shows a person how long a job takes.
func (p *program) waiting(job string, since time.Duration) {
	if p.progress {
		fmt.Fprintf(p.err, "\rwaiting for job %s: %d s", job, int(since.Seconds()))
	}
}

// learn gets the list of commands, from the cache unless anew.
func (s *session) learn(ctx context.Context, anew bool) error {
	user := s.profile.Key + s.profile.User
	if s.known != nil && !anew {
		return nil
	}
	if !anew {
		if s.known = s.cache().Load(s.profile.Endpoint, user, time.Now()); s.known != nil {
			return nil
		}
	}
	o, err := s.api.Call(ctx, "listApis", nil)
	if err != nil {
		return err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if s.known, err = catalog.Parse(b); err != nil {
		return err
	}
	if s.opened != nil {
		s.opened.known = s.known
	}
	if err := s.cache().Save(s.profile.Endpoint, user, b); err != nil {
		fmt.Fprintln(s.err, "wisp:", err)
	}
	return nil
}

// call runs the command that words name, and prints its answer.
func (s *session) call(ctx context.Context, words []string) error {
	if err := s.learn(ctx, false); err != nil {
		return err
	}
	cmd, rest := s.known.Match(words)
	if cmd == nil {
		// The cloud may have been upgraded since.
		if err := s.learn(ctx, true); err != nil {
			return err
		}
		if cmd, rest = s.known.Match(words); cmd == nil {
			return unknown(s.known, words)
		}
	}
	params, columns, err := s.parameters(rest)
	if err != nil {
		return err
	}
	if s.flags.columns != "" {
		columns = strings.Split(s.flags.columns, ",")
	}
	if err := cmd.Check(params); err != nil {
		return err
	}
	o, err := s.answer(ctx, cmd, params)
	if err != nil {
		return err
	}
	if err := s.print(o, columns); err != nil {
		return err
	}
	s.remark(cmd, o, columns)
	return nil
}

// remark tells a person what an answer does not show.
func (s *session) remark(cmd *catalog.Command, o client.Object, columns []string) {
	rows := output.Rows(o)
	columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool {
		return slices.ContainsFunc(rows, func(r map[string]any) bool { _, has := r[c]; return has })
	})
	if none := cmd.Unknown(columns); len(none) > 0 {
		fmt.Fprintf(s.err, "wisp: %s answers no %s; see wisp describe %s\n", cmd.Name, strings.Join(none, ", "), cmd.Name)
	}
	if len(rows) == 0 && s.person {
		fmt.Fprintln(s.err, "none")
	}
}

func unknown(c *catalog.Catalog, words []string) error {
	var typed []string
	for _, w := range words {
		if strings.Contains(w, "=") {
			break
		}
		typed = append(typed, w)
	}
	text := fmt.Sprintf("there is no command %q, or it is not for you", strings.Join(typed, " "))
	if len(typed) == 1 {
		if nouns, _ := c.Nouns(typed[0]); len(nouns) > 0 {
			return fmt.Errorf("what to %s? One of: %s", typed[0], strings.Join(nouns, ", "))
		}
	}
	if like := c.Like(typed); len(like) > 0 {
		return fmt.Errorf("%s; did you mean %s?", text, strings.Join(like, ", "))
	}
	if len(typed) > 0 {
		if nouns, _ := c.Nouns(typed[0]); len(nouns) > 0 {
			return fmt.Errorf("%s; %s goes with: %s", text, typed[0], strings.Join(nouns, ", "))
		}
	}
	return fmt.Errorf("%s; the verbs are: %s", text, strings.Join(c.Verbs(), ", "))
}

// parameters reads name=value words. filter= chooses columns, as in CloudMonkey.
func (p *program) parameters(words []string) (params map[string]string, columns []string, err error) {
	params = map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, nil, fmt.Errorf("argument %q is not of the form parameter=value", w)
		}
		if k == "filter" {
			columns = strings.Split(v, ",")
			continue
		}
		if v, err = p.value(v); err != nil {
			return nil, nil, fmt.Errorf("parameter %s: %w", k, err)
		}
		params[k] = v
	}
	return params, columns, nil
}

// answer calls a command, and waits for its job unless that is not wanted. Lists are asked for page by page.
func (s *session) answer(ctx context.Context, cmd *catalog.Command, params map[string]string) (client.Object, error) {
	paged := strings.HasPrefix(cmd.Name, "list") && cmd.Parameter("page") != nil && params["page"] == "" && params["pagesize"] == ""
	switch {
	case paged:
		return s.pages(ctx, cmd.Name, params)
	case !cmd.Async || s.flags.noWait || !s.profile.Wait:
		return s.api.Call(ctx, cmd.Name, params)
	}
	ctx, cancel := context.WithTimeout(ctx, s.profile.Timeout)
	defer cancel()
	o, err := s.api.Run(ctx, cmd.Name, params)
	if s.progress {
		fmt.Fprint(s.err, "\r\x1b[K")
	}
	return o, err
}

// pageSize is what is asked for at once.
const pageSize = 500

// pages gathers all pages of a list.
func (s *session) pages(ctx context.Context, command string, params map[string]string) (client.Object, error) {
	whole := client.Object{}
	for page := 1; ; page++ {
		p := maps.Clone(params)
		p["page"], p["pagesize"] = fmt.Sprint(page), fmt.Sprint(pageSize)
		o, err := s.api.Call(ctx, command, p)
		if err != nil {
			return nil, err
		}
		got := 0
		for k, v := range o {
			rows, ok := v.([]any)
			if !ok {
				whole[k] = v
				continue
			}
			before, _ := whole[k].([]any)
			whole[k] = append(before, rows...)
			got = len(rows)
		}
		if got < pageSize {
			return whole, nil
		}
	}
}

func (s *session) print(o client.Object, columns []string) error {
	format := s.flags.output
	if format == "" {
		format = s.profile.Output
	}
	if format == "" || format == "default" {
		format = "json"
		if s.person {
			format = "table"
		}
	}
	if err := output.Check(format); err != nil {
		return err
	}
	return output.Print(s.out, format, o, columns)
}

// value reads a parameter's value: one that begins with @ from that file, @- from standard input.
func (p *program) value(v string) (string, error) {
	name, file := strings.CutPrefix(v, "@")
	if !file {
		return v, nil
	}
	var b []byte
	var err error
	if name == "-" {
		b, err = io.ReadAll(p.in)
	} else {
		b, err = os.ReadFile(name)
	}
	return strings.TrimSuffix(string(b), "\n"), err
}

// completer completes calls; it says nothing where the cloud does not answer soon.
func (p *program) completer(ctx context.Context) (complete.Completer, error) {
	s, err := p.open(ctx)
	if err != nil {
		return complete.Completer{}, err
	}
	if err := s.learn(ctx, false); err != nil {
		return complete.Completer{}, err
	}
	return complete.Completer{Catalog: s.known, Call: s.api.Call}, nil
}

// completionTime is how long a person waits for a tab.
const completionTime = 3 * time.Second

func (p *program) completeWords(c *cobra.Command, before []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completionTime)
	defer cancel()
	x, err := p.completer(ctx)
	if err != nil {
		cobra.CompErrorln(err.Error())
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	for _, w := range x.Words(ctx, before, begun) {
		out = append(out, w.Word+"\t"+w.About)
		if strings.HasSuffix(w.Word, "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	return out, directive
}

func (p *program) shell() *cobra.Command {
	return &cobra.Command{
		Use: "shell", Short: "Read commands line by line, with history and tab completion", Args: cobra.NoArgs,
		Long: "Reads lines like: list virtualmachines state=Running -o csv\nEverything but another shell or profile can be said there, as after wisp: help, describe, --no-wait, ...\n" +
			"From a pipe it stops at the first command that fails; a person ends what runs with Ctrl-C, and the shell with exit.",
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.open(c.Context())
			if err != nil {
				return err
			}
			if err := s.learn(c.Context(), false); err != nil {
				return err
			}
			sh := &shell.Shell{
				In: p.in, Out: p.out, Err: p.err, Prompt: s.profile.Name + "> ", Run: s.line,
				Complete: func(ctx context.Context, before []string, begun string) []complete.Candidate {
					ctx, cancel := context.WithTimeout(ctx, completionTime)
					defer cancel()
					return complete.Completer{Catalog: s.known, Call: s.api.Call}.Words(ctx, before, begun)
				},
			}
			return sh.Loop(c.Context())
		},
	}
}

// isTerminal tells whether a person sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// line runs one line of a shell: the same program over the session that is open, with flags of its own.
func (s *session) line(ctx context.Context, words []string) error {
	if words[0] == "shell" {
		return errors.New("this is a shell already")
	}
	p := *s.program
	p.opened = s
	root := p.root()
	root.SetArgs(words)
	return root.ExecuteContext(ctx)
}

// describe prints what a command takes and answers.
func (p *program) describe() *cobra.Command {
	return &cobra.Command{
		Use: "describe COMMAND", Short: "Tell what an API command takes and answers", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeWords,
		RunE:              func(c *cobra.Command, args []string) error { return p.explain(c.Context(), args) },
	}
}

// explain is describe.
func (p *program) explain(ctx context.Context, words []string) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	if err := s.learn(ctx, false); err != nil {
		return err
	}
	cmd, _ := s.known.Match(words)
	if cmd == nil {
		return unknown(s.known, words)
	}
	fmt.Fprintf(p.out, "%s: %s\n\nParameters:\n", cmd.Name, cmd.Description)
	for _, x := range cmd.Params {
		needed := ""
		if x.Required {
			needed = " (needed)"
		}
		fmt.Fprintf(p.out, "  %-28s %-8s %s%s\n", x.Name, x.Type, x.Description, needed)
	}
	var fields []string
	for _, f := range cmd.Response {
		fields = append(fields, f.Name)
	}
	_, err = fmt.Fprintf(p.out, "\nAnswers: %s\n", strings.Join(fields, ", "))
	return err
}

// help makes help, and --help, tell of the API's commands what describe does, and of wisp's own what cobra does.
func (p *program) help(root *cobra.Command) {
	usual := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		words := c.Flags().Args()
		if c != root || len(words) == 0 {
			usual(c, args)
			return
		}
		if err := p.explain(c.Context(), words); err != nil {
			fmt.Fprintln(p.err, "wisp:", err)
		}
	})
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command, wisp's own or the API's", ValidArgsFunction: p.completeWords,
		RunE: func(c *cobra.Command, args []string) error {
			own, _, err := root.Find(args)
			if err != nil || own == root && len(args) > 0 {
				return p.explain(c.Context(), args)
			}
			return own.Help()
		},
	})
}

func (p *program) sync() *cobra.Command {
	return &cobra.Command{
		Use: "sync", Short: "Learn the cloud's commands anew", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.open(c.Context())
			if err != nil {
				return err
			}
			if err := s.learn(c.Context(), true); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "%d commands of %s\n", len(s.known.Commands), s.profile.Endpoint)
			return err
		},
	}
}

func (p *program) profiles() *cobra.Command {
	root := &cobra.Command{Use: "profile", Short: "The clouds that are known, and who is asking"}
	names := func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		lines, err := p.environment().List()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, l := range lines {
			out = append(out, l.Name+"\t"+l.Endpoint)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	root.AddCommand(&cobra.Command{
		Use: "list", Short: "List the profiles of wisp's and CloudMonkey's files", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			lines, err := p.environment().List()
			if err != nil {
				return err
			}
			rows := make([]any, len(lines))
			for i, l := range lines {
				used := ""
				if l.Used {
					used = "*"
				}
				rows[i] = map[string]any{"used": used, "name": l.Name, "url": l.Endpoint, "file": l.From}
			}
			return output.Print(p.out, "table", map[string]any{"count": len(rows), "profile": rows}, []string{"used", "name", "url", "file"})
		},
	}, &cobra.Command{
		Use: "use NAME", Short: "Use a profile where none is named", Args: cobra.ExactArgs(1), ValidArgsFunction: names,
		RunE: func(_ *cobra.Command, args []string) error { return p.environment().Use(args[0]) },
	}, &cobra.Command{
		Use: "set NAME url=URL apikey=KEY secretkey=@FILE ...", Short: "Make or change a profile", Args: cobra.MinimumNArgs(1),
		Long: "Makes or changes a profile in wisp's own file, which only you can read. It may have url, apikey, secretkey, username, password,\n" +
			"domain, output, timeout (seconds), asyncblock and verifycert. A value that begins with @ is read from that file, @- from\n" +
			"standard input, which keeps secrets out of the list of processes.",
		ValidArgsFunction: names,
		RunE: func(_ *cobra.Command, args []string) error {
			values, _, err := p.parameters(args[1:])
			if err != nil {
				return err
			}
			if strings.ContainsAny(args[0], "[]\n") || args[0] == "" {
				return errors.New("the name of a profile is a word")
			}
			return p.environment().Set(args[0], values)
		},
	})
	return root
}
