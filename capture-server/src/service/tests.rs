use screenshot_policy::keyset::Scope;
use screenshot_policy::policy::{Ceiling, Isolation, PolicyDocument};
use screenshot_policy::unit::Count;

use super::*;
use crate::access::tests::caller;
use crate::browser::Viewport;
use crate::capture::Lane;
use crate::capture::engine::Picture;
use crate::limits::queue::{Offer, Queue};

#[test]
fn an_element_is_let_in_with_what_the_largest_that_is_shown_takes() {
    let limits = CaptureLimits::DEFAULT;
    let asked = |body: &str| {
        let body = format!(r#"{{"html_content":"x",{body}}}"#);
        let request = CaptureRequest::parse(body.as_bytes(), &limits).unwrap();
        let ask = ask("a", &request, &limits);
        let bytes = (ask.bytes - BYTES_PER_CAPTURE) / BYTES_PER_PIXEL;
        (ask.lane, ask.places, ask.weight, bytes, request)
    };
    let shown = |request: &CaptureRequest, width, height| request.reckoned(Viewport { width, height }, &limits);
    let (lane, places, weight, pixels, request) = asked(r#""selector":"p""#);
    assert_eq!((lane, places, weight, pixels), (Lane::Fast, 1, 4, 4_000_000));
    assert!(shown(&request, 2000, 2000) && !shown(&request, 2000, 2001));
    // With a larger window it is large work from the start.
    let large = r#""selector":"p","window_width":3840,"window_height":2160,"pixel_density":1.5"#;
    let (lane, places, weight, pixels, request) = asked(large);
    assert_eq!((lane, places, weight, pixels), (Lane::Bulk, 2, 19, 18_662_400));
    assert!(shown(&request, 3840, 2160) && !shown(&request, 3840, 2161));
}

/// A service of one core to whose jailer nobody ever gets through.
fn without_a_jailer() -> Service {
    let mut document = PolicyDocument::secure_default("a", "b").unwrap();
    document.capture.concurrency = Count::nearest(1);
    let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap();
    let resolver = SystemResolver::asking(&[([127, 0, 0, 1], 53).into()], Duration::from_secs(1)).unwrap();
    let network = Network {
        resolver: Arc::new(resolver),
        dial: Arc::new(SystemDial),
    };
    let config = Config::new(Arc::new(policy), "/nowhere/jailer.sock".into(), network);
    Service::start(config, &Arc::new(Status::default()))
}

#[tokio::test]
async fn captures_that_never_had_a_browser_do_not_make_the_wait_look_shorter() {
    let (service, caller) = (without_a_jailer(), caller());
    let limits = service.policy.limits();
    let request = || CaptureRequest::parse(br#"{"html_content":"x"}"#, limits).unwrap();
    let permit = || caller.permit_capture(Scope::CaptureHtml).unwrap();
    let within = |time: Duration| clock::monotonic() + time;
    for _ in 0..50 {
        let (deadline, ledger) = (within(Duration::from_secs(20)), Ledger::open(clock::monotonic()));
        let taken = service.capture(&caller, permit(), request(), deadline, "it", ledger);
        let finished = taken.await.unwrap();
        assert_eq!(finished.result.map(drop), Err(CaptureError::NoBrowser));
    }
    let enter = async |time: Duration| {
        let ask = ask(caller.client(), &request(), limits);
        service.admission.enter(permit(), ask, within(time)).await
    };
    let _both_places = [
        enter(Duration::from_secs(5)).await.unwrap(),
        enter(Duration::from_secs(5)).await.unwrap(),
    ];
    // One more would have to wait for a quarter of a second, and take half of one.
    let refused = enter(Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(refused.reason(), "would_miss_deadline");
}

/// A capture that has come to a picture of 25 KiB.
fn finished() -> Finished {
    let mut ledger = Ledger::open(clock::monotonic());
    ledger.enter(Phase::Encode, clock::monotonic());
    ledger.close(clock::monotonic());
    let picture = Picture {
        bytes: vec![0_u8; 25 << 10].into(),
        media_type: "image/png",
    };
    Finished {
        result: Ok(picture),
        egress: None,
        ledger,
    }
}

#[tokio::test]
async fn a_picture_waits_until_earlier_ones_are_read_and_no_longer_than_its_deadline() {
    let mut service = without_a_jailer();
    service.answers = Answers::of(100 << 10);
    let made = async |client: &str, time: Duration| {
        let mut finished = finished();
        let deadline = clock::monotonic() + time;
        service.make_room(client, deadline, &mut finished).await;
        finished
    };
    let (moment, long) = (Duration::from_millis(50), Duration::from_secs(5));
    let (read, _unread) = (made("a", long).await, made("a", long).await);
    let late = made("a", moment).await;
    let queued = late.ledger.spent().find(|(phase, _)| *phase == Phase::Queue);
    assert!(queued.is_some_and(|(_, time)| time >= moment / 2), "{queued:?}");
    assert_eq!(late.result.map(drop), Err(CaptureError::Timeout(Phase::Queue)));
    // Another client's are not in its way.
    assert!(made("b", moment).await.result.is_ok());
    let reads = async {
        tokio::time::sleep(moment).await;
        drop(read);
    };
    let (next, ()) = tokio::join!(made("a", long), reads);
    assert_eq!(next.result.map(|picture| picture.bytes.len()), Ok(25 << 10));
}

#[test]
fn the_gate_lets_no_more_in_than_can_have_a_jail_each() {
    let limits = CaptureLimits::CEILING;
    let resources = Resources {
        cores: 64,
        ..Resources::default()
    };
    let size = machine(&limits, &resources);
    for isolation in [Isolation::PerClient, Isolation::PerCapture] {
        let rules = Rules::new(isolation, cores(&limits, &resources));
        assert!(
            size.fast <= size.total && size.total <= rules.max_jails,
            "{size:?} {rules:?}"
        );
    }
}

/// What the gate has, once it is not what it began with.
#[expect(clippy::disallowed_methods, reason = "a made-up jailer")]
async fn followed(resources: Resources) -> Size {
    use capture_jail::client::Jailer;
    use capture_jail::protocol::{self, JailFacts, Outcome, Request, Response, VERSION};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while let Ok(request) = protocol::read_frame::<Request>(&mut stream) {
            let mut facts = JailFacts::default();
            facts.jailer.resources = resources;
            let response = Response {
                version: VERSION,
                number: request.number,
                outcome: Outcome::Facts(facts),
            };
            std::io::Write::write_all(&mut stream, &protocol::encode(&response).unwrap()).unwrap();
        }
    });
    let link = Arc::new(Link::start(Jailer::connect(&path).unwrap(), crate::state::Heard::default()).unwrap());
    let limits = CaptureLimits::DEFAULT;
    let before = machine(&limits, &Resources::default());
    let admission = Admission::new(before);
    let (_link, linked) = watch::channel(Some(link));
    let jails = pool::Config {
        mode: Mode::Required,
        accepted_key: None,
        rules: Rules::new(Isolation::PerClient, 1),
        max_frame: 1,
        strays: crate::browser::Strays::default(),
    };
    let pool = Pool::new(linked.clone(), jails, Counters::default());
    let mut size = before;
    let changed = async {
        for _ in 0..500 {
            admission.resize(|now| {
                size = now;
                now
            });
            if size != before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = watch_machine(linked, admission.clone(), pool.clone(), limits) => {}
        () = changed => {}
    }
    size
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_has_what_the_jailer_finds_on_the_machine() {
    let resources = Resources {
        cores: 3,
        memory_limit: Some(1 << 30),
        memory_used: 1 << 29,
    };
    let expected = machine(&CaptureLimits::DEFAULT, &resources);
    assert!(expected.memory.is_some_and(|left| left < 1 << 29));
    assert_eq!(followed(resources).await, expected);
}

/// 600 MiB are what six browsers hold that have nothing to do: as many as there are on so many cores.
#[test]
fn on_the_default_resources_the_places_are_filled_however_much_the_captures_in_them_hold_already() {
    let limits = CaptureLimits::DEFAULT;
    let with = |used: u64| {
        let resources = Resources {
            cores: 2,
            memory_limit: Some(1536 << 20),
            memory_used: used << 20,
        };
        machine(&limits, &resources)
    };
    let asked = |body: &str| {
        let request = CaptureRequest::parse(body.as_bytes(), &limits).unwrap();
        ask("a", &request, &limits)
    };
    let window = asked(r#"{"html_content":"x"}"#);
    let largest = asked(r#"{"html_content":"x","full_page":true,"window_width":4096}"#);
    assert_eq!((window.bytes >> 20, largest.bytes >> 20), (50, 424));
    let mut queue = Queue::new(with(600));
    let mut held = 600;
    for (ask, holds) in [(&largest, 400), (&window, 45), (&window, 45), (&window, 45)] {
        let left = Duration::from_secs(30);
        assert_eq!(queue.offer(ask.clone(), left), Ok(Offer::Enter), "{held}");
        queue.resize(with(held));
        held += holds;
        queue.resize(with(held));
    }
    assert_eq!(
        queue.in_flight(Lane::Fast) + queue.in_flight(Lane::Bulk),
        queue.size().total
    );
}

#[test]
fn the_gate_follows_the_least_of_cores_and_policy_and_memory_is_what_is_left() {
    let limits = CaptureLimits {
        concurrency: Count::nearest(4),
        ..CaptureLimits::DEFAULT
    };
    let resources = Resources {
        cores: 2,
        memory_limit: Some(1000),
        memory_used: 300,
    };
    let expected = Size {
        fast: 4,
        bulk: 1,
        total: 8,
        queue: 0,
        memory: Some(600),
    };
    assert_eq!(machine(&limits, &resources), expected);
    let wide = Resources {
        cores: 64,
        memory_limit: None,
        memory_used: 300,
    };
    let expected = Size {
        fast: 8,
        bulk: 2,
        total: 8,
        queue: 0,
        memory: None,
    };
    assert_eq!(machine(&limits, &wide), expected);
    let full = Resources {
        memory_used: 5000,
        ..resources
    };
    assert_eq!(machine(&limits, &full).memory, Some(0));
}
