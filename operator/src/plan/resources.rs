//! What the two containers reserve and may not exceed.
//!
//! In: what is wanted. Out: requests and limits, each with CPU, memory and disk. Whatever the spec leaves out is the
//! default, but no default limit is below a request that was asked for, and no default request above a limit: the API server
//! would refuse the pod.

use screenshot_api::{ContainerResources, DefaultResources, Quantities};
use serde_json::{Value, json};

use crate::quantity::{larger, smaller};
use crate::validate::Validated;

/// Disk is for the log files that the node keeps: everything else of a pod is in memory or read-only.
const DISK_REQUEST: &str = "16Mi";
const SERVER_DISK: &str = "256Mi";
const BROWSER_DISK: &str = "128Mi";

pub(super) fn server(wanted: &Validated) -> Value {
    let defaults = DefaultResources::SERVER;
    amounts(
        wanted.resources.server.as_ref(),
        &defaults,
        defaults.cpu_limit,
        SERVER_DISK,
    )
}

/// The browsers have as many cores as the policy lets captures use: the server works with what it finds.
pub(super) fn browser(wanted: &Validated) -> Value {
    let defaults = DefaultResources::BROWSER;
    let cores = wanted.policy.limits().concurrency.get().to_string();
    let limit = larger(defaults.cpu_limit, &cores);
    amounts(wanted.resources.browser.as_ref(), &defaults, limit, BROWSER_DISK)
}

fn amounts(wanted: Option<&ContainerResources>, defaults: &DefaultResources, cpu_limit: &str, disk: &str) -> Value {
    let requests = wanted.and_then(|resources| resources.requests.as_ref());
    let limits = wanted.and_then(|resources| resources.limits.as_ref());
    let own = |from: Option<&Quantities>, pick: fn(&Quantities) -> &Option<String>| from.and_then(|q| pick(q).clone());
    let pair = |pick: fn(&Quantities) -> &Option<String>, request: &str, limit: &str| match (
        own(requests, pick),
        own(limits, pick),
    ) {
        (Some(request), Some(limit)) => (request, limit),
        (Some(request), None) => (request.clone(), larger(limit, &request).to_owned()),
        (None, Some(limit)) => (smaller(request, &limit).to_owned(), limit),
        (None, None) => (request.to_owned(), limit.to_owned()),
    };
    let cpu = pair(|q| &q.cpu, defaults.cpu_request, cpu_limit);
    let memory = pair(|q| &q.memory, defaults.memory_request, defaults.memory_limit);
    json!({
        "requests": {"cpu": cpu.0, "memory": memory.0, "ephemeral-storage": DISK_REQUEST},
        "limits": {"cpu": cpu.1, "memory": memory.1, "ephemeral-storage": disk},
    })
}

#[cfg(test)]
mod tests {
    use screenshot_policy::policy::CaptureLimits;

    use super::*;

    #[test]
    fn the_schema_names_the_limit_that_the_default_policy_leads_to() {
        let cores = CaptureLimits::DEFAULT.concurrency.get().to_string();
        assert_eq!(
            larger(DefaultResources::BROWSER.cpu_limit, &cores),
            DefaultResources::BROWSER.cpu_limit
        );
    }

    #[test]
    fn a_default_limit_is_never_below_a_request_and_a_limit_that_was_asked_for_stays() {
        let asked = |cpu: &str, memory: &str| {
            Some(Quantities {
                cpu: Some(cpu.to_owned()),
                memory: Some(memory.to_owned()),
            })
        };
        let wanted = |requests, limits| Some(ContainerResources { requests, limits });
        let found = |wanted: Option<ContainerResources>| {
            let all = amounts(wanted.as_ref(), &DefaultResources::BROWSER, "2", BROWSER_DISK);
            [
                ["requests", "cpu"],
                ["requests", "memory"],
                ["limits", "cpu"],
                ["limits", "memory"],
            ]
            .map(|[list, kind]| all[list][kind].as_str().unwrap().to_owned())
        };
        assert_eq!(found(None), ["200m", "256Mi", "2", "1536Mi"]);
        assert_eq!(
            found(wanted(asked("3", "4Gi"), None)),
            ["3", "4Gi", "3", "4Gi"],
            "the API server refuses a limit below its request"
        );
        assert_eq!(
            found(wanted(None, asked("500m", "512Mi"))),
            ["200m", "256Mi", "500m", "512Mi"]
        );
        assert_eq!(
            found(wanted(None, asked("100m", "128Mi"))),
            ["100m", "128Mi", "100m", "128Mi"],
            "nor does it take a request above its limit"
        );
    }
}
