//! What people see: a page to try models on a picture or a note.
//!
//! Rendered here, assets and all; nothing is asked of elsewhere. Works without scripts: those add dropping a file
//! and the slider of the heat map. Who visits logs in with a token; each form carries the key of its visit.

mod layout;
mod result;
mod words;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use consilium_models::decision::knowledge::Language;
use maud::{Markup, html};
use serde_json::json;

use self::{
    layout::{Page, form_key},
    words::{Words, language, tag, words},
};
use super::{
    Recalled, Server,
    access::{Caller, Visit, holder},
    api::{Form, SESSION, SMALL, cookie, field},
    engine::Progress,
    kept::Subject,
    problem::Problem,
};
use crate::store::Act;

const STYLE: &str = include_str!("pages/page.css");
const SCRIPT: &str = include_str!("pages/page.js");
const ICON: &str = include_str!("pages/icon.svg");

/// How often a browser looks whether the reasons are made, in seconds.
const LOOK_AGAIN: u32 = 2;

/// What the pages' routes share.
struct Pages {
    server: Arc<Server>,
    is_tls: bool,
}

type Here = State<Arc<Pages>>;

pub(super) fn routes(server: &Arc<Server>, is_tls: bool) -> Router {
    let pages = Arc::new(Pages {
        server: server.clone(),
        is_tls,
    });
    let asset = |kind: &'static str, text: &'static str| {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "max-age=300"),
        ];
        get(move || async move { (headers, text) })
    };
    Router::new()
        .route("/", get(start))
        .route("/log-in", post(log_in))
        .route("/log-out", post(log_out))
        .route("/image", post(image))
        .route("/note", post(note))
        .route("/predictions/{id}", get(prediction))
        .route("/predictions/{id}/opinion", post(opinion))
        .with_state(pages)
        .route("/assets/page.css", asset("text/css; charset=utf-8", STYLE))
        .route(
            "/assets/page.js",
            asset("text/javascript; charset=utf-8", SCRIPT),
        )
        .route("/assets/icon.svg", asset("image/svg+xml", ICON))
}

/// A request as pages see it.
struct Asked {
    language: Language,
    words: &'static Words,
    visit: Option<Visit>,
}

impl Pages {
    async fn asked(&self, uri: &Uri, headers: &HeaderMap) -> Result<Asked, Problem> {
        let language = language(uri, headers);
        Ok(Asked {
            language,
            words: words(language),
            visit: self.server.visit(headers).await?,
        })
    }

    /// The session's cookie; without a value, one that ends it.
    fn cookie(&self, value: Option<&str>) -> Option<HeaderValue> {
        let secure = if self.is_tls { "; Secure" } else { "" };
        let end = if value.is_none() { "; Max-Age=0" } else { "" };
        let value = value.unwrap_or_default();
        let text = format!("{SESSION}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}");
        HeaderValue::from_str(&text).ok()
    }
}

impl Asked {
    fn page(&self, status: StatusCode, title: &str, address: &str, content: &Markup) -> Response {
        self.answer(status, title, address, None, content)
    }

    fn answer(
        &self,
        status: StatusCode,
        title: &str,
        address: &str,
        look_again: Option<u32>,
        content: &Markup,
    ) -> Response {
        let page = Page {
            language: self.language,
            title,
            address,
            visit: self.visit.as_ref(),
            look_again,
        };
        let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
        (status, kind, page.with(content).into_string()).into_response()
    }

