//! Routing instances: network namespaces that the daemon serves beside the one in which it was started.
//!
//! Each has its own view of links, its own sockets and its own data path with tables of its own: what keeps their packets
//! apart is the kernel. See docs/decisions/0010.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::select_all;
use tokio::sync::watch;

use crate::datapath::{
    AttachError, DataPath, InterfaceStatistics, Options, Publication, StartError, StopBehaviour,
};
use crate::namespace::Namespace;
use crate::netlink::{Links, Monitor};

/// The name of the instance in which the daemon was started.
pub const DEFAULT: &str = "default";

/// One opening of an instance: a namespace that was made anew gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u32);

impl InstanceId {
    /// The instance in which the daemon was started.
    pub const DEFAULT: InstanceId = InstanceId(0);

    /// An instance whose namespace is not there: nothing can be sent in it.
    pub const ABSENT: InstanceId = InstanceId(u32::MAX);

    /// A number that no other opening of an instance has.
    pub fn number(self) -> u64 {
        self.0.into()
    }
}

/// One routing instance whose namespace is there.
pub struct Instance {
    id: InstanceId,
    namespace: Namespace,
    /// What its namespace was called when it was opened.
    called: String,
    links: watch::Receiver<Arc<Links>>,
    data_path: Option<DataPath>,
    _monitor: Monitor,
}

impl Instance {
    fn open(id: InstanceId, namespace: Namespace, called: &str) -> io::Result<Self> {
        let monitor = Monitor::start(namespace.clone())?;
        let called = called.to_owned();
        Ok(Self { id, namespace, called, links: monitor.links(), data_path: None, _monitor: monitor })
    }

    /// Detaches from its interfaces.
    fn close(mut self) {
        if let Some(data_path) = self.data_path.take()
            && let Err(error) = self.namespace.within(|| data_path.detach())
        {
            tracing::warn!(%error, "cannot detach");
        }
    }

    /// Its number.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its links, now.
    pub fn links(&self) -> Arc<Links> {
        self.links.borrow().clone()
    }

    /// Its data path, where it has one.
    pub fn data_path(&self) -> Option<&DataPath> {
        self.data_path.as_ref()
    }

    /// Hands the data path, where there is one, everything it goes by.
    pub fn publish(&mut self, publication: Publication<'_>) -> Vec<AttachError> {
        let Some(data_path) = &mut self.data_path else { return Vec::new() };
        let outcome = self.namespace.within(|| data_path.publish(publication));
        outcome.unwrap_or_else(|source| {
            vec![AttachError { interface: "every interface".into(), source, is_closed: false }]
        })
    }

    fn start_data_path(&mut self, options: Options) -> Result<&DataPath, StartError> {
        let started = self.namespace.within(|| DataPath::start(options)).map_err(StartError::Lane)??;
        Ok(self.data_path.insert(started))
    }
}

/// All of them.
pub struct Instances {
    /// By name; [`DEFAULT`] is always there.
    open: BTreeMap<String, Instance>,
    /// Why others of the configuration are not.
    absent: BTreeMap<String, String>,
    last_id: u32,
}

impl Instances {
    /// The one in which the daemon was started.
    pub fn start() -> io::Result<Self> {
        let default = Instance::open(InstanceId::DEFAULT, Namespace::home(), DEFAULT)?;
        let open = BTreeMap::from([(DEFAULT.to_owned(), default)]);
        Ok(Self { open, absent: BTreeMap::new(), last_id: 0 })
    }

    /// Opens the instances of a configuration as far as their namespaces are there, and forgets those whose namespace is
    /// another one by now. Others stay until [`Instances::retain`]. Returns whether anything has changed.
    pub fn open(&mut self, wanted: &BTreeMap<String, String>) -> bool {
        let mut changed = false;
        for (name, namespace) in wanted {
            let is_another = |instance: &Instance| !instance.namespace.is_called(namespace);
            if self.open.get(name).is_some_and(is_another)
                && let Some(instance) = self.open.remove(name)
            {
                changed = true;
                if instance.called == *namespace {
                    // Its interfaces go with it; there is nothing left to be detached from.
                    tracing::warn!(instance = name, namespace, "the network namespace is gone");
                } else {
                    instance.close();
                }
            }
            if self.open.contains_key(name) {
                continue;
            }
            let id = InstanceId(self.last_id + 1);
            match Namespace::open(namespace).and_then(|it| Instance::open(id, it, namespace)) {
                Ok(instance) => {
                    self.last_id += 1;
                    self.open.insert(name.clone(), instance);
                    tracing::info!(instance = name, namespace, "routing instance opened");
                    changed = true;
                }
                Err(error) => {
                    let reason = match error.kind() {
                        io::ErrorKind::NotFound => format!("there is no network namespace {namespace}"),
                        _ => format!("network namespace {namespace}: {error}"),
                    };
                    if self.absent.insert(name.clone(), reason.clone()).as_ref() != Some(&reason) {
                        tracing::warn!(instance = name, reason, "routing instance is absent");
                    }
                    continue;
                }
            }
            self.absent.remove(name);
        }
        changed
    }

