//! The control socket: HTTP over a Unix socket, every request handed to the event loop and answered from there.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use control::{
    CheckRequest, CommitRequest, ConfigurationFormat, ConfigurationQuery, Filter, LoadRequest, Problem,
    paths, query,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::configuration::LARGEST_CONFIGURATION;
use crate::log::Log;

/// A configuration larger than this is none.
const LARGEST_BODY: usize = LARGEST_CONFIGURATION as usize;

/// Who may use the socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// What the event loop is asked.
#[derive(Debug)]
pub enum Request {
    /// `GET` of a subject.
    Show(Subject, Filter),
    /// `DELETE` of a subject.
    Clear(Subject, Filter),
    /// The configuration in force.
    Configuration(ConfigurationQuery),
    /// Reload.
    Commit(CommitRequest),
    /// Judge.
    Check(CheckRequest),
    /// Change the file.
    Load(LoadRequest),
}

macro_rules! subjects {
    ($($variant:ident = $path:path,)+) => {
        /// What can be shown or cleared.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // each is described beside its path in `control::paths`
        pub enum Subject { $($variant,)+ }

        impl Subject {
            fn of_path(path: &str) -> Option<Subject> {
                $(if path == $path { return Some(Subject::$variant); })+
                None
            }
        }
    };
}

subjects! {
    Status = paths::STATUS,
    ServerIke = paths::SERVER_IKE,
    ServerIpsec = paths::SERVER_IPSEC,
    ServerKek = paths::SERVER_KEK,
    ServerMembers = paths::SERVER_MEMBERS,
    ServerStatistics = paths::SERVER_STATISTICS,
    ServerGroup = paths::SERVER_GROUP,
    ServerCluster = paths::SERVER_CLUSTER,
    MemberIke = paths::MEMBER_IKE,
    MemberIpsec = paths::MEMBER_IPSEC,
    MemberStatistics = paths::MEMBER_STATISTICS,
    MemberInactive = paths::MEMBER_INACTIVE,
    MemberKek = paths::MEMBER_KEK,
    MemberPolicy = paths::MEMBER_POLICY,
    MemberGroup = paths::MEMBER_GROUP,
    DynamicPolicies = paths::DYNAMIC_POLICIES,
    FlowSession = paths::FLOW_SESSION,
}

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Problem,
}

impl Refusal {
    /// There is no such thing here.
    pub fn not_found(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::NOT_FOUND, problem: Problem::new(error) }
    }

    /// The request makes no sense.
    pub fn bad_request(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, problem: Problem::new(error) }
    }

    /// The behaviour comes with a later release.
    pub fn not_available_yet(what: &str) -> Refusal {
        Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            problem: Problem::new(format!(
                "{what}: not available yet in version {}",
                env!("CARGO_PKG_VERSION")
            )),
        }
    }

    /// We failed.
    pub fn internal(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, problem: Problem::new(error) }
    }
}

/// The JSON of a reply, or why there is none.
pub type Reply = Result<Vec<u8>, Refusal>;

/// Makes a reply.
pub fn reply(value: &impl Serialize) -> Reply {
    serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))
}

/// A request on its way to the event loop.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes. The asker may have gone away.
    pub reply: oneshot::Sender<Reply>,
}

/// The listening socket. Dropping it removes its file.
pub struct ControlSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlSocket {
    /// Listens in a runtime directory whose lock the caller holds: a socket that is there already is stale.
    pub fn open(directory: &Path, log: Log) -> io::Result<(ControlSocket, mpsc::Receiver<Call>)> {
        let path = directory.join(paths::SOCKET_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(SOCKET_MODE))?;
        let (calls, receiver) = mpsc::channel(16);
        let router = Router::new()
            .fallback(serve)
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(Served { calls, log });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the control socket failed");
            }
        });
        Ok((ControlSocket { path, task }, receiver))
    }
}

#[derive(Clone)]
struct Served {
    calls: mpsc::Sender<Call>,
    log: Log,
}

