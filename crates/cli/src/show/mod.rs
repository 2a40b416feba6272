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
