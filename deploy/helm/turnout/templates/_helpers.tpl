{{/* The name of every object. */}}
{{- define "turnout.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "turnout" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}-turnout
{{- end -}}
{{- end -}}

{{/* Labels that select pods. Arguments: the root, the name, the component. */}}
{{- define "turnout.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/component: {{ index . 2 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{/* Metadata of an object. Arguments: the root, what follows its name, and what selects. */}}
{{- define "turnout.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "turnout.name" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "turnout.selector" (list $root (index . 2) (index . 3)) | nindent 2 }}
  {{- include "turnout.labels" $root | nindent 2 }}
{{- end -}}

{{/* Labels that select nothing. */}}
{{- define "turnout.labels" -}}
app.kubernetes.io/part-of: turnout
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "turnout.secretName" -}}
{{- .Values.secretName | default (include "turnout.name" .) -}}
{{- end -}}

{{- define "turnout.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "turnout.name" .) -}}
{{- end -}}

{{- define "turnout.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The file of `turnout serve`: the values' `config`, and what the chart knows itself. */}}
{{- define "turnout.config" -}}
{{- $known := dict -}}
{{- if .Values.redis.enabled -}}
{{- $_ := set $known "state" (printf "redis://%s-redis:6379/0" (include "turnout.name" .)) -}}
{{- end -}}
{{- if .Values.tls.secretName -}}
{{- $_ := set $known "tls" (dict "cert_file" "/etc/turnout-tls/tls.crt" "key_file" "/etc/turnout-tls/tls.key") -}}
{{- end -}}
{{- if .Values.authKeys.secretName -}}
{{- $_ := set $known "auth" (dict "keys_file" "/etc/turnout-keys/keys.yaml") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $known (deepCopy .Values.config)) -}}
{{- end -}}

{{/* The port of an address. */}}
{{- define "turnout.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* How the kubelet asks. Arguments: the configuration, the port, the path. It shows no certificate. */}}
{{- define "turnout.probe" -}}
{{- $config := index . 0 -}}
{{- $tls := $config.tls | default dict -}}
{{- $port := ternary "control" (index . 1) (hasKey $tls "client_ca_file") -}}
{{- $section := ternary $tls $config.control.tls (eq $port "inference") -}}
httpGet:
  path: {{ index . 2 }}
  port: {{ $port }}
  {{- if $section }}
  scheme: HTTPS
  {{- end }}
{{- end -}}

{{/* Variables of the gateway's container, which `turnout check` needs, too. */}}
{{- define "turnout.env" -}}
- name: TURNOUT_REPLICA
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
# Kubernetes 1.35 and newer copy the node's zone to its pods' labels. Before, the value is empty and sets no label.
- name: ZONE
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['topology.kubernetes.io/zone']
- name: TURNOUT_LABELS
  value: zone=$(ZONE)
- name: TURNOUT_CONTROL_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "turnout.secretName" . }}
      key: control-token
- name: TURNOUT_STATE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "turnout.secretName" . }}
      key: redis-password
      {{- if not .Values.redis.enabled }}
      optional: true
      {{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "turnout.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "turnout.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "turnout.volumeMounts" -}}
- name: config
  mountPath: /etc/turnout
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.authKeys.secretName }}
- name: keys
  mountPath: /etc/turnout-keys
  readOnly: true
{{- end }}
{{- if .Values.tls.secretName }}
- name: tls
  mountPath: /etc/turnout-tls
  readOnly: true
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "turnout.volumes" -}}
- name: config
  configMap:
    name: {{ include "turnout.name" . }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.authKeys.secretName }}
- name: keys
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
