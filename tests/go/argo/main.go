// Parses standard input strictly, like the controller parses its configuration: `argo KIND`.
package main

import (
	"fmt"
	"io"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/argoproj/argo-workflows/v4/config"
	wfv1 "github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
)

func main() {
	into := map[string]any{
		"Config":                  &config.Config{},
		"Workflow":                &wfv1.Workflow{},
		"WorkflowTemplate":        &wfv1.WorkflowTemplate{},
		"CronWorkflow":            &wfv1.CronWorkflow{},
		"ClusterWorkflowTemplate": &wfv1.ClusterWorkflowTemplate{},
	}[os.Args[1]]
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
