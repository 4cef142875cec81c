package cloud

import "log/slog"

// Secret is a text that must not be seen: it prints, logs and marshals as ***. Use string(s) where it is meant.
// Secrets live in memory only; what is stored is Sealed.
type Secret string

const hidden = "***"

func (Secret) String() string   { return hidden }
func (Secret) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler: an answer that means to tell a secret converts it to string first.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Sealed is a secret encrypted under the cluster's key: the only form in which a secret is part of a row, and so of
// the raft log, a snapshot or a backup. Package seal opens it.
type Sealed []byte

func (Sealed) String() string   { return hidden }
func (Sealed) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (Sealed) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (Sealed) MarshalText() ([]byte, error) { return []byte(hidden), nil }
