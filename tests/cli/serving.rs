//! `consilium agent serve` as an operator runs it, and held against its contract.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::program::{consilium, fail, succeed, text};

/// A folder with a server on it.
struct Served {
    folder: tempfile::TempDir,
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("site")).expect("a folder");
    let key = fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(folder.path().join("key"));
    key.expect("a file").write_all(&[3; 32]).expect("a key");
    folder
}

fn arguments<'a>(command: &[&'a str], site: &'a Path, key: &'a Path) -> Vec<&'a str> {
    let folder = ["--dir", text(site), "--key-file", text(key)];
    let all = ["agent"].iter().chain(command).chain(&folder);
    all.copied().collect()
}

impl Served {
    fn start() -> Self {
        let folder = folder();
        let (site, key) = (folder.path().join("site"), folder.path().join("key"));
        let command = ["serve", "--listen", "127.0.0.1:0", "--stop-with-stdin"];
        let mut child = consilium()
            .args(arguments(&command, &site, &key))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let said = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("serving on http://"));
        let address = said.and_then(|line| Some(line.split_once("http://")?.1.to_owned()));
        let address = address.expect("it says where it serves");
        // Whatever else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            folder,
            child,
            address,
        }
    }

    fn token(&self, name: &str) -> String {
        let (site, key) = (
            self.folder.path().join("site"),
            self.folder.path().join("key"),
        );
        let made = succeed(&arguments(&["token", "new", name], &site, &key));
        made.trim().to_owned()
    }

    fn get(&self, path: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    }
}

#[test]
fn a_token_opens_the_server_until_it_is_taken_back_and_the_log_is_whole() {
    let served = Served::start();
    let token = served.token("ada");
    assert!(served.get("/v1/models", &token).starts_with("HTTP/1.1 200"));
    assert!(served.get("/v1/models", "x").starts_with("HTTP/1.1 401"));
    let (site, key) = (
        served.folder.path().join("site"),
        served.folder.path().join("key"),
    );
    let does = |command: &[&str]| succeed(&arguments(command, &site, &key));
    let refuses = |command: &[&str], code| fail(&arguments(command, &site, &key), code);
    refuses(&["token", "new", "ada"], 6);
    refuses(&["token", "new", "a b"], 3);
    does(&["token", "revoke", "ada"]);
    assert!(served.get("/v1/models", &token).starts_with("HTTP/1.1 401"));
    let whole = does(&["predictions", "verify"]);
    assert!(whole.contains("2 records"), "{whole}");
    refuses(
        &["model", "activate", "0123456789abcdef", "--without-check"],
        5,
    );
    let anywhere = refuses(&["serve", "--listen", "0.0.0.0:0"], 4);
    assert!(anywhere.contains("--tls-cert"), "{anywhere}");
}

#[test]
fn the_server_keeps_its_contract() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    if !tools.join(".venv/bin/schemathesis").exists() {
        let note = "skipped: schemathesis is not installed in tests/openapi/.venv";
        // Past the test runner's capture: that must be seen.
        writeln!(std::io::stderr(), "{note}").expect("stderr takes a line");
        return;
    }
    let served = Served::start();
    let token = served.token("schemathesis");
    let output = Command::new(tools.join("run.sh"))
        .args([&format!("http://{}", served.address), &token])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
