use super::*;

const LONG: Duration = Duration::from_secs(60);

fn size() -> Size {
    Size {
        fast: 2,
        bulk: 1,
        total: 3,
        queue: 8,
        memory: None,
    }
}

fn ask(client: &str) -> Ask {
    Ask {
        client: client.into(),
        lane: Lane::Fast,
        places: 1,
        weight: 1,
        bytes: 10,
    }
}

/// A queue whose fast lane is full.
fn busy(size: Size) -> Queue {
    let mut queue = Queue::new(size);
    for _ in 0..size.fast {
        assert_eq!(queue.offer(ask("x"), LONG), Ok(Offer::Enter));
    }
    queue
}

fn wait(queue: &mut Queue, client: &str) -> WaiterId {
    match queue.offer(ask(client), LONG) {
        Ok(Offer::Wait(id)) => id,
        other => panic!("{other:?}"),
    }
}

/// The clients in the order in which they are let in.
fn order(queue: &mut Queue) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        queue.finished(&ask("x"), FIRST_GUESS);
        match queue.pop() {
            Some((_, ask)) => order.push(ask.client),
            None => return order,
        }
    }
}

#[test]
fn as_many_enter_as_there_are_cores_and_the_next_waits_for_an_end() {
    let mut queue = busy(size());
    let id = wait(&mut queue, "a");
    assert_eq!(queue.pop(), None);
    queue.finished(&ask("x"), FIRST_GUESS);
    assert_eq!(queue.pop(), Some((id, ask("a"))));
    assert_eq!(
        (queue.pop(), queue.waiting(), queue.in_flight(Lane::Fast)),
        (None, 0, 2)
    );
}

#[test]
fn clients_take_turns_however_many_one_of_them_sends() {
    let mut queue = busy(size());
    for client in ["a", "a", "a", "a", "b", "c", "b"] {
        wait(&mut queue, client);
    }
    assert_eq!(order(&mut queue), ["a", "b", "c", "a", "b", "a", "a"]);
}

#[test]
fn heavy_captures_use_up_a_clients_share_faster() {
    let mut queue = busy(size());
    for (client, weight) in [("a", 3), ("a", 1), ("b", 1), ("b", 1), ("b", 1)] {
        let asked = Ask { weight, ..ask(client) };
        assert!(matches!(queue.offer(asked, LONG), Ok(Offer::Wait(_))));
    }
    assert_eq!(order(&mut queue), ["a", "b", "b", "b", "a"]);
}

#[test]
fn large_work_does_not_take_the_places_of_small_work_nor_wait_behind_it() {
    let mut queue = busy(size());
    let bulk = Ask {
        lane: Lane::Bulk,
        ..ask("a")
    };
    assert_eq!(queue.offer(bulk.clone(), LONG), Ok(Offer::Enter));
    let Ok(Offer::Wait(second)) = queue.offer(bulk.clone(), LONG) else {
        panic!("not waiting")
    };
    wait(&mut queue, "a");
    queue.finished(&bulk, FIRST_GUESS);
    assert_eq!(queue.pop(), Some((second, bulk)));
    assert_eq!(queue.pop(), None);
}

#[test]
fn a_capture_of_many_pixels_takes_many_places_and_is_not_overtaken_by_small_ones() {
    let mut queue = Queue::new(Size {
        bulk: 3,
        total: 9,
        ..size()
    });
    let bulk = |places| Ask {
        lane: Lane::Bulk,
        places,
        ..ask("a")
    };
    assert_eq!(queue.offer(bulk(2), LONG), Ok(Offer::Enter));
    let Ok(Offer::Wait(two)) = queue.offer(bulk(2), LONG) else {
        panic!("two more do not fit into three")
    };
    let Ok(Offer::Wait(one)) = queue.offer(bulk(1), LONG) else {
        panic!("who came first goes first")
    };
    assert_eq!(queue.pop(), None);
    queue.finished(&bulk(2), FIRST_GUESS);
    assert_eq!(queue.pop().map(|(id, _)| id), Some(two));
    assert_eq!(queue.pop().map(|(id, _)| id), Some(one));
    // More than there are: alone, but not never.
    let Ok(Offer::Wait(huge)) = queue.offer(bulk(50), LONG) else {
        panic!("not waiting")
    };
    queue.finished(&bulk(1), FIRST_GUESS);
    assert_eq!(queue.pop(), None);
    queue.finished(&bulk(2), FIRST_GUESS);
    assert_eq!(queue.pop().map(|(id, _)| id), Some(huge));
    assert!(matches!(queue.offer(bulk(1), LONG), Ok(Offer::Wait(_))));
    queue.finished(&bulk(50), FIRST_GUESS);
    assert!(queue.pop().is_some());
}

