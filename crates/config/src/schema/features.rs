//! Names of features whose statements are accepted before they act.

pub(super) const SERVER_TO_SERVER: &str = "GDOI between servers";
pub(super) const CERTIFICATES: &str = "certificates";
pub(super) const PROPOSAL_SETS: &str = "predefined proposal sets";
pub(super) const TRACE_FILTERS: &str = "trace filters";
pub(super) const POLICY_LOG: &str = "log and count of policies";
