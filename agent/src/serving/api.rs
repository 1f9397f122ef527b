//! `/v1`: what programs ask. The contract is `openapi.json`, which a test holds against these routes.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use consilium_models::{imaging::Picture, prediction::overlay};
use futures::StreamExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Answer, Opinion, Recalled, Server,
    access::{Caller, Certified, Visit, holder},
    engine::Progress,
    kept::Subject,
    models::{Gate, ModelError, activate},
    picture::TYPES,
    problem::Problem,
};
use crate::store::{Act, Duty};

/// The contract.
const OPENAPI: &str = include_str!("openapi.json");

/// Routes under `/v1`, as the contract has them.
#[cfg(test)]
pub(super) const ROUTES: [(&str, &str); 9] = [
    ("get", "/openapi.json"),
    ("get", "/v1/models"),
    ("post", "/v1/models/{id}/activate"),
    ("post", "/v1/predict/image"),
    ("post", "/v1/predict/note"),
    ("get", "/v1/predictions/{id}"),
    ("get", "/v1/predictions/{id}/heat.png"),
    ("get", "/v1/predictions/{id}/picture.png"),
    ("post", "/v1/predictions/{id}/opinion"),
];

/// The name of the cookie that holds a session.
pub(super) const SESSION: &str = "session";

/// Largest small body: an opinion, a log-in.
pub(super) const SMALL: usize = 64 << 10;

pub(super) fn routes(server: &Arc<Server>) -> Router {
    let asked = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{id}/activate", post(put_into_service))
        .route("/v1/predict/image", post(predict_image))
        .route("/v1/predict/note", post(predict_note))
        .route("/v1/predictions/{id}", get(prediction))
        .route("/v1/predictions/{id}/heat.png", get(heat))
        .route("/v1/predictions/{id}/picture.png", get(picture))
        .route("/v1/predictions/{id}/opinion", post(opinion))
        .route_layer(middleware::from_fn_with_state(server.clone(), known))
        .with_state(server.clone());
    let contract = ([(header::CONTENT_TYPE, "application/json")], OPENAPI);
    asked.route("/openapi.json", get(move || async move { contract }))
}

/// What holds for every answer: where there is no route, and how browsers handle it.
pub(super) fn finish(router: Router, is_tls: bool) -> Router {
    let absent = || async { Problem::missing("there is nothing at this address") };
    let other = || async { Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method") };
    router
        .fallback(absent)
        .method_not_allowed_fallback(other)
        .layer(middleware::from_fn(move |request, next| {
            guard(is_tls, request, next)
        }))
}

/// Headers that keep answers out of caches and pages to what this server sends.
async fn guard(is_tls: bool, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets in who is known.
async fn known(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let certified = request
        .extensions()
        .get::<Certified>()
        .cloned()
        .unwrap_or_default();
    let (method, headers) = (request.method().clone(), request.headers());
    let caller = server.caller(&method, headers, certified).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

impl Server {
    /// Who sent a request: a token that is given counts, whatever else there is; then a certificate; then, for
    /// what changes nothing, the session of a page.
    async fn caller(
        &self,
        method: &Method,
        headers: &HeaderMap,
        certified: Certified,
    ) -> Result<Caller, Problem> {
        let unknown = |detail| Problem::new(StatusCode::UNAUTHORIZED, detail);
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(bearer);
            let token = token.ok_or_else(|| unknown("send `Authorization: Bearer TOKEN`"))?;
            let found = holder(&self.store, token)
                .await
                .map_err(Problem::internal)?;
            let found = found.ok_or_else(|| unknown("this token is not known here"))?;
            return Ok(Caller {
                name: found.name,
                duty: found.duty,
            });
        }
        if let Some(name) = certified.0 {
            return Ok(Caller {
                name: format!("certificate:{name}"),
                duty: Duty::Clinician,
            });
        }
        if [Method::GET, Method::HEAD].contains(method)
            && let Some(visit) = self.visit(headers).await?
        {
            return Ok(visit.caller);
        }
        Err(unknown(
            "send `Authorization: Bearer TOKEN`; `consilium agent token new NAME` makes one",
        ))
    }

    /// The visit to the pages that a cookie is of.
    pub(super) async fn visit(&self, headers: &HeaderMap) -> Result<Option<Visit>, Problem> {
        let Some(secret) = cookie(headers, SESSION) else {
            return Ok(None);
        };
        let visit = self
            .sessions
            .visit(&self.store, &secret, Instant::now())
            .await;
        visit.map_err(Problem::internal)
    }

    /// All bytes of a body that may have so many, if they come in time.
    pub(super) async fn body(
        &self,
        body: Body,
        limit: usize,
        what: &str,
    ) -> Result<Bytes, Problem> {
        let read = async {
            let (mut stream, mut bytes) = (body.into_data_stream(), Vec::new());
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|_| {
                    Problem::new(StatusCode::BAD_REQUEST, "the body ended too early")
                })?;
                if bytes.len() + piece.len() > limit {
                    return Err(Problem::too_large(what, limit));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(Bytes::from(bytes))
        };
        tokio::time::timeout(self.settings.arrive, read)
            .await
            .map_err(|_| Problem::slow())?
    }

    /// Most bytes of a picture's file.
    pub(super) fn picture_limit(&self) -> usize {
        usize::try_from(self.settings.picture_mebibytes << 20).unwrap_or(usize::MAX)
    }

    /// Most bytes of a note.
    pub(super) fn note_limit(&self) -> usize {
        usize::try_from(self.settings.note_kibibytes << 10).unwrap_or(usize::MAX)
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of a cookie.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}

/// The value of a field of a query or a form.
pub(super) fn field(form: &[u8], name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(form);
    pairs
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}

fn asked(uri: &Uri, name: &str) -> Option<String> {
    field(uri.query().unwrap_or_default().as_bytes(), name)
}

/// The kind of content, without its parameters.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // What serde says may quote what was sent: its place is enough.
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::invalid(format!(
            "the body is not the JSON that this takes: see line {}, column {}, and /openapi.json",
            error.line(),
            error.column()
        ))
    })
}

