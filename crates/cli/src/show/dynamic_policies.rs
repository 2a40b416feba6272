//! `show security dynamic-policies`.

use anyhow::Result;
use control::DynamicPolicy;

use crate::client;
use crate::command::{Arguments, Context, Output, command};

command! {
    /// Policies received from the key servers, under each scope policy.
    DYNAMIC_POLICIES = "show security dynamic-policies", &[], run;
}

fn run(context: &Context, _: &Arguments) -> Result<Output> {
    let reply: Vec<DynamicPolicy> = client::get(context, control::paths::DYNAMIC_POLICIES, "")?;
    Output::new(render(&reply), &reply)
}

fn render(policies: &[DynamicPolicy]) -> String {
    policies
        .iter()
        .map(|policy| {
            let selector = &policy.selector;
            let (source, destination) = (selector.source_port, selector.destination_port);
            format!(
                "From zone: {}, To zone: {}\n  \
                 Policy: {}, State: {}, Index: {}, Scope Policy: {}, Sequence number: {}\n  \
                 Source addresses:\n    N/A: {}\n  Destination addresses:\n    N/A: {}\n  \
                 Applications: Unknown([{source}-{source}]->[{destination}-{destination}]/{})\n  \
                 Action: permit, tunnel\n",
                policy.from_zone,
                policy.to_zone,
                policy.name(),
                policy.state,
                policy.index(),
                policy.scope_index,
                policy.sequence,
                selector.source,
                selector.destination,
                selector.protocol,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn text_is_the_seeds() {
        insta::assert_snapshot!(render(&samples::dynamic_policies()));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::dynamic_policies()).unwrap());
    }
}