#[test]
fn whoever_would_wait_in_vain_is_told_at_once_and_when_to_come_back() {
    let mut queue = busy(size());
    for _ in 0..3 {
        wait(&mut queue, "a");
    }
    // Three ahead, two at once, half a second each: one second of waiting, half a second of work.
    let left = Duration::from_millis(1499);
    let refused = Refused::WouldMissDeadline { retry_after: SOONEST };
    assert_eq!(queue.offer(ask("a"), left), Err(refused));
    let Err(Refused::WouldMissDeadline { retry_after }) = queue.offer(ask("a"), Duration::ZERO) else {
        panic!("not refused")
    };
    assert_eq!(retry_after, Duration::from_millis(1500));
    assert!(matches!(
        queue.offer(ask("a"), Duration::from_millis(1500)),
        Ok(Offer::Wait(_))
    ));
}

#[test]
fn the_estimate_follows_what_captures_really_take() {
    let mut queue = busy(size());
    for _ in 0..60 {
        queue.finished(&ask("x"), Duration::from_secs(4));
        assert_eq!(queue.offer(ask("x"), LONG), Ok(Offer::Enter));
    }
    assert!(matches!(
        queue.offer(ask("x"), Duration::from_secs(5)),
        Err(Refused::WouldMissDeadline { .. })
    ));
    assert!(matches!(
        queue.offer(ask("x"), Duration::from_secs(7)),
        Ok(Offer::Wait(_))
    ));
}

#[test]
fn in_a_full_queue_the_greedy_client_makes_room_for_the_modest_one() {
    let mut queue = busy(Size { queue: 4, ..size() });
    let waiting: Vec<_> = ["a", "a", "a", "b"].map(|client| wait(&mut queue, client)).into();
    let Ok(Offer::Displace(_, victim, Refused::QueueFull { .. })) = queue.offer(ask("c"), LONG) else {
        panic!("not displaced")
    };
    assert_eq!((victim, queue.waiting()), (waiting[2], 4));
    // a has two, b and c one each: nobody has so many that another could claim a place.
    for client in ["a", "b"] {
        assert!(
            matches!(queue.offer(ask(client), LONG), Err(Refused::QueueFull { .. })),
            "{client}"
        );
    }
}

#[test]
fn a_waiter_that_gives_up_is_passed_over() {
    let mut queue = busy(size());
    let (first, second) = (wait(&mut queue, "a"), wait(&mut queue, "b"));
    queue.cancel(first);
    queue.finished(&ask("x"), FIRST_GUESS);
    assert_eq!(queue.pop().map(|(id, _)| id), Some(second));
}

#[test]
fn a_client_whose_requests_gave_up_is_not_behind_for_them() {
    let mut queue = busy(Size { queue: 200, ..size() });
    for _ in 0..100 {
        let id = wait(&mut queue, "a");
        queue.cancel(id);
    }
    for _ in 0..100 {
        wait(&mut queue, "b");
    }
    wait(&mut queue, "a");
    let order = order(&mut queue);
    assert_eq!(order.len(), 101);
    assert_eq!(order.iter().position(|client| client == "a"), Some(1));
}

#[test]
fn whoever_gives_up_lets_its_clients_later_ones_move_up_and_nobody_elses() {
    let mut queue = busy(size());
    let heavy = Ask { weight: 5, ..ask("a") };
    let Ok(Offer::Wait(first)) = queue.offer(heavy, LONG) else {
        panic!("not waiting")
    };
    for client in ["a", "a", "b", "b"] {
        wait(&mut queue, client);
    }
    queue.cancel(first);
    // It is gone: nothing is given back a second time.
    queue.cancel(first);
    wait(&mut queue, "a");
    assert_eq!(order(&mut queue), ["a", "b", "a", "b", "a"]);
}

#[test]
fn what_was_let_in_is_not_given_back_with_what_gave_up() {
    let mut queue = busy(size());
    let (_, last) = (wait(&mut queue, "a"), wait(&mut queue, "a"));
    queue.finished(&ask("x"), FIRST_GUESS);
    assert!(queue.pop().is_some());
    queue.cancel(last);
    // b came later, and its turn comes first.
    wait(&mut queue, "a");
    wait(&mut queue, "b");
    assert_eq!(order(&mut queue), ["b", "a"]);
}

