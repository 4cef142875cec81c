// Command wisp is the command line for operators and users. It knows the cloud only through its public API.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/apply"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/output"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot(os.Stdout, os.Stderr, os.Stdin, os.LookupEnv).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "wisp:", err)
		os.Exit(1)
	}
}

// program holds what the commands share.
type program struct {
	out, err io.Writer
	in       io.Reader
	lookup   func(string) (string, bool)
	flags    settings
	// person reads out; progress says that one reads err.
	person, progress bool
	// opened, when set, is what every call uses: that of a shell.
	opened *session
}

func newRoot(out, errs io.Writer, in io.Reader, lookup func(string) (string, bool)) *cobra.Command {
	p := &program{out: out, err: errs, in: in, lookup: lookup, person: isTerminal(out), progress: isTerminal(errs)}
	return p.root()
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "wisp VERB NOUN [PARAMETER=VALUE ...]",
		Short: "Talk to a Wisp cloud",
		Long: "wisp talks to a Wisp cloud through its public API. Every command of the API is there by verb and noun:\n\n" +
			"  wisp list virtualmachines state=Running\n" +
			"  wisp deploy virtualmachine zoneid=... templateid=... serviceofferingid=... networkids=...\n" +
			"  wisp list zones -o csv filter=id,name\n\n" +
			"A command that starts a job waits for it. A value that begins with @ is read from that file, @- from standard input,\n" +
			"which keeps secrets out of the list of processes.\n\n" +
			"The cloud is that of CLOUDSTACK_ENDPOINT, CLOUDSTACK_KEY and CLOUDSTACK_SECRET, else that of a profile: see wisp profile.\n" +
			"CloudMonkey's file is read where there is one.",
		Version: version, SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: p.completeWords,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			s, err := p.open(c.Context())
			if err != nil {
				return err
			}
			return s.call(c.Context(), args)
		},
	}
	f := root.PersistentFlags() // what a shell was started with holds for its lines
	f.StringVarP(&p.flags.profile, "profile", "p", p.flags.profile, "the profile to use")
	f.StringVarP(&p.flags.output, "output", "o", p.flags.output, "how to print: "+strings.Join(output.Formats, ", ")+" (a table for people, else JSON)")
	f.StringVarP(&p.flags.columns, "columns", "c", p.flags.columns, "the fields to print, as id,name")
	f.BoolVar(&p.flags.noWait, "no-wait", p.flags.noWait, "do not wait for jobs")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp))
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.AddCommand(p.apply(), p.api(), p.shell(), p.describe(), p.sync(), p.profiles())
	p.help(root)
	return root
}

func (p *program) apply() *cobra.Command {
	var file string
	var wait time.Duration
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Make the cloud as a YAML file declares it; a second run changes nothing", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := apply.Read(file, p.lookup)
			if err != nil {
				return err
			}
			s, err := p.open(c.Context())
			if err != nil {
				return err
			}
			a := apply.Applier{API: s.api, Out: p.out, Wait: wait}
			changed, unchanged, err := a.Apply(c.Context(), f)
			if err != nil {
				return fmt.Errorf("apply %s: %w", file, err)
			}
			_, err = fmt.Fprintf(p.out, "%d changed, %d as declared\n", changed, unchanged)
			return err
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the declaration")
	c.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for each host to join and each template to be downloaded")
	_ = c.MarkFlagRequired("file")
	return c
}

func (p *program) api() *cobra.Command {
	return &cobra.Command{
		Use: "api COMMAND [PARAMETER=VALUE ...]", Short: "Call one API command, wait for its job, and print the answer as JSON",
		Long: "Calls one API command and prints the answer. A value that begins with @ is read from that file, @- from standard input,\n" +
			"which keeps secrets out of the list of processes.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			params, _, err := p.parameters(args[1:])
			if err != nil {
				return err
			}
			s, err := p.open(c.Context())
			if err != nil {
				return err
			}
			o, err := s.api.Run(c.Context(), args[0], params)
			if err != nil {
				return err
			}
			e := json.NewEncoder(p.out)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(o)
		},
	}
}
