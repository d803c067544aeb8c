-- Health of a ScreenshotService. Its status follows kstatus (sigs.k8s.io/cli-utils/pkg/kstatus) and this script decides
-- in kstatus's order: generation, then Reconciling and Stalled, then Ready. In: obj. Out: {status, message}. It must not
-- use the string or math library: Argo CD runs customizations from argocd-cm without them, and only its own tests with.

local function answer(status, message)
  return {status = status, message = message}
end

-- The schema's default for observedGeneration is -1, so a service that no operator has seen yet is never Healthy.
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return answer("Progressing", "waiting for the operator to act on the latest spec")
end

-- Reconciling and Stalled exist only while they are true, and never together; Ready always exists.
local ready, suspended = nil, false
for _, condition in ipairs(status.conditions or {}) do
  local holds = condition.status == "True"
  if condition.type == "Reconciling" and holds then
    return answer("Progressing", condition.message)
  elseif condition.type == "Stalled" and holds then
    return answer("Degraded", condition.message)
  elseif condition.type == "Ready" then
    ready = condition
  elseif condition.type == "Suspended" then
    suspended = holds
  end
end

if ready == nil then
  return answer("Progressing", "waiting for the Ready condition")
elseif ready.status ~= "True" then
  return answer("Progressing", ready.message)
elseif suspended then
  return answer("Suspended", ready.message)
end
return answer("Healthy", ready.message)
