-- Any new nonce replaces the capture pods one after the other. The generation grows with every change of the spec, so
-- this one was never used.
obj.spec.restartNonce = "argocd-" .. obj.metadata.generation
return obj
