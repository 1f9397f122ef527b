//! The server as its callers see it, over TCP: what it answers, what it refuses, what it remembers.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use consilium_models::{
    decision::knowledge::Knowledge, imaging::Picture, network::Network, prediction::overlay,
    random::Random, released::Released,
};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{ParameterVector, Plan};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    access::Caller,
    models::{Gate, Score, activate, add, roll_back},
    *,
};
use crate::store::{ChronicleError, Duty, KnownModel};

const NOTE: &str = "54-year-old man with fever and cough. Denies pleuritic chest pain. \
                    Temperature 38.9 C, heart rate 110. Takes metformin 500 mg.";

/// A site with a server.
struct Site {
    folder: Arc<tempfile::TempDir>,
    server: Arc<Server>,
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a text")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A score that a test sets for each model.
#[derive(Default)]
struct Scores(Mutex<BTreeMap<String, f64>>);

impl Scores {
    fn set(&self, known: &KnownModel, value: f64) {
        self.0
            .lock()
            .expect("no panic")
            .insert(known.sha256.to_string(), value);
    }
}

impl Examiner for Scores {
    fn score(&self, released: &Released) -> Result<Score, String> {
        let scores = self.0.lock().expect("no panic");
        let value = scores
            .get(&released.identity().sha256)
            .copied()
            .ok_or("no records")?;
        Ok(Score {
            figure: "auc".into(),
            value,
            records: 100,
        })
    }
}

fn plan() -> Plan {
    Plan::from_toml(
        "name = \"chest-1\"\ntask = \"image-classification\"\ndata_set = \"chest\"\nclasses = [\"clear\", \"spot\"]\n\
         rounds = 3\ncohort = { size = 3 }\ntraining = { steps = 1, batch_size = 8, learning_rate = 1.0 }\n\
         privacy = { mode = \"none\" }\nimage = { width = 28, height = 28 }\nnetwork = { name = \"cnn-small\" }\n",
    )
    .expect("a sound plan")
}

/// The file that a study releases, with weights changed.
fn weights(seed: u64, change: impl Fn(f32) -> f32) -> Vec<u8> {
    let network = Network::from_plan(&plan()).expect("a network");
    let weights = ParameterVector::new(
        network
            .initial(seed)
            .as_slice()
            .iter()
            .map(|w| change(*w))
            .collect(),
    );
    let weights = weights.expect("numbers");
    let tensors: Vec<_> = network
        .layout()
        .ranges()
        .map(|(tensor, range)| {
            let values = weights.as_slice()[range].iter();
            let bytes: Vec<u8> = values.flat_map(|w| w.to_le_bytes()).collect();
            (tensor.name.clone(), tensor.shape.clone(), bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
        (name, view)
    });
    safetensors::serialize(views, None).expect("a file")
}

fn png() -> Vec<u8> {
    let mut random = Random::new(&[5]);
    let pixels = (0..40 * 30).map(|_| random.unit()).collect();
    overlay::plain(&Picture::new(40, 30, 1, pixels).expect("a picture")).expect("a PNG")
}

async fn store(folder: &Path) -> Store {
    let key = Arc::new(SealingKey::from_bytes([5; 32]));
    Store::open(folder, key).await.expect("a store")
}

impl Site {
    async fn new(settings: settings::Serving) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start(Arc::new(folder), settings, None, None).await
    }

    async fn with_model() -> Self {
        let site = Self::new(settings::Serving::default()).await;
        site.serve(1).await;
        site
    }

    async fn start(
        folder: Arc<tempfile::TempDir>,
        settings: settings::Serving,
        examiner: Option<Arc<dyn Examiner>>,
        tls: Option<ServerConfig>,
    ) -> Self {
        let parts = Parts {
            store: store(folder.path()).await,
            settings,
            knowledge: Knowledge::starter().expect("the starter set"),
            encoder: None,
            examiner,
        };
        let server = Server::open(parts).await.expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, stop) = (
            listener.local_addr().expect("an address"),
            CancellationToken::new(),
        );
        let served = server.clone().run(listener, tls, stop.clone());
        let running = tokio::spawn(async move { served.await.expect("loopback") });
        Self {
            folder,
            server,
            address,
            stop,
            running,
        }
    }

