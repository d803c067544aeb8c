{{/* Full name of the release's objects: 52 characters leave room for a suffix within 63. */}}
{{- define "screenshot-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Namespace of the release's objects. */}}
{{- define "screenshot-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/*
Selector of the operator's pods. The name is fixed: the NetworkPolicies that the operator writes let pods with exactly
this label, in its own namespace, reach the health port of capture pods.
*/}}
{{- define "screenshot-operator.selectorLabels" -}}
app.kubernetes.io/name: screenshot-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Selector of the installer's pods: another name, so that they are never taken for the operator. */}}
{{- define "screenshot-operator.installerLabels" -}}
app.kubernetes.io/name: screenshot-operator-seccomp-installer
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of every object, beside its name and instance. */}}
{{- define "screenshot-operator.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: screenshot-operator
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "screenshot-operator.labels" -}}
{{ include "screenshot-operator.selectorLabels" . }}
{{ include "screenshot-operator.commonLabels" . }}
{{- end -}}

{{/* The annotations block within an object's metadata, from its line break on; or nothing. */}}
{{- define "screenshot-operator.annotations" -}}
{{- with .Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{/*
What stays of kube-score's findings about a workload, told to it on the object. In: (list root kind).
container-image-pull-policy: by digest an image cannot change; Always would only make a start depend on the registry.
container-security-context-user-group-id: the installer is root, since the kubelet's directory belongs to root; without
ids in the values the cluster hands out its own, all of them high.
pod-probes-identical: the installer has one thing to be asked, and a start mends it.
*/}}
{{- define "screenshot-operator.kubeScoreIgnore" -}}
{{- $values := (index . 0).Values -}}
{{- $ignored := list -}}
{{- if and $values.image.digest (ne $values.image.pullPolicy "Always") -}}
{{- $ignored = append $ignored "container-image-pull-policy" -}}
{{- end -}}
{{- if eq (index . 1) "DaemonSet" -}}
{{- $ignored = append $ignored "pod-probes-identical" -}}
{{- end -}}
{{- $ids := $values.podSecurityContext -}}
{{- if or (eq (index . 1) "DaemonSet") (not (and $ids.runAsUser $ids.runAsGroup)) -}}
{{- $ignored = append $ignored "container-security-context-user-group-id" -}}
{{- end -}}
{{- with $ignored -}}
kube-score/ignore: {{ join "," . }}
{{- end -}}
{{- end -}}

{{/* The annotations block of a workload (list root kind): the common ones, and what kube-score is told. */}}
{{- define "screenshot-operator.workloadAnnotations" -}}
{{- $all := merge (dict) (index . 0).Values.commonAnnotations (include "screenshot-operator.kubeScoreIgnore" . | fromYaml) -}}
{{- with $all }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "screenshot-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "screenshot-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Image reference of (list root image): mirror before registry, digest before tag. */}}
{{- define "screenshot-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry -}}
{{- $name := $image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" $registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* User and group of a security context; left out where they are null, for clusters that hand out their own. */}}
{{- define "screenshot-operator.ids" -}}
{{- with .runAsUser }}
runAsUser: {{ . }}
{{- end }}
{{- with .runAsGroup }}
runAsGroup: {{ . }}
{{- end }}
{{- end -}}

{{/* Selector of the pod of `helm test`. */}}
{{- define "screenshot-operator.testLabels" -}}
app.kubernetes.io/name: screenshot-operator-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Name resolution: the cluster's DNS pods, a resolver on the node, and OpenShift's, which listens on another port. */}}
{{- define "screenshot-operator.dnsRule" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    {{- with .Values.networkPolicy.dnsCIDRs }}
    {{- range . }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
    {{- end }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: openshift-dns
  ports:
    - port: 5353
      protocol: UDP
    - port: 5353
      protocol: TCP
{{- end -}}
