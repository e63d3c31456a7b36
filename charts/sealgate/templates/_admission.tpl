{{- /* CEL: whether all input artifacts of `.of`, if any, come through Sealgate or from an allowed source. */ -}}
{{- define "sealgate.admission.inputs" -}}
(!has({{ .of }}.artifacts) || {{ .of }}.artifacts.all(a, {{ include "sealgate.admission.input" . }}))
{{- end -}}

{{- define "sealgate.admission.input" -}}
{{- $refused := list "s3" "gcs" "azure" "oss" "hdfs" "artifactory" -}}
{{- range list "raw" "git" "http" }}{{ if not (has . $.root.Values.admission.inputs) }}{{ $refused = append $refused . }}{{ end }}{{ end -}}
{{- range $refused }}!has(a.{{ . }}) && {{ end }}{{ include "sealgate.admission.plugin" (dict "of" "a" "root" .root) }}
{{- end -}}

{{- /* CEL: whether a location names this plugin, or no plugin. */ -}}
{{- define "sealgate.admission.plugin" -}}
(!has({{ .of }}.plugin) || !has({{ .of }}.plugin.name) || {{ .of }}.plugin.name in [{{ range include "sealgate.names" .root | fromYamlArray }}{{ . | squote }}, {{ end }}''])
{{- end -}}

{{- /* CEL: whether a location for an output names no other storage. */ -}}
{{- define "sealgate.admission.output" -}}
{{- $of := .of -}}
{{- range list "s3" "gcs" "azure" "oss" "hdfs" "artifactory" "raw" "git" "http" }}!has({{ $of }}.{{ . }}) && {{ end }}{{ include "sealgate.admission.plugin" . }}
{{- end -}}

{{- /* CEL: whether the artifacts in the arguments of a step or task, and of its hooks, come through Sealgate. */ -}}
{{- define "sealgate.admission.call" -}}
{{- $hook := printf "%s.hooks[h].arguments" .of -}}
(!has({{ .of }}.arguments) || {{ include "sealgate.admission.inputs" (dict "of" (printf "%s.arguments" .of) "root" .root) }}) &&
(!has({{ .of }}.hooks) || {{ .of }}.hooks.all(h, !has({{ $hook }}) || {{ include "sealgate.admission.inputs" (dict "of" $hook "root" .root) }}))
{{- end -}}

{{- /* CEL: whether the key of an artifact, if it has one, begins as the keys of the object's namespace do. */ -}}
{{- define "sealgate.admission.key" -}}
(!has({{ . }}.plugin) || !has({{ . }}.plugin.key) || variables.prefixes.exists(p, {{ . }}.plugin.key.startsWith(p)))
{{- end -}}

{{- /* CEL: the same for all artifacts of a list's owner, such as `t.inputs` or `c.arguments`, if it exists. */ -}}
{{- define "sealgate.admission.keys" -}}
(!has({{ . }}) || !has({{ . }}.artifacts) || {{ . }}.artifacts.all(a, {{ include "sealgate.admission.key" "a" }}))
{{- end -}}

{{- /* CEL: the same for the arguments of a step or task, and of its hooks. */ -}}
{{- define "sealgate.admission.callKeys" -}}
{{ include "sealgate.admission.keys" (printf "%s.arguments" .) }} &&
(!has({{ . }}.hooks) || {{ . }}.hooks.all(h, {{ include "sealgate.admission.keys" (printf "%s.hooks[h].arguments" .) }}))
{{- end -}}

{{- /* The variable `prefixes`: how the keys begin that a workflow of the object's namespace may name. */ -}}
{{- define "sealgate.admission.prefixes" -}}
- name: prefixes
  expression: >-
    [{{ "'{{workflow.namespace}}/', 'uploads/{{workflow.namespace}}/'" }}{{ range .Values.admission.sharedKeys }}, {{ squote . }}{{ end }}] +
    (has(object.metadata.namespace) ? [object.metadata.namespace + '/', 'uploads/' + object.metadata.namespace + '/'] : [])
{{- end -}}