    /// Forgets the instances that are not wanted any more, and detaches from their interfaces. Returns whether there were any.
    pub fn retain(&mut self, wanted: &BTreeMap<String, String>) -> bool {
        self.absent.retain(|name, _| wanted.contains_key(name));
        let is_left = |name: &String, _: &mut Instance| name != DEFAULT && !wanted.contains_key(name);
        self.open.extract_if(.., is_left).map(|(_, instance)| instance.close()).count() > 0
    }

    /// Starts the data path of every instance that has none. Returns what started, and why others did not.
    pub fn start_data_paths(&mut self, options: Options) -> (Vec<&DataPath>, Vec<String>) {
        let (mut started, mut problems) = (Vec::new(), Vec::new());
        for (name, instance) in self.open.iter_mut().filter(|(_, instance)| instance.data_path.is_none()) {
            let whose = match name.as_str() {
                DEFAULT => "data path".to_owned(),
                name => format!("data path of routing instance {name}"),
            };
            match instance.start_data_path(options).context(whose) {
                Ok(data_path) => started.push(data_path),
                Err(error) => problems.push(format!("{error:#}")),
            }
        }
        (started, problems)
    }

    /// Ends the data paths: orderly where the daemon was started; in other instances only what is ours is detached.
    pub fn stop(&mut self, behaviour: StopBehaviour) -> io::Result<()> {
        let mut outcome = Ok(());
        for (name, instance) in &mut self.open {
            let Some(data_path) = instance.data_path.take() else { continue };
            let stop = || match (behaviour, name.as_str()) {
                (StopBehaviour::Detach, name) if name != DEFAULT => {
                    data_path.detach();
                    Ok(())
                }
                _ => data_path.stop(behaviour),
            };
            outcome = outcome.and(instance.namespace.within(stop).and_then(|stopped| stopped));
        }
        outcome
    }

    /// Where sockets are to be.
    pub fn namespaces(&self) -> Vec<(InstanceId, Namespace)> {
        self.open.values().map(|instance| (instance.id, instance.namespace.clone())).collect()
    }

    /// The instance of a name, if its namespace is there; `None` names the default one.
    pub fn get(&self, name: Option<&str>) -> Option<&Instance> {
        self.open.get(name.unwrap_or(DEFAULT))
    }

    /// The instance in which the daemon was started.
    pub fn default(&self) -> &Instance {
        &self.open[DEFAULT]
    }

    /// The number of the instance of a name.
    pub fn id(&self, name: Option<&str>) -> InstanceId {
        self.get(name).map_or(InstanceId::ABSENT, Instance::id)
    }

    /// The instance of a number, with its name.
    pub fn by_id(&self, id: InstanceId) -> Option<(Option<&str>, &Instance)> {
        self.iter().find(|(_, instance)| instance.id == id)
    }

    /// Why the instance of a name is not there.
    pub fn reason(&self, name: Option<&str>) -> String {
        let name = name.unwrap_or(DEFAULT);
        let reason = self.absent.get(name).map_or("it is not open", String::as_str);
        format!("routing instance {name}: {reason}")
    }

    /// Names and instances; the default one is `None`.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Instance)> {
        self.open.iter().map(|(name, instance)| (unless_default(name), instance))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Option<&str>, &mut Instance)> {
        self.open.iter_mut().map(|(name, instance)| (unless_default(name), instance))
    }

    /// Whether every data path goes round.
    pub fn answer(&mut self) -> bool {
        // Each is asked, whatever the others say.
        let answers = |instance: &mut Instance| instance.data_path.as_mut().is_none_or(DataPath::answers);
        let said: Vec<bool> = self.open.values_mut().map(answers).collect();
        said.iter().all(|answers| *answers)
    }

    /// Counters of the interfaces; those of other instances than the default one with its name.
    pub fn statistics(&self) -> Vec<InterfaceStatistics> {
        let all = self.iter().flat_map(|(name, instance)| {
            let statistics = instance.data_path.iter().flat_map(DataPath::statistics);
            statistics.map(move |of| InterfaceStatistics {
                interface: shown(name, &of.interface),
                counters: of.counters,
            })
        });
        all.collect()
    }

    /// Waits until links of any instance have changed.
    pub async fn links_changed(&mut self) {
        let all = self.open.values_mut().map(|instance| {
            Box::pin(async {
                // A monitor that has ended has said so in the log.
                if instance.links.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        select_all(all).await;
    }

    /// The present links are known.
    pub fn mark_links_seen(&mut self) {
        self.open.values_mut().for_each(|instance| instance.links.mark_unchanged());
    }
}

fn unless_default(name: &str) -> Option<&str> {
    Some(name).filter(|name| *name != DEFAULT)
}

/// An interface of an instance, for operators; `None` is the default one.
pub fn shown(instance: Option<&str>, interface: &str) -> String {
    match instance {
        None => interface.to_owned(),
        Some(instance) => format!("{instance}/{interface}"),
    }
}
