//! `gvpn monitor traffic`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use control::{IpsecStatistics, SaCounters, paths};

use crate::client;
use crate::command::{Arguments, Context, Output, command, value};

/// Seconds between two lines where nobody says otherwise.
const INTERVAL: u64 = 1;

command! {
    /// Print what is encrypted, decrypted and dropped per second, as it happens, until interrupted.
    MONITOR_TRAFFIC = "monitor traffic", &[
        value("interval", "Seconds between two readings, 1 to 3600; 1 unless given"),
        value("count", "Readings after which to stop"),
    ], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let interval = number(arguments, "interval")?.unwrap_or(INTERVAL);
    if !(1..=3600).contains(&interval) {
        bail!("interval {interval} is not within 1..3600 seconds");
    }
    let count = number(arguments, "count")?;
    let read = || client::get::<IpsecStatistics>(context, paths::MEMBER_STATISTICS, "");
    let mut before = Reading::of(&read()?);
    let mut at = Instant::now();
    let mut done = 0;
    while count.is_none_or(|count| done < count) {
        sleep(Duration::from_secs(interval));
        let reading = Reading::of(&read()?);
        let now = Instant::now();
        // A reader that went away ends the command.
        if std::io::stdout().write_all(render(&before, &reading, now - at).as_bytes()).is_err() {
            break;
        }
        (before, at) = (reading, now);
        done += 1;
    }
    Ok(Output { success: true, ..Output::default() })
}

fn number(arguments: &Arguments, name: &str) -> Result<Option<u64>> {
    let parse = |value: &str| value.parse().with_context(|| format!("{name} `{value}` is not a number"));
    arguments.value(name).map(parse).transpose()
}

/// What was counted at one moment.
#[derive(Clone, Debug, Default)]
struct Reading {
    totals: SaCounters,
    vpns: BTreeMap<String, SaCounters>,
    drops: Vec<(String, u64)>,
}

impl Reading {
    fn of(statistics: &IpsecStatistics) -> Self {
        let mut vpns: BTreeMap<String, SaCounters> = BTreeMap::new();
        for sa in &statistics.security_associations {
            let sum = vpns.entry(sa.vpn.clone()).or_default();
            sum.encrypted_packets += sa.counters.encrypted_packets;
            sum.encrypted_bytes += sa.counters.encrypted_bytes;
            sum.decrypted_packets += sa.counters.decrypted_packets;
            sum.decrypted_bytes += sa.counters.decrypted_bytes;
        }
        let drops = statistics.drops.iter().map(|drop| (drop.reason.clone(), drop.packets)).collect();
        Self { totals: statistics.totals, vpns, drops }
    }
}

fn render(before: &Reading, now: &Reading, passed: Duration) -> String {
    let mut text =
        format!("{:<24} {:>12} {:>12} {:>12} {:>12}\n", "", "out pkt/s", "out bit/s", "in pkt/s", "in bit/s");
    let mut line = |name: &str, before: &SaCounters, now: &SaCounters| {
        let rate = |before: u64, now: u64| per_second(now.saturating_sub(before), passed);
        text.push_str(&format!(
            "{name:<24} {:>12} {:>12} {:>12} {:>12}\n",
            rate(before.encrypted_packets, now.encrypted_packets),
            rate(8 * before.encrypted_bytes, 8 * now.encrypted_bytes),
            rate(before.decrypted_packets, now.decrypted_packets),
            rate(8 * before.decrypted_bytes, 8 * now.decrypted_bytes),
        ));
    };
    for (vpn, counters) in &now.vpns {
        line(vpn, before.vpns.get(vpn).unwrap_or(&SaCounters::default()), counters);
    }
    line("total", &before.totals, &now.totals);
    for (reason, packets) in &now.drops {
        let earlier =
            before.drops.iter().find(|(known, _)| known == reason).map_or(0, |(_, packets)| *packets);
        if *packets > earlier {
            let rate = per_second(packets - earlier, passed);
            text.push_str(&format!("  dropped {rate}/s: {reason}\n"));
        }
    }
    text.push('\n');
    text
}

/// As in `812`, `81.2k`, `8.12M`: three digits.
fn per_second(count: u64, passed: Duration) -> String {
    let rate = count as f64 / passed.as_secs_f64().max(1e-6);
    let (value, unit) = match rate {
        rate if rate >= 999.5e6 => (rate / 1e9, "G"),
        rate if rate >= 999.5e3 => (rate / 1e6, "M"),
        rate if rate >= 999.5 => (rate / 1e3, "k"),
        rate => return format!("{rate:.0}"),
    };
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use control::{DropCount, SaStatistics};

    use super::*;

    fn statistics(packets: u64, dropped: u64) -> IpsecStatistics {
        let counters = SaCounters {
            encrypted_packets: packets,
            encrypted_bytes: 1400 * packets,
            decrypted_packets: 2 * packets,
            decrypted_bytes: 100 * packets,
        };
        let drop =
            |reason: &str, packets| DropCount { reason: reason.into(), packets, ..DropCount::default() };
        IpsecStatistics {
            totals: counters,
            security_associations: vec![SaStatistics {
                vpn: "gvpn".into(),
                counters,
                ..SaStatistics::default()
            }],
            drops: vec![drop("bad-integrity", 5), drop("clear-inbound", dropped)],
            ..IpsecStatistics::default()
        }
    }

    #[test]
    fn rates_are_of_the_time_that_passed_and_quiet_reasons_are_left_out() {
        let (before, now) = (Reading::of(&statistics(1000, 7)), Reading::of(&statistics(251_000, 27)));
        assert_eq!(
            render(&before, &now, Duration::from_secs(2)),
            "                            out pkt/s    out bit/s     in pkt/s     in bit/s\n\
             gvpn                             125k        1.40G         250k         100M\n\
             total                            125k        1.40G         250k         100M\n  \
             dropped 10/s: clear-inbound\n\n"
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = |count| per_second(count, Duration::from_secs(1));
        let texts = [0, 999, 1000, 99_940, 99_960, 999_499, 999_500, 12_345_678].map(shown);
        assert_eq!(texts, ["0", "999", "1.00k", "99.9k", "100k", "999k", "1.00M", "12.3M"]);
    }
}