    /// What a person sees of a problem.
    fn problem(&self, problem: &Problem) -> Response {
        let content = html! {
            h1 { (self.words.failed) }
            p.warning role="alert" { (problem.detail) }
            p { a.button href={ "/?lang=" (tag(self.language)) } { (self.words.back) } }
        };
        let mut response = self.page(problem.status, self.words.failed, "/", &content);
        if let Some(seconds) = problem.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    fn to_start(&self) -> Response {
        see(&format!("/?lang={}", tag(self.language)))
    }

    /// The visit that a form is of, or where to go instead.
    fn sender(&self, form_key: Option<&str>) -> Result<&Visit, Box<Response>> {
        let visit = self
            .visit
            .as_ref()
            .ok_or_else(|| Box::new(self.to_start()))?;
        match form_key.is_some_and(|key| visit.sent(key)) {
            true => Ok(visit),
            false => {
                let why = "this form is not of your visit";
                let problem = Problem::new(StatusCode::FORBIDDEN, why);
                Err(Box::new(self.problem(&problem)))
            }
        }
    }
}

/// Sends a browser to another address.
fn see(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(address) = HeaderValue::from_str(address) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    response
}

async fn start(State(pages): Here, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let asked = pages.asked(&uri, &headers).await?;
    let words = asked.words;
    let (title, content) = match &asked.visit {
        None => (words.log_in, door(&asked, None)),
        Some(visit) => (words.try_title, pages.server.forms(&asked, visit)),
    };
    Ok(asked.page(StatusCode::OK, title, "/", &content))
}

/// The form that asks for a token.
fn door(asked: &Asked, wrong: Option<&str>) -> Markup {
    let words = asked.words;
    html! {
        div.door {
            h1 { (words.log_in) }
            @if let Some(wrong) = wrong { p.warning role="alert" { (wrong) } }
            form method="post" action={ "/log-in?lang=" (tag(asked.language)) } {
                label for="token" { (words.token) }
                input #token type="password" name="token" autocomplete="current-password" required
                    spellcheck="false" aria-describedby="token-hint";
                p.hint #token-hint { (words.token_hint) }
                button type="submit" { (words.log_in) }
            }
        }
    }
}

impl Server {
    /// The forms for a picture and for a note.
    fn forms(&self, asked: &Asked, visit: &Visit) -> Markup {
        let (words, language) = (asked.words, tag(asked.language));
        let models = self.in_service();
        let pictures: Vec<_> = models
            .iter()
            .filter(|model| model.picture.is_some())
            .collect();
        html! {
            h1 { (words.try_title) }
            p.intro { (words.try_intro) }
            div.columns.even {
                section.card {
                    h2 { (words.picture) }
                    @if pictures.is_empty() {
                        p.notice { (words.no_picture_model) }
                    } @else {
                        form method="post" action={ "/image?lang=" (language) } enctype="multipart/form-data" {
                            (form_key(visit))
                            label.drop for="image" {
                                span.drop-title data-drop=(words.drop_hint) { (words.picture_label) }
                                input #image type="file" name="image" accept="image/png,image/jpeg,application/dicom,.dcm" required
                                    aria-describedby="image-hint";
                                span.hint #image-hint { (words.picture_hint) }
                            }
                            @if pictures.len() > 1 {
                                label for="model" { (words.model) }
                                select #model name="model" {
                                    @for model in &pictures {
                                        option value=(model.known.id) { (model.known.study) " (" (model.known.id) ")" }
                                    }
                                }
                            } @else {
                                @for model in &pictures {
                                    p.hint { (words.model) (words.colon) (model.known.study) }
                                }
                            }
                            button type="submit" { (words.look) }
                        }
                    }
                }
                section.card {
                    h2 { (words.note) }
                    form method="post" action={ "/note?lang=" (language) } {
                        (form_key(visit))
                        label for="text" { (words.note_label) }
                        textarea #text name="text" rows="9" required aria-describedby="text-hint" {}
                        p.hint #text-hint { (words.note_hint) }
                        button type="submit" { (words.read) }
                    }
                }
            }
        }
    }
}

async fn log_in(State(pages): Here, request: Request) -> Result<Response, Problem> {
    let asked = pages.asked(request.uri(), request.headers()).await?;
    let body = pages
        .server
        .body(request.into_body(), SMALL, "a form")
        .await?;
    let token = field(&body, "token").unwrap_or_default();
    let found = holder(&pages.server.store, token.trim())
        .await
        .map_err(Problem::internal)?;
    let Some(token) = found else {
        let content = door(&asked, Some(asked.words.token_wrong));
        return Ok(asked.page(StatusCode::FORBIDDEN, asked.words.log_in, "/", &content));
    };
    let caller = Caller {
        name: token.name.clone(),
        duty: token.duty,
    };
    pages
        .server
        .record(&caller, Act::LoggedIn, &caller.name, &json!({}), None)
        .await?;
    let secret = pages.server.sessions.open(token, Instant::now());
    let cookie = secret.and_then(|secret| pages.cookie(Some(&secret)));
    let no_randomness = || {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the system has no randomness to give",
        )
    };
    let mut response = asked.to_start();
    response
        .headers_mut()
        .insert(header::SET_COOKIE, cookie.ok_or_else(no_randomness)?);
    Ok(response)
}

