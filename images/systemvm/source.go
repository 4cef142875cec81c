package systemvm

import (
	"context"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Describe names the version and the commit of a checkout as git does; the
// version ends in "-dirty" if files were changed.
func Describe(ctx context.Context, source string) (version, commit string, err error) {
	ask := func(args ...string) (string, error) {
		out, err := hosttool.Run(ctx, hosttool.Command{Name: "git", Dir: source, Args: args})
		if err != nil {
			return "", fmt.Errorf("describe checkout %s: %w", source, err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	if version, err = ask("describe", "--tags", "--always", "--dirty"); err != nil {
		return "", "", err
	}
	if commit, err = ask("rev-parse", "HEAD"); err != nil {
		return "", "", err
	}
	return version, commit, nil
}
