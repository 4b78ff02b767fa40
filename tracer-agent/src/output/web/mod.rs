//! The web page of a running agent, and what it reads: the verdicts of the past and those that come, in the lines of
//! the contract.
//!
//! Read-only: nothing that is asked for here changes what the agent does. Verdicts hold names of processes and
//! addresses, so who may read is checked on every request (`access`).

mod access;
mod feed;
mod report;
mod token;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use jiff::Zoned;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use access::{Access, Denied, Granted};
pub use token::{Token, TokenError};

use feed::Feed;
use token::random_hex;

use super::history::Past;
use super::http::{self, ListenError};
use super::hub::Hub;
use super::page;
use super::selection::Selection;
use super::state::Asker;
use super::view::Ready;

/// The label `sink` of what a page misses.
const READER: &str = "web";
/// Lines that wait for one page.
const QUEUE: usize = 4096;
/// Answers of verdicts at one time. The hub's readers are fewer by so many, and most stay for `rstrace watch`.
pub const MAX_ANSWERS: usize = 16;
/// A comment after so long without a line, so that both ends notice a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Reads the words of a query; the error is one line.
pub type Select = fn(&[(String, String)]) -> Result<Selection, String>;

/// The pairs of a query.
type Words = Query<Vec<(String, String)>>;

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A place that is taken, and who may look.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    generated: bool,
}

/// What requests are answered with.
#[derive(Clone)]
pub struct Answers {
    pub hub: Hub,
    pub ready: Arc<dyn Fn() -> Ready + Send + Sync>,
    /// What the agent has learned.
    pub asker: Asker,
    pub select: Select,
}

#[derive(Clone)]
struct Shared {
    answers: Answers,
    places: Arc<Semaphore>,
}

/// Why there is no answer, in one line of plain text.
struct Refused {
    status: StatusCode,
    why: String,
}

// === impl Web ===

impl Web {
    /// Takes the address. For anything but loopback there has to be a token: that of the file, or a new one.
    ///
    /// # Errors
    /// If the address is occupied, or there is no token.
    pub async fn bind(address: SocketAddr, token_file: Option<&Path>) -> Result<Self, WebError> {
        let token = match token_file {
            Some(path) => Some(Token::read(path)?),
            None if address.ip().is_loopback() => None,
            None => Some(Token::generate()?),
        };
        let listener = http::bind_for("the web page", "--web", address).await?;
        let address = listener.local_addr().unwrap_or(address);
        Ok(Self { listener, address, generated: token.is_some() && token_file.is_none(), token })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that nobody but this process knows yet.
    #[must_use]
    pub fn generated_token(&self) -> Option<&Token> {
        self.token.as_ref().filter(|_| self.generated)
    }

    /// Serves for as long as the process lives, on a thread of its own. What it returns completes if that ends.
    ///
    /// # Errors
    /// If there can be no such thread, or the listener breaks.
    pub fn serve(self, answers: Answers) -> io::Result<impl Future<Output = io::Result<()>>> {
        let access = Access::new(self.address, &(answers.ready)().host, self.token);
        http::serve_alone("web", self.listener, router(answers, access))
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("hub", &self.hub).finish_non_exhaustive()
    }
}

// === impl Shared, Refused ===

impl Shared {
    /// What is wanted, and a place for the answer.
    fn begin(
        &self,
        query: Result<Words, QueryRejection>,
    ) -> Result<(Selection, OwnedSemaphorePermit), Refused> {
        let Query(mut words) =
            query.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        // It has been looked at.
        words.retain(|(word, _)| word != "token");
        let selection =
            (self.answers.select)(&words).map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error))?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let why = format!("{MAX_ANSWERS} pages of this agent are open already: close one of them");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })?;
        Ok((selection, place))
    }
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, self.why + "\n").into_response()
    }
}

/// The routes alone.
pub fn router(answers: Answers, access: Access) -> Router {
    let shared = Shared { answers, places: Arc::new(Semaphore::new(MAX_ANSWERS)) };
    Router::new()
        .route("/", get(show_page))
        .route("/api/events", get(events))
        .route("/api/history", get(history))
        .route("/api/report", get(report_of))
        .with_state(shared)
        .layer(middleware::from_fn_with_state(Arc::new(access), guard))
}

/// Lets those through who may look, and says to the browser what the answer may do.
async fn guard(
    State(access): State<Arc<Access>>,
    query: Result<Words, QueryRejection>,
    request: Request,
    next: Next,
) -> Response {
    let words = query.map(|Query(words)| words).unwrap_or_default();
    let (mut response, cookie) = match access.check(request.uri(), request.headers(), &words) {
        Ok(Granted { set_cookie }) => (next.run(request).await, set_cookie),
        Err(denied) => (Refused::new(status_of(denied), denied.to_string()).into_response(), None),
    };
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

fn status_of(denied: Denied) -> StatusCode {
    match denied {
        Denied::Host => StatusCode::MISDIRECTED_REQUEST,
        Denied::OtherSite => StatusCode::FORBIDDEN,
        Denied::Token => StatusCode::UNAUTHORIZED,
    }
}

async fn show_page() -> Result<Response, Refused> {
    let nonce =
        random_hex().map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let policy = format!("{}; frame-ancestors 'none'", page::policy(&nonce, "'self'"));
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(page::served(&nonce))).into_response())
}

/// The past from `since` on, if it is given, and from now on what comes, as server-sent events. Each event is some
/// lines: `ready` first, `history` between the past and the present.
async fn events(
    State(shared): State<Shared>,
    query: Result<Words, QueryRejection>,
) -> Result<Response, Refused> {
    let (selection, place) = shared.begin(query)?;
    if selection.span.until.is_some() {
        let why = "what comes has no end: until is for /api/history";
        return Err(Refused::new(StatusCode::BAD_REQUEST, why));
    }
    let hub = &shared.answers.hub;
    let begun = if selection.span.since.is_some() {
        hub.subscribe_since(READER, &selection, QUEUE)
    } else {
        let live = hub.subscribe(READER, selection.filter.clone(), QUEUE);
        live.map(|live| (Past { extent: hub.extent(), ..Past::default() }, live))
    };
    let (past, live) =
        begun.map_err(|full| Refused::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()))?;
    let head = (shared.answers.ready)().to_json();
    let feed = Feed::new(Some(head), past, selection, Some(live), place);
    let events = feed.pieces().map(|piece| Ok::<_, Infallible>(Event::default().data(piece)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// What is kept of the past, one JSON object a line; the last says how far back it goes.
async fn history(
    State(shared): State<Shared>,
    query: Result<Words, QueryRejection>,
) -> Result<Response, Refused> {
    let (selection, place) = shared.begin(query)?;
    let past = shared.answers.hub.past(selection.span);
    let feed = Feed::new(None, past, selection, None, place);
    let lines = feed.pieces().map(|piece| Ok::<_, Infallible>(piece + "\n"));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// What all of that past comes to, as `rstrace report --json` says it.
async fn report_of(
    State(shared): State<Shared>,
    query: Result<Words, QueryRejection>,
) -> Result<Response, Refused> {
    let (selection, place) = shared.begin(query)?;
    let past = shared.answers.hub.past(selection.span);
    let host = (shared.answers.ready)().host;
    let state = shared.answers.asker.state().await;
    // The other pages have to get on meanwhile.
    let made = tokio::task::spawn_blocking(move || {
        let _place = place;
        report::report(&past, selection, host, &Zoned::now(), state).map_err(|error| error.to_string())
    });
    let failed = |error: String| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let report = made.await.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], report.to_json() + "\n").into_response())
}

#[cfg(test)]
mod tests;
