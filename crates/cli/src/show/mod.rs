//! `gvpn show …`: one file per command.

pub mod configuration;
pub mod dynamic_policies;
pub mod flow_session;
mod ike_text;
mod kek_text;
pub mod member_ike;
pub mod member_inactive;
pub mod member_ipsec;
pub mod member_kek;
pub mod member_policy;
pub mod member_statistics;
pub mod server_cluster;
pub mod server_ike;
pub mod server_ipsec;
pub mod server_kek;
pub mod server_members;
pub mod server_statistics;

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    /// Golden outputs that `docs/operations.md` shows.
    const SHOWN: [&str; 15] = [
        include_str!("snapshots/gvpn__show__ike_text__tests__brief_has_the_seeds_columns.snap"),
        include_str!("snapshots/gvpn__show__server_ipsec__tests__brief_has_the_seeds_columns.snap"),
        include_str!("snapshots/gvpn__show__server_members__tests__brief_is_one_line_a_member.snap"),
        include_str!("snapshots/gvpn__show__server_statistics__tests__counters_and_refusals.snap"),
        include_str!("snapshots/gvpn__show__member_ipsec__tests__brief_has_the_seeds_columns.snap"),
        include_str!("snapshots/gvpn__show__member_inactive__tests__every_tunnel_has_its_reason.snap"),
        include_str!(
            "snapshots/gvpn__show__member_policy__tests__policies_are_grouped_by_vpn_and_zones.snap"
        ),
        include_str!("snapshots/gvpn__show__member_statistics__tests__every_drop_has_its_reason.snap"),
        include_str!("snapshots/gvpn__show__kek_text__tests__brief_has_the_seeds_columns.snap"),
        include_str!("snapshots/gvpn__show__kek_text__tests__detail_tells_everything.snap"),
        include_str!(
            "snapshots/gvpn__show__server_members__tests__members_that_acknowledge_nothing_are_listed_apart.snap"
        ),
        include_str!("snapshots/gvpn__show__server_statistics__tests__pushes_and_replacements_of_keys.snap"),
        include_str!(
            "snapshots/gvpn__show__server_statistics__tests__pushes_and_replacements_of_keys-2.snap"
        ),
        include_str!("../snapshots/gvpn__clear__tests__an_eviction_says_until_when_it_is_done.snap"),
        include_str!("../snapshots/gvpn__clear__tests__an_eviction_says_until_when_it_is_done-2.snap"),
    ];

    #[test]
    fn the_page_about_clusters_shows_what_is_printed() {
        let page = include_str!("../../../../docs/cluster.md");
        let snapshot = include_str!(
            "snapshots/gvpn__show__server_cluster__tests__brief_tells_who_leads_and_who_is_there.snap"
        );
        let output = snapshot.splitn(3, "---\n").nth(2).expect("a snapshot has a head");
        let shown: String = output.lines().map(|line| format!("    {line}\n")).collect();
        assert!(page.contains(&shown), "docs/cluster.md lacks\n{shown}");
    }

    #[test]
    fn the_operations_page_shows_what_is_printed() {
        let page = include_str!("../../../../docs/operations.md");
        for snapshot in SHOWN {
            let output = snapshot.splitn(3, "---\n").nth(2).expect("a snapshot has a head");
            let shown: String =
                output.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
            assert!(page.contains(&shown), "docs/operations.md lacks\n{shown}");
        }
    }
}
