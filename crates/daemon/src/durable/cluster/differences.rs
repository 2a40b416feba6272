//! Servers of one cluster that are configured otherwise than this one: found in what each tells of itself, and told to the
//! operator at once, because the next leader's configuration is what members get.

use super::{Cluster, Connection};
use crate::agreement::Difference;

/// A group that another server has otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerDifference {
    /// Name of the other server.
    pub server: String,
    /// What it has otherwise.
    pub difference: Difference,
}

impl ServerDifference {
    /// Whether both are about one group at one server, whatever differs there.
    fn is_about_the_same(&self, other: &ServerDifference) -> bool {
        self.server == other.server && self.difference.group_id == other.difference.group_id
    }
}

impl Cluster {
    /// Compares what the servers tell with what we do, and logs what is new. It is known then whose configuration counts.
    pub(super) fn compare(&mut self) {
        if !matches!(self.state.connection, Connection::Leading | Connection::Following(Some(_))) {
            return;
        }
        let others = self.state.servers.iter().filter(|info| info.name != self.state.name);
        let differences = others.flat_map(|info| {
            let found = self.about.agreement.differences(&info.about.agreement);
            found.into_iter().map(|difference| ServerDifference { server: info.name.clone(), difference })
        });
        let differences: Vec<_> = differences.collect();
        let before = std::mem::replace(&mut self.state.differences, differences);
        for new in self.state.differences.iter().filter(|new| !before.contains(new)) {
            let ServerDifference { server, difference } = new;
            tracing::warn!(target: "high-availability", group = difference.group, server, differs = %difference.kind, counts = self.whose_counts(server), "key servers are configured differently");
        }
        for gone in before {
            let is_there = self.state.servers.iter().any(|info| info.name == gone.server);
            let differs = self.state.differences.iter().any(|it| it.is_about_the_same(&gone));
            if is_there && !differs {
                tracing::info!(target: "high-availability", group = gone.difference.group, server = gone.server, "key servers are configured alike again");
            }
        }
    }

    pub(super) fn difference_warnings(&self) -> impl Iterator<Item = String> {
        self.state.differences.iter().map(|ServerDifference { server, difference }| {
            format!(
                "group {}: key server {server} is configured differently ({}); {}",
                difference.group,
                difference.kind,
                self.whose_counts(server)
            )
        })
    }

    /// Whose configuration members get.
    fn whose_counts(&self, server: &str) -> String {
        match &self.state.connection {
            Connection::Leading => "ours counts while this server makes the keys".into(),
            Connection::Following(Some(leader)) if leader == server => {
                "that one counts while it makes the keys".into()
            }
            Connection::Following(Some(leader)) => format!("that of {leader} counts, which makes the keys"),
            Connection::Following(None) | Connection::Starting(_) | Connection::CutOff(_) => {
                "that of the next server to make keys will count".into()
            }
        }
    }
}
