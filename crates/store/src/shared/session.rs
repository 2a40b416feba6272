//! One connection after the other: load, watch, stand for election, commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crypto::{Random, Secret};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, EventType, OpenSslClientConfig, PutOptions, Txn, TxnOp,
    TxnOpResponse, WatchOptions, WatchResponse,
};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::election::{self, Leader, Lease};
use super::records::{self, Introduction, Keys};
use super::{Epoch, Preference, Request, SharedEvent, SharedSettings};

/// Operations of one transaction: etcd takes 128 unless told otherwise, and the fence is one of them.
const OPERATIONS: usize = 100;

/// How long to wait before the next endpoint is tried, at first: twice as long whenever all have been tried in vain.
const AGAIN: Duration = Duration::from_millis(250);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// etcd does not answer, or says no.
    Etcd(etcd_client::Error),
    /// It did not answer in time.
    Silence,
    /// What it holds is not for us.
    Unusable(String),
    /// Another server has our name.
    NameTaken(String),
    /// The daemon has gone.
    Closed,
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // The status of gRPC is more than a line; its message says it.
            Failure::Etcd(etcd_client::Error::GRpcStatus(status)) => f.write_str(status.message()),
            Failure::Etcd(error) => write!(f, "{error}"),
            Failure::Silence => f.write_str("no answer"),
            Failure::Unusable(reason) => f.write_str(reason),
            Failure::NameTaken(name) => write!(
                f,
                "another server named `{name}` is connected, or was a moment ago; every server needs a name of its own"
            ),
            Failure::Closed => f.write_str("closed"),
        }
    }
}

/// Connects to one endpoint after the other until the near end is dropped.
pub(super) async fn run(
    settings: SharedSettings,
    mut random: Box<dyn Random + Send>,
    mut requests: Receiver<Request>,
    events: Sender<SharedEvent>,
    about: watch::Receiver<Secret>,
) {
    let keys = Keys::new(&settings.prefix);
    let mut epoch = Epoch::default();
    let mut attempt = 0;
    let mut former = None;
    let mut failed = 0;
    while !events.is_closed() {
        let endpoint = &settings.endpoints[attempt % settings.endpoints.len()];
        epoch.0 += 1;
        let session =
            Session { settings: &settings, keys: &keys, epoch, events: &events, about: about.clone() };
        let connected = former;
        let Err(failure) = session.run(endpoint, &mut *random, &mut requests, &mut former).await else {
            return;
        };
        failed = if former == connected { failed + 1 } else { 0 };
        if matches!(failure, Failure::Closed)
            || events.send(SharedEvent::CutOff(format!("{endpoint}: {failure}"))).await.is_err()
        {
            return;
        }
        attempt += 1;
        let rounds = u32::try_from(failed / settings.endpoints.len()).unwrap_or(u32::MAX);
        let wait = AGAIN.saturating_mul(2_u32.saturating_pow(rounds));
        tokio::time::sleep(wait.min(settings.longest_wait.max(AGAIN))).await;
    }
}

struct Session<'a> {
    settings: &'a SharedSettings,
    keys: &'a Keys,
    epoch: Epoch,
    events: &'a Sender<SharedEvent>,
    /// What this server says of itself.
    about: watch::Receiver<Secret>,
}

/// What changes while a connection lasts.
struct State {
    client: Client,
    lease: Lease,
    leader: Option<Leader>,
    /// When to stand for election; only while there is no leader.
    stand_at: Option<Instant>,
    /// What connected servers say of themselves.
    servers: BTreeMap<String, Secret>,
    /// Revisions of our own commits that the watch has not passed yet.
    ours: BTreeSet<i64>,
}

