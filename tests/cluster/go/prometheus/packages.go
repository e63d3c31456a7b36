//go:build packages

// Package packages names the program of Prometheus, so that go.mod and go.sum cover it.
package packages

import _ "github.com/prometheus/prometheus/cmd/prometheus"
