//! Who leads: the one whose lease holds the leader's key.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Term;
use super::records::Keys;
use super::session::Failure;

/// The leader as etcd names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) name: String,
    pub(super) term: Term,
    pub(super) lease: i64,
}

impl Leader {
    pub(super) fn of(entry: &KeyValue) -> Self {
        Self {
            name: String::from_utf8_lossy(entry.value()).into_owned(),
            term: Term(entry.create_revision()),
            lease: entry.lease(),
        }
    }
}

/// Stands for election. The watch tells who won, after everything that was committed before.
pub(super) async fn stand(client: &mut Client, keys: &Keys, name: &str, lease: i64) -> Result<(), Failure> {
    let election = Txn::new()
        .when([Compare::version(keys.leader(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(keys.leader(), name, Some(PutOptions::new().with_lease(lease)))]);
    client.txn(election).await?;
    Ok(())
}

/// A lease that a task of its own keeps alive, so that a slow commit does not cost it.
pub(super) struct Lease {
    pub(super) id: i64,
    /// Until when it certainly holds, by our clock: counted from when its renewal was asked for. `None` once it is lost.
    pub(super) holds_until: watch::Receiver<Option<Instant>>,
    keeper: JoinHandle<()>,
}

impl Lease {
    pub(super) async fn take(client: &mut Client, duration: Duration) -> Result<Self, Failure> {
        let asked = Instant::now();
        let seconds = duration.as_secs().max(2) as i64;
        let id = client.lease_grant(seconds, None).await?.id();
        let (tell, holds_until) = watch::channel(Some(asked + duration));
        let keeper = tokio::spawn(keep(client.clone(), id, duration, tell));
        Ok(Self { id, holds_until, keeper })
    }

    /// Whether it certainly holds now.
    pub(super) fn holds(&self) -> bool {
        self.holds_until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Returns when it is lost or was not renewed in time.
    pub(super) async fn lost(&mut self) {
        loop {
            let until = *self.holds_until.borrow_and_update();
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                changed = self.holds_until.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(mut client: Client, id: i64, duration: Duration, tell: watch::Sender<Option<Instant>>) {
    let every = duration / 4;
    let Ok(Ok((mut keeper, mut answers))) = timeout(duration, client.lease_keep_alive(id)).await else {
        return;
    };
    loop {
        tokio::time::sleep(every).await;
        let asked = Instant::now();
        if keeper.keep_alive().await.is_err() {
            return;
        }
        match timeout(duration, answers.message()).await {
            Ok(Ok(Some(answer))) if answer.ttl() > 0 => {
                if tell.send(Some(asked + duration)).is_err() {
                    return;
                }
            }
            // Expired, or the connection is gone: what was told last runs out by itself.
            Ok(Ok(Some(_))) => {
                let _ = tell.send(None);
                return;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }
    }
}