fn id_of(
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<String, Problem> {
    path.map(|Path(id)| id)
        .map_err(|_| Problem::missing("there is nothing at this address"))
}

type IdPath = Result<Path<String>, axum::extract::rejection::PathRejection>;
type Who = axum::Extension<Caller>;
type Here = State<Arc<Server>>;

fn json_response(value: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

async fn models(State(server): Here) -> Result<Response, Problem> {
    let models = server.store.models().await.map_err(Problem::internal)?;
    Ok(json_response(&json!({ "models": models })))
}

async fn put_into_service(
    State(server): Here,
    axum::Extension(caller): Who,
    path: IdPath,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    if caller.duty != Duty::Steward {
        let detail = "only a steward's token puts models into service";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let Some(examiner) = &server.examiner else {
        let detail = "there is no data to check models on: start `agent serve` with --check PATH";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let gate = Gate::Checked {
        examiner,
        margin: server.settings.margin,
    };
    let done = activate(
        &server.store,
        &id,
        gate,
        &caller.name,
        std::time::SystemTime::now(),
    )
    .await;
    let done = done.map_err(|error| match error {
        ModelError::Absent(_) => Problem::missing(error.to_string()),
        ModelError::Active(_) | ModelError::Worse { .. } | ModelError::Changed(_) => {
            Problem::new(StatusCode::CONFLICT, error.to_string())
        }
        ModelError::Store(_) | ModelError::File(_) | ModelError::Folder { .. } => {
            Problem::internal(error)
        }
        _ => Problem::invalid(error.to_string()),
    })?;
    if let Err(error) = server.look_at_models().await {
        tracing::warn!(%error, "could not look which models are in service, trying again");
    }
    Ok(json_response(&json!(done)))
}

/// When the reasons of a picture are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Explain {
    /// Not at all.
    Never,
    /// Behind the answer, which does not wait.
    Later,
    /// The answer waits.
    Now,
}

async fn predict_image(
    State(server): Here,
    axum::Extension(caller): Who,
    request: Request,
) -> Result<Response, Problem> {
    let explain = match asked(request.uri(), "explain").as_deref() {
        None | Some("later") => Explain::Later,
        Some("now") => Explain::Now,
        Some("no") => Explain::Never,
        Some(_) => return Err(Problem::invalid("`explain` is `now`, `later` or `no`")),
    };
    let mut model = asked(request.uri(), "model");
    let (kind, headers) = (content_type(request.headers()), request.headers().clone());
    let limit = server.picture_limit();
    let bytes = match kind.as_str() {
        "multipart/form-data" => {
            let body = server
                .body(request.into_body(), limit + SMALL, "a picture")
                .await?;
            let mut form = Form::read(&headers, body, limit).await?;
            model = model.or(form.text("model"));
            form.file
                .ok_or_else(|| Problem::invalid("the form has no file in its field `image`"))?
        }
        kind if TYPES.contains(&kind) => {
            server.body(request.into_body(), limit, "a picture").await?
        }
        _ => {
            let types = TYPES.join(", ");
            return Err(Problem::other_type(format!(
                "send {types}, or a form with the file as `image`"
            )));
        }
    };
    let (answer, subject) = server
        .look(&caller, model.as_deref(), bytes, explain != Explain::Never)
        .await?;
    if explain == Explain::Now {
        server.reasons(&subject).await;
    }
    Ok(json_response(&whole(&answer, Some(&subject), None)))
}

impl Server {
    /// Waits until the reasons are made, in the time that an answer has.
    pub(super) async fn reasons(&self, subject: &Subject) {
        if let Subject::Picture { reasons, .. } = subject {
            let mut reasons: watch::Receiver<Progress> = reasons.clone();
            let made = reasons.wait_for(|progress| !matches!(progress, Progress::Waiting));
            // Who waits longer asks again.
            let _ = tokio::time::timeout(self.settings.answer, made).await;
        }
    }
}

/// A form with a file, as browsers send it.
pub(super) struct Form {
    fields: Vec<(String, String)>,
    pub(super) file: Option<Bytes>,
}

impl Form {
    /// Reads the form whose file stands in the field `image`.
    pub(super) async fn read(
        headers: &HeaderMap,
        body: Bytes,
        limit: usize,
    ) -> Result<Self, Problem> {
        let malformed = || Problem::invalid("the form is malformed");
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| malformed())?;
        let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
        let mut parts = multer::Multipart::new(whole, boundary);
        let mut form = Self {
            fields: Vec::new(),
            file: None,
        };
        while let Some(part) = parts.next_field().await.map_err(|_| malformed())? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(|_| malformed())?;
            if name == "image" {
                if bytes.len() > limit {
                    return Err(Problem::too_large("a picture", limit));
                }
                // A form without a file has an empty one.
                form.file = Some(bytes).filter(|bytes| !bytes.is_empty());
            } else if form.fields.len() < 16 {
                let value = String::from_utf8(bytes.to_vec()).map_err(|_| malformed())?;
                form.fields.push((name, value));
            }
        }
        Ok(form)
    }

    /// A field that is not empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self
            .fields
            .iter()
            .position(|(known, value)| known == name && !value.is_empty())?;
        Some(self.fields.swap_remove(at).1)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteBody {
    text: String,
}

async fn predict_note(
    State(server): Here,
    axum::Extension(caller): Who,
    request: Request,
) -> Result<Response, Problem> {
    let (kind, limit) = (content_type(request.headers()), server.note_limit());
    let text = match kind.as_str() {
        "text/plain" => {
            let bytes = server.body(request.into_body(), limit, "a note").await?;
            String::from_utf8(bytes.to_vec())
                .map_err(|_| Problem::invalid("the note is not UTF-8"))?
        }
        "application/json" => {
            // Escapes make JSON longer than its text.
            let bytes = server
                .body(request.into_body(), 2 * limit + SMALL, "a note")
                .await?;
            let NoteBody { text } = parsed(&bytes)?;
            if text.len() > limit {
                return Err(Problem::too_large("a note", limit));
            }
            text
        }
        _ => {
            return Err(Problem::other_type(
                "send text/plain in UTF-8, or application/json with `text`",
            ));
        }
    };
    let (answer, subject) = server.read(&caller, text).await?;
    Ok(json_response(&whole(&answer, Some(&subject), None)))
}

async fn prediction(
    State(server): Here,
    axum::Extension(caller): Who,
    path: IdPath,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let Recalled {
        answer,
        opinion,
        subject,
    } = server.recall(&caller, &id).await?;
    server
        .record(&caller, Act::Read, &id, &json!({}), None)
        .await?;
    Ok(json_response(&whole(&answer, subject.as_deref(), opinion)))
}

/// An answer with what is kept of it.
fn whole(answer: &Answer, subject: Option<&Subject>, opinion: Option<Opinion>) -> Value {
    let mut whole = json!(answer);
    match subject {
        Some(Subject::Picture { reasons, .. }) => {
            whole["explanation"] = explanation(&answer.id, &reasons.borrow());
        }
        Some(Subject::Note { analysis, .. }) => whole["analysis"] = json!(analysis),
        None => {}
    }
    whole["is_kept"] = json!(subject.is_some());
    whole["opinion"] = json!(opinion);
    whole
}

fn explanation(id: &str, progress: &Progress) -> Value {
    let state = |state: &str| json!({ "state": state });
    match progress {
        Progress::Unasked => state("unasked"),
        Progress::Waiting => state("waiting"),
        Progress::Failed => state("failed"),
        Progress::Made(reasons) => {
            let maps = reasons.maps.iter().map(|map| {
                json!({
                    "way": map.way,
                    "heat": format!("/v1/predictions/{id}/heat.png?way={}", map.way),
                    "deletion": map.deletion,
                    "insertion": map.insertion,
                })
            });
            json!({ "state": "made", "of": reasons.class, "maps": maps.collect::<Vec<_>>() })
        }
    }
}

async fn heat(
    State(server): Here,
    axum::Extension(caller): Who,
    path: IdPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let (id, way) = (id_of(path)?, asked(&uri, "way"));
    let gone =
        || Problem::missing("there is no such heat map for you: they are kept for a short time");
    let subject = server
        .kept
        .of(&id, &caller.name, Instant::now())
        .ok_or_else(gone)?;
    let Subject::Picture { reasons, .. } = &*subject else {
        return Err(gone());
    };
    let Progress::Made(made) = reasons.borrow().clone() else {
        return Err(gone());
    };
    let mut maps = made.maps.iter();
    let map = match &way {
        Some(way) => maps.find(|map| map.way == way),
        None => maps.next(),
    };
    Ok(png(map.ok_or_else(gone)?.png.clone()))
}

async fn picture(
    State(server): Here,
    axum::Extension(caller): Who,
    path: IdPath,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let gone =
        || Problem::missing("there is no such picture for you: they are kept for a short time");
    let subject = server
        .kept
        .of(&id, &caller.name, Instant::now())
        .ok_or_else(gone)?;
    let Subject::Picture { shown, .. } = &*subject else {
        return Err(gone());
    };
    let shown: Arc<Picture> = shown.clone();
    let drawn = tokio::task::spawn_blocking(move || overlay::plain(&shown)).await;
    let drawn = drawn.ok().and_then(Result::ok).ok_or_else(gone)?;
    Ok(png(drawn))
}

fn png(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "image/png")], bytes).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpinionBody {
    agree: bool,
    #[serde(default)]
    comment: String,
}