#[test]
fn without_memory_nobody_enters_but_one_capture_always_runs() {
    let mut queue = Queue::new(Size {
        memory: Some(15),
        ..size()
    });
    assert_eq!(queue.offer(ask("a"), LONG), Ok(Offer::Enter));
    let second = wait(&mut queue, "a");
    assert_eq!(queue.pop(), None);
    queue.resize(Size {
        memory: Some(30),
        ..size()
    });
    assert_eq!(queue.pop().map(|(id, _)| id), Some(second));
    let huge = Ask {
        bytes: 1000,
        ..ask("a")
    };
    queue.finished(&ask("x"), FIRST_GUESS);
    assert!(matches!(queue.offer(huge, LONG), Ok(Offer::Wait(_))));
    assert_eq!(queue.pop(), None);
    queue.finished(&ask("x"), FIRST_GUESS);
    assert!(queue.pop().is_some());
}

/// A machine with so much memory free.
fn with_memory(free: u64) -> Size {
    Size {
        memory: Some(free),
        ..size()
    }
}

fn needs(client: &str, lane: Lane, bytes: u64) -> Ask {
    Ask {
        lane,
        bytes,
        ..ask(client)
    }
}

#[test]
fn memory_that_a_capture_was_promised_is_kept_for_it_however_often_the_machine_is_looked_at() {
    let mut queue = Queue::new(with_memory(450));
    let large = needs("a", Lane::Bulk, 440);
    assert_eq!(queue.offer(large.clone(), LONG), Ok(Offer::Enter));
    // It still loads, and holds nothing.
    queue.resize(with_memory(450));
    let other = needs("b", Lane::Fast, 400);
    let Ok(Offer::Wait(waiting)) = queue.offer(other.clone(), LONG) else {
        panic!("promised twice")
    };
    // Then it holds half, and then all.
    for free in [450, 230, 10] {
        queue.resize(with_memory(free));
        assert_eq!(queue.pop(), None, "{free}");
    }
    queue.finished(&large, FIRST_GUESS);
    assert_eq!(queue.pop(), Some((waiting, other)));
}

#[test]
fn what_a_capture_holds_of_its_promise_does_not_count_twice() {
    let mut queue = Queue::new(with_memory(450));
    assert_eq!(queue.offer(needs("a", Lane::Bulk, 440), LONG), Ok(Offer::Enter));
    for free in [450, 230, 10] {
        queue.resize(with_memory(free));
    }
    assert_eq!(queue.offer(ask("b"), LONG), Ok(Offer::Enter));
    queue.finished(&ask("b"), FIRST_GUESS);
    // What browsers hold beyond any promise is not there for the next.
    queue.resize(with_memory(5));
    let waiting = wait(&mut queue, "b");
    assert_eq!(queue.pop(), None);
    // What is found free is there, whatever was thought before.
    queue.resize(with_memory(460));
    assert_eq!(queue.pop().map(|(id, _)| id), Some(waiting));
}

#[test]
fn captures_that_have_ended_leave_their_memory_to_the_next_before_the_machine_is_looked_at_again() {
    let mut queue = Queue::new(with_memory(30));
    assert_eq!(queue.offer(ask("x"), LONG), Ok(Offer::Enter));
    for _ in 0..100 {
        assert_eq!(queue.offer(ask("a"), LONG), Ok(Offer::Enter));
        queue.finished(&ask("a"), FIRST_GUESS);
    }
}

#[test]
fn no_more_run_at_once_than_the_policy_says_and_the_lanes_take_turns() {
    let mut queue = Queue::new(Size { total: 2, ..size() });
    let bulk = Ask {
        lane: Lane::Bulk,
        ..ask("a")
    };
    assert_eq!(queue.offer(ask("a"), LONG), Ok(Offer::Enter));
    assert_eq!(queue.offer(bulk.clone(), LONG), Ok(Offer::Enter));
    let small = wait(&mut queue, "a");
    let Ok(Offer::Wait(large)) = queue.offer(bulk.clone(), LONG) else {
        panic!("not waiting")
    };
    assert_eq!(queue.pop(), None);
    queue.finished(&bulk, FIRST_GUESS);
    assert_eq!(queue.pop().map(|(id, _)| id), Some(small));
    queue.finished(&ask("x"), FIRST_GUESS);
    assert_eq!(queue.pop().map(|(id, _)| id), Some(large));
}
