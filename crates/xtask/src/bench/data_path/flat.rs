//! What a packet costs the engine as tables grow, alone on a core.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::output;

/// The largest table may cost so many times what the smallest does.
const TARGET: f64 = 1.5;

/// Measures and prints.
pub(super) fn run(json: bool, helper: &Path) -> Result<()> {
    let text = output(Command::new("taskset").args(["-c", "1"]).arg(helper).arg("flat"))?;
    let mut smallest: Option<(&str, f64)> = None;
    if !json {
        println!(
            "cost of a packet in the engine, 64 octets, by size of the table: sent under AES-128-CBC + \
             HMAC-SHA1-96; members: received under AES-128-GCM, from all of them in turn"
        );
    }
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, count, cost] = words[..] else { bail!("the helper said `{line}`") };
        let cost: f64 = cost.parse().with_context(|| format!("the helper said `{line}`"))?;
        let first = match smallest {
            Some((of, first)) if of == what => first,
            _ => cost,
        };
        smallest = Some((what, first));
        let ratio = cost / first;
        // New flows are classified one by one: what the caches cost there is shown, and no target speaks of it.
        let target = (what != "flows").then_some(TARGET);
        if json {
            let name = format!("data-path/flat/{what}/{count}");
            println!("{}", json!({"name": name, "ns": cost, "ratio": ratio, "target_at_most": target}));
        } else {
            let verdict = match target {
                Some(most) if ratio <= most => format!("at most {most}: met"),
                Some(most) => format!("at most {most}: MISSED"),
                None => String::new(),
            };
            println!("  {what:<20} {count:>8}  {cost:>7.1} ns   {ratio:>5.2} x the smallest   {verdict}");
        }
    }
    Ok(())
}
