// Calls artifact plugins by Argo's own driver, as Argo does: each call with a new driver that is never closed, and with
// a context that ends with the call.
//
// Each line of standard input is a JSON list of calls that are made at the same time. It is answered by a line with the
// list of their results. The operation "Pack" calls no plugin: it packs PATH as Argo's executor does, into TO.
package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	wfv1 "github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v4/util/archive"
	"github.com/argoproj/argo-workflows/v4/util/logging"
	"github.com/argoproj/argo-workflows/v4/workflow/artifacts/plugin"
)

const (
	pluginName = "crypt"
	// A minute more than Argo's default, for a busy machine.
	connectionTimeout = 65 * time.Second
	longestLine       = 1 << 20
)

type call struct {
	Operation string `json:"operation"`
	Socket    string `json:"socket"`
	Name      string `json:"name"`
	Key       string `json:"key"`
	Path      string `json:"path"`
	To        string `json:"to"`
	// Seconds from the connection to the end of the call's context; 0 for no end.
	Deadline float64 `json:"deadline"`
	// Bytes that are read of a stream before it is closed; 0 for all.
	Take int64 `json:"take"`
	// Whether the reader waits for the deadline after Take bytes, and then reads the rest.
	Stall bool `json:"stall"`
}

type result struct {
	Error string `json:"error"`
	// The gRPC status of the error; "OK" without an error, "Unknown" for one that was in the answer.
	Code      string   `json:"code"`
	Objects   []string `json:"objects"`
	Directory bool     `json:"directory"`
	Size      int64    `json:"size"`
	SHA256    string   `json:"sha256"`
}

func main() {
	ctx := logging.WithLogger(context.Background(), logging.NewSlogLogger(logging.Error, logging.Text))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var calls []call
		err := json.Unmarshal(lines.Bytes(), &calls)
		if err == nil {
			err = answers.Encode(together(ctx, calls))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func together(ctx context.Context, calls []call) []result {
	results := make([]result, len(calls))
	var running sync.WaitGroup
	for i, c := range calls {
		running.Go(func() { results[i] = made(ctx, c) })
	}
	running.Wait()
	return results
}

func made(ctx context.Context, c call) result {
	var r result
	err := r.make(ctx, c)
	if err != nil {
		r.Error = err.Error()
	}
	r.Code = status.Code(err).String()
	return r
}

func (r *result) make(ctx context.Context, c call) (err error) {
	if c.Operation == "Pack" {
		return pack(ctx, c)
	}
	driver, err := plugin.NewDriver(ctx, pluginName, c.Socket, connectionTimeout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Deadline > 0 {
		var expire context.CancelFunc
		ctx, expire = context.WithTimeout(ctx, time.Duration(c.Deadline*float64(time.Second)))
		defer expire()
	}
	artifact := &wfv1.Artifact{Name: c.Name, ArtifactLocation: wfv1.ArtifactLocation{
		Plugin: &wfv1.PluginArtifact{Name: pluginName, Configuration: "{}", Key: c.Key},
	}}
	switch c.Operation {
	case "Load":
		return driver.Load(ctx, artifact, c.Path)
	case "Save":
		return driver.Save(ctx, c.Path, artifact)
	case "Delete":
		return driver.Delete(ctx, artifact)
	case "OpenStream":
		stream, err := driver.OpenStream(ctx, artifact)
		if err != nil {
			return err
		}
		return r.read(ctx, stream, c)
	case "ListObjects":
		r.Objects, err = driver.ListObjects(ctx, artifact)
	case "IsDirectory":
		r.Directory, err = driver.IsDirectory(ctx, artifact)
	default:
		return fmt.Errorf("unknown operation %q", c.Operation)
	}
	return err
}

func (r *result) read(ctx context.Context, stream io.ReadCloser, c call) (err error) {
	defer stream.Close()
	digest := sha256.New()
	if c.Take > 0 {
		r.Size, err = io.CopyN(digest, stream, c.Take)
	}
	if c.Stall {
		<-ctx.Done()
	}
	if err == nil && (c.Take == 0 || c.Stall) {
		var rest int64
		rest, err = io.Copy(digest, stream)
		r.Size += rest
	}
	r.SHA256 = hex.EncodeToString(digest.Sum(nil))
	return err
}

// pack does what the executor's stageArchiveFile does with an output artifact that has no archive strategy.
func pack(ctx context.Context, c call) error {
	file, err := os.Create(c.To)
	if err != nil {
		return err
	}
	defer file.Close()
	return archive.TarGzToWriter(ctx, c.Path, gzip.DefaultCompression, bufio.NewWriter(file))
}