    /// Adds a model and puts it into service.
    async fn serve(&self, seed: u64) -> KnownModel {
        let known = self.add(seed, |weight| weight).await;
        self.activate(&known).await;
        known
    }

    async fn add(&self, seed: u64, change: impl Fn(f32) -> f32) -> KnownModel {
        let (plan, weights) = (plan(), weights(seed, change));
        let added = add(&self.server.store, &plan, &weights, None, SystemTime::now());
        added.await.expect("a model")
    }

    async fn activate(&self, known: &KnownModel) {
        let done = activate(
            &self.server.store,
            &known.id,
            Gate::Unchecked,
            "test",
            SystemTime::now(),
        );
        done.await.expect("in service");
        self.server.look_at_models().await.expect("a look");
    }

    async fn token(&self, name: &str, duty: Duty) -> String {
        let token = new_token(&self.server.store, name, duty, SystemTime::now()).await;
        token.expect("a token").to_string()
    }

    async fn end(self) -> Arc<tempfile::TempDir> {
        self.stop.cancel();
        self.running.await.expect("no panic");
        self.folder
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("a connection");
        ask(stream, method, path, headers, body).await
    }

    async fn get(&self, path: &str, token: &str) -> Reply {
        self.ask(
            "GET",
            path,
            &[("authorization", &format!("Bearer {token}"))],
            &[],
        )
        .await
    }

    async fn post(&self, path: &str, token: &str, kind: &str, body: &[u8]) -> Reply {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", kind),
        ];
        self.ask("POST", path, &headers, body).await
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n");
    headers
        .iter()
        .for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.expect("a request");
    // A server that has refused may not take the rest.
    let _ = stream.write_all(body).await;
    read_reply(stream).await
}

