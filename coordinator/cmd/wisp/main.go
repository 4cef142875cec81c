// Command wisp is the command line for operators and users. It knows the cloud only through its public API.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/apply"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot(os.Stdout, os.Stdin, os.LookupEnv).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "wisp:", err)
		os.Exit(1)
	}
}

// program holds what the commands share.
type program struct {
	out    io.Writer
	in     io.Reader
	lookup func(string) (string, bool)
}

func newRoot(out io.Writer, in io.Reader, lookup func(string) (string, bool)) *cobra.Command {
	p := &program{out: out, in: in, lookup: lookup}
	root := &cobra.Command{
		Use:   "wisp",
		Short: "Talk to a Wisp cloud",
		Long: "wisp talks to a Wisp cloud through its public API.\n\n" +
			"It reads CLOUDSTACK_ENDPOINT, CLOUDSTACK_KEY and CLOUDSTACK_SECRET from the environment.",
		Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(out)
	root.AddCommand(p.apply(), p.api())
	return root
}

// client makes a client of what the environment says.
func (p *program) client() (*client.Client, error) {
	get := func(name string) string { v, _ := p.lookup(name); return v }
	endpoint := get("CLOUDSTACK_ENDPOINT")
	if endpoint == "" {
		return nil, errors.New("set CLOUDSTACK_ENDPOINT to the API's URL, as http://127.0.0.1:8080/client/api")
	}
	return client.New(endpoint, get("CLOUDSTACK_KEY"), get("CLOUDSTACK_SECRET"), &http.Client{Timeout: time.Minute})
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
			api, err := p.client()
			if err != nil {
				return err
			}
			a := apply.Applier{API: api, Out: p.out, Wait: wait}
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
			params := map[string]string{}
			for _, a := range args[1:] {
				k, v, ok := strings.Cut(a, "=")
				if !ok || k == "" {
					return fmt.Errorf("argument %q is not of the form parameter=value", a)
				}
				v, err := p.value(v)
				if err != nil {
					return fmt.Errorf("parameter %s: %w", k, err)
				}
				params[k] = v
			}
			api, err := p.client()
			if err != nil {
				return err
			}
			o, err := api.Run(c.Context(), args[0], params)
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