async fn opinion(
    State(server): Here,
    axum::Extension(caller): Who,
    path: IdPath,
    request: Request,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    if content_type(request.headers()) != "application/json" {
        return Err(Problem::other_type(
            "send application/json with `agree` and, if you like, `comment`",
        ));
    }
    let bytes = server
        .body(request.into_body(), SMALL, "an opinion")
        .await?;
    let OpinionBody { agree, comment } = parsed(&bytes)?;
    server.judge(&caller, &id, agree, &comment).await?;
    Ok(json_response(&json!({ "id": id, "agree": agree })))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_contract_names_every_route_and_no_other() {
        let contract: Value = serde_json::from_str(OPENAPI).expect("JSON");
        assert_eq!(contract["openapi"], "3.1.0");
        let paths = contract["paths"].as_object().expect("paths");
        let named: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods").keys();
                let methods =
                    methods.filter(|key| ["get", "post", "put", "delete"].contains(&key.as_str()));
                methods.map(|method| (method.clone(), path.clone()))
            })
            .collect();
        let routes = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
        assert_eq!(named, routes.into());
    }

    #[test]
    fn cookies_bearers_and_fields_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; session=xyz"));
        assert_eq!(cookie(&headers, SESSION).as_deref(), Some("xyz"));
        assert_eq!(cookie(&headers, "b"), None);
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(
            field(b"a=1&text=%E6%82%A3+x", "text").as_deref(),
            Some("患 x")
        );
    }
}
