{{/* The settings and secrets, for the nodes and for the test. */}}
{{- define "fanfare.mounts" -}}
- {name: settings, mountPath: /etc/fanfare, readOnly: true}
- {name: apps, mountPath: /secrets/apps, readOnly: true}
{{- if include "fanfare.redisSecret" . }}
- {name: redis, mountPath: /secrets/redis, readOnly: true}
{{- end }}
{{- end -}}

{{- define "fanfare.volumes" -}}
- name: settings
  configMap: {name: {{ include "fanfare.fullname" . }}}
- name: apps
  secret: {secretName: {{ include "fanfare.appsSecret" . }}, defaultMode: 0440}
{{- if include "fanfare.redisSecret" . }}
- name: redis
  secret:
    secretName: {{ include "fanfare.redisSecret" . }}
    defaultMode: 0440
    items:
      - {key: {{ include "fanfare.redisKey" . }}, path: url}
{{- end }}
{{- end -}}
