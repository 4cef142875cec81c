package domain

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// connection is one RPC connection that opens itself when needed.
type connection struct {
	client *libvirt.Libvirt
	mu     sync.Mutex
	closed bool
}

func newConnection(socket string) *connection {
	return &connection{client: libvirt.NewWithDialer(
		dialers.NewLocal(dialers.WithSocket(socket), dialers.WithLocalTimeout(5*time.Second)))}
}

// open connects unless connected.
func (c *connection) open() (*libvirt.Libvirt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("connect to libvirt: %w", context.Canceled)
	}
	select {
	case <-c.client.Disconnected():
		if err := c.client.ConnectToURI(libvirt.QEMUSystem); err != nil {
			return nil, fmt.Errorf("connect to libvirt: %w", err)
		}
	default:
	}
	return c.client, nil
}

// call runs f with the client, and gives up with the context: the connection is then dropped, which ends f too.
func (c *connection) call(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		client, err := c.open()
		if err == nil {
			err = f(client)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		c.drop()
		return fmt.Errorf("wait for libvirt: %w", ctx.Err())
	}
}

// drop closes the connection; calls on it fail, the next call opens it again.
func (c *connection) drop() {
	// Disconnect waits for nothing but fails on a connection that is closed already, which is as wanted.
	_ = c.client.Disconnect()
}

func (c *connection) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.drop()
}
