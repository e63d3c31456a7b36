// Runs Argo's own S3 driver for the bench, as Argo's executor does: one call after the other, each with a new client.
//
// Arguments: ENDPOINT BUCKET ENCRYPTION, where ENCRYPTION is "sse-s3" or "none". Each line of standard input is a JSON
// list: ["save" | "load" | "delete", KEY, PATH]. Each is answered by a line: empty, or the error.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v4/util/logging"
	"github.com/argoproj/argo-workflows/v4/workflow/artifacts/s3"
)

func main() {
	endpoint, bucket, encryption := os.Args[1], os.Args[2], os.Args[3]
	driver := &s3.ArtifactDriver{
		Endpoint:         endpoint,
		Region:           os.Getenv("AWS_REGION"),
		AccessKey:        os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretKey:        os.Getenv("AWS_SECRET_ACCESS_KEY"),
		EnableEncryption: encryption == "sse-s3",
	}
	ctx := logging.WithLogger(context.Background(), logging.NewSlogLogger(logging.Error, logging.Text))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(answer(ctx, driver, bucket, lines.Bytes()))
	}
}

func answer(ctx context.Context, driver *s3.ArtifactDriver, bucket string, line []byte) string {
	var words []string
	if err := json.Unmarshal(line, &words); err != nil || len(words) != 3 {
		return "the line is not a list of three words"
	}
	artifact := &wfv1.Artifact{ArtifactLocation: wfv1.ArtifactLocation{S3: &wfv1.S3Artifact{
		S3Bucket: wfv1.S3Bucket{Bucket: bucket}, Key: words[1],
	}}}
	var err error
	switch words[0] {
	case "save":
		err = driver.Save(ctx, words[2], artifact)
	case "load":
		err = driver.Load(ctx, artifact, words[2])
	case "delete":
		err = driver.Delete(ctx, artifact)
	default:
		return "unknown operation " + words[0]
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return ""
}
