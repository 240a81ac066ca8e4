{{- define "fanfare.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that the longest suffix below still fits into the 63 characters of a Service's name. */}}
{{- define "fanfare.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanfare.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fanfare.selector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "fanfare.redisSelector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: demo-redis
{{- end -}}

{{- define "fanfare.image" -}}
{{- with .Values.image -}}
{{- $name := ternary (printf "%s/%s" .registry .repository) .repository (ne .registry "") -}}
{{- if .digest -}}
{{ $name }}@{{ .digest }}
{{- else -}}
{{ $name }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanfare.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "fanfare.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the apps' secrets: the one place where it is decided. */}}
{{- define "fanfare.appsSecret" -}}
{{ default (printf "%s-apps" (include "fanfare.fullname" .)) .Values.existingSecret }}
{{- end -}}

{{/* The Secret that holds the URL of Redis; empty without Redis. */}}
{{- define "fanfare.redisSecret" -}}
{{- if .Values.redis.existingSecret -}}
{{ .Values.redis.existingSecret }}
{{- else if or .Values.redis.url .Values.redis.embedded.enabled -}}
{{ include "fanfare.fullname" . }}-redis
{{- end -}}
{{- end -}}

{{- define "fanfare.redisKey" -}}
{{ ternary .Values.redis.existingSecretKey "redis-url" (ne .Values.redis.existingSecret "") }}
{{- end -}}

{{- define "fanfare.redisUrl" -}}
{{- if .Values.redis.embedded.enabled -}}
redis://{{ include "fanfare.fullname" . }}-demo-redis:6379
{{- else -}}
{{ .Values.redis.url }}
{{- end -}}
{{- end -}}

{{/* How long a node may take to go: it is never killed in the middle of its drain. */}}
{{- define "fanfare.gracePeriod" -}}
{{- $drain := addf .Values.drain.grace .Values.drain.seconds .Values.drain.leaveLinger -}}
{{- $derived := add .Values.preStopSeconds (ceil $drain) 10 -}}
{{ default $derived .Values.terminationGracePeriodSeconds }}
{{- end -}}
