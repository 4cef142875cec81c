package hostlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostlink"
)

// chunk is how much of an image one message carries.
const chunk = 256 << 10

// FetchImage implements the contract. A host gets the images that its spec names and no others.
func (s *Server) FetchImage(req *hostlink.FetchImageRequest, stream grpc.ServerStreamingServer[hostlink.FetchImageResponse]) error {
	ctx := stream.Context()
	who := caller(ctx)
	if who.Kind == pki.KindHost && !s.wants(who.ID, req.GetSha256()) {
		return status.Errorf(codes.NotFound, "host %s needs no image %.64s", who.ID, req.GetSha256())
	}
	f, size, err := s.cfg.Images.Open(req.GetSha256())
	if errors.Is(err, fs.ErrNotExist) && who.Kind == pki.KindHost {
		if err = s.pull(ctx, req.GetSha256()); err == nil {
			f, size, err = s.cfg.Images.Open(req.GetSha256())
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Error("could not open image", "sha256", req.GetSha256(), "error", err)
		}
		return status.Errorf(codes.NotFound, "no coordinator has image %.64s", req.GetSha256())
	}
	defer f.Close()
	if req.GetOffset() > uint64(size) {
		return status.Errorf(codes.OutOfRange, "the image has %d bytes", size)
	}
	if _, err := f.Seek(int64(req.GetOffset()), io.SeekStart); err != nil {
		return status.Error(codes.Internal, "could not read the image")
	}
	return sendImage(f, uint64(size), stream)
}

func sendImage(f io.Reader, size uint64, stream grpc.ServerStreamingServer[hostlink.FetchImageResponse]) error {
	m := &hostlink.FetchImageResponse{SizeBytes: size}
	first := true
	for {
		buf := make([]byte, chunk) // the message keeps it until it is sent
		n, err := io.ReadFull(f, buf)
		if n > 0 || first {
			m.Data = buf[:n]
			if err := stream.Send(m); err != nil {
				return err
			}
			m, first = &hostlink.FetchImageResponse{}, false
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return status.Error(codes.Internal, "could not read the image")
		}
	}
}

// wants tells whether a host's spec names an image.
func (s *Server) wants(host cloud.ID, sha string) bool {
	if s.links.sent(host, sha) {
		return true
	}
	r := s.cfg.Replica.DB().Current()
	h, ok := tables.Hosts.Get(r, host)
	if !ok {
		return false
	}
	spec, err := s.cfg.Plan.Render(r, h)
	if err != nil {
		return false
	}
	for _, i := range spec.GetImages() {
		if i.GetSha256() == sha {
			return true
		}
	}
	return false
}

// mirrorEvery is how often missing images are looked for without a reason.
const mirrorEvery = time.Minute

// mirror keeps a copy of every template's image here, so that none is lost with one coordinator's disk and no host waits
// for a copy between coordinators.
func (s *Server) mirror(ctx context.Context) {
	db := s.cfg.Replica.DB()
	watch := db.Watch(tables.Templates, tables.Coordinators)
	defer watch.Close()
	tick := time.NewTicker(mirrorEvery)
	defer tick.Stop()
	for {
		r := db.Current()
		if tables.Coordinators.Len(r) > 1 && tables.ImageStores.Len(r) > 0 {
			for t := range tables.Templates.By(r, "state", store.K(cloud.TemplateReady)) {
				s.fetchMissing(ctx, t.SHA256)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-watch.C():
			watch.Touched()
		case <-tick.C:
		}
	}
}

func (s *Server) fetchMissing(ctx context.Context, sha string) {
	f, _, err := s.cfg.Images.Open(sha)
	if err == nil {
		_ = f.Close() // of a file that was only read
		return
	}
	if !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		return
	}
	if err := s.pull(ctx, sha); err != nil {
		s.cfg.Log.Debug("image not copied yet", "sha256", sha, "error", err)
		return
	}
	s.cfg.Log.Info("image copied from another coordinator", "sha256", sha)
}

// pull brings an image from another coordinator into this one's secondary storage.
func (s *Server) pull(ctx context.Context, sha string) error {
	for c := range tables.Coordinators.By(s.cfg.Replica.DB().Current(), "node", nil) {
		if c.NodeID == s.cfg.NodeID {
			continue
		}
		err := s.pullFrom(ctx, c.Address, sha)
		if err == nil {
			return nil
		}
		s.cfg.Log.Debug("image not there", "coordinator", c.NodeID, "sha256", sha, "error", err)
	}
	return fmt.Errorf("pull image %.64s: %w", sha, fs.ErrNotExist)
}

func (s *Server) pullFrom(ctx context.Context, address, sha string) error {
	conn, err := s.peers.conn(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := hostlink.NewHostLinkClient(conn).FetchImage(ctx, &hostlink.FetchImageRequest{Sha256: sha})
	if err != nil {
		return err
	}
	return s.cfg.Images.Import(ctx, sha, &imageReader{stream: stream})
}

// imageReader reads the data of a FetchImage stream.
type imageReader struct {
	stream grpc.ServerStreamingClient[hostlink.FetchImageResponse]
	rest   []byte
}

func (r *imageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.rest = m.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