impl Session<'_> {
    /// Returns only with what ended it; `Ok` when the daemon has gone. `former` is the lease of the connection before.
    async fn run(
        mut self,
        endpoint: &str,
        random: &mut (dyn Random + Send),
        requests: &mut Receiver<Request>,
        former: &mut Option<i64>,
    ) -> Result<(), Failure> {
        let mut client = self.patiently(self.connect(endpoint)).await?;
        self.patiently(records::recognize(&mut client, self.keys, &self.settings.key, random)).await?;
        if let Some(lease) = *former {
            // If we led by it, nobody need wait for its end. One that has ended is an error, and as good.
            let _ = self.patiently(async { Ok(client.lease_revoke(lease).await?) }).await;
            *former = None;
        }
        let lease = self.patiently(Lease::take(&mut client, self.settings.lease)).await?;
        if let Err(failure) = self.claim_name(&mut client, &lease, random).await {
            let _ = timeout(AGAIN, client.lease_revoke(lease.id)).await;
            return Err(failure);
        }
        *former = Some(lease.id);
        let (records, leader, revision) =
            self.patiently(records::load(&mut client, self.keys, &self.settings.key)).await?;
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut watch =
            self.patiently(async { Ok(client.watch(self.keys.all(), Some(options)).await?) }).await?;
        let servers = self.patiently(records::servers(&mut client, self.keys, &self.settings.key)).await?;
        let leader = leader.as_ref().map(Leader::of);
        let stand_at = leader.is_none().then(|| self.stand_at());
        let mut state = State { client, lease, leader, stand_at, servers, ours: BTreeSet::new() };
        self.tell(SharedEvent::Loaded { epoch: self.epoch, records }).await?;
        self.tell_servers(&state).await?;
        self.tell(SharedEvent::Following(state.leader.as_ref().map(|leader| leader.name.clone()))).await?;
        let outcome = self.serve(&mut state, &mut watch, random, requests).await;
        if matches!(outcome, Ok(()) | Err(Failure::Closed)) {
            // An orderly end: the others need not wait for the lease to run out.
            let _ = timeout(AGAIN, state.client.lease_revoke(state.lease.id)).await;
        }
        outcome
    }

    /// Says who we are under our name, which no other server has: two would take each other's acknowledgements and counters
    /// for their own. An earlier life of ours is no other server; its lease is given back for it.
    async fn claim_name(
        &mut self,
        client: &mut Client,
        lease: &Lease,
        random: &mut (dyn Random + Send),
    ) -> Result<(), Failure> {
        let name = &self.settings.name;
        let introduction = self.introduction(random);
        let key = self.keys.server(name);
        for _ in 0..2 {
            let put = TxnOp::put(&*key, &*introduction, Some(PutOptions::new().with_lease(lease.id)));
            let claim = Txn::new()
                .when([Compare::version(&*key, CompareOp::Equal, 0)])
                .and_then([put])
                .or_else([TxnOp::get(&*key, None)]);
            let outcome = self.patiently(async { Ok(client.txn(claim).await?) }).await?;
            if outcome.succeeded() {
                return Ok(());
            }
            let Some(TxnOpResponse::Get(found)) = outcome.op_responses().into_iter().next() else { continue };
            let Some(holder) = found.kvs().first() else { continue };
            let identity = Introduction::open(self.keys, &self.settings.key, name, holder.value())?.identity;
            if holder.lease() == 0 || self.settings.identity.as_ref().is_none_or(|own| *own != identity) {
                break;
            }
            // One that has ended is an error, and as good.
            let _ = self.patiently(async { Ok(client.lease_revoke(holder.lease()).await?) }).await;
        }
        Err(Failure::NameTaken(name.clone()))
    }

    fn introduction(&mut self, random: &mut (dyn Random + Send)) -> Vec<u8> {
        let identity = self.settings.identity.clone().unwrap_or_default();
        let about = self.about.borrow_and_update().clone();
        Introduction { identity, about }.seal(self.keys, &self.settings.key, random, &self.settings.name)
    }

    /// Says something else of ourselves, as long as our lease holds.
    async fn introduce_again(
        &mut self,
        state: &mut State,
        random: &mut (dyn Random + Send),
    ) -> Result<(), Failure> {
        let key = self.keys.server(&self.settings.name);
        let introduction = self.introduction(random);
        let put = TxnOp::put(&*key, introduction, Some(PutOptions::new().with_lease(state.lease.id)));
        let ours = Compare::lease(&*key, CompareOp::Equal, state.lease.id);
        let again = Txn::new().when([ours]).and_then([put]);
        match self.patiently(async { Ok(state.client.txn(again).await?) }).await?.succeeded() {
            true => Ok(()),
            false => Err(Failure::Silence),
        }
    }

    async fn serve(
        &mut self,
        state: &mut State,
        watch: &mut etcd_client::WatchStream,
        random: &mut (dyn Random + Send),
        requests: &mut Receiver<Request>,
    ) -> Result<(), Failure> {
        loop {
            let stand_at = state.stand_at;
            tokio::select! {
                response = watch.message() => match response? {
                    Some(response) => self.watched(state, &response).await?,
                    None => return Err(Failure::Silence),
                },
                request = requests.recv() => match request {
                    Some(request) => self.commit(state, random, request).await?,
                    None => return Ok(()),
                },
                said = self.about.changed() => match said {
                    Ok(()) => self.introduce_again(state, random).await?,
                    Err(_) => return Ok(()),
                },
                () = state.lease.lost() => return Err(Failure::Silence),
                () = sleep_until(stand_at.unwrap_or_else(Instant::now)), if stand_at.is_some() => {
                    self.stand(state).await?;
                    state.stand_at = Some(Instant::now() + self.settings.lease / 2);
                }
                () = self.events.closed() => return Err(Failure::Closed),
            }
        }
    }

    async fn watched(&self, state: &mut State, response: &WatchResponse) -> Result<(), Failure> {
        if response.canceled() {
            return Err(Failure::Unusable(format!("the watch was cancelled: {}", response.cancel_reason())));
        }
        let changes = records::changes(self.keys, &self.settings.key, response, |revision| {
            state.ours.contains(&revision)
        })?;
        if !changes.is_empty() {
            self.tell(SharedEvent::Changed(changes)).await?;
        }
        let mut servers_changed = false;
        for event in response.events() {
            let Some(entry) = event.kv() else { continue };
            if let Some(name) = entry.key_str().ok().and_then(|key| self.keys.server_name(key)) {
                servers_changed = true;
                match event.event_type() {
                    EventType::Put => {
                        let said = Introduction::open(self.keys, &self.settings.key, name, entry.value())?;
                        state.servers.insert(name.to_owned(), said.about);
                    }
                    EventType::Delete => drop(state.servers.remove(name)),
                }
            }
            if entry.key() == self.keys.leader().as_bytes() {
                let leader = match event.event_type() {
                    EventType::Put => Some(Leader::of(entry)),
                    EventType::Delete => None,
                };
                self.note_leader(state, leader).await?;
            }
        }
        if servers_changed {
            self.tell_servers(state).await?;
        }
        if let Some(seen) =
            response.events().iter().filter_map(|event| Some(event.kv()?.mod_revision())).max()
        {
            state.ours = state.ours.split_off(&(seen + 1));
        }
        Ok(())
    }

    async fn stand(&self, state: &mut State) -> Result<(), Failure> {
        let State { client, lease, .. } = state;
        self.patiently(election::stand(client, self.keys, &self.settings.name, lease.id)).await
    }

    async fn tell_servers(&self, state: &State) -> Result<(), Failure> {
        let servers = state.servers.iter().map(|(name, about)| (name.clone(), about.clone()));
        self.tell(SharedEvent::Servers(servers.collect())).await
    }

    async fn note_leader(&self, state: &mut State, leader: Option<Leader>) -> Result<(), Failure> {
        state.stand_at = leader.is_none().then(|| self.stand_at());
        state.leader = leader;
        let event = match &state.leader {
            // Two servers may have one name by mistake; no two have one lease.
            Some(new) if new.lease == state.lease.id => SharedEvent::Leading(new.term),
            other => SharedEvent::Following(other.as_ref().map(|leader| leader.name.clone())),
        };
        self.tell(event).await
    }

    async fn commit(
        &self,
        state: &mut State,
        random: &mut (dyn Random + Send),
        request: Request,
    ) -> Result<(), Failure> {
        if request.epoch != self.epoch {
            return Ok(());
        }
        // Who slept past its lease may know of nothing that happened since.
        if !state.lease.holds() {
            return Err(Failure::Silence);
        }
        for part in request.changes.chunks(OPERATIONS) {
            let operations = records::operations(self.keys, &self.settings.key, random, part);
            let fence = request
                .fence
                .map(|term| Compare::create_revision(self.keys.leader(), CompareOp::Equal, term.0));
            let transaction = Txn::new().when(fence.into_iter().collect::<Vec<_>>()).and_then(operations);
            let outcome = self.patiently(async { Ok(state.client.txn(transaction).await?) }).await?;
            if !outcome.succeeded() {
                return self.tell(SharedEvent::Refused(request.id)).await;
            }
            state.ours.extend(outcome.header().map(|header| header.revision()));
        }
        self.tell(SharedEvent::Committed(request.id)).await
    }

    async fn connect(&self, endpoint: &str) -> Result<Client, Failure> {
        let patience = self.settings.lease / 2;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(patience)
            .with_keep_alive(self.settings.lease / 4, self.settings.lease / 4)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some((name, password)) = &self.settings.user {
            options = options.with_user(name, String::from_utf8_lossy(password.expose()));
        }
        if let Some(tls) = &self.settings.tls {
            let mut config = OpenSslClientConfig::default().ca_cert_pem(&tls.authorities);
            if let Some((certificate, key)) = &tls.own {
                config = config.client_cert_pem_and_key(certificate, key.expose());
            }
            options = options.with_openssl_tls(config);
        }
        Ok(Client::connect([endpoint], Some(options)).await?)
    }

    fn stand_at(&self) -> Instant {
        match self.settings.preference {
            Preference::Root => Instant::now(),
            Preference::Sub => Instant::now() + self.settings.lease / 2,
        }
    }

    /// No operation may take longer than half a lease: by then another endpoint is the better choice.
    async fn patiently<T>(&self, operation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout(self.settings.lease / 2, operation).await.unwrap_or(Err(Failure::Silence))
    }

    async fn tell(&self, event: SharedEvent) -> Result<(), Failure> {
        self.events.send(event).await.map_err(|_| Failure::Closed)
    }
}
