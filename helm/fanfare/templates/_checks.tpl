{{/* What a schema cannot say. Each ends the install with words that say what to do. */}}
{{- define "fanfare.checks" -}}
{{- $redis := include "fanfare.redisSecret" . -}}
{{- if and (gt (int .Values.replicaCount) 1) (not $redis) -}}
{{- fail "\n\nMore than one node need a Redis to be one cluster. One of:\n  --set redis.url=redis://:password@host:6379\n  --set redis.existingSecret=NAME          (a Secret with the key redis-url)\n  --set redis.embedded.enabled=true        (a small one to try it with)\n  --set replicaCount=1                     (one node by itself)\n" -}}
{{- end -}}
{{- if and .Values.redis.embedded.enabled (or .Values.redis.url .Values.redis.existingSecret) -}}
{{- fail "redis.embedded.enabled is the demo; leave it off with redis.url or redis.existingSecret" -}}
{{- end -}}
{{- if and .Values.redis.url .Values.redis.existingSecret -}}
{{- fail "redis.url and redis.existingSecret are both set; keep one" -}}
{{- end -}}
{{- range $name, $app := .Values.apps -}}
{{- if and $.Values.existingSecret (get $app "secret") -}}
{{- fail (printf "apps.%s.secret and existingSecret are both set; keep one" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy is for service.type NodePort and LoadBalancer; leave it empty" -}}
{{- end -}}
{{- if and (not (kindIs "invalid" .Values.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" .Values.podDisruptionBudget.maxUnavailable)) -}}
{{- fail "podDisruptionBudget: minAvailable and maxUnavailable exclude each other; set one to null" -}}
{{- end -}}
{{- end -}}
