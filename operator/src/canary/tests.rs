//! The listener answers everybody, and is believed only when it does so through the pod's own address.

use screenshot_policy::canary::{Outcome, Try};
use screenshot_policy::policy::{Ceiling, PolicyDocument};
use tokio::net::TcpSocket;

use super::*;

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Another address of loopback.
const NEIGHBOUR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

fn policy(exceptions: &str) -> EffectivePolicy {
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.exceptions = serde_json::from_str(exceptions).unwrap();
    EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

async fn listening() -> (Arc<Canary>, CancellationToken) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let canary = Arc::new(Canary::at(&[LOCALHOST], &[], port).unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&canary).serve(listener, stop.clone()));
    (canary, stop)
}

async fn dial(address: SocketAddr, challenge: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    answer_to(challenge, stream).await.unwrap()
}

async fn answer_to(challenge: &[u8], mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(challenge).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// A connection of the neighbour's.
async fn neighbour(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((NEIGHBOUR, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

#[tokio::test]
async fn it_answers_a_challenge_as_what_pods_are_asked_expects() {
    let (canary, _stop) = listening().await;
    let asked = canary.asked(&[5; LENGTH]).unwrap();
    assert_eq!(asked.addresses(), canary.addresses());
    let address = canary.addresses()[0];
    assert!(asked.gave(&dial(address, &[5; LENGTH]).await));
    assert!(!asked.gave(&dial(address, &[6; LENGTH]).await));
    // Another process at the same address has another key.
    let other = Canary::at(&[LOCALHOST], &[], address.port()).unwrap();
    assert!(!other.answers().await);
}

#[tokio::test]
async fn one_address_that_holds_on_to_its_connections_does_not_keep_it_from_answering_others() {
    let (canary, _stop) = listening().await;
    let address = canary.addresses()[0];
    let mut idle = Vec::new();
    // So many that a check gives up sooner than all of them have had their turn at the places.
    for _ in 0..CONNECTIONS * 4 {
        idle.push(neighbour(address).await);
    }
    // A pod waits no longer than this check.
    assert!(canary.answers().await);
    let asked = canary.asked(&[5; LENGTH]).unwrap();
    let answer = timeout(SELF_CHECK, dial(address, &[5; LENGTH])).await;
    assert!(asked.gave(&answer.unwrap()));
}

#[tokio::test]
async fn an_address_that_held_on_is_answered_again_after_a_moment() {
    let (canary, _stop) = listening().await;
    let address = canary.addresses()[0];
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS + 10 {
        idle.push(neighbour(address).await);
    }
    let asked = canary.asked(&[5; LENGTH]).unwrap();
    let again = async {
        // Turned away while its own connections are there.
        while !answer_to(&[5; LENGTH], neighbour(address).await)
            .await
            .is_ok_and(|answer| asked.gave(&answer))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(1), again).await.unwrap();
}

#[tokio::test]
async fn pods_are_asked_only_while_it_is_certain_to_answer() {
    let (canary, stop) = listening().await;
    let offer = async |canary: &Canary| canary.offer(&policy("[]"), "ops", now()).await;
    assert_eq!(offer(&canary).await, Offer::Made);
    stop.cancel();
    *canary.checked.lock().await = None;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(offer(&canary).await, Offer::Deaf);
    assert_eq!(offer(&Canary::absent()).await, Offer::NoAddress);
    let on_the_node = Canary::at(&[LOCALHOST], &[LOCALHOST], 1).unwrap();
    assert_eq!(offer(&on_the_node).await, Offer::NoAddress);
}

#[tokio::test]
async fn that_a_pod_was_shut_out_counts_only_if_somebody_was_there() {
    let (canary, stop) = listening().await;
    let tried = |outcome| {
        let address = canary.addresses()[0];
        Some(CanaryFacts {
            tries: vec![Try {
                address,
                outcome,
                proxy_refuses: true,
            }],
            ..CanaryFacts::default()
        })
    };
    let confirmed = async |outcome| {
        let mut found = tried(outcome);
        canary.confirm(&mut found).await;
        found
    };
    assert_eq!(confirmed(Outcome::TimedOut).await, tried(Outcome::TimedOut));
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // What was checked before the pod tried is no proof.
    assert!(canary.answers().await);
    assert_eq!(confirmed(Outcome::TimedOut).await, tried(Outcome::NotTried));
    assert_eq!(confirmed(Outcome::Reached).await, tried(Outcome::Reached));
}

#[tokio::test]
async fn a_canary_that_the_policy_opens_is_not_offered() {
    let (canary, _stop) = listening().await;
    let port = canary.addresses()[0].port();
    let far = Canary::at(&["10.0.0.7".parse().unwrap()], &[], port).unwrap();
    *far.checked.lock().await = Some((Instant::now(), true));
    for (host, range, expires, expected) in [
        (
            "intra.example.com",
            Some("10.0.0.0/8"),
            "2027-01-01T00:00:00Z",
            Offer::Opened,
        ),
        (
            "intra.example.com",
            Some("10.0.0.0/8"),
            "2026-01-01T00:00:00Z",
            Offer::Made,
        ),
        (
            "intra.example.com",
            Some("10.9.0.0/16"),
            "2027-01-01T00:00:00Z",
            Offer::Made,
        ),
        ("metrics.ops.svc", None, "2027-01-01T00:00:00Z", Offer::Opened),
        ("metrics.shop.svc", None, "2027-01-01T00:00:00Z", Offer::Made),
    ] {
        let range = range.map(|range| format!("\"cidr\": \"{range}\",")).unwrap_or_default();
        let exception = format!(
            "[{{\"host\": \"{host}\", \"ports\": [{port}], {range} \"reason\": \"r\", \"expires\": \"{expires}\"}}]"
        );
        assert_eq!(
            far.offer(&policy(&exception), "ops", now()).await,
            expected,
            "{exception}"
        );
    }
}