async fn read_reply(mut stream: impl AsyncRead + Unpin) -> Reply {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a text");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Reply {
        status: status.parse().expect("a number"),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_gets_classes_reasons_provenance_and_a_record() {
    let site = Site::with_model().await;
    let (ada, bob) = (
        site.token("ada", Duty::Clinician).await,
        site.token("bob", Duty::Clinician).await,
    );
    let reply = site
        .post("/v1/predict/image?explain=now", &ada, "image/png", &png())
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let said = reply.json();
    let classes = said["classes"].as_array().expect("classes");
    let sum: f64 = classes
        .iter()
        .filter_map(|class| class["probability"].as_f64())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5 && classes.len() == 2, "{said}");
    assert_eq!(
        (&said["is_calibrated"], &said["set"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(said["input"], Digest::plain(&png()).to_string());
    assert_eq!(
        (&said["model"]["study"], &said["model"]["rounds"]),
        (&json!("chest-1"), &json!(3))
    );
    assert_eq!(
        (&said["model"]["sites"], &said["model"]["epsilon"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(said["use"], USE);
    assert_eq!(said["explanation"]["state"], "made", "{said}");
    let maps = said["explanation"]["maps"].as_array().expect("maps");
    assert_eq!(maps.len(), 2);
    for map in maps {
        assert!(map["deletion"].is_number() && map["insertion"].is_number());
        let address = map["heat"].as_str().expect("an address");
        let heat = site.get(address, &ada).await;
        assert_eq!(
            (heat.status, heat.header("content-type")),
            (200, "image/png")
        );
        assert_eq!(heat.header("cache-control"), "no-store");
        let heat = image::load_from_memory(&heat.body).expect("a PNG");
        assert_eq!((heat.width(), heat.height()), (40, 30));
    }
    let id = said["id"].as_str().expect("an id");
    let path = format!("/v1/predictions/{id}");
    assert_eq!(
        site.get(&format!("{path}/picture.png"), &ada).await.status,
        200
    );

    let opinion = json!({ "agree": false, "comment": "Mrs Example has it" }).to_string();
    let judged = site
        .post(
            &format!("{path}/opinion"),
            &ada,
            "application/json",
            opinion.as_bytes(),
        )
        .await;
    assert_eq!(judged.status, 200, "{}", judged.text());
    let again = site.get(&path, &ada).await.json();
    assert_eq!(
        (&again["classes"], &again["opinion"]["agree"]),
        (&said["classes"], &json!(false))
    );

    // Another's prediction is as if it were not there.
    assert_eq!(site.get(&path, &bob).await.status, 404);
    assert_eq!(
        site.get(&format!("{path}/picture.png"), &bob).await.status,
        404
    );
    assert_eq!(
        site.get(&format!("{path}/heat.png"), &bob).await.status,
        404
    );
    let judged = site
        .post(
            &format!("{path}/opinion"),
            &bob,
            "application/json",
            b"{\"agree\":true}",
        )
        .await;
    assert_eq!(judged.status, 404);

    let records = site.server.store.records_of(id).await.expect("records");
    let acts: Vec<_> = records
        .iter()
        .map(|record| (record.who.as_str(), record.act, record.has_comment))
        .collect();
    assert_eq!(
        acts,
        [
            ("ada", Act::Predicted, false),
            ("ada", Act::Judged, true),
            ("ada", Act::Read, false)
        ]
    );
    assert!(
        !json!(records).to_string().contains("Example"),
        "a comment stands in the clear"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_gets_a_differential_and_its_words_stand_in_no_record() {
    let site = Site::new(settings::Serving::default()).await;
    let ada = site.token("ada", Duty::Clinician).await;
    let plain = site
        .post(
            "/v1/predict/note",
            &ada,
            "text/plain; charset=utf-8",
            NOTE.as_bytes(),
        )
        .await;
    assert_eq!(plain.status, 200, "{}", plain.text());
    let said = plain.json();
    assert!(
        !said["candidates"]
            .as_array()
            .expect("candidates")
            .is_empty()
    );
    assert!(
        !said["analysis"]["entities"]
            .as_array()
            .expect("entities")
            .is_empty()
    );
    assert!(
        said["input"]
            .as_str()
            .is_some_and(|input| input.starts_with("keyed:"))
    );
    let body = json!({ "text": NOTE }).to_string();
    let structured = site
        .post(
            "/v1/predict/note",
            &ada,
            "application/json",
            body.as_bytes(),
        )
        .await;
    assert_eq!(structured.json()["candidates"], said["candidates"]);
    let records = site.server.store.records(0).await.expect("records");
    let text = json!(records).to_string();
    for word in ["pleuritic", "Denies", "38.9", "year-old"] {
        assert!(!text.contains(word), "{word}");
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_and_each_refusal_has_its_status_and_says_nothing_of_what_was_sent() {
    let settings = settings::Serving {
        picture_mebibytes: 1,
        picture_mebipixels: 1,
        note_kibibytes: 1,
        arrive: Duration::from_millis(300),
        questions_of_one: 1,
        ..settings::Serving::default()
    };
    let site = Site::new(settings).await;
    let ada = site.token("ada", Duty::Clinician).await;
    let picture = png();
    let image = "/v1/predict/image";
    let none = site.post(image, &ada, "image/png", &picture).await;
    assert_eq!((none.status, none.header("retry-after")), (503, "1"));
    site.serve(1).await;

    let secret = b"Mrs Example, MRN 0042";
    let large = vec![0; (1 << 20) + 1];
    let mut damaged = picture.clone();
    damaged.truncate(picture.len() / 2);
    let many = overlay::plain(&Picture::new(2048, 1024, 1, vec![0.0; 2 << 20]).expect("a picture"))
        .expect("a PNG");
    let absent = format!("/v1/predictions/{}", "0".repeat(32));
    let form = "multipart/form-data; boundary=x";
    let cases: &[(&str, &str, &str, &[u8], u16)] = &[
        ("POST", image, "text/csv", secret, 415),
        ("POST", image, "", secret, 415),
        ("POST", image, "image/png", secret, 422),
        ("POST", image, "image/png", &[], 422),
        ("POST", image, "image/png", &damaged, 422),
        ("POST", image, "image/png", &many, 422),
        ("POST", image, "image/png", &large, 413),
        ("POST", image, form, secret, 422),
        ("POST", image, form, &large, 422),
        ("POST", image, "multipart/form-data", secret, 422),
        (
            "POST",
            "/v1/predict/image?explain=soon",
            "image/png",
            &picture,
            422,
        ),
        (
            "POST",
            "/v1/predict/image?model=0123456789abcdef",
            "image/png",
            &picture,
            422,
        ),
        ("POST", "/v1/predict/note", "image/png", secret, 415),
        ("POST", "/v1/predict/note", "text/plain", &[0xff, 0xfe], 422),
        ("POST", "/v1/predict/note", "text/plain", b" \n", 422),
        ("POST", "/v1/predict/note", "text/plain", b"a\0b", 422),
        ("POST", "/v1/predict/note", "text/plain", &large, 413),
        (
            "POST",
            "/v1/predict/note",
            "application/json",
            b"{\"text\":\"Mrs Example\",\"x\":1}",
            422,
        ),
        (
            "POST",
            "/v1/predict/note",
            "application/json",
            b"{\"text\":",
            422,
        ),
        ("GET", &absent, "", &[], 404),
        ("GET", "/v1/predictions/%ff", "", &[], 404),
        ("GET", "/v1/nothing", "", &[], 404),
        ("PUT", image, "image/png", &picture, 405),
        ("POST", "/v1/models/0123456789abcdef/activate", "", &[], 403),
    ];
    for (method, path, kind, body, status) in cases {
        let authorization = format!("Bearer {ada}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if !kind.is_empty() {
            headers.push(("content-type", kind));
        }
        let reply = site.ask(method, path, &headers, body).await;
        let text = reply.text();
        assert_eq!(reply.status, *status, "{method} {path} {kind}: {text}");
        assert_eq!(
            reply.header("content-type"),
            "application/problem+json",
            "{path}"
        );
        assert_eq!(reply.json()["status"], *status);
        assert!(
            !text.contains("Example") && !text.contains("0042"),
            "{text}"
        );
    }

    for authorization in ["", "Bearer x", "Basic x", &format!("Bearer {ada}0")] {
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        let reply = site.ask("GET", "/v1/models", headers, &[]).await;
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, "Bearer"),
            "{authorization}"
        );
    }

    // A body that never ends.
    let mut stream = TcpStream::connect(site.address)
        .await
        .expect("a connection");
    let head = format!(
        "POST /v1/predict/note HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {ada}\r\n\
         content-type: text/plain\r\ncontent-length: 100\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.expect("a request");
    assert_eq!(read_reply(stream).await.status, 408);

    let caller = Caller {
        name: "ada".into(),
        duty: Duty::Clinician,
    };
    let turn = site.server.turn(&caller).expect("the only one");
    let reply = site.post(image, &ada, "image/png", &picture).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, "1"));
    drop(turn);
    assert_eq!(
        site.post(image, &ada, "image/png", &picture).await.status,
        200
    );

    assert!(
        site.server
            .store
            .revoke_token("ada", SystemTime::now())
            .await
            .expect("a store")
    );
    assert_eq!(site.get("/v1/models", &ada).await.status, 401);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_the_answers_that_each_gets_alone() {
    let site = Arc::new(Site::with_model().await);
    let ada = site.token("ada", Duty::Clinician).await;
    let mut form =
        b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n".to_vec();
    form.extend(png());
    form.extend(b"\r\n--x--\r\n");
    let alone = site
        .post("/v1/predict/image?explain=no", &ada, "image/png", &png())
        .await
        .json();
    assert_eq!(alone["explanation"]["state"], "unasked");
    let asked = (0..8).map(|_| {
        let (site, ada, form) = (site.clone(), ada.clone(), form.clone());
        tokio::spawn(async move {
            let kind = "multipart/form-data; boundary=x";
            site.post("/v1/predict/image?explain=no", &ada, kind, &form)
                .await
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        let reply = asked.await.expect("no panic");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["classes"], alone["classes"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_serves_only_if_it_passes_and_one_that_fails_is_taken_back() {
    let scores = Arc::new(Scores::default());
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let site = Site::start(
        folder,
        settings::Serving::default(),
        Some(scores.clone()),
        None,
    )
    .await;
    let (ada, steward) = (
        site.token("ada", Duty::Clinician).await,
        site.token("sam", Duty::Steward).await,
    );
    let (first, worse, near) = (
        site.add(1, |w| w).await,
        site.add(2, |w| w).await,
        site.add(3, |w| w).await,
    );
    let activate = |known: &KnownModel| format!("/v1/models/{}/activate", known.id);
    let unscored = site.post(&activate(&first), &steward, "", &[]).await;
    assert_eq!(unscored.status, 422, "{}", unscored.text());
    for (model, score) in [(&first, 0.9), (&worse, 0.87), (&near, 0.89)] {
        scores.set(model, score);
    }
    assert_eq!(
        site.post(&activate(&first), &ada, "", &[]).await.status,
        403
    );
    assert_eq!(
        site.post(&activate(&first), &steward, "", &[]).await.status,
        200
    );
    assert_eq!(
        site.post(&activate(&first), &steward, "", &[]).await.status,
        409
    );
    assert_eq!(
        site.post("/v1/models/0000000000000000/activate", &steward, "", &[])
            .await
            .status,
        404
    );
    let refused = site.post(&activate(&worse), &steward, "", &[]).await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.text().contains("0.8700 on 100 records"),
        "{}",
        refused.text()
    );
    let passed = site.post(&activate(&near), &steward, "", &[]).await.json();
    assert_eq!(
        (&passed["score"]["value"], &passed["before"]["value"]),
        (&json!(0.89), &json!(0.9))
    );
    let said = site
        .post("/v1/predict/image", &ada, "image/png", &png())
        .await
        .json();
    assert_eq!(said["model"]["id"], near.id);

    // One that gives no numbers serves nobody: the one before it is back.
    let broken = site.add(4, |weight| weight * 1e30).await;
    site.activate(&broken).await;
    let reply = site
        .post("/v1/predict/image", &ada, "image/png", &png())
        .await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    let said = site
        .post("/v1/predict/image", &ada, "image/png", &png())
        .await
        .json();
    assert_eq!(said["model"]["id"], near.id);

    let back = roll_back(
        &site.server.store,
        &near.id,
        "worse in use",
        "sam",
        SystemTime::now(),
    )
    .await;
    assert_eq!(back.expect("one before"), Some(first.id.clone()));
    assert!(
        roll_back(
            &site.server.store,
            &near.id,
            "again",
            "sam",
            SystemTime::now()
        )
        .await
        .is_err()
    );
    let listed = site.get("/v1/models", &ada).await.json();
    let active = listed["models"]
        .as_array()
        .expect("models")
        .iter()
        .filter(|model| model["is_active"] == true);
    assert_eq!(
        active.map(|model| model["id"].clone()).collect::<Vec<_>>(),
        [json!(first.id)]
    );

    let records = site.server.store.records(0).await.expect("records");
    let of = |act| records.iter().filter(|record| record.act == act).count();
    assert_eq!((of(Act::ModelAdded), of(Act::ModelActivated)), (4, 3));
    assert_eq!((of(Act::ModelRefused), of(Act::ModelRolledBack)), (1, 2));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_records_outlive_the_server_and_a_damaged_model_gives_way() {
    let site = Site::with_model().await;
    let ada = site.token("ada", Duty::Clinician).await;
    let first = site.server.store.models().await.expect("models").remove(0);
    let said = site
        .post("/v1/predict/image?explain=now", &ada, "image/png", &png())
        .await
        .json();
    let second = site.serve(2).await;
    let folder = site.end().await;
    let weights = folder
        .path()
        .join("models")
        .join(&second.id)
        .join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).expect("room");

    let site = Site::start(folder, settings::Serving::default(), None, None).await;
    let again = site
        .post("/v1/predict/image?explain=no", &ada, "image/png", &png())
        .await
        .json();
    assert_eq!(
        (&again["model"]["id"], &again["classes"]),
        (&json!(first.id), &said["classes"])
    );
    let id = said["id"].as_str().expect("an id");
    let recalled = site
        .get(&format!("/v1/predictions/{id}"), &ada)
        .await
        .json();
    assert_eq!(
        (&recalled["classes"], &recalled["is_kept"]),
        (&said["classes"], &json!(false))
    );
    assert_eq!(
        site.get(&format!("/v1/predictions/{id}/heat.png"), &ada)
            .await
            .status,
        404
    );
    let chain = site.server.store.verify_records(None).await.expect("whole");
    assert!(chain.records >= 8, "{chain:?}");
    site.end().await;
}

#[tokio::test]
async fn a_changed_removed_or_forged_record_breaks_the_chain_there() {
    for (change, at) in [
        (
            "UPDATE record SET body = '{\"agree\":true}' WHERE number = 3",
            3,
        ),
        ("UPDATE record SET who = 'bob' WHERE number = 2", 2),
        ("DELETE FROM record WHERE number = 4", 4),
        ("DELETE FROM record WHERE number = 6", 6),
        (
            "UPDATE record_start SET number = 2, chain = (SELECT chain FROM record WHERE number = 2); \
          DELETE FROM record WHERE number <= 2",
            2,
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path()).await;
        for number in 1..=6 {
            let body = json!({ "agree": false, "number": number });
            let deed = Deed {
                who: "ada",
                act: Act::Judged,
                subject: "x",
                body: &body,
                comment: Some("words"),
            };
            assert_eq!(
                store.record(deed, SystemTime::now()).await.expect("room"),
                number
            );
        }
        let chain = store.verify_records(None).await.expect("whole");
        assert_eq!((chain.records, chain.newest), (6, 6));
        let file = format!("sqlite://{}", folder.path().join("agent.db").display());
        let mut raw = sqlx::SqliteConnection::connect(&file)
            .await
            .expect("a database");
        let refused = sqlx::raw_sql(change).execute(&mut raw).await;
        assert!(refused.is_err() || at == 2, "{change}");
        for trigger in ["record_stays", "record_keeps_content"] {
            let drop = format!("DROP TRIGGER IF EXISTS {trigger}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop))
                .execute(&mut raw)
                .await
                .expect("dropped");
        }
        let _ = sqlx::raw_sql(change).execute(&mut raw).await;
        match store.verify_records(None).await {
            Err(ChronicleError::Broken { number, .. }) => assert_eq!(number, at, "{change}"),
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn old_records_go_and_the_rest_is_still_one_chain_with_a_head_to_compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path()).await;
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let body = json!({});
    let deed = Deed {
        who: "ada",
        act: Act::Read,
        subject: "x",
        body: &body,
        comment: None,
    };
    for day in 0..5 {
        store
            .record(deed, start + day * Duration::from_secs(86_400))
            .await
            .expect("room");
    }
    let head = store.verify_records(None).await.expect("whole");
    let now = start + Duration::from_secs(10 * 86_400);
    let gone = store
        .prune_records(start + Duration::from_secs(2 * 86_400), now)
        .await;
    assert_eq!(gone.expect("room"), 2);
    let kept = store.records(0).await.expect("records");
    assert_eq!(
        kept.iter().map(|record| record.number).collect::<Vec<_>>(),
        [3, 4, 5, 6]
    );
    let chain = store
        .verify_records(Some((head.newest, head.head)))
        .await
        .expect("whole");
    assert_eq!((chain.records, chain.newest), (4, 6));
    let other = Some((head.newest, Digest::plain(b"another")));
    assert!(store.verify_records(other).await.is_err());
    assert_eq!(store.prune_records(start, now).await.expect("room"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_only_this_machine_is_served_and_with_it_a_certificate_is_enough() {
    let site = Site::new(settings::Serving::default()).await;
    let anywhere = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let refused = site
        .server
        .clone()
        .run(anywhere, None, CancellationToken::new())
        .await;
    assert!(
        matches!(refused, Err(ServingError::Clear(_))),
        "{refused:?}"
    );
    let folder = site.end().await;

    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "site authority");
    let root = authority
        .self_signed(&authority_key)
        .expect("a certificate");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let issued = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut leaf = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        leaf.distinguished_name
            .push(rcgen::DnType::CommonName, name);
        (leaf.signed_by(&key, &issuer).expect("a certificate"), key)
    };
    let (own, own_key) = issued("localhost");
    let config = tls(
        own.pem().as_bytes(),
        own_key.serialize_pem().as_bytes(),
        Some(root.pem().as_bytes()),
    );
    let site = Site::start(
        folder,
        settings::Serving::default(),
        None,
        Some(config.expect("sound")),
    )
    .await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let client = |identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots.clone());
        let config = match identity {
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate], key)
                .expect("a pair"),
            None => config.with_no_client_auth(),
        };
        let address = site.address;
        async move {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            connector.connect(name, stream).await.expect("a handshake")
        }
    };
    let without = ask(client(None).await, "GET", "/v1/models", &[], &[]).await;
    assert_eq!(without.status, 401);
    assert!(
        without
            .header("strict-transport-security")
            .starts_with("max-age")
    );
    let (leaf, key) = issued("pacs-gateway");
    let identity = Some((
        leaf.der().clone(),
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    ));
    let with = client(identity).await;
    let reply = ask(
        with,
        "POST",
        "/v1/predict/note",
        &[("content-type", "text/plain")],
        NOTE.as_bytes(),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let records = site.server.store.records(0).await.expect("records");
    assert!(
        records
            .iter()
            .any(|record| record.who == "certificate:pacs-gateway")
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_asks_and_sees_the_result_in_two_languages() {
    let site = Site::with_model().await;
    let token = site.token("ada", Duty::Clinician).await;
    let door = site
        .ask("GET", "/", &[("accept-language", "zh-CN")], &[])
        .await;
    assert_eq!(door.status, 200);
    assert!(door.text().contains("<html lang=\"zh-CN\">") && door.text().contains("访问令牌"));
    assert!(
        door.header("content-security-policy")
            .starts_with("default-src 'self'")
    );
    let urlencoded = ("content-type", "application/x-www-form-urlencoded");
    let wrong = site
        .ask("POST", "/log-in", &[urlencoded], b"token=wrong")
        .await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, ""));
    let entered = site
        .ask(
            "POST",
            "/log-in",
            &[urlencoded],
            format!("token={token}").as_bytes(),
        )
        .await;
    assert_eq!(entered.status, 303);
    let cookie = entered.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let session = ("cookie", cookie.split(';').next().expect("a value"));
    let start = site.ask("GET", "/", &[session], &[]).await.text();
    let key = start
        .split("name=\"form_key\" value=\"")
        .nth(1)
        .expect("a key");
    let key = &key[..64];

    // A form of another site has no key, and changes nothing; a session alone opens nothing that changes.
    let foreign = site
        .ask("POST", "/note", &[session, urlencoded], b"text=fever")
        .await;
    assert_eq!(foreign.status, 403);
    let by_cookie = site
        .ask(
            "POST",
            "/v1/predict/note",
            &[session, ("content-type", "text/plain")],
            b"fever",
        )
        .await;
    assert_eq!(by_cookie.status, 401);

    let mut form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"form_key\"\r\n\r\n{key}\r\n\
         --x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n"
    )
    .into_bytes();
    form.extend(png());
    form.extend(b"\r\n--x--\r\n");
    let multipart = ("content-type", "multipart/form-data; boundary=x");
    let sent = site
        .ask("POST", "/image?lang=en", &[session, multipart], &form)
        .await;
    assert_eq!(sent.status, 303, "{}", sent.text());
    let address = sent.header("location").to_owned();
    let mut page = site.ask("GET", &address, &[session], &[]).await.text();
    for _ in 0..200 {
        if !page.contains("http-equiv=\"refresh\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        page = site.ask("GET", &address, &[session], &[]).await.text();
    }
    for part in [
        "heat.png?way=grad-cam",
        "picture.png",
        "chest-1",
        "Not a medical device",
        "no guarantee",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        !page.contains("style=\"") && !page.contains("://"),
        "{page}"
    );
    let heat = page
        .split("src=\"")
        .find(|part| part.contains("heat.png"))
        .expect("a map");
    let heat = site
        .ask(
            "GET",
            heat.split('"').next().expect("an address"),
            &[session],
            &[],
        )
        .await;
    assert_eq!(heat.status, 200);
    let id = address.split(['/', '?']).nth(2).expect("an id");
    let opinion = format!("form_key={key}&agree=true&comment=yes");
    let path = format!("/predictions/{id}/opinion?lang=zh");
    let sent = site
        .ask("POST", &path, &[session, urlencoded], opinion.as_bytes())
        .await;
    let chinese = site
        .ask("GET", sent.header("location"), &[session], &[])
        .await
        .text();
    assert!(
        chinese.contains("您已表示同意") && chinese.contains("不是医疗器械"),
        "{chinese}"
    );

    let note: String =
        form_urlencoded::byte_serialize(format!("{NOTE} <script>").as_bytes()).collect();
    let body = format!("form_key={key}&text={note}");
    let sent = site
        .ask("POST", "/note", &[session, urlencoded], body.as_bytes())
        .await;
    let page = site
        .ask("GET", sent.header("location"), &[session], &[])
        .await
        .text();
    assert!(
        page.contains("<mark class=\"finding denied\"") && page.contains("&lt;script&gt;"),
        "{page}"
    );

    let out = site
        .ask(
            "POST",
            "/log-out",
            &[session, urlencoded],
            format!("form_key={key}").as_bytes(),
        )
        .await;
    assert_eq!(out.status, 303);
    assert!(
        site.ask("GET", "/", &[session], &[])
            .await
            .text()
            .contains("Access token")
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_from_outside_end_in_a_failure_of_ours() {
    let site = Site::with_model().await;
    let ada = site.token("ada", Duty::Clinician).await;
    let mut random = Random::new(&[11]);
    let kinds = [
        "image/png",
        "image/jpeg",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/json",
    ];
    let paths = ["/v1/predict/image?explain=no", "/v1/predict/note"];
    for round in 0..150 {
        let mut body = match round % 3 {
            0 => png(),
            1 => NOTE.as_bytes().to_vec(),
            _ => b"--x\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nabc\r\n--x--\r\n"
                .to_vec(),
        };
        for _ in 0..1 + random.bits() % 8 {
            let at = random.bits() as usize % body.len();
            body[at] = random.bits() as u8;
        }
        body.truncate(1 + random.bits() as usize % body.len());
        let (kind, path) = (
            kinds[random.bits() as usize % 5],
            paths[random.bits() as usize % 2],
        );
        let reply = site.post(path, &ada, kind, &body).await;
        assert!(
            [200, 413, 415, 422].contains(&reply.status),
            "{path} {kind}: {}",
            reply.text()
        );
    }
    site.end().await;
}
