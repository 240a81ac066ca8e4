{{/* The apps by name. Not a default in values.yaml: Helm would merge it with yours. */}}
{{- define "fanfare.apps" -}}
{{ default (dict "main" (dict "id" "main" "key" "main-key")) .Values.apps | toJson }}
{{- end -}}

{{/* One value as TOML. Helm reads every number as a float, and prints large ones as 6.5e+07. */}}
{{- define "fanfare.toml" -}}
{{- if or (kindIs "string" .) (kindIs "slice" .) -}}
{{ . | toJson }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if eq (floor .) (float64 .) -}}
{{ printf "%.0f" (float64 .) }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* The settings file. What the chart decides itself may not be in `config`. */}}
{{- define "fanfare.settings" -}}
{{- range $section := list "server.listen" "server.admin" "redis.url" "redis.url_file" "drain.grace" "drain.seconds" "drain.leave_linger" -}}
{{- $at := splitList "." $section -}}
{{- if hasKey (default dict (get $.Values.config (first $at))) (last $at) -}}
{{- fail (printf "config.%s is set by the chart: use redis.url, redis.existingSecret, drain or service" $section) -}}
{{- end -}}
{{- end -}}
{{- $ours := dict
  "server" (dict "listen" "0.0.0.0:8080" "admin" "0.0.0.0:9601")
  "drain" (dict "grace" .Values.drain.grace "seconds" .Values.drain.seconds "leave_linger" .Values.drain.leaveLinger) -}}
{{- if include "fanfare.redisSecret" . -}}
{{- $_ := set $ours "redis" (dict "url_file" "/secrets/redis/url") -}}
{{- end -}}
{{- range $section, $settings := mergeOverwrite (deepCopy .Values.config) $ours }}
[{{ $section }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ include "fanfare.toml" $value }}
{{- end }}
{{ end }}
{{- range $name, $app := include "fanfare.apps" . | fromJson }}
[apps.{{ $name }}]
{{- range $key, $value := omit $app "secret" "webhooks" }}
{{ $key }} = {{ include "fanfare.toml" $value }}
{{- end }}
secret_file = "/secrets/apps/{{ $name }}"
{{- range $webhook, $settings := default dict $app.webhooks }}
[apps.{{ $name }}.webhooks.{{ $webhook }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ include "fanfare.toml" $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end -}}
