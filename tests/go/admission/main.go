// Evaluates a ValidatingAdmissionPolicy with the API server's own packages. It reads the policy and objects from standard
// input, and writes for each object the messages of the validations that refuse it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	kjson "sigs.k8s.io/json"
)

type question struct {
	Policy json.RawMessage `json:"policy"`
	Cases  []struct {
		Object map[string]any `json:"object"`
		Old    map[string]any `json:"old"`
		User   string         `json:"user"`
	} `json:"cases"`
}

func main() {
	var asked question
	check(json.NewDecoder(os.Stdin).Decode(&asked))
	var policy admissionv1.ValidatingAdmissionPolicy
	unknown, err := kjson.UnmarshalStrict(asked.Policy, &policy)
	check(err)
	for _, fault := range unknown {
		check(fault)
	}
	decide := compile(&policy)
	answers := [][]string{}
	for _, one := range asked.Cases {
		answers = append(answers, decide(one.Object, one.Old, one.User))
	}
	check(json.NewEncoder(os.Stdout).Encode(answers))
}

// An expression of the policy. Its name is that of a variable, or the message of a refusal.
type expression struct{ name, text string }

func (e expression) GetExpression() string { return e.text }
func (e expression) GetName() string       { return e.name }
func (e expression) ReturnTypes() []*cel.Type {
	return []*cel.Type{cel.AnyType}
}

// compile compiles a policy like the API server does when it is written. An expression that does not compile ends the
// program; the API server would refuse the policy.
func compile(policy *admissionv1.ValidatingAdmissionPolicy) func(object, old map[string]any, name string) []string {
	declared := plugincel.OptionalVariableDeclarations{HasAuthorizer: true, StrictCost: true}
	mode := environment.NewExpressions
	compiler, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion(), true))
	check(err)
	for _, variable := range policy.Spec.Variables {
		compiled(compiler.CompileAndStoreVariable(expression{variable.Name, variable.Expression}, declared, mode))
	}
	var validations, conditions []plugincel.ExpressionAccessor
	for _, validation := range policy.Spec.Validations {
		validations = append(validations, expression{validation.Message, validation.Expression})
	}
	for _, condition := range policy.Spec.MatchConditions {
		conditions = append(conditions, expression{condition.Name, condition.Expression})
	}
	for _, accessor := range append(validations, conditions...) {
		compiled(compiler.CompileCELExpression(accessor, declared, mode))
	}
	matches, holds := compiler.CompileCondition(conditions, declared, mode), compiler.CompileCondition(validations, declared, mode)
	return func(object, old map[string]any, name string) []string {
		versioned := attributes(object, old, name)
		request := plugincel.CreateAdmissionRequest(versioned.Attributes, metav1.GroupVersionResource{}, metav1.GroupVersionKind(versioned.VersionedKind))
		untrue := func(evaluator plugincel.ConditionEvaluator) []string {
			names := []string{}
			results, _, err := evaluator.ForInput(context.Background(), versioned, request, plugincel.OptionalVariableBindings{}, nil, celconfig.RuntimeCELCostBudget)
			check(err)
			for _, result := range results {
				if result.Error != nil {
					names = append(names, "error: "+result.Error.Error())
				} else if result.EvalResult != types.True {
					names = append(names, result.ExpressionAccessor.(expression).name)
				}
			}
			return names
		}
		if len(untrue(matches)) > 0 {
			return []string{}
		}
		return untrue(holds)
	}
}

func attributes(object, old map[string]any, name string) *admission.VersionedAttributes {
	kind := schema.FromAPIVersionAndKind(object["apiVersion"].(string), object["kind"].(string))
	current := &unstructured.Unstructured{Object: object}
	versioned := &admission.VersionedAttributes{VersionedKind: kind, VersionedObject: current}
	operation := admission.Create
	var before runtime.Object
	if old != nil {
		before = &unstructured.Unstructured{Object: old}
		operation, versioned.VersionedOldObject = admission.Update, before
	}
	resource := kind.GroupVersion().WithResource("of-the-kind")
	versioned.Attributes = admission.NewAttributesRecord(current, before, kind, current.GetNamespace(), current.GetName(), resource, "", operation, nil, false, &user.DefaultInfo{Name: name})
	return versioned
}

func compiled(result plugincel.CompilationResult) {
	if result.Error != nil {
		check(fmt.Errorf("%s: %s", result.ExpressionAccessor.GetExpression(), result.Error))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
