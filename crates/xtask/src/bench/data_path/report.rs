//! Medians, ratios of the same round, and which targets are met.

use std::collections::BTreeMap;

use serde_json::json;

use super::Options;
use super::candidates::Candidate;
use super::measure::{Measure, Sample};

/// Samples by measure and candidate, in the order of the rounds.
pub(super) type Samples = BTreeMap<(Measure, &'static str), Vec<Sample>>;

/// What has to be reached.
enum Target {
    /// At least so many times what the other reaches.
    Ratio(f64),
    /// At most so much more than the other, in the measure's unit.
    Added(f64),
}

/// The candidates that are not ours and not plain forwarding: the best of them is beside ours in one target.
const BEST_PEER: &str = "the best peer";

const TARGETS: [(Measure, &str, &str, Target); 13] = [
    (Measure::Tcp, "gcm128", "wireguard-go", Target::Ratio(10.0)),
    (Measure::Tcp, "gcm128", "boringtun", Target::Ratio(8.0)),
    (Measure::Tcp, "gcm128", "gotatun", Target::Ratio(6.0)),
    (Measure::Tcp, "gcm128", "strongswan-gcm", Target::Ratio(15.0)),
    (Measure::Tcp, "cbc-sha1", "strongswan", Target::Ratio(10.0)),
    (Measure::Tcp, "gcm128", "plain-no-gso", Target::Ratio(1.5)),
    (Measure::Tcp, "gcm128", "plain", Target::Ratio(0.25)),
    (Measure::Tcp, "cbc-sha1", "gcm128", Target::Ratio(0.6)),
    (Measure::Flood, "gcm128", "plain", Target::Ratio(0.8)),
    (Measure::Paced, "gcm128", BEST_PEER, Target::Ratio(1.5)),
    (Measure::RoundTrip, "gcm128", "plain", Target::Added(60.0)),
    (Measure::RoundTrip, "cbc-sha1", "plain", Target::Added(60.0)),
    (Measure::Core, "core-gcm128", "core-null", Target::Ratio(0.9)),
];

const NO_PEERS: [&str; 5] = ["plain", "plain-no-gso", "gcm128", "gcm256", "cbc-sha1"];

pub(super) fn print(options: &Options, present: &[&Candidate], missing: &[&Candidate], samples: &Samples) {
    for measure in options.measures() {
        if !options.json {
            println!(
                "{} in {}, median of {} (lowest to highest)",
                measure.name(),
                measure.unit(),
                options.rounds
            );
        }
        for candidate in present {
            if let Some(set) = samples.get(&(measure, candidate.name)) {
                figure(options.json, measure, candidate, set);
            }
        }
    }
    if !options.json {
        println!("targets: ratio, or what is added, in the same round; median of {}", options.rounds);
    }
    for (measure, ours, other, target) in &TARGETS {
        verdict(options.json, samples, *measure, ours, other, target);
    }
    for candidate in missing {
        if options.json {
            println!("{}", json!({"name": format!("data-path/missing/{}", candidate.name)}));
        } else {
            println!("not measured: {} ({}) is not on this machine", candidate.name, candidate.what);
        }
    }
}

fn figure(json: bool, measure: Measure, candidate: &Candidate, set: &[Sample]) {
    let value = median(set.iter().map(|sample| sample.value));
    let cpu = median(set.iter().map(|sample| sample.cpu));
    let low = set.iter().map(|sample| sample.value).fold(f64::MAX, f64::min);
    let high = set.iter().map(|sample| sample.value).fold(0.0, f64::max);
    if json {
        let name = format!("data-path/{}/{}", measure.name(), candidate.name);
        println!(
            "{}",
            json!({"name": name, "value": value, "unit": measure.unit(), "lowest": low, "highest": high, "n": set.len(),
                "cpu": cpu})
        );
        return;
    }
    let cpu = match measure {
        Measure::Tcp => format!("  CPU s per Gbit {cpu:.3}"),
        Measure::Flood => format!("  CPU s per million {cpu:.2}"),
        Measure::Ceiling | Measure::Paced | Measure::RoundTrip | Measure::Core => String::new(),
    };
    println!("  {:<15} {value:>9.2} ({low:.2} to {high:.2}){cpu}  {}", candidate.name, candidate.what);
}

fn verdict(json: bool, samples: &Samples, measure: Measure, ours: &str, other: &str, target: &Target) {
    let name = format!("data-path/{}/{ours}:{other}", measure.name());
    let values = compared(samples, measure, ours, other, target);
    let Some(value) = values else {
        if !json {
            println!("  {name:<48} not measured");
        }
        return;
    };
    let ceiling = ceiling(samples, measure, ours, other, target);
    let (kind, wanted, is_met) = match target {
        Target::Ratio(least) => ("ratio", least, value >= *least),
        Target::Added(most) => ("added", most, value <= *most),
    };
    if json {
        println!(
            "{}",
            json!({"name": name, kind: value, "target": wanted, "met": is_met, "ceiling": ceiling})
        );
    } else {
        let verdict = if is_met { "met" } else { "MISSED" };
        let ceiling = ceiling.map(|most| format!(", at most {most:.2} on this machine")).unwrap_or_default();
        println!("  {name:<48} {kind} {value:>8.2}   target {wanted:>5}: {verdict}{ceiling}");
    }
}

/// The ratio that a gateway would reach which only does what no gateway is spared.
fn ceiling(samples: &Samples, measure: Measure, ours: &str, other: &str, target: &Target) -> Option<f64> {
    if (measure, ours) != (Measure::Tcp, "gcm128") {
        return None;
    }
    Some(compare(&values(samples, Measure::Ceiling, "ceiling")?, &values(samples, measure, other)?, target))
}

fn values(samples: &Samples, measure: Measure, name: &str) -> Option<Vec<f64>> {
    let found = samples.iter().find(|((m, candidate), _)| *m == measure && *candidate == name);
    found.map(|(_, set)| set.iter().map(|sample| sample.value).collect())
}

fn compared(samples: &Samples, measure: Measure, ours: &str, other: &str, target: &Target) -> Option<f64> {
    let mine = values(samples, measure, ours)?;
    let theirs =
        if other == BEST_PEER { best_peer(samples, measure)? } else { values(samples, measure, other)? };
    Some(compare(&mine, &theirs, target))
}

/// Round by round, so that the machine's drift falls out.
fn compare(mine: &[f64], theirs: &[f64], target: &Target) -> f64 {
    let pairs = mine.iter().zip(theirs);
    median(pairs.map(|(mine, theirs)| match target {
        Target::Ratio(_) => mine / theirs.max(1e-9),
        Target::Added(_) => mine - theirs,
    }))
}

/// The best of the peers, in each round.
fn best_peer(samples: &Samples, measure: Measure) -> Option<Vec<f64>> {
    let peers: Vec<&Vec<Sample>> = samples
        .iter()
        .filter(|((m, name), _)| *m == measure && !NO_PEERS.contains(name))
        .map(|(_, set)| set)
        .collect();
    let rounds = peers.first()?.len();
    Some((0..rounds).map(|round| peers.iter().map(|set| set[round].value).fold(0.0, f64::max)).collect())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[(Measure, &'static str, &[f64])]) -> Samples {
        let set = |values: &[f64]| values.iter().map(|value| Sample { value: *value, cpu: 0.0 }).collect();
        values.iter().map(|(measure, name, values)| ((*measure, *name), set(values))).collect()
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let samples = samples(&[
            (Measure::Tcp, "gcm128", &[10.0, 20.0, 30.0]),
            (Measure::Tcp, "plain", &[10.0, 10.0, 10.0]),
        ]);
        assert_eq!(compared(&samples, Measure::Tcp, "gcm128", "plain", &Target::Ratio(1.0)), Some(2.0));
        assert_eq!(compared(&samples, Measure::Tcp, "gcm128", "plain", &Target::Added(1.0)), Some(10.0));
        assert_eq!(compared(&samples, Measure::Tcp, "gcm128", "nebula", &Target::Ratio(1.0)), None);
    }

    #[test]
    fn the_best_peer_may_be_another_one_in_each_round() {
        let samples = samples(&[
            (Measure::Paced, "gcm128", &[8.0]),
            (Measure::Paced, "plain", &[100.0]),
            (Measure::Paced, "nebula", &[1.0]),
            (Measure::Paced, "openvpn", &[4.0]),
        ]);
        assert_eq!(compared(&samples, Measure::Paced, "gcm128", BEST_PEER, &Target::Ratio(1.0)), Some(2.0));
    }
}
