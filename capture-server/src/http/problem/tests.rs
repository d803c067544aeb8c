use super::*;
use screenshot_policy::keyset::Reject;

fn status(failure: impl Into<Failure>) -> u16 {
    failure.into().status().as_u16()
}

#[test]
fn each_error_has_its_status() {
    let retry_after = Duration::from_millis(1500);
    let table = [
        (status(AccessError::Missing), 401),
        (status(AccessError::Scope), 403),
        (status(AccessError::NoKeyset), 503),
        (status(InvalidRequest::Syntax), 400),
        (status(TransportError::BodyTooLarge), 413),
        (status(TransportError::MediaType), 415),
        (status(Refused::QueueFull { retry_after }), 503),
        (status(Refused::Deadline), 504),
        (
            status(CaptureError::TargetBlocked {
                rule: "x",
                error: "http_request_denied",
            }),
            403,
        ),
        (status(CaptureError::DnsFailed), 502),
        (status(CaptureError::TlsFailed { error: "x" }), 502),
        (status(CaptureError::Timeout(Phase::Load)), 504),
        (status(CaptureError::PageTooLarge), 422),
        (status(CaptureError::ElementTooLarge), 422),
        (status(CaptureError::BrowserLost), 503),
    ];
    for (got, expected) in table {
        assert_eq!(got, expected);
    }
}

fn body(failure: &Failure) -> serde_json::Value {
    use http_body_util::BodyExt as _;
    let body = failure.response("id-1").into_body();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_refused_token_has_one_public_text_whatever_was_wrong_with_it() {
    let all = [
        AccessError::Missing,
        AccessError::Malformed,
        AccessError::Rejected(Reject::Unknown),
        AccessError::Rejected(Reject::Expired),
    ];
    for error in all {
        assert_eq!(body(&error.into()), body(&AccessError::Missing.into()));
        let response = Failure::from(error).response("id-1");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}

#[test]
fn a_problem_names_type_phase_field_and_request() {
    let error = InvalidRequest::Field {
        field: "quality",
        rule: "must be a whole number from 1 to 100".into(),
    };
    let problem = body(&error.into());
    assert_eq!(problem["type"], "https://screenshot-operator.io/problems/invalid_field");
    assert_eq!(
        (&problem["field"], &problem["phase"]),
        (&"quality".into(), &"request".into())
    );
    assert_eq!(
        (&problem["request_id"], &problem["status"]),
        (&"id-1".into(), &400.into())
    );
    let timeout = body(&CaptureError::Timeout(Phase::Load).into());
    assert_eq!(timeout["phase"], "load");
}

#[test]
fn retry_after_is_rounded_up() {
    let failure = Failure::from(Refused::QueueFull {
        retry_after: Duration::from_millis(1500),
    });
    assert_eq!(failure.response("id").headers()[RETRY_AFTER], "2");
}

#[test]
fn what_the_proxy_has_to_say_stands_in_its_own_header_and_nothing_else_does() {
    let blocked = CaptureError::TargetBlocked {
        rule: "metadata_address",
        error: "destination_ip_prohibited",
    };
    let budget = CaptureError::BudgetSpent { budget: "budget_hosts" };
    for (error, said) in [
        (
            blocked,
            Some("capture-egress; error=destination_ip_prohibited; details=\"metadata_address\""),
        ),
        (
            budget,
            Some("capture-egress; error=connection_limit_reached; details=\"budget_hosts\""),
        ),
        (CaptureError::DnsFailed, Some("capture-egress; error=dns_error")),
        (
            CaptureError::HttpStatus(404),
            Some("capture-egress; received-status=404"),
        ),
        (CaptureError::PageCrashed, None),
        (CaptureError::Timeout(Phase::Load), None),
    ] {
        let response = Failure::from(error).response("id-1");
        let found = response
            .headers()
            .get(PROXY_STATUS)
            .map(|value| value.to_str().unwrap());
        assert_eq!(found, said);
    }
}

/// Every type that a problem can have, but for those of single [`InvalidRequest`]s, which stand first.
fn every_kind() -> Vec<&'static str> {
    let invalid = InvalidRequest::Field {
        field: "url",
        rule: String::new(),
    };
    let retry_after = Duration::from_secs(1);
    let transport = [
        TransportError::NotFound,
        TransportError::MethodNotAllowed,
        TransportError::MediaType,
        TransportError::BodyTooLarge,
        TransportError::BodyIncomplete,
        TransportError::NotReady,
        TransportError::Internal,
    ];
    let refused = [
        Refused::QueueFull { retry_after },
        Refused::WouldMissDeadline { retry_after },
        Refused::Draining,
    ];
    let blocked = CaptureError::TargetBlocked {
        rule: "x",
        error: "http_request_denied",
    };
    let captures = [
        blocked,
        CaptureError::BudgetSpent { budget: "x" },
        CaptureError::DnsFailed,
        CaptureError::ConnectFailed,
        CaptureError::TlsFailed { error: "x" },
        CaptureError::NavigationFailed,
        CaptureError::Download,
        CaptureError::HttpStatus(404),
        CaptureError::PageCrashed,
        CaptureError::PageTooLarge,
        CaptureError::ElementTooLarge,
        CaptureError::ElementNotFound,
        CaptureError::SelectorInvalid,
        CaptureError::NothingToPrint,
        CaptureError::Timeout(Phase::Load),
        CaptureError::OutputTooLarge,
        CaptureError::OutputInvalid,
        CaptureError::Driver(crate::browser::DriverError::Closed),
        CaptureError::BrowserLost,
        CaptureError::NoBrowser,
    ];
    let requests = [
        InvalidRequest::Syntax,
        InvalidRequest::UnknownField { name: None },
        invalid,
    ];
    let access = [AccessError::Missing, AccessError::Scope];
    let all = requests.into_iter().map(Failure::from);
    let all = all.chain(access.into_iter().map(Failure::from));
    let all = all.chain(transport.into_iter().map(Failure::from));
    let all = all.chain(refused.into_iter().map(Failure::from));
    let all = all.chain(captures.into_iter().map(Failure::from));
    all.map(|failure| failure.row().kind).collect()
}

#[test]
fn every_field_and_every_problem_stands_on_the_page_about_the_api() {
    let page = include_str!("../../../../docs/api.md");
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    for word in every_kind().into_iter().chain(crate::capture::request::field_names()) {
        assert!(named.contains(&word), "docs/api.md does not name {word}");
    }
}