async fn log_out(State(pages): Here, request: Request) -> Result<Response, Problem> {
    let asked = pages.asked(request.uri(), request.headers()).await?;
    let secret = cookie(request.headers(), SESSION);
    let body = pages
        .server
        .body(request.into_body(), SMALL, "a form")
        .await?;
    if let Err(elsewhere) = asked.sender(field(&body, "form_key").as_deref()) {
        return Ok(*elsewhere);
    }
    if let Some(secret) = secret {
        pages.server.sessions.close(&secret);
    }
    let mut response = asked.to_start();
    if let Some(cookie) = pages.cookie(None) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn image(State(pages): Here, request: Request) -> Result<Response, Problem> {
    let asked = pages.asked(request.uri(), request.headers()).await?;
    let (headers, limit) = (request.headers().clone(), pages.server.picture_limit());
    if asked.visit.is_none() {
        return Ok(asked.to_start());
    }
    let form = async {
        let body = pages
            .server
            .body(request.into_body(), limit + SMALL, "a picture")
            .await?;
        Form::read(&headers, body, limit).await
    };
    let mut form = match form.await {
        Ok(form) => form,
        Err(problem) => return Ok(asked.problem(&problem)),
    };
    let visit = match asked.sender(form.text("form_key").as_deref()) {
        Ok(visit) => visit,
        Err(elsewhere) => return Ok(*elsewhere),
    };
    let Some(bytes) = form.file.take() else {
        return Ok(asked.problem(&Problem::invalid("the form has no picture")));
    };
    let model = form.text("model");
    match pages
        .server
        .look(&visit.caller, model.as_deref(), bytes, true)
        .await
    {
        Ok((answer, _)) => Ok(asked.to_prediction(&answer.id)),
        Err(problem) => Ok(asked.problem(&problem)),
    }
}

async fn note(State(pages): Here, request: Request) -> Result<Response, Problem> {
    let asked = pages.asked(request.uri(), request.headers()).await?;
    let limit = pages.server.note_limit();
    if asked.visit.is_none() {
        return Ok(asked.to_start());
    }
    // Each byte may come as three.
    let body = match pages
        .server
        .body(request.into_body(), 3 * limit + SMALL, "a note")
        .await
    {
        Ok(body) => body,
        Err(problem) => return Ok(asked.problem(&problem)),
    };
    let visit = match asked.sender(field(&body, "form_key").as_deref()) {
        Ok(visit) => visit,
        Err(elsewhere) => return Ok(*elsewhere),
    };
    let text = field(&body, "text").unwrap_or_default();
    if text.len() > limit {
        return Ok(asked.problem(&Problem::too_large("a note", limit)));
    }
    match pages.server.read(&visit.caller, text).await {
        Ok((answer, _)) => Ok(asked.to_prediction(&answer.id)),
        Err(problem) => Ok(asked.problem(&problem)),
    }
}

impl Asked {
    fn to_prediction(&self, id: &str) -> Response {
        see(&format!("/predictions/{id}?lang={}", tag(self.language)))
    }
}

async fn prediction(
    State(pages): Here,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = pages.asked(&uri, &headers).await?;
    let Some(visit) = &asked.visit else {
        return Ok(asked.to_start());
    };
    let id = path.map(|Path(id)| id).unwrap_or_default();
    let server = &pages.server;
    let Recalled {
        answer,
        opinion,
        subject,
    } = match server.recall(&visit.caller, &id).await {
        Ok(recalled) => recalled,
        Err(problem) => return Ok(asked.problem(&problem)),
    };
    let is_waiting = match subject.as_deref() {
        Some(Subject::Picture { reasons, .. }) => matches!(*reasons.borrow(), Progress::Waiting),
        _ => false,
    };
    // A browser that looks again by itself is one reader.
    if !is_waiting {
        server
            .record(&visit.caller, Act::Read, &answer.id, &json!({}), None)
            .await?;
    }
    let result = result::Result {
        words: asked.words,
        language: asked.language,
        knowledge: &server.knowledge,
        visit,
        answer: &answer,
        opinion,
    };
    let way = field(uri.query().unwrap_or_default().as_bytes(), "way");
    let look_again = is_waiting.then_some(LOOK_AGAIN);
    let content = match (subject.as_deref(), &answer.said) {
        (Some(Subject::Picture { reasons, .. }), _) => {
            let progress = reasons.borrow().clone();
            result.picture(Some(&progress), way.as_deref())
        }
        (Some(Subject::Note { text, analysis }), _) => result.note(Some((text, analysis))),
        (None, super::Said::Image { .. }) => result.picture(None, None),
        (None, super::Said::Note { .. }) => result.note(None),
    };
    let address = format!("/predictions/{}", answer.id);
    Ok(asked.answer(
        StatusCode::OK,
        asked.words.result,
        &address,
        look_again,
        &content,
    ))
}

async fn opinion(
    State(pages): Here,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = pages.asked(request.uri(), request.headers()).await?;
    let id = path.map(|Path(id)| id).unwrap_or_default();
    let body = pages
        .server
        .body(request.into_body(), SMALL, "a form")
        .await?;
    let visit = match asked.sender(field(&body, "form_key").as_deref()) {
        Ok(visit) => visit,
        Err(elsewhere) => return Ok(*elsewhere),
    };
    let agree = match field(&body, "agree").as_deref() {
        Some("true") => true,
        Some("false") => false,
        _ => return Ok(asked.problem(&Problem::invalid("say whether you agree"))),
    };
    let comment = field(&body, "comment").unwrap_or_default();
    match pages
        .server
        .judge(&visit.caller, &id, agree, &comment)
        .await
    {
        Ok(()) => Ok(asked.to_prediction(&id)),
        Err(problem) => Ok(asked.problem(&problem)),
    }
}
