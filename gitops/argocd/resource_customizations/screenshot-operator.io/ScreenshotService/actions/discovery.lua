-- What can be done to a ScreenshotService, and what has no effect just now: a suspended service has no pods to restart
-- and rotates no token, and a rotation under way ends before the next begins.

local spec, status = obj.spec or {}, obj.status or {}
local suspended = spec.suspend == true
local wanted = ((spec.auth or {}).rotation or {}).nonce
local handled = (status.auth or {}).lastHandledNonce
local rotating = wanted ~= nil and wanted ~= handled

return {
  rotate = {disabled = suspended or rotating, displayName = "Rotate token", iconClass = "fa fa-fw fa-key"},
  restart = {disabled = suspended, displayName = "Restart", iconClass = "fa fa-fw fa-redo"},
  suspend = {disabled = suspended, displayName = "Suspend", iconClass = "fa fa-fw fa-pause-circle"},
  resume = {disabled = not suspended, displayName = "Resume", iconClass = "fa fa-fw fa-play-circle"},
}