async fn serve(State(served): State<Served>, method: Method, uri: Uri, body: Bytes) -> Response {
    if (&method, uri.path()) == (&Method::GET, paths::MONITOR) {
        return monitor(&served.log);
    }
    let outcome = match parse(&method, &uri, &body) {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            match served.calls.send(Call { request, reply }).await {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(Refusal::internal("the daemon is stopping"))),
                Err(_) => Err(Refusal::internal("the daemon is stopping")),
            }
        }
        Err(refusal) => Err(refusal),
    };
    let (status, mut json) = match outcome {
        Ok(json) => (StatusCode::OK, json),
        Err(refusal) => (refusal.status, serde_json::to_vec(&refusal.problem).unwrap_or_default()),
    };
    json.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn parse(method: &Method, uri: &Uri, body: &[u8]) -> Result<Request, Refusal> {
    let query = uri.query().unwrap_or_default();
    let unknown =
        || Refusal::not_found(format!("{} has no meaning; see control::paths in the sources", uri.path()));
    Ok(match (method.as_str(), uri.path()) {
        ("GET", paths::CONFIGURATION) => Request::Configuration(configuration_query(query)?),
        ("POST", paths::COMMIT) => Request::Commit(json::<CommitRequest>(body)?),
        ("POST", paths::CHECK) => Request::Check(json::<CheckRequest>(body)?),
        ("POST", paths::LOAD) => Request::Load(json::<LoadRequest>(body)?),
        ("GET" | "DELETE", path) => {
            let subject = Subject::of_path(path).ok_or_else(unknown)?;
            let filter = Filter::from_query(query).map_err(|problem| Refusal::bad_request(problem.error))?;
            if method == Method::GET {
                Request::Show(subject, filter)
            } else {
                Request::Clear(subject, filter)
            }
        }
        _ => return Err(unknown()),
    })
}

fn configuration_query(query: &str) -> Result<ConfigurationQuery, Refusal> {
    let mut parsed = ConfigurationQuery::default();
    for (name, value) in query::pairs(query).map_err(|problem| Refusal::bad_request(problem.error))? {
        match (name.as_str(), value.as_str()) {
            ("path", _) => parsed.path = value,
            ("format", "text") => parsed.format = ConfigurationFormat::Text,
            ("format", "set") => parsed.format = ConfigurationFormat::Set,
            ("format", "json") => parsed.format = ConfigurationFormat::Json,
            ("format", "xml") => parsed.format = ConfigurationFormat::Xml,
            _ => {
                return Err(Refusal::bad_request(format!(
                    "`{name}={value}`: expected path=… or format=text|set|json|xml"
                )));
            }
        }
    }
    Ok(parsed)
}

fn json<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("the body: {error}")))
}

/// Streams the log, one JSON object a line, until the reader goes away.
fn monitor(log: &Log) -> Response {
    use tokio::sync::broadcast::error::RecvError;

    let lines = futures_util::stream::unfold(log.monitor(), |mut entries| async move {
        loop {
            match entries.recv().await {
                Ok(entry) => {
                    let mut line = serde_json::to_vec(&entry).unwrap_or_default();
                    line.push(b'\n');
                    return Some((Ok::<_, io::Error>(line), entries));
                }
                // A slow reader has missed some: it reads on.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str, body: &str) -> Result<Request, Refusal> {
        parse(&method, &uri.parse().unwrap(), body.as_bytes())
    }

    #[test]
    fn paths_and_queries_become_requests() {
        let show =
            request(Method::GET, "/v1/server/ike-security-associations?brief&peer-address=100.0.0.3", "");
        assert!(matches!(
            show.unwrap(),
            Request::Show(Subject::ServerIke, Filter { peer_address: Some(_), group: None, .. })
        ));
        assert!(matches!(
            request(Method::DELETE, "/v1/member/ipsec-statistics", "").unwrap(),
            Request::Clear(Subject::MemberStatistics, _)
        ));
        assert!(matches!(
            request(Method::GET, "/v1/configuration?format=set&path=security%20zones", "").unwrap(),
            Request::Configuration(ConfigurationQuery { format: ConfigurationFormat::Set, .. })
        ));
        assert!(matches!(request(Method::POST, "/v1/commit", "").unwrap(), Request::Commit(_)));
    }

    #[test]
    fn what_is_not_understood_is_refused_in_words() {
        for (method, uri, body, status) in [
            (Method::GET, "/", "", StatusCode::NOT_FOUND),
            (Method::PUT, "/v1/status", "", StatusCode::NOT_FOUND),
            (Method::GET, "/v1/status?foo=1", "", StatusCode::BAD_REQUEST),
            (Method::GET, "/v1/configuration?format=yaml", "", StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/commit", "{\"txt\":1}", StatusCode::BAD_REQUEST),
        ] {
            let refusal = request(method, uri, body).unwrap_err();
            assert_eq!(refusal.status, status, "{uri}");
            assert!(!refusal.problem.error.is_empty());
        }
    }
}
