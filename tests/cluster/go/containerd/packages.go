//go:build packages

// Package packages names the programs of containerd, so that go.mod and go.sum cover them.
package packages

import _ "github.com/containerd/containerd/v2/cmd/containerd"
