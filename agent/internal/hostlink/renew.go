package hostlink

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/wispcloud/wisp/proto/hostlink"
)

const renewRetry = 10 * time.Minute

// renewAt is two thirds into the certificate's life.
func renewAt(from, to time.Time) time.Time { return from.Add(to.Sub(from) * 2 / 3) }

// renew replaces the certificate in time, while a link is up. The link itself goes on with the old one; the next uses
// the new one.
func (c *Client) renew(ctx context.Context, client hostlink.HostLinkClient) {
	for ctx.Err() == nil {
		c.mu.Lock()
		from, to, err := c.identity.validity()
		c.mu.Unlock()
		if err != nil {
			c.log.Error("cannot read own certificate", "error", err)
			return
		}
		wait := time.Until(renewAt(from, to))
		if wait <= 0 {
			if err := c.renewNow(ctx, client); err != nil {
				c.log.Error("cannot renew certificate", "expires", to, "error", err)
				wait = min(renewRetry, max(time.Until(to)/10, time.Second))
			} else {
				continue
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *Client) renewNow(ctx context.Context, client hostlink.HostLinkClient) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	request, err := certificateRequest(key, "renewal")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := client.Renew(ctx, &hostlink.RenewRequest{CertificateRequest: request})
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := *c.identity
	fresh.Key, fresh.Chain = der, answer.GetCertificateChain()
	if len(answer.GetCaCertificates()) > 0 {
		fresh.Authorities = answer.GetCaCertificates()
	}
	if _, err := fresh.tls(); err != nil {
		return fmt.Errorf("renew certificate: answer is not usable: %w", err)
	}
	if err := fresh.save(c.config.Files); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	c.identity = &fresh
	_, to, err := fresh.validity()
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	c.log.Info("renewed certificate", "expires", to)
	return nil
}
