{{- define "sealgate.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ $tag }}{{ end -}}
{{- end -}}

{{- define "sealgate.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{- /* What the names of objects begin with. A release has 53 characters at most, and so has this: the longest suffix must fit. */ -}}
{{- define "sealgate.fullname" -}}
{{- $name := include "sealgate.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "sealgate.labels" -}}
{{- include "sealgate.labels.and" (dict "root" .) -}}
{{- end -}}

{{- /* The labels of an object with those in `own`. The chart's own are not replaced by commonLabels. */ -}}
{{- define "sealgate.labels.and" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "sealgate.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- merge (dict) (.own | default dict) $labels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- /* The field `annotations` of an object with those in `own`, or nothing. The chart's own are not replaced. */ -}}
{{- define "sealgate.annotations" -}}
{{- with merge (dict) (.own | default dict) .root.Values.commonAnnotations -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- /* All names of the plugin, as a list. */ -}}
{{- define "sealgate.names" -}}
{{- prepend .Values.plugin.additionalNames .Values.plugin.name | uniq | toYaml -}}
{{- end -}}

{{- /* The executor's account, if Loads use it: init containers have its token. Otherwise a step's own account loads, and this is empty. */ -}}
{{- define "sealgate.executor" -}}
{{- $accounts := .Values.tenants.serviceAccounts -}}
{{- if and (eq .Values.argo.layout "init") (ne $accounts.executor $accounts.workflow) }}{{ $accounts.executor }}{{ end -}}
{{- end -}}

{{- /* Roles in Vault besides that of a step's pod: a mapping from component to role. */ -}}
{{- define "sealgate.roles" -}}
{{- $auth := dig "vault" "auth" dict .Values.configuration.keys -}}
{{- $roles := dict -}}
{{- if and (eq .Values.configuration.keys.provider "vault") $auth.role -}}
  {{- range compact (list "gc" "server" (ternary "init" "" (ne (include "sealgate.executor" .) ""))) -}}
    {{- $_ := set $roles . (get ($auth.roles | default dict) . | default (printf "%s-%s" $auth.role .)) -}}
  {{- end -}}
{{- end -}}
{{- $roles | toYaml -}}
{{- end -}}

{{- /* The directory that a native sidecar and Sealgate share. In a workflow's pod every container has it; beside the server they have their own. */ -}}
{{- define "sealgate.meeting" -}}
{{- if eq .place "server" }}/sealgate-downstream{{ else }}/var/run/argo{{ end -}}
{{- end -}}

{{- /* The configuration of Sealgate as text. `place` is pod or server. */ -}}
{{- define "sealgate.configuration" -}}
{{- $values := .root.Values -}}
{{- $configuration := deepCopy $values.configuration -}}
{{- $meeting := include "sealgate.meeting" . -}}
{{- $downstream := $configuration.downstream | default dict -}}
{{- if eq $values.downstream.placement "nativeSidecar" -}}
  {{- $_ := set $downstream "socket" (printf "%s/sealgate-downstream.sock" $meeting) -}}
  {{- $spool := $configuration.spool | default dict -}}
  {{- $_ := set $configuration "spool" (merge $spool (dict "directory" (printf "%s/sealgate-spool" $meeting))) -}}
{{- else if eq $values.downstream.placement "builtin" -}}
  {{- $_ := set $downstream "builtin" dict -}}
{{- else -}}
  {{- $_ := set $downstream "command" $values.downstream.command -}}
{{- end -}}
{{- $_ := set $configuration "downstream" $downstream -}}
{{- with include "sealgate.roles" .root | fromYaml -}}
  {{- $auth := $configuration.keys.vault.auth -}}
  {{- if eq $.place "server" -}}
    {{- $_ := set $auth "role" .server -}}
    {{- $_ := unset $auth "roles" -}}
  {{- else -}}
    {{- $_ := set $auth "roles" (omit . "server") -}}
  {{- end -}}
{{- end -}}
{{- $text := merge (dict "apiVersion" "sealgate/v1alpha1" "kind" "Sealgate") $configuration | toYaml -}}
{{- if contains "{{" $text }}{{ fail "configuration: it contains {{, which Argo would replace as a template variable" }}{{ end -}}
{{- if contains "$(" $text }}{{ fail "configuration: it contains $(, which Kubernetes would replace as a variable" }}{{ end -}}
{{- $text -}}
{{- end -}}

{{- /* The environment of Sealgate, as a list of EnvVar. */ -}}
{{- define "sealgate.environment" -}}
{{- $own := list
  (dict "name" "SEALGATE_CONFIG_YAML" "value" (include "sealgate.configuration" .))
  (dict "name" "SEALGATE_NAMESPACE" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.namespace")))
  (dict "name" "SEALGATE_SERVICE_ACCOUNT" "valueFrom" (dict "fieldRef" (dict "fieldPath" "spec.serviceAccountName"))) -}}
{{- $given := .root.Values.environment -}}
{{- if eq .place "server" -}}
  {{- $instead := list -}}
  {{- range .root.Values.argo.server.environment }}{{ $instead = append $instead .name }}{{ end -}}
  {{- $kept := list -}}
  {{- range $given }}{{ if not (has .name $instead) }}{{ $kept = append $kept . }}{{ end }}{{ end -}}
  {{- $given = concat $kept .root.Values.argo.server.environment -}}
{{- end -}}
{{- range $given -}}
  {{- if has .name (list "SEALGATE_CONFIG" "SEALGATE_CONFIG_YAML" "SEALGATE_NAMESPACE" "SEALGATE_SERVICE_ACCOUNT") }}{{ fail (printf "environment: %s is set by the chart; remove it" .name) }}{{ end -}}
{{- end -}}
{{- concat $own $given | toYaml -}}
{{- end -}}

{{- /* The vendor's container beside Sealgate. `place` is pod or server. */ -}}
{{- define "sealgate.vendor" -}}
{{- $volume := ternary "sealgate-downstream" "var-run-argo" (eq .place "server") -}}
{{- $meeting := include "sealgate.meeting" . -}}
{{- $container := dict
  "name" "sealgate-downstream"
  "image" .root.Values.downstream.image
  "args" (list (printf "%s/sealgate-downstream.sock" $meeting))
  "volumeMounts" (list (dict "name" $volume "mountPath" $meeting)) -}}
{{- if eq .place "pod" }}{{ $_ := set $container "restartPolicy" "Always" }}{{ end -}}
{{- with .root.Values.downstream.environment }}{{ $_ := set $container "env" . }}{{ end -}}
{{- with .root.Values.downstream.resources }}{{ $_ := set $container "resources" . }}{{ end -}}
{{- with .root.Values.downstream.securityContext | default .root.Values.argo.executor.securityContext }}{{ $_ := set $container "securityContext" . }}{{ end -}}
{{- $container | toYaml -}}
{{- end -}}

{{- /* The patch of every pod, or nothing. */ -}}
{{- define "sealgate.podSpecPatch" -}}
{{- if eq .Values.downstream.placement "nativeSidecar" -}}
{{- dict "initContainers" (list (include "sealgate.vendor" (dict "root" . "place" "pod") | fromYaml)) | toYaml -}}
{{- else if eq .Values.downstream.placement "imageVolume" -}}
{{- dict
  "volumes" (list (dict "name" "sealgate-vendor" "image" (dict "reference" .Values.downstream.image "pullPolicy" "IfNotPresent")))
  "containers" (list (dict
    "name" (printf "artifact-plugin-%s" .Values.plugin.name)
    "volumeMounts" (list (dict "name" "sealgate-vendor" "mountPath" "/vendor" "readOnly" true)))) | toYaml -}}
{{- end -}}
{{- end -}}

{{- /* The controller's configuration: that of the values, with Sealgate added. */ -}}
{{- define "sealgate.controller" -}}
{{- $config := deepCopy .Values.argo.controller.config -}}
{{- $image := include "sealgate.image" . -}}
{{- $names := include "sealgate.names" . | fromYamlArray -}}
{{- $drivers := list -}}
{{- range $names }}{{ $drivers = append $drivers (dict "name" . "image" $image "connectionTimeoutSeconds" (int $.Values.plugin.connectionTimeoutSeconds)) }}{{ end -}}
{{- range $config.artifactDrivers }}{{ if has .name $names }}{{ fail (printf "argo.controller.config: artifactDrivers has %s already; the chart adds it, so remove it" .name) }}{{ end }}{{ end -}}
{{- $_ := set $config "artifactDrivers" (concat $drivers ($config.artifactDrivers | default list)) -}}
{{- $_ := set $config "images" (merge (dict $image (dict "entrypoint" (list "sealgate" "serve"))) ($config.images | default dict)) -}}
{{- $executor := $config.executor | default dict -}}
{{- $environment := include "sealgate.environment" (dict "root" . "place" "pod") | fromYamlArray -}}
{{- $set := list -}}
{{- range $environment }}{{ $set = append $set .name }}{{ end -}}
{{- include "sealgate.check.secrets" (dict "where" "argo.controller.config: executor.env" "list" $executor.env) -}}
{{- range $executor.env }}{{ if has .name $set }}{{ fail (printf "argo.controller.config: executor.env has %s, which the chart or `environment` sets; remove it" .name) }}{{ end }}{{ end -}}
{{- if hasKey $config "initlessPod" }}{{ fail "argo.controller.config: initlessPod is set; remove it and use argo.layout" }}{{ end -}}
{{- $_ := set $executor "env" (concat $environment ($executor.env | default list)) -}}
{{- if $executor.securityContext }}{{ fail "argo.controller.config: executor.securityContext is set; remove it and use argo.executor.securityContext" }}{{ end -}}
{{- if .Values.argo.executor.securityContext }}{{ $_ := set $executor "securityContext" .Values.argo.executor.securityContext }}{{ end -}}
{{- if $executor.resources }}{{ fail "argo.controller.config: executor.resources is set; remove it and use argo.executor.resources" }}{{ end -}}
{{- if .Values.argo.executor.resources }}{{ $_ := set $executor "resources" .Values.argo.executor.resources }}{{ end -}}
{{- $_ := set $config "executor" $executor -}}
{{- if eq .Values.argo.layout "initless" }}{{ $_ := set $config "initlessPod" (dict "enabled" true) }}{{ end -}}
{{- with .Values.argo.repository -}}
  {{- if .default -}}
    {{- if $config.artifactRepository }}{{ fail "argo.controller.config: artifactRepository is set; remove it, or set argo.repository.default: false" }}{{ end -}}
    {{- $plugin := dict "name" $.Values.plugin.name "configuration" .configuration "keyFormat" .keyFormat -}}
    {{- $_ := set $config "artifactRepository" (dict "archiveLogs" .archiveLogs "plugin" $plugin) -}}
  {{- end -}}
{{- end -}}
{{- $spec := dict -}}
{{- with .Values.tenants.serviceAccounts -}}
  {{- $_ := set $spec "serviceAccountName" .workflow -}}
  {{- if .executor }}{{ $_ := set $spec "executor" (dict "serviceAccountName" .executor) }}{{ end -}}
  {{- $_ := set $spec "artifactGC" (dict "serviceAccountName" .gc) -}}
{{- end -}}
{{- $given := dig "workflowDefaults" "spec" dict $config -}}
{{- range $name, $found := dict "serviceAccountName" $given.serviceAccountName "executor.serviceAccountName" (dig "executor" "serviceAccountName" "" $given) "artifactGC.serviceAccountName" (dig "artifactGC" "serviceAccountName" "" $given) -}}
  {{- if $found }}{{ fail (printf "argo.controller.config: workflowDefaults has %s; remove it and use tenants.serviceAccounts" $name) }}{{ end -}}
{{- end -}}
{{- with include "sealgate.podSpecPatch" . -}}
  {{- if or $given.podSpecPatch (dig "artifactGC" "podSpecPatch" "" $given) }}{{ fail "argo.controller.config: workflowDefaults has a podSpecPatch, which downstream.placement sets; remove it, or use the placement child" }}{{ end -}}
  {{- $_ := set $spec "podSpecPatch" . -}}
  {{- $_ := set $spec.artifactGC "podSpecPatch" . -}}
{{- end -}}
{{- $_ := set $config "workflowDefaults" (mergeOverwrite (dict "spec" $spec) ($config.workflowDefaults | default dict)) -}}
{{- $config | toYaml -}}
{{- end -}}

{{- /* Containers beside Argo's server: one for each name, because each name has its own socket. */ -}}
{{- define "sealgate.server.containers" -}}
{{- $native := eq .Values.downstream.placement "nativeSidecar" -}}
{{- $containers := list -}}
{{- range include "sealgate.names" . | fromYamlArray -}}
  {{- $directory := printf "/tmp/artifact-plugins/%s" . -}}
  {{- $mounts := list (dict "name" (printf "sealgate-%s" .) "mountPath" $directory) -}}
  {{- if $native }}{{ $mounts = append $mounts (dict "name" "sealgate-downstream" "mountPath" "/sealgate-downstream") }}{{ end -}}
  {{- if eq $.Values.downstream.placement "imageVolume" }}{{ $mounts = append $mounts (dict "name" "sealgate-vendor" "mountPath" "/vendor" "readOnly" true) }}{{ end -}}
  {{- if include "sealgate.server.temporary" $ }}{{ $mounts = prepend $mounts (dict "name" "sealgate-tmp" "mountPath" "/tmp") }}{{ end -}}
  {{- $containers = append $containers (dict
    "name" (printf "sealgate-%s" .)
    "image" (include "sealgate.image" $)
    "args" (list (printf "%s/socket" $directory))
    "env" (include "sealgate.environment" (dict "root" $ "place" "server") | fromYamlArray)
    "resources" $.Values.argo.server.resources
    "securityContext" $.Values.argo.server.securityContext
    "volumeMounts" $mounts) -}}
{{- end -}}
{{- if $native }}{{ $containers = append $containers (include "sealgate.vendor" (dict "root" . "place" "server") | fromYaml) }}{{ end -}}
{{- $containers | toYaml -}}
{{- end -}}

{{- /* Whether the container beside Argo's server needs a place for temporary files: its root is read-only, and a vendor's program may need one. */ -}}
{{- define "sealgate.server.temporary" -}}
{{- if has .Values.downstream.placement (list "child" "imageVolume") }}yes{{ end -}}
{{- end -}}

{{- define "sealgate.server.volumes" -}}
{{- $volumes := list -}}
{{- range include "sealgate.names" . | fromYamlArray }}{{ $volumes = append $volumes (dict "name" (printf "sealgate-%s" .) "emptyDir" dict) }}{{ end -}}
{{- if eq .Values.downstream.placement "nativeSidecar" }}{{ $volumes = append $volumes (dict "name" "sealgate-downstream" "emptyDir" dict) }}{{ end -}}
{{- if eq .Values.downstream.placement "imageVolume" }}{{ $volumes = append $volumes (dict "name" "sealgate-vendor" "image" (dict "reference" .Values.downstream.image "pullPolicy" "IfNotPresent")) }}{{ end -}}
{{- if include "sealgate.server.temporary" . }}{{ $volumes = append $volumes (dict "name" "sealgate-tmp" "emptyDir" dict) }}{{ end -}}
{{- $volumes | toYaml -}}
{{- end -}}

{{- define "sealgate.server.mounts" -}}
{{- $mounts := list -}}
{{- range include "sealgate.names" . | fromYamlArray }}{{ $mounts = append $mounts (dict "name" (printf "sealgate-%s" .) "mountPath" (printf "/tmp/artifact-plugins/%s" .)) }}{{ end -}}
{{- $mounts | toYaml -}}
{{- end -}}

{{- /* Checks of the values that the schema cannot express. */ -}}
{{- define "sealgate.check" -}}
{{- if eq .Values.downstream.placement "builtin" -}}
  {{- if .Values.downstream.image }}{{ fail "downstream.image: the bundled backend runs in Sealgate's own process; remove it, or set downstream.placement" }}{{ end -}}
  {{- if ne (join " " .Values.downstream.command) "sealgate backend" }}{{ fail "downstream.command: the placement builtin runs no command; set downstream.placement: child" }}{{ end -}}
  {{- if eq (dig "spool" "transfer" "auto" .Values.configuration) "file" }}{{ fail "configuration.spool: the placement builtin uses no spool; remove transfer: file, or set downstream.placement: child" }}{{ end -}}
{{- else if eq .Values.downstream.placement "child" -}}
  {{- if .Values.downstream.image }}{{ fail "downstream.image: a child runs in Sealgate's own image; remove it and build an image as in docs/install-image.md" }}{{ end -}}
{{- else if not .Values.downstream.image -}}
  {{- fail (printf "downstream.image: it is empty, and the placement %s needs it" .Values.downstream.placement) -}}
{{- end -}}
{{- if eq .Values.downstream.placement "imageVolume" -}}
  {{- if semverCompare "<1.31-0" .Capabilities.KubeVersion.Version }}{{ fail (printf "downstream.placement: imageVolume needs Kubernetes 1.31 or later, and this is %s" .Capabilities.KubeVersion.Version) }}{{ end -}}
  {{- if not (hasPrefix "/vendor/" (first .Values.downstream.command)) }}{{ fail (printf "downstream.command: the image is mounted at /vendor, and %s is not beneath it" (first .Values.downstream.command)) }}{{ end -}}
  {{- if .Values.plugin.additionalNames }}{{ fail "plugin.additionalNames: imageVolume can patch the container of one name only; remove the other names" }}{{ end -}}
  {{- if or (ne .Values.argo.layout "initless") (not .Values.argo.repository.default) (not .Values.argo.repository.archiveLogs) -}}
    {{- fail "downstream.placement: imageVolume patches a container that every pod must have; set argo.layout: initless, argo.repository.default: true and argo.repository.archiveLogs: true" -}}
  {{- end -}}
{{- end -}}
{{- if has .Values.plugin.name (list "downstream" "vendor") }}{{ fail (printf "plugin.name: %s is taken by a container or a volume of the chart; choose another name" .Values.plugin.name) }}{{ end -}}
{{- range .Values.plugin.additionalNames }}{{ if has . (list "downstream" "vendor" $.Values.plugin.name) }}{{ fail (printf "plugin.additionalNames: %s is taken; choose another name" .) }}{{ end }}{{ end -}}
{{- range keys (.Values.configuration.plugins | default dict) }}{{ if not (has . (include "sealgate.names" $ | fromYamlArray)) }}{{ fail (printf "configuration.plugins: %s is neither plugin.name nor among plugin.additionalNames" .) }}{{ end }}{{ end -}}
{{- if not .Values.tenants.namespaces }}{{ fail "tenants.namespaces: it is empty, so no namespace would have the service accounts that workflows use; list the namespaces in which workflows run" }}{{ end -}}
{{- if and (has "Deny" .Values.admission.actions) (has "Warn" .Values.admission.actions) }}{{ fail "admission.actions: Kubernetes does not accept Deny together with Warn; remove Warn, because a denial shows the message anyway" }}{{ end -}}
{{- if and (eq .Values.argo.layout "init") (dig "readOnlyRootFilesystem" false (.Values.argo.executor.securityContext | default dict)) }}{{ fail "argo.executor.securityContext: with readOnlyRootFilesystem no artifact can be loaded, because Argo creates the socket's directory in the root file system of init containers; remove it, or set argo.layout: initless" }}{{ end -}}
{{- range $where, $list := dict "environment" .Values.environment "downstream.environment" .Values.downstream.environment "argo.server.environment" .Values.argo.server.environment -}}
  {{- include "sealgate.check.secrets" (dict "where" $where "list" $list) -}}
{{- end -}}
{{- range $where, $keys := merge (dict "configuration" .Values.configuration.keys) (include "sealgate.plugins.keys" . | fromYaml) -}}
  {{- if contains "@" (dig "vault" "address" "" $keys) }}{{ fail (printf "%s: keys.vault.address contains a user, which would be readable in ConfigMaps and pods; remove the part before the @" $where) }}{{ end -}}
{{- end -}}
{{- if eq .Values.configuration.keys.provider "vault" -}}
  {{- $auth := .Values.configuration.keys.vault.auth -}}
  {{- if and (not (has $auth.method (list "kubernetes" "jwt"))) (or $auth.role $auth.roles) }}{{ fail (printf "configuration.keys.vault.auth: the method %s has no role; set role: null and remove roles" $auth.method) }}{{ end -}}
  {{- $given := $auth.roles | default dict -}}
  {{- if $given.sidecar }}{{ fail "configuration.keys.vault.auth.roles.sidecar: the role of a step's pod is configuration.keys.vault.auth.role; set that instead" }}{{ end -}}
  {{- if and $given.init (not (include "sealgate.executor" .)) }}{{ fail "configuration.keys.vault.auth.roles.init: the role is for the executor's account in pods with init containers, and these values have none; set tenants.serviceAccounts.executor and argo.layout: init, or remove the role" }}{{ end -}}
  {{- $names := list $auth.role -}}
  {{- range include "sealgate.roles" . | fromYaml -}}
    {{- if has . $names }}{{ fail (printf "configuration.keys.vault.auth: two of role and roles are %s, and a role admits one account only; give them different names" .) }}{{ end -}}
    {{- $names = append $names . -}}
  {{- end -}}
  {{- range concat (list ($auth.role | default "")) (values $given) -}}
    {{- if and $.Values.vault.setup (contains "${" .) }}{{ fail (printf "configuration.keys.vault.auth: the script of vault.setup cannot create the role %s of each namespace; set vault.setup: false and set up Vault by hand (docs/vault.md)" .) }}{{ end -}}
  {{- end -}}
  {{- include "sealgate.check.plugins" . -}}
  {{- if eq $auth.method "jwt" -}}
    {{- if and .Values.vault.setup (not .Values.vault.audience) }}{{ fail "vault.audience: it is empty, and the method jwt needs it; set aud of a pod's token, usually the cluster's issuer (kubectl get --raw /.well-known/openid-configuration)" }}{{ end -}}
    {{- if .Values.tenants.serviceAccounts.executor }}{{ fail "tenants.serviceAccounts.executor: its token comes from a Secret and has no audience, so it cannot log in with the method jwt; use the method kubernetes, or remove the executor" }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- /* The sections `keys` of plugins: a mapping from configuration.plugins.NAME to the section. */ -}}
{{- define "sealgate.plugins.keys" -}}
{{- $found := dict -}}
{{- range $name, $section := .Values.configuration.plugins }}{{ $_ := set $found (printf "configuration.plugins.%s" $name) (dig "keys" dict ($section | default dict)) }}{{ end -}}
{{- $found | toYaml -}}
{{- end -}}

{{- /* The section of a plugin may name another key. Other settings of Vault would not reach the script of vault.setup. */ -}}
{{- define "sealgate.check.plugins" -}}
{{- range $where, $keys := include "sealgate.plugins.keys" . | fromYaml -}}
  {{- if dig "vault" "auth" "" $keys }}{{ fail (printf "%s.keys.vault.auth: Argo's server would log in with it, too; set auth in configuration.keys alone" $where) }}{{ end -}}
  {{- range list "address" "namespace" "mount" "context" -}}
    {{- if and $.Values.vault.setup (dig "vault" . "" $keys) }}{{ fail (printf "%s.keys.vault.%s: the script of vault.setup uses only that of configuration.keys; remove it, or set vault.setup: false and set up Vault by hand" $where .) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $section := .Values.configuration.plugins -}}
  {{- if and $.Values.vault.setup (dig "audit" "signingKey" "" ($section | default dict)) }}{{ fail (printf "configuration.plugins.%s.audit.signingKey: the script of vault.setup uses only that of configuration.audit; remove it, or set vault.setup: false and set up Vault by hand" $name) }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Every key in Vault that the configuration and its inline policies name, as a list. */ -}}
{{- define "sealgate.vault.keys" -}}
{{- $vault := .Values.configuration.keys.vault -}}
{{- $names := list ($vault.key | default "artifacts") -}}
{{- $policies := .Values.configuration.policies | default list -}}
{{- range .Values.configuration.plugins -}}
  {{- with dig "keys" "vault" "key" "" (. | default dict) }}{{ $names = append $names . }}{{ end -}}
  {{- $policies = concat $policies (dig "policies" list (. | default dict)) -}}
{{- end -}}
{{- $prefix := printf "%s/keys/" ($vault.mount | default "transit") -}}
{{- range $policy := $policies -}}{{- if kindIs "map" $policy -}}
  {{- range dig "spec" "encryption" list $policy -}}
    {{- range concat (list .key | compact) (.authorKeys | default list) -}}
      {{- $name := trimPrefix $prefix . -}}
      {{- if not (regexMatch "^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$" $name) }}{{ fail (printf "configuration.policies: %s names the key %s, which the script of vault.setup cannot create; set vault.setup: false and set up Vault by hand" $policy.metadata.name .) }}{{ end -}}
      {{- $names = append $names $name -}}
    {{- end -}}
  {{- end -}}
{{- end -}}{{- end -}}
{{- $names | uniq | toYaml -}}
{{- end -}}

{{- /* Values in these lists are readable in ConfigMaps and pods, so secrets in them are refused. */ -}}
{{- define "sealgate.check.secrets" -}}
{{- range .list -}}
  {{- if and .value (regexMatch "(?i)(TOKEN|SECRET|PASSWORD|PASSPHRASE|_KEY|_KEY_BASE64|_HEADERS|CONNECTION_STRING)$" .name) }}{{ fail (printf "%s: %s would be readable in ConfigMaps and pods; write it as valueFrom: {secretKeyRef: {name: …, key: …}}" $.where .name) }}{{ end -}}
  {{- if regexMatch "://[^/?#\\s]*@|(?i)(secret_access_key|session_token|service_account_key|account_key|sas_key)\\s*[:=]" (.value | default "") }}{{ fail (printf "%s: %s contains a secret that would be readable in ConfigMaps and pods; write it as valueFrom: {secretKeyRef: {name: …, key: …}}" $.where .name) }}{{ end -}}
{{- end -}}
{{- end -}}
