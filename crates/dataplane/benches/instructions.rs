//! A fixed amount of work for an instruction counter: `cargo xtask bench instructions` runs it under callgrind.
//!
//! `instructions CASE BATCHES` processes so many batches of 64 packets; without arguments it names the cases. What is
//! prepared before them is the same for any number up to [`MOST_BATCHES`], so that the difference of two runs is the
//! packets' alone.

mod support;

use std::env;

use crypto::esp::EspSuite;
use dataplane::Origin;

use support::{CBC, FORWARDED, GCM, Lane, encrypted_batches, frames, tables};

const MOST_BATCHES: usize = 32;
/// Buffers grow, and flows become known.
const WARM_UP: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
    Clear,
}

struct Case {
    name: &'static str,
    suite: EspSuite,
    length: usize,
    way: Way,
}

const fn case(name: &'static str, suite: EspSuite, length: usize, way: Way) -> Case {
    Case { name, suite, length, way }
}

const CASES: [Case; 10] = [
    case("clear-64", GCM, 64, Way::Clear),
    case("clear-1400", GCM, 1400, Way::Clear),
    case("gcm128-encrypt-64", GCM, 64, Way::Encrypt),
    case("gcm128-encrypt-1400", GCM, 1400, Way::Encrypt),
    case("gcm128-decrypt-64", GCM, 64, Way::Decrypt),
    case("gcm128-decrypt-1400", GCM, 1400, Way::Decrypt),
    case("cbc-sha1-encrypt-64", CBC, 64, Way::Encrypt),
    case("cbc-sha1-encrypt-1400", CBC, 1400, Way::Encrypt),
    case("cbc-sha1-decrypt-64", CBC, 64, Way::Decrypt),
    case("cbc-sha1-decrypt-1400", CBC, 1400, Way::Decrypt),
];

fn main() {
    // Cargo passes options of its own, such as `--bench`.
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match &words[..] {
        [name, batches] => {
            let case = CASES.iter().find(|case| case.name == name).expect("a case that exists");
            let batches = batches.parse().expect("a number");
            assert!(batches <= MOST_BATCHES, "at most {MOST_BATCHES}");
            run(case, batches);
        }
        _ => CASES.iter().for_each(|case| println!("{}", case.name)),
    }
}

fn run(case: &Case, batches: usize) {
    let tables = tables(case.suite, 0);
    let mut frames = frames(case.length);
    let mut lane = Lane::new();
    match case.way {
        Way::Decrypt => {
            let received = encrypted_batches(case.suite, &frames, WARM_UP + MOST_BATCHES);
            let count = WARM_UP + batches;
            received[..count].iter().for_each(|batch| lane.run(&tables, Origin::Wire, batch));
        }
        way => {
            if way == Way::Clear {
                frames.iter_mut().for_each(|frame| frame[26] = 99);
            }
            (0..WARM_UP + batches).for_each(|_| lane.run(&tables, FORWARDED, &frames));
        }
    }
}
