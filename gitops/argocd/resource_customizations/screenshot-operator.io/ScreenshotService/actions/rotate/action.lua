-- Any new nonce replaces the token. The generation grows with every change of the spec, so this one was never used.
obj.spec.auth = obj.spec.auth or {}
obj.spec.auth.rotation = obj.spec.auth.rotation or {}
obj.spec.auth.rotation.nonce = "argocd-" .. obj.metadata.generation
return obj
