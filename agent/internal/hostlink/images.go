package hostlink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/proto/hostlink"
)

var errNoLink = errors.New("no coordinator is connected")

// Fetch streams an image from the coordinator of the present link into w, from offset on.
func (c *Client) Fetch(ctx context.Context, sha256 string, offset uint64, w io.Writer) (size uint64, err error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return 0, errNoLink
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := hostlink.NewHostLinkClient(conn).FetchImage(ctx, &hostlink.FetchImageRequest{Sha256: sha256, Offset: offset})
	if err != nil {
		return 0, fmt.Errorf("fetch image %s: %w", sha256, err)
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return size, nil
		case status.Code(err) == codes.NotFound:
			return size, desired.Permanent(fmt.Errorf("fetch image %s: %w", sha256, err))
		case err != nil:
			return size, fmt.Errorf("fetch image %s: %w", sha256, err)
		}
		if m.GetSizeBytes() != 0 {
			size = m.GetSizeBytes()
		}
		if _, err := w.Write(m.GetData()); err != nil {
			return size, fmt.Errorf("fetch image %s: %w", sha256, err)
		}
	}
}
