//! A small mutating fuzzer: seeds in, broken seeds out, for a bounded time.
//!
//! Random numbers are a plain xorshift with a printed seed, so that a failure can be run again (`FUZZ_SEED`).
//! Shared by the targets of the contract and of the proxy; it must not know what it breaks.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// xorshift64*: good enough to break things, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap();
        usize::try_from(self.next() % bound).unwrap()
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Where the run's random numbers start, and for how long it goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "how long and from where is the caller's to say"
)]
pub fn run() -> (u64, Duration) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    (
        seed.unwrap_or(u64::from(clock.subsec_nanos()) << 16),
        Duration::from_secs_f64(number("FUZZ_SECONDS").unwrap_or(0.3)),
    )
}

/// Calls `target` with broken seeds until the time is over.
pub fn fuzz(seeds: &[&str], words: &[&str], target: impl Fn(&[u8])) {
    let seeds: Vec<&[u8]> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    fuzz_bytes(&seeds, words, target);
}

/// The same for seeds that are no text.
pub fn fuzz_bytes(seeds: &[&[u8]], words: &[&str], target: impl Fn(&[u8])) {
    let (seed, time) = run();
    let mut random = Random::new(seed);
    let end = Instant::now() + time;
    let mut runs = 0u64;
    while Instant::now() < end || runs < 100 {
        let input = broken(&mut random, seeds, words);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        if let Err(panic) = outcome {
            eprintln!("FUZZ_SEED={seed} run {runs}: {}", input.escape_ascii());
            resume_unwind(panic);
        }
        runs += 1;
    }
    println!("{runs} runs, FUZZ_SEED={seed}");
}

/// One of the seeds with a few things wrong; now and then none.
pub fn broken(random: &mut Random, seeds: &[&[u8]], words: &[&str]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(input.len() + 1);
        let until = (at + random.below(24)).min(input.len());
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 => drop(input.drain(at..until)),
            3 => {
                let piece = input[at..until].to_vec();
                input.splice(at..at, piece);
            }
            4 => input.truncate(at),
            5 => {
                let word = words[random.below(words.len())];
                input.splice(at..until, word.bytes());
            }
            6 => {
                let word = words[random.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            _ => {
                let other = seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.splice(at..until, other[from..].iter().copied());
            }
        }
        input.truncate(1 << 16);
    }
    input
}
