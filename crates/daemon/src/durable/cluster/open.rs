//! How the shared store is reached, and as whom.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crypto::{OsRandom, Random as _, SealingKey, Secret};
use proto::server::Cooperation;
use serde::{Deserialize, Serialize};
use store::{Preference, Shared, SharedSettings, Tls};

use super::super::{OpenError, key};
use super::identity::Identity;
use crate::agreement::Agreement;
use crate::files;

/// Name of the credential with the cluster key.
const CREDENTIAL: &str = "gvpn-cluster-key";

/// Octets of the largest file with certificates or a key.
const LARGEST_CERTIFICATE: u64 = 1 << 20;

/// How long the end of the thread is waited for: it gives the lease back, which takes one round trip.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is configured of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// URLs of etcd's members.
    pub endpoints: Vec<String>,
    /// First part of every key.
    pub prefix: String,
    /// Name of this server; `None`: that of the host.
    pub server_name: Option<String>,
    /// How long others wait for a silent leader.
    pub lease: Duration,
    /// Longest time between two attempts to connect.
    pub longest_wait: Duration,
    /// Whether this server leaves others the precedence.
    pub is_sub_server: bool,
    /// File with the cluster key; `None`: a credential.
    pub key: Option<PathBuf>,
    /// Files with authorities, and with our certificate and its key; `None`: without TLS.
    pub tls: Option<TlsFiles>,
    /// User and password at etcd.
    pub user: Option<(String, Secret)>,
    /// Addresses that this server answers from, as the others show them.
    pub addresses: Vec<IpAddr>,
}

/// Files with certificates, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities; `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// Our certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What a server says of itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct About {
    /// Whether it leaves others the precedence.
    pub sub_server: bool,
    /// Addresses that it answers from.
    pub addresses: Vec<IpAddr>,
    /// How its groups are configured.
    pub agreement: Agreement,
}

impl About {
    pub(super) fn write(&self) -> Secret {
        Secret::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what another one wrote; one of another version says less.
    pub(super) fn read(text: &Secret) -> Self {
        serde_json::from_slice(text.expose()).unwrap_or_default()
    }
}

/// The near end of the store, whose far end has a thread: neither waits for the other, so no work of the event loop costs
/// the lease.
pub(super) struct Connected {
    pub(super) shared: Option<Shared>,
    thread: Option<JoinHandle<()>>,
    begin: Option<mpsc::Sender<()>>,
}

impl Connected {
    pub(super) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Begins to connect.
    pub(super) fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // The thread waits for it.
            let _ = begin.send(());
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared = None;
        self.begin = None;
        let until = Instant::now() + FAREWELL;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Prepares everything that can fail.
pub(super) fn open(
    settings: &ClusterSettings,
    about: &About,
    identity: &Identity,
    credentials: Option<&Path>,
) -> Result<(Connected, Cooperation), OpenError> {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => host_name().ok_or(OpenError::NoName)?,
    };
    let mut random = OsRandom::new()?;
    let mut life = [0; 8];
    random.fill(&mut life);
    let incarnation = format!("{}.{:016x}", name.replace('/', "_"), u64::from_be_bytes(life));
    let shared = SharedSettings {
        endpoints: settings.endpoints.clone(),
        prefix: settings.prefix.clone(),
        name: name.replace('/', "_"),
        identity: identity.name(),
        about: about.write(),
        preference: if settings.is_sub_server { Preference::Sub } else { Preference::Root },
        lease: settings.lease,
        longest_wait: settings.longest_wait,
        tls: settings.tls.as_ref().map(tls).transpose()?,
        user: settings.user.clone(),
        key: cluster_key(settings.key.as_deref(), credentials)?,
    };
    let name = shared.name.clone();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OpenError::Thread)?;
    let (shared, far_end) = Shared::new(shared, Box::new(random));
    let (begin, begun) = mpsc::channel();
    let run = move || {
        if begun.recv().is_ok() {
            runtime.block_on(far_end);
        }
    };
    let thread = thread::Builder::new().name("gvpnd-cluster".into()).spawn(run).map_err(OpenError::Thread)?;
    let connected = Connected { shared: Some(shared), thread: Some(thread), begin: Some(begin) };
    Ok((connected, Cooperation { name: name.into(), incarnation: incarnation.into() }))
}

fn cluster_key(named: Option<&Path>, credentials: Option<&Path>) -> Result<SealingKey, OpenError> {
    let credential = credentials.map(|directory| directory.join(CREDENTIAL)).filter(|path| path.exists());
    match (named, credential) {
        (Some(path), _) => key::read(path, true),
        (None, Some(path)) => key::read(&path, false),
        (None, None) => Err(OpenError::NoClusterKey(CREDENTIAL)),
    }
}

fn tls(files: &TlsFiles) -> Result<Tls, OpenError> {
    let read = |path: &Path| {
        files::read(path, LARGEST_CERTIFICATE).map_err(|error| OpenError::Certificate(path.to_owned(), error))
    };
    let authorities = files.authorities.as_deref().map(read).transpose()?.unwrap_or_default();
    let own = match &files.own {
        Some((certificate, private)) => Some((read(certificate)?, Secret::new(read(private)?))),
        None => None,
    };
    Ok(Tls { authorities, own })
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != "(none)")
}
